-- The latent classifier in training and eval mode, and the perceptual latent loss through it.
local ld = require 'ld'
local network = dofile 'tests/reference/network.lua'

-- Per-channel statistics of ImageNet latents (mean posterior of images in [0,1]) and fast.ai's scale of latents, which
-- the recorded loss uses. Source: method sections 1.3 and 7.3.
local MEAN, STD, SCALE = {5.37007, 2.65468, 0.44876, -2.39154}, {3.99512, 4.44317, 3.21629, 3.10339}, 0.2

local function build(source)
  return ld.models.classifier{
    in_channels = source:read('param.0.weight').shape[2], channels = source:integers('channels'),
    blocks = source:integers('blocks'), classes = source:number('classes'), dropout = 0,
  }
end

-- Gradients of pll.loss with respect to the classifier's own parameters (frozen in use), added to `own`.
local function add_perceptual_gradients(source, net, own)
  local mean, std = ld.tensor(MEAN):reshape(1, #MEAN, 1, 1), ld.tensor(STD):reshape(1, #STD, 1, 1)
  local x0_hat = ld.diffusion.predicted_x0(source:read('pll.x_t'), source:read('pll.t'), source:read('pll.eps_hat'))
  local target = ld.no_grad(function() return (net:features()((source:read('pll.z0') - mean) / std)) end)
  net:zero_grad()
  local found = net:features()(((x0_hat / SCALE - mean) / std):clamp(-8, 8))
  local distance = ld.square(found - target):mean(2)
  ld.mean(distance * source:read('pll.weight')):affine(source:number('lam'), 0):backward()
  local sum = {}
  for name, g in pairs(own) do sum[name] = g end
  for name, g in pairs(network.own_gradients(net)) do sum[name] = own[name] + g end
  return sum
end

-- Some files hold the gradients of train.loss, others those of train.loss plus pll.loss: PyTorch adds up gradients, and
-- the program that wrote them kept references rather than copies. All tensors must agree with one and the same reading.
local function check_gradients(report, source, net, own)
  local alone = network.gradients(report, source, own)
  if alone:holds() or not source:has('pll.eps_hat') then return alone:done() end
  local both = network.gradients(report, source, add_perceptual_gradients(source, net, own))
  if both:holds() then return both:done('the file holds the gradients of train.loss + pll.loss') end
  alone:done()
end

-- The loss of diffusion.cosine with a network that answers the recorded eps^.
local function check_perceptual(report, source, net)
  local eps_hat = source:read('pll.eps_hat'):requires_grad_()
  local t, x_t = source:read('pll.t')
  local model = ld.diffusion.cosine(function(x) x_t = x return eps_hat end, {scale = SCALE})
  local judge = ld.perceptual{net = net, mean = MEAN, std = STD, weight = source:number('lam'),
                              gate = source:number('gate_tau')}
  local distance, weight
  local watched = {term = function(_, s)
    local term
    term, distance, weight = judge:term(s)
    return term
  end}
  local loss, parts = model:loss(source:read('pll.z0'), {t = t, eps = source:read('pll.eps'), perceptual = watched})
  loss:backward()
  network.one(report, source, 'pll.x_t', x_t)
  network.one(report, source, 'pll.x0_hat', ld.diffusion.predicted_x0(source:read('pll.x_t'), t, eps_hat))
  network.one(report, source, 'pll.per_sample', distance)
  network.one(report, source, 'pll.weight', weight)
  network.one(report, source, 'pll.mse', parts.mse)
  network.one(report, source, 'pll.loss', loss)
  network.one(report, source, 'pll.grad_eps_hat', eps_hat.grad, network.GRADIENT)
end

local function check(report, source)
  local net = network.load(build(source), source):train()
  local x = source:read('x'):requires_grad_()
  local logits = net(x)
  local loss = ld.cross_entropy(logits, source:read('label'))
  loss:backward()
  network.one(report, source, 'train.logits', logits)
  network.one(report, source, 'train.loss', loss)
  network.one(report, source, 'train.grad_x', x.grad, network.GRADIENT)
  local own = network.own_gradients(net)
  network.statistics(report, source, net)
  check_gradients(report, source, net, own)
  ld.no_grad(function()
    network.one(report, source, 'eval.logits', net(x))
    network.one(report, source, 'eval.features', (net:features()(x)))
  end)
  if source:has('pll.eps_hat') then check_perceptual(report, source, net) end
end

return {
  title = 'classifier',
  recognise = function(source) return source:has('label') and source:any('^param%.0%.weight$') end,
  check = check,
}
