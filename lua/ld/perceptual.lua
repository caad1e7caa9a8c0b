-- The perceptual latent loss: how far apart a classifier's features of the predicted and of the true latents are.
-- Source: the article "Latent Diffusion and Perceptual Latent Loss"; exact definition in method section 7.3.
local core = require 'ld.core'
local nn = require 'ld.nn'
local take = require 'ld.take'

local Perceptual = {}
Perceptual.__index, Perceptual.__name = Perceptual, 'perceptual'

local known = {net = take.optional, weight = 0.1, gate = 3, clamp = 8, metric = 'mse', layers = take.optional,
               mean = take.optional, std = take.optional}

--- perceptual{net, mean, std, weight = 0.1, gate = 3, clamp = 8, metric = 'mse', layers = {pool = 1}}
--   net      a classifier (with :features), or any module that returns features (N,C), and for stages also a table of
--            activations; frozen here. mean, std: per channel, what its input is standardised with
--   weight   lambda, of the term in the total loss
--   gate     tau: samples with sigma/alpha above it count 0, the others abar(t)
--   layers   weights by layer: pool, and stages by number, e.g. {pool = 1, [3] = 0.1}; a stage is compared with
--            channels unit-normalised at each position, squared difference summed over channels, averaged over
--            positions
--   metric   'mse' or 'l1', of the pooled features
local function new(options)
  local o = take('perceptual', options, known, {'net', 'mean', 'std'})
  if o.metric ~= 'mse' and o.metric ~= 'l1' then
    core.fail(("perceptual: unknown metric '%s'; known: mse l1"):format(o.metric))
  end
  if not nn.is_module(o.net) then
    core.fail('perceptual: net must be a classifier (a module with :features), or a module that returns features')
  end
  if #o.mean ~= #o.std then
    core.fail(('perceptual: mean has %d channels, std %d'):format(#o.mean, #o.std))
  end
  local self = setmetatable({}, Perceptual)
  for key, value in pairs(o) do self[key] = value end
  self.layers = o.layers or {pool = 1}
  local taps, order = {}, {}
  for layer in pairs(self.layers) do
    if layer ~= 'pool' then
      if type(layer) ~= 'number' then
        core.fail(("perceptual: unknown layer '%s'; known: pool and stages by number"):format(tostring(layer)))
      end
      taps[#taps + 1] = layer
    end
    order[#order + 1] = layer
  end
  if #order == 0 then core.fail('perceptual: layers is empty; known: pool and stages by number') end
  table.sort(order, function(a, b) return tostring(a) < tostring(b) end) -- one order of summation
  self.order = order
  self.net:freeze()
  self.features = self.net.features and self.net:features(taps) or self.net
  local c = #o.mean
  self.mean_tensor = core.keep(core.tensor(o.mean):reshape(1, c, 1, 1))
  self.inverse_std = core.keep(core.reciprocal(core.tensor(o.std)):reshape(1, c, 1, 1))
  return self
end

--- The classifier's input for network-scale latents x0.
function Perceptual:standardise(model, x0)
  return (model:denormalise(x0) - self.mean_tensor) * self.inverse_std
end

-- w(t) = 1[tan(pi t/2) <= tau] abar(t), no gradient
function Perceptual:sample_weight(t)
  local alpha, sigma = core.diffusion.alpha(t), core.diffusion.sigma(t)
  return core.square(alpha) * core.le(sigma, alpha * self.gate):to(t.dtype)
end

local function unit(x)
  return x * core.rsqrt(core.sum(core.square(x), 2, true) + 1e-10)
end

-- Per-sample distance (N) of two sets of features.
function Perceptual:distance(pool, stages, pool0, stages0)
  local total
  for _, layer in ipairs(self.order) do
    local d
    if layer == 'pool' then
      d = (self.metric == 'l1' and core.abs(pool - pool0) or core.square(pool - pool0)):mean(2)
    else
      d = core.square(unit(stages[layer]) - unit(stages0[layer])):sum(2):mean({2, 3})
    end
    d = d * self.layers[layer]
    total = total and total + d or d
  end
  return total
end

--- term{model, x_t, t, eps_hat, x0}: weight times the mean over samples of w(t) distance; gradient reaches eps_hat.
-- Also returns the per-sample distances and w(t).
function Perceptual:term(s)
  local predicted = core.diffusion.predicted_x0(s.x_t, s.t, s.eps_hat)
  local n_hat = self:standardise(s.model, predicted):clamp(-self.clamp, self.clamp)
  local pool0, stages0 = core.no_grad(function() return self.features(self:standardise(s.model, s.x0)) end)
  local pool, stages = self.features(n_hat)
  local d = self:distance(pool, stages, pool0, stages0)
  local w = self:sample_weight(s.t)
  return core.mean(d * w) * self.weight, d, w
end

return new
