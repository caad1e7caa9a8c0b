-- A training run: the loop's clock, order of data, and what belongs to the folder as a whole; checkpoints are in
-- run_state.lua, the step in run_step.lua, logs in run_log.lua. The loop itself stays in the recipe:
--
--   local run = ld.run('runs/x', {opt = opt, model = net, optim = adamw, schedule = ..., ema = 0.999})
--   for batch in run:batches(data, 128, 25) do
--     run:step(function() local loss, parts = ...; return loss, parts end)
--   end
--   run:finish()
--
-- The one clock is images seen; epoch, step and learning rate derive from it.
local core = require 'ld.core'
local take = require 'ld.take'
local host = package.loaded['ld.host'] or {}

local Run = {}
Run.__index = Run

local known = {opt = take.optional, model = take.optional, optim = take.optional, schedule = take.optional,
               ema = 0, clip = 0, seed = 0, save_minutes = 5, log_every = 20, record = take.optional, quiet = false,
               plan = true, deterministic = false, graph = take.optional}

local now = core.clock

for _, part in ipairs{'ld.run_state', 'ld.run_step', 'ld.run_graph', 'ld.run_log'} do
  for name, method in pairs(require(part)) do Run[name] = method end
end

--- run(folder, {model, optim, schedule, ema (decay, 0 = none), clip (largest gradient norm, 0 = none), seed, opt,
-- save_minutes = 5, log_every = 20 (steps), record (a table stored with every checkpoint), plan = true (the memory),
-- deterministic = false (true: no ways of computing are timed from here on, tune(false); the fixed rule chooses),
-- graph (false: the function computes every step; by default a device that can records the step, run_graph.lua)})
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
  self:mend_log()
  if core.file_kind(self.last) then self:resume() end
  self:log{event = self.resumed and 'resumed' or 'started', images = self.images} -- a folder that refuses shows here
  return self
end

-- ---- the clock ------------------------------------------------------------------------------------------------------

-- Steps in an epoch: the last batch is a short one, and dropped when it has a single picture.
local function steps_per_epoch(n, batch)
  return math.floor(n / batch) + (n % batch >= 2 and 1 or 0)
end

-- Steps taken at a count of images.
function Run:steps_at(images)
  local n, batch = self.n, self.batch_size
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
  if now() - self.saved_at >= self.save_minutes * 60 then
    self:settle()
    if self.in_a_row == 0 then self:save() end
  end
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

-- ---- pictures and the end -------------------------------------------------------------------------------------------

--- averaged(f, batches, count): f's results with the averaged weights in the network, as ema:use; with the live ones,
-- in eval mode, when the run keeps no average.
function Run:averaged(f, batches, count)
  self:settle()
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
  self:forget_graphs()
  if self.in_a_row == 0 then self:save() end
  if host.on_stop then host.on_stop(false) end
  core.unlock_folder(self.folder)
  self:say('finished: %d images%s%s; %s', self:seen(), self.mean and (', loss %.4f'):format(self.mean.loss) or '',
    self.skipped > 0 and (', %d steps skipped'):format(self.skipped) or '', self.last)
end

return new
