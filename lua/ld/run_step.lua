-- One step of a run: learning rate, loss, backward, update, and its memory's plan. Methods of ld.run's runs (run.lua).
local core = require 'ld.core'
local ranks = require 'ld.ranks'
local attach = require 'ld.attach'
local amount = require('ld.resident').amount

local Run = {}

local MAX_SKIPPED = 10

function Run:set_learning_rate()
  if self.schedule then self:follow_schedule() end
  if self.changes[1] then attach.learning_rate(self) end
end

function Run:follow_schedule()
  local lr, beta1 = self.schedule(self.images, self.total_images, self.schedule_batch)
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
  local seed, draws = core.seed()
  local done, value, parts = pcall(self.gradient, self, f)
  local norm = done and finite(value) and core.grad_norm(self.parameters) or 0
  local ok = done and finite(value) and finite(norm)
  if ok then
    self.optim:step{ema = self.ema and self.ema:ready(self.images + self.advance), norm = norm, clip = self.clip,
                    drop = true}
    if self.ema then self.ema:rest() end
  else
    core.no_grad(function()
      for i, x in ipairs(buffers) do x:copy_(kept[i]) end
    end)
    self.optim:zero_grad()
  end
  if not done then
    self.grad_sum = nil -- with the part of a sum that it holds
    core.seed(seed, draws)
    error(value, 0)
  end
  return ok, value, parts, norm
end

-- What steps like this one need, found by one that computes nothing (ld.memory.plan), in run.memory.
function Run:plan_memory(f)
  self.planning = true
  local ok, p = pcall(core.memory.plan, function() self:compute(f) end)
  self.planning = false
  if not ok then return self:say('memory: no plan: %s', p) end
  self.memory = p
  if p.outlived > 0 then
    core.fail(('run:step: the function keeps %s that it made (the first of it by %s). It is run once more before the '
      .. 'first step to plan the memory, without computing, and what it makes then is zeros: make what is kept before '
      .. 'the first step, or give ld.run plan = false'):format(amount(p.outlived), p.outlived_op))
  end
  local data = self:plan_data(p)
  self:say('memory: a step needs %s (%s held between steps%s, %s activations and gradients, %s workspace), %s with '
    .. 'what is kept for reuse; %s here', amount(p.peak), amount(p.before),
    data and (', %s of it the data set'):format(amount(data)) or '', amount(p.peak - p.before - p.workspace),
    amount(p.workspace), amount(p.held), amount(p.room))
  if p.held > p.room then
    self:say('warning: that is %s more than this process may have, and the system may end it; use a smaller batch',
      amount(p.held - p.room))
  end
end

--- step(f): f(batch) returns the loss (and parts of it by name: tensors or numbers); then come backward, clipping,
-- update, average. A step with a loss or gradient that is not finite changes nothing and is counted; ten in a row stop
-- the run. Before the first step f is run once more, without computing, to plan the memory; option plan = false leaves
-- that out. Returns whether the step counts; a recorded one (run_graph.lua) says true, and is counted later.
function Run:step(f)
  if not self.batch then core.fail('run:step: call it inside `for batch in run:batches(...)`') end
  self:set_learning_rate()
  if self.plan then
    self.plan = false
    self:plan_memory(f)
  end
  self:place_data()
  if core.scope(function() return self:step_recorded(f) end) then return true end
  self:settle()
  return core.scope(function()
    local done, ok, value, parts, norm = pcall(self.compute, self, f)
    if not done then self:lost(ok) end
    self.counted = self.advance
    if ok and self.ema then self.ema:moved(self:seen()) end
    if ok then self:count(value, parts, norm) else self:skip(value, norm) end
    if ok and self.ema then self.ema:after_step(self) end
    return ok
  end)
end

-- The step ended in an error. Where the other ranks are gone, what was reached before it is kept.
function Run:lost(message)
  if tostring(message):find('ranks: ', 1, true) and ranks.rank() == 0 and self.in_a_row == 0 then
    self:save()
    message = ('%s; the checkpoint %s has %d images'):format(message, self.last, self:seen())
  end
  error(message, 0)
end

function Run:skip(value, norm, at)
  self.skipped, self.in_a_row = self.skipped + 1, self.in_a_row + 1
  self:log{event = 'skipped', images = at and at.before or self.images, loss = value, gradient_norm = norm}
  if self.in_a_row >= MAX_SKIPPED then
    core.fail(('run: the loss or its gradient was not finite in %d steps in a row (loss %g); the last good checkpoint '
      .. 'is %s'):format(self.in_a_row, value, core.file_kind(self.last) and self.last or 'none'))
  end
end

return Run
