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
Run.__index, Run.__name = Run, 'run'

local known = {opt = take.optional, model = take.optional, optim = take.optional, schedule = take.optional,
               ema = 0, clip = 0, seed = 0, save_minutes = 5, log_every = 20, record = take.optional, quiet = false,
               plan = true, deterministic = false}

local MAX_SKIPPED = 10

local now = core.clock

local function plain(opt)
  local out = {}
  for key, value in pairs(opt or {}) do
    if type(value) ~= 'function' and type(value) ~= 'userdata' then out[key] = value end
  end
  return out
end

-- A kill may have left half a line at the end of the log: it is cut off.
local function mend_log(path)
  local f = io.open(path, 'rb')
  if not f then return end
  local text, why = f:read('*a')
  f:close()
  if not text then core.fail(('run: cannot read %s: %s'):format(path, why)) end
  local whole = text:match('^(.*\n)') or ''
  if #whole < #text then core.write_file(path, whole) end
end

--- run(folder, {model, optim, schedule, ema (decay, 0 = none), clip (largest gradient norm, 0 = none), seed, opt,
-- save_minutes = 5, log_every = 20 (steps), record (a table stored with every checkpoint), plan = true (the memory),
-- deterministic = false (true: no ways of computing are timed from here on, tune(false); the fixed rule chooses)})
local function new(folder, options)
  local o = take('run', options, known, {'model', 'optim'})
  core.make_dirs(folder)
  core.lock_folder(folder)
  core.sweep_folder(folder)
  if o.deterministic then core.tune(false) end
  local self = setmetatable({folder = folder, images = 0, counted = 0, skipped = 0, in_a_row = 0}, Run)
  for key, value in pairs(o) do self[key] = value end
  self.decay = o.ema
  self.ema = o.ema > 0 and require('ld.ema').of(o.model, {decay = o.ema}) or nil
  self.parameters = o.model:parameters()
  for _, x in ipairs(self.parameters) do core.keep(x) end
  self.sums, self.last, self.log_path = {n = 0, parts = {}}, folder .. '/last.h5', folder .. '/log.jsonl'
  mend_log(self.log_path)
  if core.file_kind(self.last) then self:resume() end
  self:log{event = self.resumed and 'resumed' or 'started', images = self.images} -- a folder that refuses shows here
  return self
end

function Run:say(text, ...)
  if self.quiet then return end
  self:clear_line()
  io.stdout:write(text:format(...), '\n')
  io.stdout:flush()
end

-- ---- checkpoints ----------------------------------------------------------------------------------------------------

function Run:state_record()
  local seed, draws = core.seed()
  return {images = self:seen(), skipped = self.skipped, generator_seed = seed, generator_draws = draws,
          ema_updates = self.ema and self.ema.average:updates() or 0, ema_decay = self.decay, seed = self.seed,
          options = plain(self.opt), extra = self.record, optimizer = self.optim.kind, best = self.best_value,
          data = self.data_name, count = self.n, mean = self.mean}
end

-- Images seen, those of the step just done included.
function Run:seen()
  return self.images + self.counted
end

--- save(path): model, optimiser, average and clock; by default the run's last.h5. Timed choices are written first, so
-- that the process that resumes computes as this one did.
function Run:save(path)
  if host.save_tuning then host.save_tuning() end
  core.scope(function()
    local tensors = {optimizer = self.optim:state()}
    if self.ema then tensors.ema = self.ema:state() end
    checkpoint.write(path or self.last, {model = self.model, tensors = tensors, record = self:state_record()})
  end)
  if not path or path == self.last then self.saved_at = now() end -- another file is no use to resume from
end

-- The checkpoint must be of the same kind of network and optimiser.
function Run:check_kind(c)
  for _, kind in ipairs{{c.model_name, self.model.name}, {c.record.optimizer, self.optim.kind}} do
    if kind[1] ~= kind[2] then
      core.fail(("run: %s was trained with '%s', this recipe has '%s'; choose another folder"):format(self.last,
        tostring(kind[1]), tostring(kind[2])))
    end
  end
end

function Run:load(c)
  self:check_kind(c)
  local state = checkpoint.read_group(c, 'model')
  self.model:load_state(state, {name = self.last})
  self.optim:load_state(checkpoint.read_group(c, 'optimizer'))
  if not self.ema then return end
  local averages, updates = checkpoint.read_group(c, 'ema'), c.record.ema_updates
  if not next(averages) then averages, updates = state, 0 end -- none so far: they begin at the weights
  self.ema:load_state(averages, updates)
end

-- Options that are not what they were, as text.
local function changes(before, opt)
  local changed = {}
  for key, value in pairs(plain(opt)) do
    if core.json_encode(before[key]) ~= core.json_encode(value) then
      changed[#changed + 1] = ('%s %s -> %s'):format(key, core.json_encode(before[key]), core.json_encode(value))
    end
  end
  table.sort(changed)
  return #changed > 0 and '; options changed: ' .. table.concat(changed, ', ') or ''
end

-- The value that best.h5 was kept for; last.h5 may be older.
local function best_kept(path, value)
  if not core.file_kind(path) then return value end
  local ok, c = pcall(checkpoint.open, path)
  if not ok then return value end
  c.file:close()
  local kept = c.record.best
  return kept and (not value or kept > value) and kept or value
end

function Run:resume()
  local c = checkpoint.open(self.last)
  local ok, message = pcall(core.scope, function() self:load(c) end)
  c.file:close()
  if not ok then error(message, 0) end
  local r = c.record
  core.seed(r.generator_seed, r.generator_draws)
  self.images, self.skipped, self.mean, self.before, self.resumed = r.images, r.skipped, r.mean, r, true
  self.best_value = best_kept(self.folder .. '/best.h5', r.best)
  self:say('resumed %s at %d images%s', self.last, self.images, changes(r.options or {}, self.opt))
end

--- best(value): keep best.h5 when `value` is the highest so far; returns whether it was.
function Run:best(value)
  if value ~= value or (self.best_value and value <= self.best_value) then return false end
  self.best_value = value
  self:save(self.folder .. '/best.h5')
  return true
end

-- ---- the clock ------------------------------------------------------------------------------------------------------

-- Steps in an epoch: the last batch is a short one, and dropped when it has a single picture.
local function steps_per_epoch(n, batch)
  return math.floor(n / batch) + (n % batch >= 2 and 1 or 0)
end

-- Steps taken at a count of images.
local function steps_at(images, n, batch)
  local per_epoch = steps_per_epoch(n, batch)
  return math.floor(images / n) * per_epoch + math.min(math.ceil((images % n) / batch), per_epoch)
end

function Run:stop_requested()
  local why = host.stop_requested and host.stop_requested()
  if not why then return end
  self:flush_log()
  if self.in_a_row == 0 then self:save() end
  self:clear_line()
  self:say('%s: stopped at %d images; checkpoint %s. Run the same command again to resume.', why, self.images,
    self.last)
  if host.interactive then error('stopped', 0) end
  os.exit(0, true)
end

-- The batch that begins at the present image: its size, and how far the clock moves. A single picture left over at the
-- end of an epoch is passed over (batch norm cannot use it) but counts as seen.
function Run:next_batch()
  local left = self.n - self.images % self.n
  local count = math.min(self.batch_size, left)
  return count, left - count == 1 and left or count
end

-- The pictures of a batch, by their numbers in the data set: those at the clock `images`.
function Run:indices(images, count)
  local epoch, at, indices = math.floor(images / self.n), images % self.n, {}
  for i = 1, count do indices[i] = core.shuffled(at + i, self.n, self.seed, epoch) end
  return indices
end

-- A batch's tensors on the default device.
local function here(batch)
  local device = core.default_device()
  for key, value in pairs(batch) do
    if core.is_tensor(value) and value.device ~= device then
      batch[key] = core.keep(value:to(device))
      value:release()
    end
  end
  return batch
end

-- A data set with a loader has it read ahead, in the order of Run:indices, which are listed when they are asked for.
function Run:make_batch(data, count)
  local images, batch = self.images, {}
  if self.loader then
    batch.x, batch.label = self.loader:batch(images, count)
    here(core.keep(batch))
    setmetatable(batch, {__index = function(_, key) return key == 'indices' and self:indices(images, count) or nil end})
  else
    local indices = self:indices(images, count)
    batch = data.get and here(core.keep(data:get(indices, images))) or batch
    batch.indices = indices
  end
  batch.first, batch.epoch, batch.count = images, math.floor(images / self.n) + 1, count
  batch.seed = self.seed
  return batch
end

function Run:start(data, size, epochs)
  local n = data.count
  if n < 2 then core.fail(('run: %d pictures are too few to train on'):format(n)) end
  if size < 2 then core.fail(('run: a batch of %d; at least 2 pictures are needed'):format(size)) end
  if size % 1 ~= 0 then core.fail(('run: a batch of %g; a whole number is needed'):format(size)) end
  if not (epochs > 0 and epochs < math.huge) then
    core.fail(('run: %g epochs; a number above 0 is needed'):format(epochs))
  end
  size = math.min(size, n)
  self.n, self.batch_size, self.total_images, self.data_name = n, size, n * epochs, data.name
  self.loader = data.loader and data:loader{batch = size, seed = self.seed}
  self.total_steps = epochs * steps_per_epoch(n, size)
  self.images, self.counted, self.advance = self:seen(), 0, 0
  self.started, self.start_images, self.saved_at = now(), self.images, now()
  local before = self.before or {}
  if before.count and before.count ~= n then
    self:say('the data had %d pictures when %s was written, now there are %d', before.count, self.last, n)
  end
  if host.on_stop then host.on_stop(true) end
end

--- batches(data, size, epochs): iterates over {indices, first, epoch, count, seed, x, ...}: x and label of data:loader
-- where the data set has that, which reads ahead; else the fields of data:get, where it has that; tensors on the
-- default device. Order is a pure function of (seed, epoch); the last batch of an epoch may be smaller.
function Run:batches(data, size, epochs)
  self:start(data, size, epochs)
  return function()
    self.images, self.counted = self.images + self.advance, 0
    if self.advance > 0 then self:after_step() end
    self.advance = 0
    while self.images < self.total_images do
      local count, advance = self:next_batch()
      if count >= 2 then
        self.batch = self:make_batch(data, count)
        self.advance = advance
        return self.batch
      end
      self.images = self.images + advance
    end
    self:flush_log()
    if host.on_stop then host.on_stop(false) end
  end
end

-- Between two steps: everything of the last one counts now. While steps are skipped nothing is saved: the weights may
-- be what makes the loss not finite.
function Run:after_step()
  for _, value in pairs(self.batch) do
    if type(value) == 'userdata' and core.is_tensor(value) then value:release() end
  end
  if self.in_a_row == 0 and now() - self.saved_at >= self.save_minutes * 60 then self:save() end
  self:stop_requested()
end

--- every{images = n} or every{epochs = n}: true once each time the clock passes a multiple of n (and at the end); asked
-- after run:step.
function Run:every(o)
  local unit = o.images or o.epochs and o.epochs * self.n
  if not unit or unit ~= unit or unit <= 0 then
    core.fail('run:every: images or epochs, a number above 0, is needed')
  end
  local seen = self.images + self.advance
  return math.floor(seen / unit) > math.floor(self.images / unit) or seen >= self.total_images
end

--- epoch_end(): true in the last step of an epoch.
function Run:epoch_end()
  return self:every{epochs = 1}
end

-- ---- one step -------------------------------------------------------------------------------------------------------

function Run:set_learning_rate()
  if not self.schedule then return end
  local lr, beta1 = self.schedule(steps_at(self.images, self.n, self.batch_size), self.total_steps)
  self.optim.lr = lr
  if beta1 and self.optim.kind ~= 'sgd' then self.optim.beta1 = beta1 end
  if beta1 and self.optim.kind == 'sgd' then self.optim.momentum = beta1 end
end

local function finite(v) return v == v and v ~= math.huge and v ~= -math.huge end

-- The arithmetic of a step: whether loss and gradient are finite, the loss, its parts, the norm of the gradient. If
-- they are, weights and averages are updated; if not, the buffers are as they were.
function Run:compute(f)
  local buffers = self.model:buffers()
  local kept = core.no_grad(function()
    local copies = {}
    for i, x in ipairs(buffers) do copies[i] = x:clone() end
    return copies
  end)
  self.optim:zero_grad()
  local loss, parts = f()
  if not core.is_tensor(loss) then
    core.fail(('run:step: the function returned %s; the loss, a tensor of one element, was needed'):format(type(loss)))
  end
  local value, norm = loss:item(), 0
  if finite(value) then
    loss:backward()
    norm = core.grad_norm(self.parameters)
  end
  local ok = finite(value) and finite(norm)
  if ok then
    self.optim:step{ema = self.ema and self.ema.average, norm = norm, clip = self.clip, drop = true}
  else
    core.no_grad(function()
      for i, x in ipairs(buffers) do x:copy_(kept[i]) end
    end)
    self.optim:zero_grad()
  end
  return ok, value, parts, norm
end

local function amount(bytes)
  local mib = bytes / 2 ^ 20
  if mib < 1 then return ('%.3g KiB'):format(bytes / 1024) end
  return mib < 1000 and ('%.3g MiB'):format(mib) or ('%.3g GiB'):format(mib / 1024)
end

-- What steps like this one need, found by one that computes nothing (ld.memory.plan), in run.memory.
function Run:plan_memory(f)
  local ok, p = pcall(core.memory.plan, function() self:compute(f) end)
  if not ok then return self:say('memory: no plan: %s', p) end
  self.memory = p
  if p.outlived > 0 then
    core.fail(('run:step: the function keeps %s that it made (the first of it by %s). It is run once more before the '
      .. 'first step to plan the memory, without computing, and what it makes then is zeros: make what is kept before '
      .. 'the first step, or give ld.run plan = false'):format(amount(p.outlived), p.outlived_op))
  end
  self:say('memory: a step needs %s (%s held between steps, %s activations and gradients, %s workspace), %s with what '
    .. 'is kept for reuse; %s here', amount(p.peak), amount(p.before), amount(p.peak - p.before - p.workspace),
    amount(p.workspace), amount(p.held), amount(p.room))
  if p.held > p.room then
    self:say('warning: that is %s more than this process may have, and the system may end it; use a smaller batch',
      amount(p.held - p.room))
  end
end

--- step(f): f computes and returns the loss (and its parts by name: tensors or numbers); then backward, clipping,
-- update, average. A step with a loss or gradient that is not finite changes nothing and is counted; ten in a row stop
-- the run. Before the first step f is run once more, without computing, to plan the memory; option plan = false leaves
-- that out.
function Run:step(f)
  if not self.batch then core.fail('run:step: call it inside `for batch in run:batches(...)`') end
  self:set_learning_rate()
  if self.plan then
    self.plan = false
    self:plan_memory(f)
  end
  return core.scope(function()
    local ok, value, parts, norm = self:compute(f)
    self.counted = self.advance
    if ok then self:count(value, parts, norm) else self:skip(value, norm) end
    return ok
  end)
end

function Run:skip(value, norm)
  self.skipped, self.in_a_row = self.skipped + 1, self.in_a_row + 1
  self:log{event = 'skipped', images = self.images, loss = value, gradient_norm = norm}
  if self.in_a_row >= MAX_SKIPPED then
    core.fail(('run: the loss or its gradient was not finite in %d steps in a row (loss %g); the last good checkpoint '
      .. 'is %s'):format(self.in_a_row, value, core.file_kind(self.last) and self.last or 'none'))
  end
end

-- ---- telling --------------------------------------------------------------------------------------------------------

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
  local entry = {images = self:seen(), loss = s.loss / s.n,
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
  local line = core.json_encode(entry) .. '\n'
  local f, why = io.open(self.log_path, 'a')
  local ok = f
  if f then
    ok, why = f:write(line)
    local closed, late = f:close()
    if not closed then ok, why = false, late end
  end
  if not ok then core.fail(('run: cannot write %s: %s'):format(self.log_path, tostring(why))) end
end

function Run:speed()
  local seconds = now() - self.started
  return seconds > 0 and (self:seen() - self.start_images) / seconds or 0
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
  local seen, speed = self:seen(), self:speed()
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

--- averaged(f, batches, count): f's results with the averaged weights in the network, as ema:use; with the live ones,
-- in eval mode, when the run keeps no average.
function Run:averaged(f, batches, count)
  if self.ema then return self.ema:use(f, batches, count) end
  local was_training = self.model.training
  self.model:eval()
  local results = {pcall(f)}
  self.model:train(was_training)
  if not results[1] then error(results[2], 0) end
  return unpack(results, 2, table.maxn(results))
end

--- image(name, images, {columns}): a grid of (N,3,H,W) in [0,1] to samples/<name>-<images seen>.png; returns its path.
function Run:image(name, x, options)
  core.make_dirs(self.folder .. '/samples')
  local path = ('%s/samples/%s-%08d.png'):format(self.folder, name, self:seen())
  core.scope(function() core.save_image(require('ld.grid')(x, options), path, {run = self.folder, what = name}) end)
  return path
end

--- finish(): the last checkpoint, and a summary line. Other processes may train in the folder now.
function Run:finish()
  self:flush_log()
  if self.in_a_row == 0 then self:save() end
  if host.on_stop then host.on_stop(false) end
  core.unlock_folder(self.folder)
  self:say('finished: %d images%s%s; %s', self:seen(), self.mean and (', loss %.4f'):format(self.mean.loss) or '',
    self.skipped > 0 and (', %d steps skipped'):format(self.skipped) or '', self.last)
end

return new
