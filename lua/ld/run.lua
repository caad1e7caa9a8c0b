-- A training run: the loop's clock, order of data, checkpoints, resume, logs. The loop itself stays in the recipe:
--
--   local run = ld.run('runs/x', {opt = opt, model = net, optim = adamw, schedule = ..., ema = 0.999})
--   for batch in run:batches(data, 128, 25) do
--     run:step(function() local loss, parts = ...; return loss, parts end)
--   end
--   run:finish()
--
-- The one clock is images seen; epoch, step and learning rate derive from it.
local core = require 'ld.core'
local checkpoint = require 'ld.checkpoint'
local take = require 'ld.take'
local host = package.loaded['ld.host'] or {}

local Run = {}
Run.__index = Run

local known = {opt = take.optional, model = take.optional, optim = take.optional, schedule = take.optional,
               ema = 0, clip = 0, seed = 0, save_minutes = 5, log_every = 20, record = take.optional, quiet = false}

local MAX_SKIPPED = 10

local now = core.clock

local function plain(opt)
  local out = {}
  for key, value in pairs(opt or {}) do
    if type(value) ~= 'function' and type(value) ~= 'userdata' then out[key] = value end
  end
  return out
end

--- run(folder, {model, optim, schedule, ema (decay, 0 = none), clip (largest gradient norm, 0 = none), seed, opt,
-- save_minutes = 5, log_every = 20 (steps), record (a table stored with every checkpoint)})
local function new(folder, options)
  local o = take('run', options, known, {'model', 'optim'})
  core.make_dirs(folder)
  local self = setmetatable({folder = folder, images = 0, skipped = 0, in_a_row = 0, bad = {}}, Run)
  for key, value in pairs(o) do self[key] = value end
  self.decay = o.ema
  self.ema = o.ema > 0 and require('ld.ema').of(o.model, {decay = o.ema}) or nil
  self.parameters = o.model:parameters()
  for _, x in ipairs(self.parameters) do core.keep(x) end
  self.sums, self.marks, self.last = {n = 0, parts = {}}, {}, folder .. '/last.h5'
  if core.file_kind(self.last) then self:resume() end
  return self
end

function Run:say(text, ...)
  if self.quiet then return end
  self:clear_line()
  io.stdout:write(text:format(...), '\n')
  io.stdout:flush()
end

-- ---- checkpoints -------------------------------------------------------------------------------------------------------

function Run:state_record()
  local seed, draws = core.seed()
  return {images = self.images, skipped = self.skipped, generator_seed = seed, generator_draws = draws,
          ema_updates = self.ema and self.ema.average:updates() or 0, ema_decay = self.decay, seed = self.seed,
          options = plain(self.opt), extra = self.record, optimizer = self.optim.kind, best = self.best_value,
          data = self.data_name}
end

--- save(path): model, optimiser, average and clock; by default the run's last.h5.
function Run:save(path)
  core.scope(function()
    local tensors = {optimizer = self.optim:state()}
    if self.ema then tensors.ema = self.ema:state() end
    checkpoint.write(path or self.last, {model = self.model, tensors = tensors, record = self:state_record()})
  end)
  self.saved_at = now()
end

function Run:resume()
  local c = checkpoint.open(self.last)
  if c.model_name ~= self.model.name then
    c.file:close()
    core.fail(("run: %s was trained with a '%s', this recipe has a '%s'; choose another folder"):format(self.last,
      tostring(c.model_name), self.model.name))
  end
  core.scope(function()
    self.model:load_state(checkpoint.read_group(c, 'model'), {name = self.last})
    self.optim:load_state(checkpoint.read_group(c, 'optimizer'))
    if self.ema then self.ema:load_state(checkpoint.read_group(c, 'ema'), c.record.ema_updates) end
  end)
  c.file:close()
  local r = c.record
  core.seed(r.generator_seed, r.generator_draws)
  self.images, self.skipped, self.best_value, self.resumed = r.images, r.skipped, r.best, true
  local changed = {}
  for key, value in pairs(plain(self.opt)) do
    local before = (r.options or {})[key]
    if core.json_encode(before) ~= core.json_encode(value) then
      changed[#changed + 1] = ('%s %s -> %s'):format(key, core.json_encode(before), core.json_encode(value))
    end
  end
  table.sort(changed)
  self:say('resumed %s at %d images%s', self.last, self.images,
    #changed > 0 and '; options changed: ' .. table.concat(changed, ', ') or '')
end

--- best(value): keep best.h5 when `value` is the highest so far; returns whether it was.
function Run:best(value)
  if self.best_value and value <= self.best_value then return false end
  self.best_value = value
  self:save(self.folder .. '/best.h5')
  return true
end

-- ---- the clock ---------------------------------------------------------------------------------------------------------

-- Steps taken at a count of images, the last batch of an epoch being the short one.
local function steps_at(images, n, batch)
  local per_epoch = math.ceil(n / batch)
  return math.floor(images / n) * per_epoch + math.ceil((images % n) / batch)
end

function Run:stop_requested()
  local why = host.stop_requested and host.stop_requested()
  if not why then return end
  self:save()
  self:say('%s: stopped at %d images; checkpoint %s. Run the same command again to resume.', why, self.images, self.last)
  if host.interactive then error('stopped', 0) end
  os.exit(0)
end

--- batches(data, size, epochs): iterates over {indices, first, epoch, step, total, x, ...}: the fields of data:get where
-- the data set has it. Order is a pure function of (seed, epoch); the last batch of an epoch may be smaller (below
-- `least` = 2 it is dropped for batch norm's sake: its images count as seen).
function Run:batches(data, size, epochs)
  local n = data.count
  if n < 2 then core.fail(('run: %d pictures are too few to train on'):format(n)) end
  size = math.min(size, n)
  self.n, self.batch_size, self.total_images, self.data_name = n, size, n * epochs, data.name
  self.total_steps = epochs * math.ceil(n / size)
  self.started, self.start_images, self.saved_at = now(), self.images, now()
  if host.on_stop then host.on_stop(true) end
  local pending = 0
  return function()
    self.images = self.images + pending
    if pending > 0 then self:after_step() end
    while self.images < self.total_images do
      local epoch, at = math.floor(self.images / n), self.images % n
      local count = math.min(size, n - at)
      if count < 2 then
        self.images = self.images + count
      else
        local indices = {}
        for i = 1, count do indices[i] = core.shuffled(at + i, n, self.seed, epoch) end
        pending = count
        local batch = data.get and core.keep(data:get(indices, self.images)) or {}
        batch.indices, batch.first, batch.epoch, batch.count = indices, self.images, epoch + 1, count
        batch.seed = self.seed
        self.batch = batch
        return batch
      end
    end
    self:flush_log()
    if host.on_stop then host.on_stop(false) end
  end
end

-- Between two steps: everything of the last one counts now.
function Run:after_step()
  for key, value in pairs(self.batch) do
    if type(value) == 'userdata' and core.is_tensor(value) then self.batch[key]:release() end
  end
  if now() - self.saved_at >= self.save_minutes * 60 then self:save() end
  self:stop_requested()
end

--- every{images = n} or every{epochs = n}: true once each time the clock passes a multiple of n (and at the end); asked
-- after run:step.
function Run:every(o)
  local unit = o.images or o.epochs * self.n
  local seen = self.images + self.batch.count
  return math.floor(seen / unit) > math.floor(self.images / unit) or seen >= self.total_images
end

--- epoch_end(): true in the last step of an epoch.
function Run:epoch_end()
  return self:every{epochs = 1}
end

-- ---- one step ----------------------------------------------------------------------------------------------------------

function Run:set_learning_rate()
  if not self.schedule then return end
  local lr, beta1 = self.schedule(steps_at(self.images, self.n, self.batch_size), self.total_steps)
  self.optim.lr = lr
  if beta1 and self.optim.kind ~= 'sgd' then self.optim.beta1 = beta1 end
  if beta1 and self.optim.kind == 'sgd' then self.optim.momentum = beta1 end
end

local function finite(v) return v == v and v ~= math.huge and v ~= -math.huge end

--- step(f): f computes and returns the loss (and its parts by name: tensors or numbers); then backward, clipping, update,
-- average. A step with a loss or gradient that is not finite changes nothing and is counted; ten in a row stop the run.
function Run:step(f)
  self:set_learning_rate()
  local buffers, kept = self.model:buffers(), {}
  local ok = core.scope(function()
    core.no_grad(function()
      for i, x in ipairs(buffers) do kept[i] = core.keep(x:clone()) end
    end)
    self.optim:zero_grad()
    local loss, parts = f()
    local value = loss:item()
    local norm = 0
    if finite(value) then
      loss:backward()
      norm = self.clip > 0 and core.clip_grad_norm(self.parameters, self.clip) or core.grad_norm(self.parameters)
    end
    if not finite(value) or not finite(norm) then
      core.no_grad(function()
        for i, x in ipairs(buffers) do x:copy_(kept[i]) end
      end)
      self:skip(value, norm)
      return false
    end
    self.optim:step()
    if self.ema then self.ema:update() end
    self:count(value, parts, norm)
    return true
  end)
  for _, x in ipairs(kept) do x:release() end
  self.optim:zero_grad()
  return ok
end

function Run:skip(value, norm)
  self.skipped, self.in_a_row = self.skipped + 1, self.in_a_row + 1
  self:log{event = 'skipped', images = self.images, loss = value, gradient_norm = norm}
  if self.in_a_row >= MAX_SKIPPED then
    core.fail(('run: the loss or its gradient was not finite in %d steps in a row (loss %g); the last good checkpoint is %s')
      :format(self.in_a_row, value, core.file_kind(self.last) and self.last or 'none'))
  end
end

-- ---- telling -----------------------------------------------------------------------------------------------------------

function Run:count(value, parts, norm)
  self.in_a_row = 0
  local s = self.sums
  s.n, s.loss, s.norm = s.n + 1, (s.loss or 0) + value, (s.norm or 0) + norm
  for key, part in pairs(parts or {}) do
    s.parts[key] = (s.parts[key] or 0) + (type(part) == 'number' and part or part:item())
  end
  if s.n >= self.log_every then self:flush_log() end
  self:line()
end

function Run:flush_log()
  local s = self.sums
  if s.n == 0 then return end
  local entry = {images = self.images + (self.batch and self.batch.count or 0), loss = s.loss / s.n,
                 gradient_norm = s.norm / s.n, lr = self.optim.lr, images_per_second = self:speed(),
                 memory_live = core.memory().live, skipped = self.skipped}
  for key, sum in pairs(s.parts) do entry[key] = sum / s.n end
  self:log(entry)
  self.mean = entry
  self.sums = {n = 0, parts = {}}
end

--- log{...}: one line of log.jsonl, with the time.
function Run:log(entry)
  entry.time = now()
  local path = self.folder .. '/log.jsonl'
  local f, why = io.open(path, 'a')
  if not f then core.fail(('run: cannot write %s: %s'):format(path, why)) end
  f:write(core.json_encode(entry), '\n')
  f:close()
end

function Run:speed()
  local seconds = now() - self.started
  return seconds > 0 and (self.images - self.start_images + self.batch.count) / seconds or 0
end

local function duration(seconds)
  if seconds < 90 then return ('%d s'):format(seconds) end
  if seconds < 5400 then return ('%d min'):format(seconds / 60 + 0.5) end
  return ('%.1f h'):format(seconds / 3600)
end

function Run:clear_line()
  if self.line_shown then
    io.stdout:write('\r\27[K')
    self.line_shown = false
  end
end

-- The live line, once a second on a terminal; a plain line every half minute elsewhere.
function Run:line()
  local t, terminal = now(), core.terminal()
  if self.quiet or (self.line_at and t - self.line_at < (terminal and 1 or 30)) then return end
  self.line_at = t
  local seen, speed = self.images + self.batch.count, self:speed()
  local s = self.sums.n > 0 and self.sums or {n = 1, loss = self.mean.loss, parts = {}}
  local text = ('epoch %d  %d/%d images  loss %.4f'):format(self.batch.epoch, seen, self.total_images, s.loss / s.n)
  local names = {}
  for key in pairs(s.parts) do names[#names + 1] = key end
  table.sort(names)
  for _, key in ipairs(names) do text = text .. ('  %s %.4f'):format(key, s.parts[key] / s.n) end
  text = text .. ('  %.1f images/s'):format(speed)
  if speed > 0 then text = text .. '  ' .. duration((self.total_images - seen) / speed) .. ' left' end
  if self.skipped > 0 then text = text .. ('  %d skipped'):format(self.skipped) end
  if terminal then
    io.stdout:write('\r\27[K', text)
    self.line_shown = true
  else
    io.stdout:write(text, '\n')
  end
  io.stdout:flush()
end

--- image(name, images, {columns}): a grid of (N,3,H,W) in [0,1] to samples/<name>-<images seen>.png; returns its path.
function Run:image(name, x, options)
  core.make_dirs(self.folder .. '/samples')
  local seen = self.images + (self.batch and self.images < self.total_images and self.batch.count or 0)
  local path = ('%s/samples/%s-%08d.png'):format(self.folder, name, seen)
  core.scope(function() core.save_image(require('ld.grid')(x, options), path, {run = self.folder, what = name}) end)
  return path
end

--- bad_picture(index, name, reason): noted once in bad_files.txt and counted.
function Run:bad_picture(name, reason)
  if self.bad[name] then return end
  self.bad[name] = reason
  local f = io.open(self.folder .. '/bad_files.txt', 'a')
  if f then
    f:write(name, '\t', reason, '\n')
    f:close()
  end
end

--- finish(): the last checkpoint, and a summary line.
function Run:finish()
  self:flush_log()
  self:save()
  local n = 0
  for _ in pairs(self.bad) do n = n + 1 end
  self:say('finished: %d images, loss %.4f%s%s; %s', self.images, self.mean and self.mean.loss or 0 / 0,
    self.skipped > 0 and (', %d steps skipped'):format(self.skipped) or '',
    n > 0 and (', %d bad pictures (%s/bad_files.txt)'):format(n, self.folder) or '', self.last)
end

return new
