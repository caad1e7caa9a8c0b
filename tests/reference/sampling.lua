-- DDIM trajectories of an analytic model on recorded noise, and the table of DDPM.
local ld = require 'ld'

local LIMIT = 1e-6

-- Each step adds rounding of its own in both programs, so differences grow like the root of the number of steps. The
-- recorded 100-step trajectories are themselves up to 1.8e-6 away from the same computation in f64.
local function trajectory_limit(steps) return LIMIT * math.sqrt(math.max(steps, 10) / 10) end

-- eps(x,t)[n,d] = sum_c tanh(x[n,c]) A[c,d] + a sin(t) x[n,d] + b t, on images (n,c,h,w)
local function analytic(source)
  local A = source:read('A')
  local a = source:number_in('model', '%+ ([%d%.]+) sin%(t%) x')
  local b = source:number_in('model', '%+ ([%d%.]+) t$')
  return function(x, t)
    local mixed = ld.matmul(ld.tanh(x):permute(1, 3, 4, 2), A):permute(1, 4, 2, 3)
    return mixed + x * (a * math.sin(t)) + b * t
  end
end

local function check_trajectory(report, source, model, steps, eta)
  local prefix = ('ddim.%d.eta%s.'):format(steps, eta)
  local group = report:group(('%s ddim %d steps, eta %s'):format(source.name, steps, eta),
                             trajectory_limit(steps))
  local sampler, noisy = ld.sampler.ddim{steps = steps, eta = tonumber(eta)}, tonumber(eta) > 0
  local noise = noisy and source:read('noise.' .. steps)
  local x, x0 = source:read('x_T')
  for i = 1, sampler:steps() do
    local t = sampler:t(i)
    assert(math.abs(t - (1 - i / steps)) < 1e-12, 'the sampler calls the model at another time')
    x, x0 = sampler:step(i, x, model(x, t), noisy and noise[i] or nil)
    local name = prefix .. 'x_after.' .. i - 1
    if source:has(name) then group:check(name, x, source:read(name)) end
  end
  group:check(prefix .. 'x0', x0, source:read(prefix .. 'x0'))
  group:done()
end

local function check_ddim(report, source)
  local model = analytic(source)
  for _, name in ipairs(source.list) do
    local steps, eta = name:match('^ddim%.(%d+)%.eta([%d%.]+)%.x0$')
    if steps and (tonumber(eta) == 0 or source:has('noise.' .. steps)) then
      check_trajectory(report, source, model, tonumber(steps), eta)
    elseif steps then
      report:skip(name, 'the file has no noise.' .. steps)
    end
  end
end

-- abar by time, first to last; the sampler's steps run from last to first.
local function check_ddpm(report, source)
  local want = source:read('ddpm.abar')
  local n, abar = want:numel(), {}
  local sampler = ld.sampler.ddpm{steps = n}
  for i = 1, n do abar[n + 1 - i] = sampler:abar(i) end
  local group = report:group(source.name .. ' ddpm.abar', LIMIT)
  group:check('ddpm.abar', ld.tensor(abar, {dtype = 'f64'}), want, {each = true})
  group:done()
end

return {
  title = 'sampling',
  recognise = function(source) return source:any('^ddim%.') or source:has('ddpm.abar') end,
  check = function(report, source)
    if source:any('^ddim%.') then check_ddim(report, source) end
    if source:has('ddpm.abar') then check_ddpm(report, source) end
  end,
}
