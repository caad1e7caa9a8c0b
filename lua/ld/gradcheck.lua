-- Gradients against finite differences.
local core = require 'ld.core'
local take = require 'ld.take'

-- Position e (from 1) of `shape`, the last dimension fastest.
local function position(e, shape)
  local at, rest = {}, e - 1
  for d = #shape, 1, -1 do
    at[d] = rest % shape[d] + 1
    rest = math.floor(rest / shape[d])
  end
  return at
end

local function get(x, at) return #at == 0 and x:item() or x[at]:item() end
local function set(x, at, v)
  if #at == 0 then x:fill_(v) else x[at] = v end
end

-- The inputs to check: f64 tensors that are leaves. They require a gradient from now on.
local function leaves(inputs)
  local list = {}
  for i, x in pairs(inputs) do
    if core.is_tensor(x) and x.is_leaf and x.dtype == 'f64' then list[#list + 1] = i end
  end
  table.sort(list)
  if #list == 0 then core.fail('gradcheck: no input is an f64 tensor without history') end
  for _, i in ipairs(list) do
    inputs[i]:requires_grad_()
    inputs[i]:zero_grad()
  end
  return list
end

-- One number of f's result, the same random numbers drawn in every call.
local function evaluator(f, inputs, n)
  local seed, draws = core.seed()
  return function()
    core.seed(seed, draws)
    local y = f(unpack(inputs, 1, n))
    if not core.is_tensor(y) or y.dtype ~= 'f64' then
      core.fail(('gradcheck: the function gave %s; one f64 tensor is needed'):format(
        core.is_tensor(y) and y:describe() or type(y)))
    end
    return y
  end
end

--- gradcheck(f, inputs, {eps = 1e-6, tol = 1e-6}): true when the gradients of f(inputs[1], inputs[2], ...) agree with
-- central differences of step eps, else an error that names the worst element. f gives one f64 tensor; every f64 tensor
-- of the list is checked, in the layout it has, other inputs are passed on. The gradient of f's result is random, not
-- uniform. Analytic a and numeric b agree when |a - b| <= tol max(1, |a|, |b|). Gradients of the inputs are cleared.
return function(f, inputs, options)
  local o = take('gradcheck', options, {eps = 1e-6, tol = 1e-6})
  if type(inputs) ~= 'table' then core.fail('gradcheck: a list of inputs is needed, not ' .. type(inputs)) end
  local n = table.maxn(inputs)
  local list, evaluate = leaves(inputs), evaluator(f, inputs, n)
  local y = evaluate()
  local g = core.noise({math.max(y:numel(), 1)}, {seed = 20, dtype = 'f64', device = y.device})
  g = y:numel() > 0 and g:reshape(y.shape) or core.zeros(y.shape, {dtype = 'f64', device = y.device})
  y:backward(g)
  local worst = {excess = -1}
  local function compare(i, x, at, analytic)
    local was = get(x, at)
    local function value(v)
      return core.no_grad(function()
        set(x, at, v)
        return core.sum(evaluate() * g):item()
      end)
    end
    local numeric = (value(was + o.eps) - value(was - o.eps)) / (2 * o.eps)
    core.no_grad(set, x, at, was)
    local apart = math.abs(analytic - numeric)
    local excess = apart / math.max(1, math.abs(analytic), math.abs(numeric))
    if excess ~= excess then excess = math.huge end
    if excess > worst.excess then
      worst = {excess = excess, input = i, at = at, analytic = analytic, numeric = numeric, x = x:describe()}
    end
  end
  for _, i in ipairs(list) do
    local x = inputs[i]
    local grad = x.grad
    for e = 1, x:numel() do
      local at = position(e, x.shape)
      compare(i, x, at, grad and get(grad, at) or 0)
    end
    x:zero_grad()
  end
  if worst.excess > o.tol then
    core.fail(('gradcheck: input %d, %s, at {%s}: analytic %.10g, numeric %.10g; off by %.3g, %g is allowed'):format(
      worst.input, worst.x, table.concat(worst.at, ','), worst.analytic, worst.numeric, worst.excess, o.tol))
  end
  return true
end
