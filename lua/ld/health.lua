-- What shows whether a training is well: losses by noise level, steps that stand out, two losses' pull on the weights,
-- and what the process takes of the machine. ld.run uses all of it (run_health.lua).
local core = require 'ld.core'

local health = {}

-- ---- losses by noise level ------------------------------------------------------------------------------------------

local Levels = {}
Levels.__index, Levels.__name = Levels, 'levels'

--- levels(parts = 4): sums of losses by part of the time range [0,1), kept on the device, so that a step does not wait
-- for them. levels:add(t, losses): (N) times and losses; those not finite are left out. levels:read(): the means since
-- the last read, 1 the least noise, false where there was nothing; starts anew.
function health.levels(parts)
  parts = parts or 4
  return setmetatable({parts = parts, sums = core.keep(core.zeros(parts)), counts = core.keep(core.zeros(parts))},
                      Levels)
end

function Levels:add(t, losses)
  core.no_grad(function()
    if self.sums.device ~= t.device then
      self.sums, self.counts = core.keep(self.sums:to(t.device)), core.keep(self.counts:to(t.device))
    end
    local n = t.shape[1]
    local part = core.floor(t * self.parts):clamp(0, self.parts - 1):i64()
    local good = core.le(core.abs(losses), 3e38) -- false for nan
    local here = core.one_hot(part, self.parts):f32() * good:f32():reshape(n, 1)
    local finite = core.where(good, losses, core.zeros_like(losses))
    self.sums:add_(core.sum(here * finite:reshape(n, 1), 1))
    self.counts:add_(core.sum(here, 1))
  end)
end

function Levels:read()
  local sums, counts, out = self.sums:tolist(), self.counts:tolist(), {}
  for k = 1, self.parts do out[k] = counts[k] > 0 and sums[k] / counts[k] end
  core.no_grad(function()
    self.sums:zero_()
    self.counts:zero_()
  end)
  return out
end

-- ---- steps that stand out -------------------------------------------------------------------------------------------

local function median(sorted)
  local n = #sorted
  return n % 2 == 1 and sorted[(n + 1) / 2] or (sorted[n / 2] + sorted[n / 2 + 1]) / 2
end

-- Median and 1.4826 times the median absolute deviation, which for normal values is their standard deviation.
local function centre_and_scale(values)
  local sorted = {unpack(values)}
  table.sort(sorted)
  local m = median(sorted)
  for i, v in ipairs(sorted) do sorted[i] = math.abs(v - m) end
  table.sort(sorted)
  return m, 1.4826 * median(sorted)
end

local LEAST_SCALE = 0.02 -- of logarithms: values within two per cent of each other stand out from nothing

local Series = {}
Series.__index, Series.__name = Series, 'series'

local function series(window) return setmetatable({values = {}, at = 0, window = window}, Series) end

-- How many scales log(v) lies above the median of the values before it; 0 while there are too few. v joins them.
function Series:see(v)
  if not (v > 0 and v < math.huge) then return 0 end
  local x, n = math.log(v), #self.values
  if n >= 50 and (not self.centre or self.at % 10 == 0) then
    self.centre, self.scale = centre_and_scale(self.values)
  end
  self.at = self.at + 1
  self.values[(self.at - 1) % self.window + 1] = x
  if n < 50 then return 0 end
  return (x - self.centre) / math.max(self.scale, LEAST_SCALE)
end

local Outliers = {}
Outliers.__index, Outliers.__name = Outliers, 'outliers'

--- outliers(limit = 8): watches losses and gradient norms by the median and median absolute deviation of the logarithms
-- of the last 200; outliers:see(loss, norm): nil, or by how many deviations they lie above, when one does by more than
-- limit.
function health.outliers(limit)
  return setmetatable({limit = limit or 8, loss = series(200), norm = series(200)}, Outliers)
end

function Outliers:see(loss, norm)
  local a, b = self.loss:see(loss), self.norm:see(norm)
  if a > self.limit or b > self.limit then return {loss = a, norm = b} end
end

-- ---- two losses' gradients ------------------------------------------------------------------------------------------

--- compare(a, b, parameters, optim): of two terms of a loss that has not run backward yet: the cosine between their
-- gradients, and the norm of b's over that of a's. Costs two backward passes and a copy of the gradients; leaves the
-- parameters without gradients and the tape as it was.
function health.compare(a, b, parameters, optim)
  return core.scope(function()
    optim:zero_grad()
    a:backward{retain = true}
    local na, kept = core.grad_norm(parameters), {}
    core.no_grad(function()
      for i, p in ipairs(parameters) do kept[i] = p.grad and core.keep(p.grad:clone()) or false end
    end)
    optim:zero_grad()
    b:backward{retain = true}
    local nb, dot = core.grad_norm(parameters), nil
    core.no_grad(function()
      for i, p in ipairs(parameters) do
        local g = kept[i] and p.grad and core.sum(kept[i] * p.grad)
        dot = g and dot and dot + g or g or dot
        if kept[i] then kept[i]:release() end
      end
      dot = dot and dot:item() or 0
    end)
    optim:zero_grad()
    return na > 0 and nb > 0 and dot / (na * nb) or 0, na > 0 and nb / na or 0
  end)
end

-- ---- the process ----------------------------------------------------------------------------------------------------

--- resident(): bytes of memory the process holds, nil where the system does not say.
function health.resident()
  local f = io.open('/proc/self/status')
  if not f then return nil end
  local kib = f:read('*a'):match('VmRSS:%s*(%d+)')
  f:close()
  return kib and tonumber(kib) * 1024
end

return health
