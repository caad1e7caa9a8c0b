-- Go on with a trained U-Net on a folder of your own pictures: same autoencoder and scaling, smaller steps.
--   train   ldlua recipes/finetune.lua --run runs/celeba --data my/pictures     run it again to resume
--   look    runs/finetuned/samples/*.png: the same noise at every stage, so that the change shows
--   use     ldlua recipes/sample.lua --run runs/finetuned
local ld = require 'ld'

local opt = ld.options{
  run = 'runs/celeba', data = '', out = 'runs/finetuned',
  epochs = 40, batch = 16, lr = 1e-4, ema = 0.999, seed = 1,
  weights = 'ema',                     -- begin with the run's averaged weights, or live
  judge = '',                          -- latent classifier for the perceptual loss; none: MSE only
  perceptual = 0.1, samples = 16, steps = 50, eta = 1, every = 5, least_psnr = 15,
  vae = '',                            -- where the autoencoder lies, when it has moved
}

local path = opt.run .. '/last.h5'
if not ld.file_kind(path) then ld.fail('there is no %s: train first, e.g. ldlua recipes/celeba.lua --demo', path) end
if not ld.images.exists(opt.data) then
  ld.fail("there is no '%s': name your folder of pictures with --data", opt.data)
end
local unet, record = ld.models.unet.load(path)
local from  = record.extra
if not from.latent then ld.fail('%s was not trained on latents; this recipe goes on with runs that were', path) end
if opt.weights == 'ema' then
  unet:load_state(ld.ema.weights(opt.run), {strict = false})
elseif opt.weights ~= 'live' then
  ld.fail("unknown weights '%s'; known: ema live", opt.weights)
end
local vae   = ld.vae.load(opt.vae ~= '' and opt.vae or from.vae, {range = from.range ~= 'own' and from.range or nil})
local set   = ld.images.open(opt.data, {size = from.latent[2] * vae.factor})
local store = ld.latents.encode(vae, set, opt.out .. '/latents.h5', {least_psnr = opt.least_psnr})
if store.count < 2 then ld.fail('%s holds %d pictures; at least 2 are needed', opt.data, store.count) end

local model = ld.diffusion.cosine(unet, {scale = from.scale, shift = from.shift})
local run   = ld.run(opt.out, {opt = opt, model = unet, ema = opt.ema, seed = opt.seed, clip = 1,
                               optim = ld.optim.adamw(unet:parameters(), {lr = opt.lr, eps = 1e-5}),
                               schedule = ld.schedule.constant{max = opt.lr, warmup = 20}, record = from})
local perceptual
if opt.judge ~= '' then
  local judge = ld.models.classifier.load(opt.judge)
  ld.demo.check_judge(judge, opt.judge, store)
  perceptual = ld.perceptual{net = judge, mean = judge.record.mean, std = judge.record.std, weight = opt.perceptual}
end
print(('%d latents of your pictures, U-Net of %d parameters from %d images of %s'):format(store.count, unet:count(),
  record.images, opt.run))

local batch_size = math.min(opt.batch, store.count)
run:draws(function(n, together)
  return vae:decode_images(model:sample{n = n, channels = from.latent[1], size = from.latent[2], seed = opt.seed,
                                        split = together,
                                        sampler = ld.sampler.ddim{steps = opt.steps, eta = opt.eta}})
end, model:statistics(store, batch_size, opt.seed + 1))
local function show() return run:image('samples', run:draw(opt.samples)) end

local grid = not run.resumed and show() -- before anything changes
for _ in run:batches(store, batch_size, opt.epochs) do
  run:step(function(batch)
    return model:loss(batch.x, {seed = opt.seed, first = batch.first, perceptual = perceptual})
  end)
  if run:every{epochs = opt.every} then grid = show() end
end
run:finish()
print('samples: ' .. (grid or show()))
