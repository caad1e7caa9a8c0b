-- The gradient of a batch: at once, or by micro-batches that are cut the same way however many ranks there are. Methods
-- of ld.run's runs (run.lua). The sum, and why it is the same to the byte: csrc/optim/grad_sum.h.
local core = require 'ld.core'
local precision = require 'ld.precision'
local ranks = require 'ld.ranks'

local Run = {}

local DRAWS = 4096 -- of the generator, that each micro-batch has for itself: dropout does not depend on the ranks
local PARTS = 15   -- of a loss, that ranks tell each other

local function finite(v) return v == v and v ~= math.huge and v ~= -math.huge end

-- How many pictures of a batch lie before this rank's, of which a loader gives no others.
function Run:share(count)
  local n, cut = core.ranks.pieces(count, self.micro)
  return cut[(core.ranks.own(n))]
end

-- Micro-batch i: the batch's tensors cut, its numbers moved on.
local function piece(batch, i, cut)
  local first = cut[i]
  local count = cut[i + 1] - first
  local part = {first = batch.first + first, count = count, epoch = batch.epoch, seed = batch.seed}
  for key, value in pairs(batch) do
    if type(value) == 'userdata' and core.is_tensor(value) then
      part[key] = value:slice(1, first - batch.from + 1, first - batch.from + count)
    elseif part[key] == nil and key ~= 'indices' and key ~= 'from' then
      part[key] = value
    end
  end
  return setmetatable(part, {__index = function(_, key)
    if key ~= 'indices' then return nil end
    local out = {}
    for k = 1, count do out[k] = batch.indices[first + k] end
    return out
  end})
end

-- f of the batch in the run's precision: the loss and its parts.
function Run:call(f, batch)
  local loss, parts = precision.within(self.precision, f, batch)
  if not core.is_tensor(loss) then
    core.fail(('run:step: the function returned %s; the loss, a tensor of one element, was needed'):format(type(loss)))
  end
  return loss, parts
end

local function number(v) return type(v) == 'number' and v or v:item() end

-- Loss and parts from what every rank knows of its micro-batches: {asked to stop, then for each one the loss and
-- its parts in the order of their names, all times the micro-batch's weight}.
function Run:collect(mine, n, names)
  local all = self.planning and {mine} or ranks.gather(mine)
  local value, parts, width = 0, {}, 1 + PARTS
  for rank, list in ipairs(all) do
    self.stop_all = self.stop_all or list[1] > 0
    local first, last = core.ranks.own(n, rank - 1)
    for i = 0, (self.planning and 0 or last - first + 1) - 1 do
      value = value + list[2 + i * width]
      for k, name in ipairs(names) do parts[name] = (parts[name] or 0) + list[2 + i * width + k] end
    end
  end
  return value, parts
end

-- A function that takes no argument would compute the whole batch each time.
local function must_take_batch(f)
  local info = debug.getinfo(f, 'u')
  if info.nparams == 0 and not info.isvararg then
    core.fail('run:step: with micro-batches or several ranks the function is called once for each, and needs to take '
      .. 'it: run:step(function(batch) ... end)')
  end
end

-- The sum of gradients, and a word on how they go between cards.
local function new_sum(run)
  local host = package.loaded['ld.host'] or {}
  local sum = core.ranks.grad_sum(run.parameters, run.model:buffers(), not run.deterministic, host.comm)
  local text = sum:text()
  if text ~= '' and text ~= run.gradients_go then
    run:say('gradients go between ranks %s', text)
    run:log{event = 'ranks', count = ranks.count(), gradients = text}
  end
  run.gradients_go = text
  return sum
end

-- f with batch norm's statistics over all ranks, each of which has its part of the batch. The others' losses must be
-- known before backward, which all of them run or none: the third result.
function Run:synchronised(f, part)
  local was = core.ranks.sync_norms(true)
  local ok, loss, parts = pcall(self.call, self, f, part)
  core.ranks.sync_norms(was)
  if not ok then error(loss, 0) end
  local all_finite = true
  for _, one in ipairs(self.planning and {} or ranks.gather{finite(loss:item()) and 1 or 0}) do
    all_finite = all_finite and one[1] == 1
  end
  return loss, parts, all_finite
end

function Run:micro_gradient(f, n, cut)
  must_take_batch(f)
  local batch, first, last = self.batch, core.ranks.own(n)
  local seed, draws = core.seed()
  local host = package.loaded['ld.host'] or {}
  local mine, names, width = {host.stop_requested and host.stop_requested() and 1 or 0}, {}, 1 + PARTS
  for i = 2, 1 + math.ceil(n / ranks.count()) * width do mine[i] = 0 end
  if not self.grad_sum then self.grad_sum = new_sum(self) end
  self.grad_sum:begin(n)
  local sync = self.sync_bn and ranks.count() > 1 and n == ranks.count()
  for i = first, last do
    core.seed(seed, draws + (i - 1) * DRAWS)
    core.scope(function()
      local part = piece(batch, i, cut)
      local loss, parts, all_finite
      if sync then loss, parts, all_finite = self:synchronised(f, part) else loss, parts = self:call(f, part) end
      local weight, value, at = part.count / batch.count, loss:item(), 2 + (i - first) * width
      if sync and all_finite or not sync and finite(value) then
        if i == 1 or sync then self:compare_gradients(parts) end
        local weighted = loss * weight
        if not sync then self.grad_sum:watch() end -- else gradients and norms' sums could pass each other on the way
        weighted:backward()
      end
      mine[at], names = value * weight, {}
      for name in pairs(parts or {}) do names[#names + 1] = name end
      table.sort(names)
      names[PARTS + 1] = nil
      for k, name in ipairs(names) do mine[at + k] = number(parts[name]) * weight end
      self.grad_sum:add(weight)
    end)
  end
  core.seed(seed, draws + n * DRAWS)
  self.grad_sum:finish()
  return self:collect(mine, n, names)
end

-- Leaves the gradients of the batch's loss in the parameters, if that is finite; returns the loss and its parts.
function Run:gradient(f)
  local n, cut = core.ranks.pieces(self.batch.count, self.micro)
  if n > 1 or ranks.count() > 1 then return self:micro_gradient(f, n, cut) end
  local loss, parts = self:call(f, self.batch)
  local value = loss:item()
  if finite(value) then
    self:compare_gradients(parts)
    loss:backward()
  end
  return value, parts
end

return Run
