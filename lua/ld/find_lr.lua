-- A learning-rate search: train a few steps at rates that rise from step to step, watch the loss, put everything back.
-- Source: Smith 2015, arXiv:1506.01186. The longest descent is fast.ai's "valley", which takes a point of it by the
-- number of steps; where a flat stretch comes first that lies far too low, so here the depth counts.
local core = require 'ld.core'
local plot = require 'ld.plot'
local take = require 'ld.take'

local find = {}

-- ---- what is put back -----------------------------------------------------------------------------------------------

local settings = {'lr', 'beta1', 'momentum'}

-- Copies of all that training changes, and a function that puts them back to the byte.
local function snapshot(model, optim)
  local tensors, copies, state, numbers = {}, {}, {}, {}
  for _, list in ipairs{model:parameters(), model:buffers()} do
    for _, x in ipairs(list) do tensors[#tensors + 1] = x end
  end
  core.no_grad(function()
    for i, x in ipairs(tensors) do copies[i] = core.keep(x:clone()) end
    for name, x in pairs(optim:state()) do state[name] = core.keep(x:clone()) end
  end)
  for _, key in ipairs(settings) do numbers[key] = optim[key] end
  local seed, draws = core.seed()
  local training = model.training
  return function()
    optim:zero_grad()
    core.no_grad(function()
      for i, x in ipairs(tensors) do
        x:copy_(copies[i])
        copies[i]:release()
      end
      optim:load_state(state)
      for _, x in pairs(state) do x:release() end
    end)
    for _, key in ipairs(settings) do optim[key] = numbers[key] end
    core.seed(seed, draws)
    model:train(training)
    local levels = rawget(model, 'levels')
    if levels then levels:read() end -- losses at rates that are not the run's
  end
end

-- ---- the suggestion -------------------------------------------------------------------------------------------------

local function finite(v) return v == v and v ~= math.huge and v ~= -math.huge end

-- First and last position of the longest series of ever lower values among `losses`, others between them skipped.
local function longest_descent(losses)
  local length, before, last = {}, {}, 1
  for i = 1, #losses do
    length[i] = 1
    for k = 1, i - 1 do
      if losses[k] > losses[i] and length[k] + 1 > length[i] then length[i], before[i] = length[k] + 1, k end
    end
    if length[i] > length[last] then last = i end
  end
  local first = last
  while before[first] do first = before[first] end
  return first, last
end

--- valley(rates, losses): the rate at which the longest descent of the losses has fallen by half of its depth; nil when
-- they never fall. The first tenth and the last five steps are not looked at.
function find.valley(rates, losses)
  local from, to = math.floor(#losses / 10) + 1, #losses - 5
  local inner = {}
  for i = from, to do inner[#inner + 1] = losses[i] end
  if #inner < 3 then return nil end
  local first, last = longest_descent(inner)
  if first == last then return nil end
  local half = (inner[first] + inner[last]) / 2
  for i = first, last do
    if inner[i] <= half then return rates[from - 1 + i] end
  end
end

-- ---- the search -----------------------------------------------------------------------------------------------------

local known = {model = take.optional, optim = take.optional, loss = take.optional, from = 1e-7, to = 10, steps = 100,
               smooth = 0.9, clip = 0, path = take.optional}

-- One step at a rate; the loss before it, nil when loss or gradient is not finite.
local function step(o, k, rate, parameters)
  return core.scope(function()
    o.optim.lr = rate
    o.optim:zero_grad()
    local loss = o.loss(k)
    local value = loss:item()
    if not finite(value) then return nil end
    loss:backward()
    local norm = core.grad_norm(parameters)
    if not finite(norm) then return nil end
    o.optim:step{norm = norm, clip = o.clip, drop = true}
    return value
  end)
end

local function ramp(o, out)
  local parameters, mean, best = o.model:parameters(), 0, math.huge
  o.model:train()
  for k = 1, o.steps do
    local rate = o.from * (o.to / o.from) ^ ((k - 1) / (o.steps - 1))
    local loss = step(o, k, rate, parameters)
    if not loss then break end
    mean = mean * o.smooth + loss * (1 - o.smooth)
    local smooth = mean / (1 - o.smooth ^ k)
    out.rates[k], out.losses[k], out.smooth[k] = rate, loss, smooth
    best = math.min(best, smooth)
    if k > o.steps / 10 and smooth > 4 * best then break end
  end
end

local function draw(out, path)
  local positive = true
  for _, v in ipairs(out.losses) do positive = positive and v > 0 end
  local svg = plot({{x = out.rates, y = out.losses, name = 'loss', faint = true, colour = 1},
                    {x = out.rates, y = out.smooth, name = 'smoothed', colour = 1,
                     marks = out.suggestion and {out.suggestion}}},
                   {log_x = true, log_y = positive, x_label = 'learning rate', alone = true,
                    title = 'loss by learning rate'})
  if svg then core.write_file(path, svg) end
end

--- find_lr{model, optim, loss = function(k) (the loss of step k, a tensor), from = 1e-7, to = 10, steps = 100,
-- smooth = 0.9, clip = 0, path (of an SVG)}: trains up to `steps` steps while the rate rises from `from` to `to` by
-- equal factors, and ends early when the smoothed loss is four times its lowest. Then weights, buffers, the optimiser
-- and the generator are what they were, to the byte. Returns {suggestion (nil when the loss never fell), rates, losses,
-- smooth}. The suggestion is a largest rate for a schedule such as one_cycle, to be judged with the curve.
local function search(options)
  local o = take('find_lr', options, known, {'model', 'optim', 'loss'})
  if not (o.from > 0 and o.to > o.from and o.steps >= 10) then
    core.fail(('find_lr: from %g to %g in %d steps; 0 < from < to and at least 10 steps are needed'):format(o.from,
      o.to, o.steps))
  end
  local out, restore = {rates = {}, losses = {}, smooth = {}}, snapshot(o.model, o.optim)
  local ok, message = pcall(ramp, o, out)
  restore()
  if not ok then error(message, 0) end
  out.suggestion = find.valley(out.rates, out.smooth)
  if o.path then draw(out, o.path) end
  return out
end

return setmetatable(find, {__call = function(_, options) return search(options) end})
