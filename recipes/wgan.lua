-- Wasserstein GAN with weight clipping, 64 x 64: DCGAN's generator and critic, to set beside diffusion on equal data.
--   data    --data PATH: a folder, archive or LMDB of pictures; without it synthetic faces, and said so
--   train   ldlua recipes/wgan.lua [--epochs 50 ...]     run it again to resume
--   look    runs/wgan/samples/*.png, the same noise every time; the critic's estimate of the distance in log.jsonl
local ld = require 'ld'

local opt = ld.options{
  data = 'data/celeba-hq', out = 'runs/wgan', size = 64, faces = 10000, limit = 0,
  epochs = 50, batch = 64, width = 64, seed = 1, samples = 64, every = 1,
  latent = 100,                        -- width of the generator's noise
  lr = 5e-5,                           -- learning rate
  clip = 0.01,                         -- bound of the critic's weights; this and what follows as in the paper
  critic = 5,                          -- updates of the critic for one of the generator
}

local found = ld.images.exists(opt.data)
local set = found and ld.images.open(opt.data, {size = opt.size, limit = opt.limit > 0 and opt.limit or nil})
            or ld.images.synthetic_faces{n = opt.faces, size = opt.size, seed = opt.seed}
if not found then print(('there is no %s: synthetic faces; name your own pictures with --data'):format(opt.data)) end
local data = ld.pixels(set, {flip = true, seed = opt.seed})
print(data)

ld.seed(opt.seed)
local gan = ld.models.dcgan{size = opt.size, width = opt.width, latent = opt.latent}
-- RMSprop, which the paper wants for want of momentum, is Adam with beta1 0 (and a correction of its first steps). One
-- optimiser for both networks: it leaves parameters without a gradient alone.
local adam = ld.optim.adam(gan:parameters(), {lr = opt.lr, beta1 = 0, beta2 = 0.99})
local run = ld.run(opt.out, {opt = opt, model = gan, optim = adam, seed = opt.seed,
                             record = {pixels = opt.size, data = set.name}})
print(('generator of %d parameters, critic of %d'):format(gan.generator:count(), gan.critic:count()))

run:draws(function(n)
  return ld.no_grad(function() return gan.generator(gan:noise(n, {seed = opt.seed + 1})):affine(0.5, 0.5) end)
end)
local function show() return run:image('samples', run:draw(opt.samples)) end

-- Whose turn it is follows from the clock, as everything in a run does.
local function generators_turn(first)
  return math.floor(first / opt.batch) % (opt.critic + 1) == opt.critic
end

local function critic_loss(batch)
  gan.critic:requires_grad_(true)
  local noise = gan:noise(batch.count, {seed = opt.seed, first = batch.first})
  local fake = ld.no_grad(function() return gan.generator(noise) end)
  local loss = gan.critic(fake):mean() - gan.critic(batch.x):mean()
  return loss, {distance = -loss:item()}
end

local function generator_loss(batch)
  gan.critic:requires_grad_(false)
  return -gan.critic(gan.generator(gan:noise(batch.count, {seed = opt.seed, first = batch.first}))):mean()
end

local path
for whole in run:batches(data, opt.batch, opt.epochs) do
  local turn = generators_turn(whole.first)
  run:step(function(batch) return (turn and generator_loss or critic_loss)(batch) end)
  if not turn then gan:clip(opt.clip) end
  if run:every{epochs = opt.every} then path = show() end
end
gan.critic:requires_grad_(true)
run:finish()
print('samples: ' .. (path or show()))
