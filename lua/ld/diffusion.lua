-- Diffusion models: a network that predicts noise, with the schedule and scaling it was trained for.
-- Source: method sections 5.1 and 6.1.
local core = require 'ld.core'
local health = require 'ld.health'
local take = require 'ld.take'

local diffusion = {}
for name, f in pairs(core.diffusion) do diffusion[name] = f end

local LABEL = 11 -- LD_RNG_LABEL of csrc/base/rng.h

local Model = {}
Model.__index, Model.__name = Model, 'model'
Model.__tostring = function(self) return ('cosine diffusion, scale %g\n%s'):format(self.scale, tostring(self.net)) end

--- diffusion.cosine(net, {scale = 0.2, shift = {0,...}}): raw latents z enter the network as (z - shift) scale; shift
-- has one number a channel. scale 0.2 and no shift are fast.ai's.
function diffusion.cosine(net, options)
  local o = take('diffusion.cosine', options, {scale = 0.2, shift = take.optional})
  local self = {net = net, scale = o.scale, shift = o.shift}
  if o.shift then
    self.shift_row = core.keep(core.tensor(o.shift))
    self.shift_tensor = core.keep(self.shift_row:reshape(1, #o.shift, 1, 1))
  end
  if type(net) == 'table' then rawset(net, 'levels', health.levels()) end -- losses by noise level, which ld.run logs
  return setmetatable(self, Model)
end

-- Squared errors of a training step by noise level, for the log; without gradient.
function Model:note(t, eps_hat, eps)
  local levels = type(self.net) == 'table' and rawget(self.net, 'levels') -- a plain function keeps none
  if not levels or not core.grad_enabled() then return end
  core.no_grad(function()
    levels:add(t, core.square(eps_hat - eps):mean({2, 3, 4}))
  end)
end

--- Raw latents to the network's scale, and back.
function Model:normalise(z)
  return (self.shift and z - self.shift_tensor or z) * self.scale
end
function Model:denormalise(x)
  local z = x * (1 / self.scale)
  return self.shift and z + self.shift_tensor or z
end

-- Labels of a batch, of which a share becomes "no class", by (seed, global sample first + i): so that the network
-- learns both, for guidance. Source: Ho & Salimans 2022, arXiv:2207.12598.
local function some_labels(net, label, o)
  if not label or o.drop == 0 then return label end
  local n = label.shape[1]
  local u = core.noise({n, 1}, {seed = o.seed, purpose = LABEL, first = o.first, uniform = true,
                                device = label.device})
  local none = core.full({n}, net.options.classes, {dtype = 'i64', device = label.device})
  return core.where(core.lt(u:reshape(n), o.drop), none, label)
end

-- x_t, t, eps and x0 for `loss`: in one pass where all is drawn and no gradient of z is wanted, x0 then only where it
-- is used.
function Model:batch(z, o)
  local one_pass = not o.t and not o.eps and not z.requires_grad and (z.dtype == 'f32' or z.dtype == 'f64')
  if one_pass and (not self.shift or self.shift_row.dtype == z.dtype) then
    return core.diffusion.batch(z, {scale = self.scale, shift = self.shift_row, seed = o.seed, first = o.first,
                                    x0 = o.perceptual ~= nil})
  end
  local x0 = self:normalise(z)
  local key = {seed = o.seed, first = o.first, device = z.device}
  local t = o.t or core.diffusion.times(z.shape[1], key)
  local eps = o.eps or core.diffusion.eps(z.shape, key)
  return core.diffusion.noised(x0, t, eps), t, eps, x0
end

--- loss(z, {seed, first, perceptual, t, eps, label, drop = 0.1}): eps-prediction MSE on raw latents z (N,C,h,w), and
-- the parts of the loss by name. Times and noise are keyed by (seed, global sample first + i) unless given. perceptual
-- is an object of ld.perceptual; its term is added with its weight, and `share` is that term's part of the whole. label
-- (N) i64: classes of a network that has them; a share `drop` is not told to it.
function Model:loss(z, options)
  local o = take('loss', options, {seed = 0, first = 0, perceptual = take.optional, t = take.optional,
                                   eps = take.optional, label = take.optional, drop = 0.1})
  local x_t, t, eps, x0 = self:batch(z, o)
  local eps_hat = self.net(x_t, t, some_labels(self.net, o.label, o))
  local mse = core.mse(eps_hat, eps)
  self:note(t, eps_hat, eps)
  if not o.perceptual then return mse, {mse = mse} end
  local term = o.perceptual:term{model = self, x_t = x_t, t = t, eps_hat = eps_hat, x0 = x0}
  local loss = mse + term
  return loss, {mse = mse, perceptual = term, share = core.no_grad(function() return term / loss end)}
end

--- statistics(store, batch, seed): a function of i that runs the network on the i-th of batches of noised data: what
-- run:draws, run:averaged and ema:use take to recompute the statistics of batch norm.
function Model:statistics(store, batch, seed)
  return function(i) self:loss(store:random_batch(batch, i).x, {seed = seed, first = i * batch}) end
end

-- The network at times t, a tensor (N), with labels and guidance as in Model:predict.
local function predict_at(net, x, t, label, guidance)
  local n = x.shape[1]
  if not label or guidance == 1 then return net(x, t, label) end
  local none = core.full({n}, net.options.classes, {dtype = 'i64', device = x.device})
  local both = net(core.concat({x, x}, 1), core.concat({t, t}, 1), core.concat({label, none}, 1))
  local with, without = both:slice(1, 1, n), both:slice(1, n + 1, 2 * n)
  return without + (with - without) * guidance
end

--- One call of the network for a whole batch at time t. With labels and a guidance w other than 1 it is called for the
-- batch without labels too: eps_none + w (eps_label - eps_none).
function Model:predict(x, t, label, guidance)
  return predict_at(self.net, x, core.full({x.shape[1]}, t, {device = x.device}), label, guidance)
end

-- The network's prediction for batches of one shape at times t, recorded at the second call where the device can: a
-- step is then one replay and the few operations of the sampler around it. New labels are computed with once, which
-- looks at them. drop() lets the recording go.
local function predictor(model, steps, guidance)
  local calls, seen, g, x_in, t_in, label_in, out = 0, nil, nil, nil, nil, nil, nil
  local unfit = steps < 4 or not core.graph_able() or model.net:device() ~= core.default_device()
  local function record(x, label)
    x_in, t_in = core.keep(x:clone()), core.keep(core.full({x.shape[1]}, 0, {device = x.device}))
    label_in = label and core.keep(label:clone())
    g = core.graph()
    local function f() return core.keep(predict_at(model.net, x_in, t_in, label_in, guidance)) end
    local function tried() f():release() end
    local bytes = g:probe(tried, tried, 1)
    out = g:record(f, 0, bytes)
  end
  local self = {}
  function self.drop()
    for _, x in pairs{x_in or false, t_in or false, label_in or false, out or false} do if x then x:release() end end
    if g then g:drop() end
    g, x_in, t_in, label_in, out = nil, nil, nil, nil, nil
  end
  function self.predict(x, t, label)
    calls = calls + 1
    local known = rawequal(label, seen)
    seen = label
    if calls == 2 and known and not unfit and not pcall(record, x, label) then
      unfit = true
      self.drop()
    end
    local fits = g and known and table.concat(x.shape, ',') == table.concat(x_in.shape, ',')
    if not fits then return model:predict(x, t, label, guidance) end
    x_in:copy_(x)
    t_in:fill_(t)
    if label then label_in:copy_(label) end
    g:replay()
    return out
  end
  return self
end

-- Classes of n samples as a tensor: one number for all of them, a list, or a tensor.
local function labels_of(label, n, device)
  if label == nil then return nil end
  local list = type(label) == 'number' and core.full({n}, label, {dtype = 'i64'}) or
               type(label) == 'table' and core.tensor(label, {dtype = 'i64'}) or label
  if list:numel() ~= n then core.fail(('sample: %d labels for %d samples'):format(list:numel(), n)) end
  return list:to(device)
end

-- What is given for every sample must be n of them.
local function check_start(o)
  for _, key in ipairs{'image', 'noise'} do
    local x = o[key]
    if x and (x.ndim ~= 4 or x.shape[1] ~= o.n) then
      core.fail(('sample: %s is %s; (%d,C,h,w) was needed'):format(key, x:describe(), o.n))
    end
    if x then o.channels, o.size = x.shape[2], x.shape[3] end
  end
  if not (o.strength > 0 and o.strength <= 1) then
    core.fail(('sample: strength %g; above 0 and at most 1 is needed'):format(o.strength))
  end
end

--- sample{n = 16, size = 32, channels = 4, sampler = ddim of 100 steps, seed = 0, first = 0, batch = 64, each, label,
-- guidance = 1, image, strength = 0.6, noise, split = false}: raw latents (n,channels,size,size). Sample first + i of a
-- seed is the same picture in any batch. each(step, x0) may look on. The network is put into eval mode and back.
-- label: classes, one for all, a list or a tensor; guidance above 1 exaggerates them. image: raw latents (n,C,h,w) that
-- are noised to time `strength` and drawn on from there (SDEdit, arXiv:2108.01073). noise (n,C,h,w): what to begin
-- with, in place of the seed's. split: every rank draws its share, and all of them get all samples.
function Model:sample(options)
  local o = take('sample', options, {n = 16, size = 32, channels = 4, seed = 0, first = 0, batch = 64,
                                     sampler = take.optional, each = take.optional, split = false,
                                     label = take.optional, guidance = 1, image = take.optional, strength = 0.6,
                                     noise = take.optional})
  local sampler = o.sampler or core.sampler.ddim{steps = 100, eta = 1}
  check_start(o)
  o.label = labels_of(o.label, o.n, self.net:device())
  local was_training = self.net.training
  self.net:eval()
  local network = predictor(self, sampler:steps(), o.guidance)
  local function draw(first, n)
    local parts = {}
    for at = 0, n - 1, o.batch do
      parts[#parts + 1] = self:sample_batch(o, sampler, first + at, math.min(o.batch, n - at), network)
    end
    return #parts == 1 and parts[1] or core.concat(parts, 1)
  end
  local ok, out = pcall(core.no_grad, function()
    if o.split then return require('ld.ranks').split(o.n, draw) end
    return draw(0, o.n)
  end)
  network.drop()
  self.net:train(was_training)
  if not ok then error(out, 0) end
  return out
end

-- Samples at + 1 .. at + n of what was asked for, as far as those go: shares of ranks may go beyond.
function Model:sample_batch(o, sampler, at, n, network)
  local shape, device, first = {n, o.channels, o.size, o.size}, self.net:device(), o.first + at
  local function noise(step)
    return core.diffusion.sampler_noise(shape, {seed = o.seed, first = first, step = step, device = device})
  end
  local function given(x)
    local index = {}
    for i = 1, n do index[i] = math.min(at + i, o.n) - 1 end
    return x and core.gather(x:to(device), core.tensor(index, {dtype = 'i64', device = device}))
  end
  local label, image = given(o.label), given(o.image)
  local x, start = o.noise and given(o.noise) or noise(0), 1
  if image then
    while start < sampler:steps() and sampler:t(start) > o.strength do start = start + 1 end
    x = core.diffusion.noised(self:normalise(image), core.full({n}, sampler:t(start), {device = device}), x)
  end
  for i = start, sampler:steps() do
    x = core.scope(function()
      local eps = sampler:needs_eps(i) and network.predict(x, sampler:t(i), label) or nil
      local following, x0 = sampler:step(i, x, eps, sampler:needs_noise(i) and noise(i) or nil)
      if o.each then o.each(i, x0) end
      return following
    end)
  end
  return self:denormalise(x)
end

return take.names('ld.diffusion', diffusion)
