-- Exponential moving averages of a network's parameters, and using them safely with batch norm.
local core = require 'ld.core'
local profile = require 'ld.ema_profile'
local take = require 'ld.take'

local EMA = {}
EMA.__index, EMA.__name = EMA, 'ema'

local ema = {}

--- ema.of(net, {decay = 0.9999, warmup = true}), or ema.of(net, {sigma_rel = {0.05, 0.10}}): power-function averages
-- of these widths (ld.ema_profile), each of the relative width of the training so far, whatever the size of batches.
-- every: images between two snapshots of a run (ld.ema_snapshot).
function ema.of(net, options)
  local o = take('ema', options, {decay = take.optional, warmup = true, sigma_rel = take.optional,
                                  every = take.optional})
  local self = setmetatable({net = net, averages = {}, every = o.every}, EMA)
  if not o.sigma_rel then
    self.decay = o.decay or 0.9999
    self.averages[1] = core.ema(net:parameters(), {decay = self.decay, warmup = o.warmup})
  else
    if o.decay then core.fail('ema: a decay or widths sigma_rel, not both') end
    self.widths = type(o.sigma_rel) == 'table' and o.sigma_rel or {o.sigma_rel}
    if #self.widths == 0 then core.fail('ema: sigma_rel is empty; a list of widths such as {0.05, 0.10} is needed') end
    self.gammas, self.at = {}, 0 -- at: images seen at the last update
    for i, width in ipairs(self.widths) do
      self.gammas[i] = profile.gamma(width)
      self.averages[i] = core.ema(net:parameters(), {decay = 0, warmup = false})
    end
  end
  if o.every and not (type(o.every) == 'number' and o.every > 0 and self.widths) then
    core.fail('ema: every is a number of images above 0, and for averages of a width sigma_rel')
  end
  self.average = self.averages[1]
  return self
end

--- ema.for_run(net, given): the option `ema` of ld.run: nil or 0, a decay, or a table as ema.of takes.
function ema.for_run(net, given)
  if not given or given == 0 then return nil end
  if type(given) == 'number' then given = {decay = given} end
  return ema.of(net, given)
end

--- ready(images): the next update is the one at that clock. The first average is updated by whoever asks for it, in the
-- pass of the optimiser's step; rest() updates the others, and moved(images) says that the update counts.
function EMA:ready(images)
  for i, gamma in ipairs(self.gammas or {}) do
    if not (images and images > self.at) then
      core.fail(('ema: an update at %s images, the last one was at %g; it must come later'):format(tostring(images),
        self.at))
    end
    self.averages[i]:decay(profile.decay(gamma, self.at, images))
  end
  return self.average
end

function EMA:rest()
  for i = 2, #self.averages do self.averages[i]:update() end
end

function EMA:moved(images)
  if self.widths then self.at = images end
end

--- update(images): all averages, from the weights as they are; with widths the images seen are needed.
function EMA:update(images)
  self:ready(images):update()
  self:rest()
  self:moved(images)
end

-- The position of the average of a width (nil: the first).
function EMA:index(width)
  if not width then return 1 end
  for i, w in ipairs(self.widths or {}) do
    if w == width then return i end
  end
  core.fail(('ema: there is no average of width %s; there are: %s'):format(tostring(width),
    self.widths and table.concat(self.widths, ' ') or 'one with decay ' .. self.decay))
end

--- drift(): by name, how far the weights are from each average: |weights - average| / |weights|. The name is ema_drift,
-- with widths ema_drift_0.05 and so on.
function EMA:drift()
  local out = {}
  for k, average in ipairs(self.averages) do
    out['ema_drift' .. (self.widths and '_' .. self.widths[k] or '')] = core.scope(function()
      return core.no_grad(function()
        local apart, all
        for i, x in ipairs(self.net:parameters()) do
          local d, s = core.scope(function() return core.sumsq(average:average(i) - x), core.sumsq(x) end)
          apart, all = apart and apart + d or d, all and all + s or s
        end
        local whole = all:item()
        return whole > 0 and math.sqrt(apart:item() / whole) or 0
      end)
    end)
  end
  return out
end

-- Running statistics belong to the weights they were gathered with.
local function has_statistics(net)
  return #net:named_buffers() > 0
end

--- use(f, batches, count = 16, width): run f with the averaged weights (of that width; else the first average) in the
-- network, in eval mode, then put everything back. With batch norm, `batches(i)` runs the network on the i-th of
-- `count` batches of data; the statistics are recomputed from them.
function EMA:use(f, batches, count, width)
  local net, kept, average = self.net, {}, self.averages[self:index(width)]
  if has_statistics(net) and not batches then
    core.fail('ema: the network has batch norm: pass a function that runs it on data, to recompute its statistics')
  end
  local was_training = net.training
  core.no_grad(function()
    for i, x in ipairs(net:buffers()) do kept[i] = core.keep(x:clone()) end
  end)
  average:swap()
  local results = {pcall(function()
    if batches then ema.recalibrate(net, batches, count or 16) end
    net:eval()
    return f()
  end)}
  average:swap()
  core.no_grad(function()
    for i, x in ipairs(net:buffers()) do
      x:copy_(kept[i])
      kept[i]:release()
    end
  end)
  net:train(was_training)
  if not results[1] then error(results[2], 0) end
  return unpack(results, 2, table.maxn(results))
end

-- {running value, momentum of its layer} of every batch norm.
local function running_values(net)
  local list = {}
  for path, m in net:modules() do
    local layer = rawget(m, 'layer')
    for _, entry in ipairs(layer and layer:buffers() or {}) do
      if entry[1]:match('^running_') then
        local momentum = tonumber(layer:describe():match('momentum ([^,%s%)]+)'))
        if not momentum or momentum == 0 then
          core.fail(('ema: %s keeps no running average (momentum 0); its statistics cannot be recomputed'):format(path))
        end
        list[#list + 1] = {entry[2], momentum}
      end
    end
  end
  return list
end

--- recalibrate(net, batches, count): running means and variances as the plain average over `count` batches. Dropout and
-- all else is as in training meanwhile; the network is left in the mode it was in.
function ema.recalibrate(net, batches, count)
  local values, was_training = running_values(net), net.training
  if #values == 0 then return end
  net:train()
  local ok, message = pcall(core.no_grad, function()
    local sums = {}
    for k, value in ipairs(values) do sums[k] = core.zeros_like(value[1]) end
    for i = 1, count do
      core.scope(function()
        -- from zeros, the running value after one batch is `momentum` times that batch's
        for _, value in ipairs(values) do value[1]:zero_() end
        batches(i)
        for k, value in ipairs(values) do sums[k]:axpby_(value[1], 1 / (value[2] * count), 1) end
      end)
    end
    for k, value in ipairs(values) do value[1]:copy_(sums[k]) end
  end)
  net:train(was_training)
  if not ok then error(message, 0) end
end

--- state(i = 1): the i-th averages by parameter path.
function EMA:state(i)
  local out, average = {}, self.averages[i or 1]
  for k, entry in ipairs(self.net:named_parameters()) do out[entry[1]] = average:average(k) end
  return out
end

--- load_state(state, updates, i = 1): puts them back.
function EMA:load_state(state, updates, i)
  local average = self.averages[i or 1]
  for k, entry in ipairs(self.net:named_parameters()) do
    local x = state[entry[1]]
    if not x then core.fail(('ema: no average of %s'):format(entry[1])) end
    average:load(k, x)
  end
  average:updates(updates)
end

-- ---- in a run's checkpoints -----------------------------------------------------------------------------------------

local function group(i) return i == 1 and 'ema' or 'ema_' .. i end

--- groups(): the tensors of a checkpoint: 'ema' has the first average, 'ema_2' the second.
function EMA:groups()
  local out = {}
  for i in ipairs(self.averages) do out[group(i)] = self:state(i) end
  return out
end

--- record(): what a checkpoint's record says of the averages.
function EMA:record()
  return {decay = self.decay, sigma_rel = self.widths, at = self.at, updates = self.average:updates()}
end

--- load(c, weights): from a checkpoint that is open; weights are its model's tensors by path, with which an average by
-- decay begins that the checkpoint does not have. An average of a width begins with the training or not at all.
function EMA:load(c, weights)
  local checkpoint = require 'ld.checkpoint'
  local before = c.record.averages or {}
  local function list(widths) return widths and 'widths ' .. table.concat(widths, ' ') or 'none of a width' end
  if (self.widths or before.sigma_rel) and list(self.widths) ~= list(before.sigma_rel) then
    core.fail(('ema: %s has averages of weights: %s; asked for: %s. Those of a run stay; ld.ema.rebuild makes '
      .. 'others from its snapshots'):format(c.path, list(before.sigma_rel), list(self.widths)))
  end
  for i in ipairs(self.averages) do
    local averages, updates = checkpoint.read_group(c, group(i)), before.updates or c.record.ema_updates
    if not next(averages) then averages, updates = weights, 0 end
    self:load_state(averages, updates, i)
  end
  self.at = self.widths and before.at
end

--- ema.read(path, width): the averaged parameters in a run's checkpoint by parameter path, of that width where it is
-- kept, else the first; and what they are, as text.
function ema.read(path, width)
  local checkpoint = require 'ld.checkpoint'
  local c = checkpoint.open(path)
  local kept, at = (c.record.averages or {}).sigma_rel or {}, not width and 1
  for i, w in ipairs(kept) do at = w == width and i or at end
  local out = at and checkpoint.read_group(c, group(at)) or {}
  c.file:close()
  if not next(out) then
    core.fail(('ema: %s has no averaged weights%s'):format(path, width and ' of width ' .. width or ''))
  end
  return out, kept[at] and 'ema ' .. kept[at] or 'ema'
end

-- ---- in a run's folder ----------------------------------------------------------------------------------------------

function EMA:open(folder)
  if self.widths then require('ld.ema_snapshot').open(self, folder) end
end

--- plan(run): how far apart snapshots are, by default a 32nd of the run, and what they take.
function EMA:plan(run)
  if not self.widths then return end
  self.every = self.every or run.total_images / 32
  local bytes = require('ld.ema_snapshot').bytes(self)
  run:say('averages of widths %s; a snapshot of %.1f MB every %d images, %.1f MB in all',
    table.concat(self.widths, ' '), bytes / 1e6, self.every, bytes / 1e6 * math.ceil(run.total_images / self.every))
end

--- after_step(run): a snapshot when it is time.
function EMA:after_step(run)
  if not (self.widths and run:every{images = self.every}) then return end
  run:try_to_save('snapshot of the averages', function() require('ld.ema_snapshot').write(self, run.folder) end)
end

--- ema.rebuild(folder, sigma_rel, {at = images}): the average of any width from a run's snapshots (ld.ema_snapshot).
function ema.rebuild(...) return require('ld.ema_snapshot').rebuild(...) end

--- ema.weights(folder, width): averaged weights of a finished run by parameter path, and what they are, as text: of
-- that width as it was kept, else rebuilt (then also what ema.rebuild says of them); without a width the first average.
function ema.weights(folder, width)
  local path = folder .. '/last.h5'
  local c = require('ld.checkpoint').open(path)
  c.file:close()
  local kept = not width
  for _, w in ipairs((c.record.averages or {}).sigma_rel or {}) do kept = kept or w == width end
  if kept then return ema.read(path, width) end
  local tensors, info = ema.rebuild(folder, width)
  return tensors, ('ema %s rebuilt'):format(width), info
end

return ema
