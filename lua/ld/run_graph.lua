-- A step that the device records once and then does again by itself (csrc/backend/graph.h). Methods of ld.run's runs.
--
-- The user's function runs in the first steps of each kind of batch, three times to see whether it can be recorded, and
-- then no more: the recorded work is done again on the next batch's tensors. What follows the clock (batch.first), the
-- generator, the learning rate or the data varies. What else the function reads is looked at before each step
-- (outside): where it is something else the step is recorded anew. Results come a few steps later: skipped steps are
-- known after at most RING of them, and a log line waits for its steps.
local core = require 'ld.core'
local ranks = require 'ld.ranks'

local Run = {}

local WARM, RING, MOST = 2, 4, 4   -- steps before recording; results that may wait; recordings kept
local OFTEN = 20                   -- recording anew pays off after so many steps
local CLOCK = 0x10000001           -- how far the clock is moved to see what follows it

local function amount(bytes) return ('%.3g MiB'):format(bytes / 2 ^ 20) end

-- Tensors of a batch by name, and what they are as text.
local function tensors_of(batch)
  local names, kinds = {}, {}
  for name, x in pairs(batch) do
    if core.is_tensor(x) then names[#names + 1] = name end
  end
  table.sort(names)
  for i, name in ipairs(names) do
    local x = batch[name]
    kinds[i] = ('%s %s %s %s'):format(name, x.dtype, x.device, table.concat(x.shape, ','))
  end
  return names, table.concat(kinds, '; ')
end

-- ---- what a function reads ------------------------------------------------------------------------------------------

local followed = {first = true, epoch = true, indices = true, from = true} -- fields that are looked after otherwise

-- What f reads from outside: where it is written, its upvalues, those of functions among them, and the batch's fields
-- that are no tensors. Fields of other tables are not looked at. A list with its length n, for `same`.
local function outside(f, batch)
  local list, seen = {n = 0}, {}
  local function add(v)
    list.n = list.n + 1
    list[list.n] = v
  end
  local function visit(v)
    if rawequal(v, batch) then return add('the batch') end
    if type(v) ~= 'function' then return add(v) end
    local info = debug.getinfo(v, 'S')
    if info.what == 'C' then return add(v) end
    if seen[v] then return end
    seen[v] = true
    add(info.source .. ':' .. info.linedefined)
    for i = 1, 255 do
      local name, value = debug.getupvalue(v, i)
      if not name then break end
      visit(value)
    end
  end
  visit(f)
  local names = {}
  for name, v in pairs(batch) do
    if type(name) == 'string' and not followed[name] and not core.is_tensor(v) then names[#names + 1] = name end
  end
  table.sort(names)
  for _, name in ipairs(names) do
    add(name)
    add(batch[name])
  end
  return list
end

local function same(a, b)
  if a.n ~= b.n then return false end
  for i = 1, a.n do
    if not rawequal(a[i], b[i]) then return false end
  end
  return true
end

-- f with batch fields that a recording cannot follow out of reach: reading `indices` is an error, reading `epoch` is
-- noted. `changes` are other values of fields.
local function watched(batch, note, changes, f)
  local was, meta = {}, getmetatable(batch)
  for _, name in ipairs{'first', 'epoch', 'indices'} do was[name] = rawget(batch, name) end
  local hidden = {epoch = changes.epoch or was.epoch}
  rawset(batch, 'first', changes.first or was.first)
  rawset(batch, 'epoch', nil)
  rawset(batch, 'indices', nil)
  setmetatable(batch, {__index = function(_, name)
    if name == 'indices' then core.fail("graph: the function reads batch.indices, which no recording can follow") end
    if name == 'epoch' then note.epoch = true end
    return hidden[name]
  end})
  local results = {pcall(f)}
  setmetatable(batch, meta)
  for name, value in pairs(was) do rawset(batch, name, value) end
  if not results[1] then error(results[2], 0) end
  return unpack(results, 2, 4)
end

-- ---- recording ------------------------------------------------------------------------------------------------------

-- Forward and backward: the loss and its parts as a list, the parts' names, and those that are numbers, which stay as
-- they are.
local function forward(self, f, note)
  self.optim:zero_grad()
  local loss, parts = self:call(f, self.batch)
  local list, names, numbers = {loss}, {}, {}
  for name in pairs(parts or {}) do names[#names + 1] = name end
  table.sort(names)
  local tensors = {}
  for _, name in ipairs(names) do
    local part = parts[name]
    if core.is_tensor(part) then
      list[#list + 1], tensors[#tensors + 1] = part, name
    else
      numbers[name] = part
    end
  end
  note.comparable = parts and self:comparable(parts.mse, parts.perceptual)
  loss:backward()
  return list, tensors, numbers
end

-- Whether f can be recorded, as it is and with another clock, epoch, learning rate; the memory it needs.
local function probe(self, g, f, note)
  local batch, images, lr, first, second = self.batch, self.images, self.optim.lr, nil, nil
  local ok, bytes = pcall(g.probe, g, function()
    first = watched(batch, note, {}, function() return core.json_encode{select(3, forward(self, f, note))} end)
  end, function()
    self.optim.lr, self.images = lr * 1.5, images + CLOCK
    second = watched(batch, note, {first = batch.first + CLOCK, epoch = batch.epoch + 7}, function()
      return core.json_encode{select(3, forward(self, f, note))}
    end)
  end, CLOCK)
  self.optim.lr, self.images = lr, images
  if not ok then error(bytes, 0) end
  if first ~= second then core.fail('graph: parts of the loss are numbers that change from step to step') end
  return bytes
end

-- Record f for batches like this one, whose tensors are taken from `inputs` from then on.
local function record(self, f, kept)
  local batch, names = self.batch, tensors_of(self.batch)
  local inputs, was, note = {}, {}, {}
  core.no_grad(function()
    for _, name in ipairs(names) do inputs[name] = core.keep(batch[name]:clone()) end
  end)
  local g = core.graph(self.optim, self.ema and self.ema.average or nil, self.model:buffers())
  for name, x in pairs(inputs) do was[name], batch[name] = batch[name], x end
  local ok, why = pcall(function()
    local bytes = probe(self, g, f, note)
    g:record(function()
      return core.scope(function()
        local list
        list, kept.names, kept.numbers = watched(batch, note, {}, function() return forward(self, f, note) end)
        return list
      end)
    end, batch.first, bytes, self.parameters)
  end)
  for name, x in pairs(was) do batch[name] = x end
  self.optim:zero_grad()
  if not ok then
    g:drop()
    for _, x in pairs(inputs) do x:release() end
    error(why, 0)
  end
  kept.graph, kept.inputs, kept.epoch = g, inputs, note.epoch and batch.epoch or nil
  kept.outside, kept.comparable = outside(f, batch), note.comparable
end

local function forget(kept)
  if kept.graph then kept.graph:drop() end
  for _, x in pairs(kept.inputs or {}) do x:release() end
  kept.graph, kept.inputs, kept.outside = nil, nil, nil
end

-- Recorded steps are let go, with their memory.
function Run:forget_graphs()
  self:settle()
  for _, kept in pairs(self.recorded or {}) do forget(kept) end
  self.recorded = {}
end

-- Recording is given up for this run, and why.
local function give_up(self, why)
  self:forget_graphs()
  self:say('steps are computed one operation at a time: %s', (tostring(why):gsub('\n.*', '')))
  self.graph = false
end

-- Why the run's steps cannot be recorded, whatever they do; nil: they can.
local function unfit(self)
  local able = core.graph_able() and self.parameters[1].device == core.default_device()
  return not able and 'the device cannot record them' or
    self.optim.kind == 'sgd' and 'those of sgd cannot be recorded' or
    ranks.count() > 1 and 'those of several ranks cannot be recorded' or
    self.micro > 0 and 'those of micro-batches cannot be recorded' or
    self.ema and self.ema.widths and 'averages of widths cannot be recorded' or nil
end

local function able(self)
  if self.graph == nil or self.graph == true then
    local why = unfit(self)
    if why and self.graph then self:say('steps are computed one operation at a time: %s', why) end
    self.graph = not why and 'looked at'
  end
  return self.graph and select(2, core.graph_able())
end

-- Whether a recording still does what f would.
local function fits(self, kept, f)
  return kept.graph:fits() and (not kept.epoch or kept.epoch == self.batch.epoch)
    and same(kept.outside, outside(f, self.batch))
end

-- Which recording serves this batch, made when its turn has come; or nil.
local function find(self, f)
  self.recorded = self.recorded or {}
  local _, kind = tensors_of(self.batch)
  local key = ('%s; %s; clip %g'):format(kind, self.model.training and 'training' or 'eval', self.clip)
  local kept = self.recorded[key]
  if not kept then
    kept = {seen = 0}
    self.recorded[key] = kept
  end
  kept.seen = kept.seen + 1
  if kept.graph and self.last_kept ~= kept then self:settle() end
  if kept.graph and not fits(self, kept, f) then
    self:settle()
    forget(kept)
    kept.renewed = (kept.renewed or 0) + 1
    if kept.renewed > 5 and kept.renewed > kept.seen / OFTEN then
      return give_up(self, 'something that a recording depends on changes too often')
    end
  elseif kept.graph then
    return kept
  end
  self.graphs = self.graphs or 0
  if kept.seen <= WARM or self.graphs >= MOST and not kept.told then return nil end
  self:settle()
  local ok, why = pcall(record, self, f, kept)
  if not ok then return give_up(self, why) end
  if not kept.told then
    kept.told, self.graphs = true, self.graphs + 1
    self:say('recorded the step on %s of %d pictures; it holds %s', core.default_device(), self.batch.count,
      amount(kept.graph:memory()))
  end
  return kept
end

-- Steps that compare gradients (run_health.lua) are computed; the count of steps up to the next one goes on here.
local function must_compare(self, kept)
  if not kept.comparable then return false end
  if (self.until_compared or 1) <= 1 then self:settle() end -- steps that were skipped count as not done
  if (self.until_compared or 1) <= 1 then return true end
  self.until_compared = self.until_compared - 1
  return false
end

-- ---- replaying ------------------------------------------------------------------------------------------------------

-- Count the oldest result that waits. false: it is not there yet.
local function collect(self, wait)
  local at = self.waiting[1]
  local ok, norm, numbers = at.kept.graph:result(wait)
  if ok == nil then return false end
  table.remove(self.waiting, 1)
  if not ok then
    local loss = numbers[1]
    if at.kept.comparable and loss - loss ~= 0 then self.until_compared = self.until_compared + 1 end
    self:skip(loss, loss - loss == 0 and norm or 0, at) -- as where no backward follows such a loss
    return true
  end
  local parts = {}
  for i, name in ipairs(at.kept.names) do parts[name] = numbers[i + 1] end
  for name, value in pairs(at.kept.numbers) do parts[name] = value end
  if self.ema then self.ema:moved(at.images) end
  self:count(numbers[1], parts, norm, at)
  return true
end

-- Wait for the results of all steps so far, and count them.
function Run:settle()
  while self.waiting and self.waiting[1] do collect(self, true) end
end

-- The step by its recording; nil where there is none and it has to be computed as ever.
function Run:step_recorded(f)
  if not able(self) then return nil end
  local kept = find(self, f)
  if not kept or must_compare(self, kept) then return nil end
  self.waiting, self.last_kept = self.waiting or {}, kept
  while #self.waiting >= RING do collect(self, true) end
  core.no_grad(function()
    for name, x in pairs(kept.inputs) do x:copy_(self.batch[name]) end
  end)
  kept.graph:replay(self.batch.first, self.clip, #self.waiting == 0)
  self.counted = self.advance
  self.waiting[#self.waiting + 1] = {kept = kept, before = self.images, images = self:seen()}
  self:count_pictures()
  while self.waiting[1] and collect(self, false) do end
  -- a log line reads what the device holds after the last of its steps, and no later one
  if self.sums.n + #self.waiting >= self.log_every then self:settle() end
  self:time_step()
  self.asked = nil
  return true
end

return Run
