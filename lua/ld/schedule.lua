-- Learning-rate schedules for runs: each is a function (images seen, images in all, batch = 1) -> learning rate, beta1
-- or nil. Where a formula has a step in it (one cycle ends one step before the end), it is one of `batch` images. With
-- no batch given, images are steps.
local core = require 'ld.core'
local take = require 'ld.take'

local schedule = {}

local known = {
  one_cycle = {max = 1e-3, pct_start = 0.3, div = 25, final_div = 1e4, beta1_high = 0.95, beta1_low = 0.85},
  cosine = {max = 1e-3, min = 0, warmup = 0},
  constant = {max = 1e-3, warmup = 0},
}

--- schedule.one_cycle{max, pct_start = 0.3, div = 25, final_div = 1e4, beta1_high = 0.95, beta1_low = 0.85},
-- schedule.cosine{max, min = 0, warmup = 0 (images)}, schedule.constant{max, warmup = 0 (images)}. Source: method 3.5.
for name, defaults in pairs(known) do
  schedule[name] = function(options)
    local o = take('schedule.' .. name, options, defaults)
    if o.max < 0 or o.max == math.huge or o.max ~= o.max then
      core.fail(('schedule.%s: max is %g; a finite number, 0 or more, is needed'):format(name, o.max))
    end
    return function(images, total, batch)
      batch = batch or 1
      local now = o
      if o.warmup then now = {max = o.max, min = o.min, warmup = o.warmup / batch} end
      return core.schedule[name](images / batch, total / batch, now)
    end
  end
end

return take.names('ld.schedule', schedule)
