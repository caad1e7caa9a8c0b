-- Learning-rate schedules for runs: each is a function (step from 0, total steps) -> learning rate, beta1 or nil.
local core = require 'ld.core'
local take = require 'ld.take'

local schedule = {}

local known = {
  one_cycle = {max = 1e-3, pct_start = 0.3, div = 25, final_div = 1e4, beta1_high = 0.95, beta1_low = 0.85},
  cosine = {max = 1e-3, min = 0, warmup = 0},
  constant = {max = 1e-3, warmup = 0},
}

--- schedule.one_cycle{max, pct_start = 0.3, div = 25, final_div = 1e4, beta1_high = 0.95, beta1_low = 0.85},
-- schedule.cosine{max, min = 0, warmup = 0 (steps)}, schedule.constant{max, warmup = 0}. Source: method 3.5.
for name, defaults in pairs(known) do
  schedule[name] = function(options)
    local o = take('schedule.' .. name, options, defaults)
    if o.max < 0 or o.max == math.huge or o.max ~= o.max then
      core.fail(('schedule.%s: max is %g; a finite number, 0 or more, is needed'):format(name, o.max))
    end
    return function(step, total) return core.schedule[name](step, total, o) end
  end
end

return take.names('ld.schedule', schedule)
