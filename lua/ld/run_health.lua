-- How a run is doing: outliers, losses by noise level, two losses' gradients, time waited for data, memory, and what
-- the run will take, told before it begins. Methods of ld.run's runs (run.lua); the arithmetic is in health.lua.
local core = require 'ld.core'
local health = require 'ld.health'

local Run = {}

local now = core.clock

-- After every step that counted: flags one that stands out.
function Run:watch(value, norm, at)
  self.steps_done = (self.steps_done or 0) + 1
  if self.outlier > 0 then
    self.watcher = self.watcher or health.outliers(self.outlier)
    local found = self.watcher:see(value, norm)
    if found then
      self.outliers = self.outliers + 1
      self:log{event = 'outlier', images = at and at.before or self.images, loss = value, gradient_norm = norm,
               loss_deviations = found.loss, norm_deviations = found.norm}
    end
  end
  self:tell_time()
end

function Run:comparable(a, b)
  return self.compare_every > 0 and core.is_tensor(a) and core.is_tensor(b) and a.requires_grad and b.requires_grad
end

-- Before the loss's own backward, every compare_every steps: how MSE and perceptual term pull on the weights.
function Run:compare_gradients(parts)
  local a, b = parts and parts.mse, parts and parts.perceptual
  if not (self.steps_done and self:comparable(a, b)) then return end -- not while the memory is planned
  self.until_compared = (self.until_compared or 1) - 1
  if self.until_compared > 0 then return end
  self.until_compared = self.compare_every
  self.compared = {health.compare(a, b, self.parameters, self.optim)}
end

-- What a log line has beside losses.
function Run:health_entry(entry, s)
  entry.images_per_second = s.busy > 0 and s.images / s.busy or 0
  entry.data_wait = s.busy > 0 and s.waited / s.busy or 0
  local memory = core.memory()
  entry.memory_live, entry.memory_peak, entry.memory_resident = memory.live, memory.peak, health.resident()
  entry.skipped, entry.outliers = self.skipped, self.outliers
  local levels = rawget(self.model, 'levels')
  for k, mean in ipairs(levels and levels:read() or {}) do entry['loss_q' .. k] = mean or nil end
  if self.compared then
    entry.gradient_cosine, entry.gradient_ratio = self.compared[1], self.compared[2]
    self.compared = nil
  end
  if self.card == nil then
    local i = tostring(core.default_device()):match('^cuda:(%d+)')
    self.card = i and require('ld.nvml').open(tonumber(i)) or false
  end
  if self.card then
    local use = self.card.read()
    entry.gpu_use, entry.gpu_memory = use.use, use.memory
  end
end

-- ---- before a long run ----------------------------------------------------------------------------------------------

local function amount(bytes)
  local mib = bytes / 2 ^ 20
  if mib < 1000 then return ('%.3g MiB'):format(mib) end
  return ('%.3g GiB'):format(mib / 1024)
end

local widths = {f64 = 8, i64 = 8, f32 = 4, i32 = 4, bf16 = 2, f16 = 2, u8 = 1}

-- Bytes of the tensors in a checkpoint. The optimiser's come into being with the first step.
function Run:checkpoint_bytes()
  return core.scope(function()
    local sum = 0
    for _, state in ipairs{self.model:state(), self.ema and self.ema:state() or {}} do
      for _, x in pairs(state) do sum = sum + x:numel() * widths[x.dtype] end
    end
    local of_each = self.optim.kind == 'sgd' and (self.optim.momentum > 0 and 1 or 0) or 2
    for _, x in ipairs(self.parameters) do sum = sum + of_each * x:numel() * widths[x.dtype] end
    return sum
  end)
end

-- How many checkpoints lie in the folder at most, the one being written included.
local function generations(keep, images)
  return keep.last + keep.best + 1 + (keep.every > 0 and math.floor(images / keep.every) or 0)
end

-- What the run will take of the disk, told once, before the first step.
function Run:tell_disk()
  local bytes, free = self:checkpoint_bytes(), core.disk_free(self.folder)
  local need = bytes * generations(self.keep, self.total_images)
  self.disk = {checkpoint = bytes, need = need, free = free}
  if not free then return end
  self:say('disk: a checkpoint takes %s, all that are kept and the one being written %s; %s free', amount(bytes),
    amount(need), amount(free))
  if need > free then
    self:say('warning: that is %s more than the disk of %s has; checkpoints will fail', amount(need - free),
      self.folder)
  end
end

-- The time the run will take, told once, when some steps have been timed; the first two do not count.
function Run:tell_time()
  if self.time_told then return end
  if not self.paced_from then
    if self.steps_done < 2 then return end
    self.paced_from, self.paced_images, self.paced_step = now(), self:seen(), self.steps_done
    return
  end
  local seconds, steps = now() - self.paced_from, self.steps_done - self.paced_step
  if steps < 3 or (seconds < 5 and steps < 50) then return end
  self.time_told = true
  local speed, left = (self:seen() - self.paced_images) / seconds, self.total_images - self:seen()
  if left <= 0 or seconds <= 0 then return end
  self:say('time: %s for the %d images left, at %.3g images/s over %d steps, pictures and checkpoints not counted',
    self.duration(left / speed), left, speed, steps)
end

-- ---- a learning rate ------------------------------------------------------------------------------------------------

--- find_lr(data, size, f, {from = 1e-7, to = 10, steps = 100, smooth = 0.9}): ld.find_lr with the run's network and
-- optimiser: f(batch) returns the loss, as in run:step, of the batches that the run will begin with. The curve goes to
-- <folder>/find_lr.svg, and the suggestion is said and returned with it. The run is as it was.
function Run:find_lr(data, size, f, options)
  local o = {model = self.model, optim = self.optim, clip = self.clip, path = self.folder .. '/find_lr.svg'}
  for key, value in pairs(options or {}) do o[key] = value end
  data = self:few(data, size)
  local count = math.min(size, data.count)
  local per_epoch = math.floor(data.count / count)
  local run, batch = setmetatable({images = 0, n = data.count, loader = false}, {__index = self}), {}
  local function release()
    for _, value in pairs(batch) do
      if core.is_tensor(value) then value:release() end
    end
  end
  function o.loss(k)
    release() -- the last one's
    local epoch, at = math.floor((k - 1) / per_epoch), (k - 1) % per_epoch
    run.images = epoch * data.count + at * count -- noise and augmentation go on
    batch = run:make_batch(data, count)
    return (f(batch)) -- without the parts
  end
  local found = require('ld.find_lr')(o)
  release()
  self:log{event = 'find_lr', suggestion = found.suggestion}
  self:say('learning rate: %s after %d steps; the curve is in %s', found.suggestion
    and ('%.2g suggested'):format(found.suggestion) or 'no suggestion, the loss never fell', #found.rates, o.path)
  return found
end

-- ---- a few batches only ---------------------------------------------------------------------------------------------

-- With overfit = k: the first k batches of the data as a data set of its own.
function Run:few(data, size)
  local n = self.overfit * size
  if self.overfit <= 0 or n >= data.count then return data end
  if data.part then return data:part(1, n) end
  local get = data.get and function(_, ...) return data:get(...) end
  local place = data.place and function(_, device) return data:place(device) end
  return setmetatable({count = n, get = get, place = place, loader = false}, {__index = data})
end

return Run
