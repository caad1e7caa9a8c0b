-- A training run: the loop's clock, order of data, and what belongs to the folder as a whole; checkpoints are in
-- run_state.lua and run_keep.lua, the step in run_step.lua, logs in run_log.lua, health in run_health.lua. The loop
-- stays in the recipe:
--
--   local run = ld.run('runs/x', {opt = opt, model = net, optim = adamw, schedule = ..., ema = 0.999})
--   for batch in run:batches(data, 128, 25) do
--     run:step(function(part) local loss, parts = ...; return loss, parts end)
--   end
--   run:finish()
--
-- The one clock is images seen; epoch, step and learning rate derive from it.
local core = require 'ld.core'
local ema = require 'ld.ema'
local precision = require 'ld.precision'
local take = require 'ld.take'
local ranks = require 'ld.ranks'
local keep = require 'ld.run_keep'
local attach = require 'ld.attach'
local host = package.loaded['ld.host'] or {}

local Run = {}
Run.__index, Run.__name = Run, 'run'

local known = {opt = take.optional, model = take.optional, optim = take.optional, schedule = take.optional,
               ema = take.optional, clip = 0, seed = 0, save_minutes = 5, log_every = 20, record = take.optional,
               quiet = false, plan = true, deterministic = false, micro = 0, sync_bn = false, precision = 'f32',
               tensorboard = false, report_minutes = 5, outlier = 8, compare_every = 200, overfit = 0,
               keep = take.optional, attach = true, graph = take.optional}

local now = core.clock

for _, part in ipairs{'ld.run_state', 'ld.run_data', 'ld.run_step', 'ld.run_graph', 'ld.run_micro', 'ld.run_log',
                     'ld.run_health'} do
  for name, method in pairs(require(part)) do Run[name] = method end
end
for name, method in pairs(keep.methods) do Run[name] = method end

-- Gradients in f16 vanish without a scale on the loss, which there is not.
local function check_precision(o)
  precision.check('run: ', o.precision, o.model:device())
  if o.precision == 'f16' then
    core.fail('run: precision f16 is for networks in use (ld.precision): small gradients vanish in it; train in bf16')
  end
end

--- run(folder, {model, optim, schedule, ema (a decay, 0 = none; or {sigma_rel = {0.05, 0.10}, every = images}: averages
-- of these widths and snapshots of them, see ld.ema), clip (largest gradient norm, 0 = none), seed, opt,
-- save_minutes = 5, log_every = 20 (steps), record (a table stored with every checkpoint), plan = true (the memory),
-- deterministic = false (true: no ways of computing are timed from here on, tune(false); the fixed rule chooses),
-- micro = 0 (pictures of a micro-batch: gradients of a batch are summed from so many at a time; 0: a batch is cut into
-- as many as there are ranks), sync_bn = false (true: batch norm's statistics in training are those of all ranks'
-- pictures together; not with micro), precision = 'f32' (or 'bf16': what the functions of run:step and run:averaged
-- compute in, see ld.precision),
-- quiet = false (true: nothing is printed), tensorboard = false (true: event files in <folder>/tb), report_minutes = 5
-- (between versions of <folder>/report.html, 0 = none), outlier = 8 (deviations from the median from which a step is
-- flagged, 0 = none), compare_every = 200 (steps between comparisons of the gradients of the parts mse and perceptual,
-- 0 = none), overfit = 0 (k: train on the first k batches only, in <folder>/overfit),
-- keep = {last = 2, best = 1, every = 0}: how many checkpoints stay, and every how many images one stays for
-- good, attach = true (`ldlua attach <folder>` may ask while it trains), graph (false: the function computes every
-- step; by default a device that can records the step, run_graph.lua)})
local function new(folder, options)
  local o = take('run', options, known, {'model', 'optim'})
  if o.micro ~= 0 and not (o.micro >= 2 and o.micro % 1 == 0) then
    core.fail(('run: micro is %g; a whole number, at least 2, or 0 for the whole batch is needed'):format(o.micro))
  end
  if o.sync_bn and o.micro > 0 then
    core.fail(('run: sync_bn = true and micro = %d: statistics over the whole batch need all of it at once, and '
      .. 'micro-batches come one after the other; use one of the two'):format(o.micro))
  end
  o.keep = keep.options(o.keep)
  if o.overfit > 0 then folder = folder .. '/overfit' end
  check_precision(o)
  ranks.start()
  if ranks.rank() == 0 then
    core.make_dirs(folder)
    core.lock_folder(folder)
    core.sweep_folder(folder)
    core.sweep_folder(folder .. '/checkpoints')
  end
  if o.deterministic then core.tune(false) end
  local self = setmetatable({folder = folder, images = 0, counted = 0, skipped = 0, in_a_row = 0, outliers = 0,
                             waited = 0}, Run)
  for key, value in pairs(o) do self[key] = value end
  self.ema = ema.for_run(o.model, o.ema)
  self.parameters = o.model:parameters()
  for _, x in ipairs(self.parameters) do core.keep(x) end
  self.sums, self.last, self.log_path = self:empty_sums(), folder .. '/last.h5', folder .. '/log.jsonl'
  self:mend_log()
  self:resume()
  if self.ema then self.ema:open(self.folder) end
  attach.open(self)
  self:log_beginning() -- a folder that refuses shows here
  return self
end

-- ---- the clock ------------------------------------------------------------------------------------------------------

-- Steps in an epoch: the last batch is a short one, and dropped when it has a single picture.
local function steps_per_epoch(n, batch)
  return math.floor(n / batch) + (n % batch >= 2 and 1 or 0)
end

-- With several ranks they have told each other in the step just done, so that all of them stop at the same one.
function Run:stop_requested()
  local why = self.stop_asked or host.stop_requested and host.stop_requested()
  if ranks.count() > 1 then why = self.stop_all and (why or 'asked on another rank') end
  if not why then return end
  self:flush_log()
  self:save_at_end()
  self:log{event = 'stopped', why = why}
  self:write_report()
  self:clear_line()
  self:say('%s: stopped at %d images; checkpoint %s. Run the same command again to resume.', why, self.images,
    self.last)
  attach.close(self)
  if host.interactive then
    rawset(_G, 'run', self) -- for the prompt that follows
    error('stopped', 0)
  end
  core.ranks.finish()
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

-- A data set with a loader has it read ahead (or gather, run_data.lua), in the order of Run:indices, which are listed
-- when they are asked for.
function Run:make_batch(data, count)
  local images, batch = self.images, {}
  if self.loader then
    batch.x, batch.label = self.loader:batch(images, count)
    here(core.keep(batch))
    setmetatable(batch, {__index = function(_, key) return key == 'indices' and self:indices(images, count) or nil end})
  else
    local indices = self:indices(images, count)
    batch = data.get and here(core.keep(data:get(indices, images, self.seed))) or batch
    batch.indices = indices
  end
  batch.first, batch.epoch, batch.count = images, math.floor(images / self.n) + 1, count
  batch.seed = self.seed
  batch.from = self.loader and self:share(count) or 0 -- its tensors begin behind that many pictures
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
  data = self:few(data, size)
  n = data.count
  size = math.min(size, n)
  self.n, self.batch_size, self.total_images, self.data_name = n, size, n * epochs, data.name
  self:open_data(data)
  self.total_steps = epochs * steps_per_epoch(n, size)
  self.images, self.counted, self.advance = self:seen(), 0, 0
  self.started, self.start_images, self.saved_at = now(), self.images, now()
  self:check_ranks()
  local before = self.before or {}
  self.schedule_batch = before.batch or size
  if before.count and before.count ~= n then
    self:say('the data had %d pictures when %s was written, now there are %d', before.count, self.last, n)
  end
  if self.ema then self.ema:plan(self) end
  self:log_data(data, epochs)
  if self.plan then self:tell_disk() end
  if host.on_stop then host.on_stop(true) end
  return data
end

-- Ranks begin with the same numbers, or never have them again.
function Run:check_ranks()
  if ranks.count() == 1 then return end
  local state = {}
  for _, list in ipairs{self.parameters, self.model:buffers()} do
    for _, x in ipairs(list) do state[#state + 1] = x end
  end
  ranks.equal(state, 'network')
  local seed, draws = core.seed()
  local clock = {self.images, self.n, self.batch_size, seed, draws, self.serial}
  ranks.equal({core.tensor(clock, {dtype = 'f64'})}, 'clock or data set')
  if self.micro == 0 and self.deterministic then
    self:say(self.sync_bn and 'another number of ranks rounds otherwise: a batch of %d is cut into %d'
      or 'another number of ranks gives other weights: a batch of %d is cut into %d; option micro fixes that',
      self.batch_size, ranks.count())
  end
end

--- batches(data, size, epochs): iterates over {indices, first, epoch, count, seed, x, ...}: x and label of data:loader
-- where the data set has that, which reads ahead; else the fields of data:get, where it has that; tensors on the
-- default device. Order is a pure function of (seed, epoch); the last batch of an epoch may be smaller.
function Run:batches(data, size, epochs)
  data = self:start(data, size, epochs)
  return function()
    self.images, self.counted = self.images + self.advance, 0
    if self.advance > 0 then self:after_step() end
    self.advance = 0
    while self.images < self.total_images do
      local count, advance = self:next_batch()
      if count >= 2 then
        self.asked = now()
        self.batch = self:make_batch(data, count)
        self.waited = now() - self.asked
        self.advance = advance
        return self.batch
      end
      self.images = self.images + advance
    end
    self:flush_log()
    self:end_line()
    if host.on_stop then host.on_stop(false) end
  end
end

-- Between two steps: everything of the last one counts now. While steps are skipped nothing is saved: the weights may
-- be what makes the loss not finite.
function Run:after_step()
  for _, value in pairs(self.batch) do
    if type(value) == 'userdata' and core.is_tensor(value) then value:release() end
  end
  if self:save_is_due() then self:save_or_tell() end
  self:tell()
  if self.server then attach.serve(self) end
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

--- averaged(f, batches, count, width): f's results with the averaged weights in the network, as ema:use; with the live
-- ones, in eval mode, when the run keeps no average.
function Run:averaged(f, batches, count, width)
  self:settle()
  return precision.within(self.precision, self.with_averages, self, f, batches, count, width)
end

function Run:with_averages(f, batches, count, width)
  if self.ema then return self.ema:use(f, batches, count, width) end
  local was_training = self.model.training
  self.model:eval()
  local results = {pcall(f)}
  self.model:train(was_training)
  if not results[1] then error(results[2], 0) end
  return unpack(results, 2, table.maxn(results))
end

--- image(name, images, {columns}): a grid of (N,3,H,W) in [0,1] to samples/<name>-<images seen>.png; returns its path.
function Run:image(name, x, options)
  local path = ('%s/samples/%s-%08d.png'):format(self.folder, name, self:seen())
  if ranks.rank() > 0 then return path end
  core.make_dirs(self.folder .. '/samples')
  core.scope(function()
    local grid = require('ld.grid')(x, options)
    core.save_image(grid, path, {run = self.folder, what = name})
    self:log_image(name, path, grid.shape[3], grid.shape[2])
  end)
  return path
end

--- draws(f, batches): how pictures of this network are drawn, for run:draw and for those who attach: f(n, together)
-- gives n of them, (n,3,H,W), by the weights that are in the network; together: every rank calls it. batches as in
-- averaged.
function Run:draws(f, batches)
  self.drawing = {f = f, batches = batches}
end

--- draw(n): n pictures by the averaged weights, or the live ones where the run keeps no average, as draws has said.
function Run:draw(n)
  if not self.drawing then core.fail('run:draw: say first how pictures are drawn, with run:draws(f)') end
  return self:averaged(function() return self.drawing.f(n, true) end, self.drawing.batches)
end

--- finish(): the last checkpoint, and a summary line. Other processes may train in the folder now.
function Run:finish()
  self:flush_log()
  self:forget_graphs()
  self:save_at_end()
  if host.on_stop then host.on_stop(false) end
  self:close_data()
  self.finished = true
  self:log{event = 'finished'}
  self:write_report()
  attach.close(self)
  if ranks.rank() == 0 then core.unlock_folder(self.folder) end
  self:say('finished: %d images%s%s; %s%s', self:seen(), self.mean and (', loss %.4f'):format(self.mean.loss) or '',
    self.skipped > 0 and (', %d steps skipped'):format(self.skipped) or '', self.last,
    self.report_minutes > 0 and ' and ' .. self.folder .. '/report.html' or '')
end

return new
