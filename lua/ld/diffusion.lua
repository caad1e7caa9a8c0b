-- Diffusion models: a network that predicts noise, with the schedule and scaling it was trained for.
-- Source: method sections 5.1 and 6.1.
local core = require 'ld.core'
local take = require 'ld.take'

local diffusion = {}
for name, f in pairs(core.diffusion) do diffusion[name] = f end

local Model = {}
Model.__index = Model
Model.__tostring = function(self) return ('cosine diffusion, scale %g\n%s'):format(self.scale, tostring(self.net)) end

--- diffusion.cosine(net, {scale = 0.2, shift = {0,...}}): raw latents z enter the network as (z - shift) scale; shift
-- has one number a channel. scale 0.2 and no shift are fast.ai's.
function diffusion.cosine(net, options)
  local o = take('diffusion.cosine', options, {scale = 0.2, shift = take.optional})
  local self = {net = net, scale = o.scale, shift = o.shift}
  if o.shift then self.shift_tensor = core.keep(core.tensor(o.shift):reshape(1, #o.shift, 1, 1)) end
  return setmetatable(self, Model)
end

--- Raw latents to the network's scale, and back.
function Model:normalise(z)
  return (self.shift and z - self.shift_tensor or z) * self.scale
end
function Model:denormalise(x)
  local z = x * (1 / self.scale)
  return self.shift and z + self.shift_tensor or z
end

--- loss(z, {seed, first, perceptual, t, eps}): eps-prediction MSE on raw latents z (N,C,h,w), and the parts of the loss
-- by name. Times and noise are keyed by (seed, global sample first + i) unless given. perceptual is an object of
-- ld.perceptual; its term is added with its weight, and `share` is that term's part of the whole.
function Model:loss(z, options)
  local o = take('loss', options, {seed = 0, first = 0, perceptual = take.optional, t = take.optional,
                                   eps = take.optional})
  local x0 = self:normalise(z)
  local key = {seed = o.seed, first = o.first, device = z.device}
  local t = o.t or core.diffusion.times(z.shape[1], key)
  local eps = o.eps or core.diffusion.eps(z.shape, key)
  local x_t = core.diffusion.noised(x0, t, eps)
  local eps_hat = self.net(x_t, t)
  local mse = core.mse(eps_hat, eps)
  if not o.perceptual then return mse, {mse = mse} end
  local term = o.perceptual:term{model = self, x_t = x_t, t = t, eps_hat = eps_hat, x0 = x0}
  local loss = mse + term
  return loss, {mse = mse, perceptual = term, share = core.no_grad(function() return term / loss end)}
end

--- One call of the network for a whole batch at time t.
function Model:predict(x, t)
  return self.net(x, core.full({x.shape[1]}, t, {device = x.device}))
end

-- The network's prediction for batches of one shape at times t, recorded at the second call where the device can: a
-- step is then one replay and the few operations of the sampler around it. drop() lets the recording go.
local function predictor(model, steps)
  local calls, g, x_in, t_in, out = 0, nil, nil, nil, nil
  local unfit = steps < 4 or not core.graph_able() or model.net:device() ~= core.default_device()
  local function record(x)
    x_in, t_in = core.keep(x:clone()), core.keep(core.full({x.shape[1]}, 0, {device = x.device}))
    g = core.graph()
    local function f() return core.keep(model.net(x_in, t_in)) end
    local function tried() f():release() end
    local bytes = g:probe(tried, tried, 1)
    out = g:record(f, 0, bytes)
  end
  local self = {}
  function self.drop()
    for _, x in pairs{x_in or false, t_in or false, out or false} do if x then x:release() end end
    if g then g:drop() end
    g, x_in, t_in, out = nil, nil, nil, nil
  end
  function self.predict(x, t)
    calls = calls + 1
    if calls == 2 and not unfit and not pcall(record, x) then
      unfit = true
      self.drop()
    end
    local fits = g and not unfit and table.concat(x.shape, ',') == table.concat(x_in.shape, ',')
    if not fits then return model:predict(x, t) end
    x_in:copy_(x)
    t_in:fill_(t)
    g:replay()
    return out
  end
  return self
end

--- sample{n, size, channels, sampler, seed, first, batch, each}: raw latents (n,channels,size,size). Sample first + i
-- of a seed is the same picture in any batch. each(step, x0) may look on. The network is put into eval mode and back.
function Model:sample(options)
  local o = take('sample', options, {n = 16, size = 32, channels = 4, seed = 0, first = 0, batch = 64,
                                     sampler = take.optional, each = take.optional})
  local sampler = o.sampler or core.sampler.ddim{steps = 100, eta = 1}
  local was_training = self.net.training
  self.net:eval()
  local network = predictor(self, sampler:steps())
  local ok, out = pcall(core.no_grad, function()
    local parts = {}
    for at = 0, o.n - 1, o.batch do
      parts[#parts + 1] = self:sample_batch(o, sampler, o.first + at, math.min(o.batch, o.n - at), network)
    end
    return #parts == 1 and parts[1] or core.concat(parts, 1)
  end)
  network.drop()
  self.net:train(was_training)
  if not ok then error(out, 0) end
  return out
end

function Model:sample_batch(o, sampler, first, n, network)
  local shape = {n, o.channels, o.size, o.size}
  local device = self.net:device()
  local function noise(step)
    return core.diffusion.sampler_noise(shape, {seed = o.seed, first = first, step = step, device = device})
  end
  local x = noise(0)
  for i = 1, sampler:steps() do
    x = core.scope(function()
      local eps = sampler:needs_eps(i) and network.predict(x, sampler:t(i)) or nil
      local following, x0 = sampler:step(i, x, eps, sampler:needs_noise(i) and noise(i) or nil)
      if o.each then o.each(i, x0) end
      return following
    end)
  end
  return self:denormalise(x)
end

return take.names('ld.diffusion', diffusion)
