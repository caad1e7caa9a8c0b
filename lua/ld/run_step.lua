-- One step of a run: learning rate, loss, backward, update, and its memory's plan. Methods of ld.run's runs (run.lua).
local core = require 'ld.core'

local Run = {}

local MAX_SKIPPED = 10

function Run:set_learning_rate()
  if not self.schedule then return end
  local lr, beta1 = self.schedule(self:steps_at(self.images), self.total_steps)
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
-- that out. Returns whether the step counts; a recorded one (run_graph.lua) says true, and is counted later.
function Run:step(f)
  if not self.batch then core.fail('run:step: call it inside `for batch in run:batches(...)`') end
  self:set_learning_rate()
  if self.plan then
    self.plan = false
    self:plan_memory(f)
  end
  if core.scope(function() return self:step_recorded(f) end) then return true end
  self:settle()
  return core.scope(function()
    local ok, value, parts, norm = self:compute(f)
    self.counted = self.advance
    if ok then self:count(value, parts, norm) else self:skip(value, norm) end
    return ok
  end)
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
