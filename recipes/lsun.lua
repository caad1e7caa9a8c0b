-- LSUN bedrooms in latent space, as fast.ai's notebook 30: U-Net, eps target, MSE + perceptual latent loss, DDIM.
--   data    --data PATH of bedroom pictures, short side 256: a folder, archive or LMDB (docs/data.md)
--   train   ldlua recipes/lsun.lua [--epochs 25 ...]     run it again to resume
--   look    runs/lsun/report.html (train and held-out loss, samples), runs/lsun/samples/*.png
local ld = require 'ld'

local opt = ld.options{
  data   = 'data/lsun-bedrooms', vae = 'data/sd-vae-ft-ema',
  range  = 'unit',                     -- pixel range fed to the VAE: unit (fast.ai's), signed, or own (the VAE's)
  judge  = 'runs/imagenet-classifier/best.h5', out = 'runs/lsun',
  size   = 256, transform = 'topleft', epochs = 25, batch = 128, lr = 3e-3, ema = 0.9999, seed = 1,
  sigma_rel = {},                      -- e.g. 0.05,0.10: power-function averages of these widths in place of `ema`
  channels = {128, 256, 512, 768}, layers = 2, attention_from = 2, attention_width = 16, norm = 'batch', scale = 0.2,
  perceptual = 0.1, gate = 3, samples = 64, steps = 100, eta = 1, limit = 1e9,
  precision = 'f32',                  -- of training and drawing: f32, or bf16 on a CUDA device
  find_lr = false, overfit = 0, tensorboard = false, quiet = false, sync_bn = false,
}

if not ld.images.exists(opt.data) then
  ld.fail([[there is no %s.
The recipe uses the 303 125 bedroom pictures of fast.ai's bedroom.tgz (a tenth of LSUN bedrooms, short side 256):
name the folder or the plain tar of them with --data (docs/data.md). The autoencoder sd-vae-ft-ema is at stabilityai's
page on Hugging Face (MIT): name its folder with --vae.]], opt.data)
end

local sampler = ld.sampler.ddim{steps = opt.steps, eta = opt.eta}
local vae    = ld.vae.load(opt.vae, {range = opt.range ~= 'own' and opt.range or nil})
ld.demo.expect_judge(opt, vae)
local rooms  = ld.images.open(opt.data, {size = opt.size, transform = opt.transform, limit = opt.limit})
ld.latents.encode(vae, rooms, opt.out .. '/latents.h5', {least_psnr = opt.range == 'unit' and 0 or 15})
local train  = ld.latents.open(opt.out .. '/latents.h5', {split = 'train'})
local valid  = ld.latents.open(opt.out .. '/latents.h5', {split = 'valid'})
local judge  = ld.demo.judge(setmetatable({demo = false}, {__index = opt}), train)

ld.seed(opt.seed)
local unet   = ld.models.unet{in_channels = train.shape[1], out_channels = train.shape[1], channels = opt.channels,
                              layers = opt.layers, attention_from = opt.attention_from,
                              attention_width = opt.attention_width, norm = opt.norm}
local model  = ld.diffusion.cosine(unet, train:scaling(opt.scale))
local adamw  = ld.optim.adamw(unet:parameters(), {lr = opt.lr, eps = 1e-5, weight_decay = 0.01})
local ema    = #opt.sigma_rel > 0 and {sigma_rel = opt.sigma_rel} or opt.ema
local run    = ld.run(opt.out, {opt = opt, model = unet, optim = adamw, ema = ema, seed = opt.seed,
                                schedule = ld.schedule.one_cycle{max = opt.lr}, precision = opt.precision,
                                overfit = opt.overfit, tensorboard = opt.tensorboard, quiet = opt.quiet,
                                sync_bn = opt.sync_bn,
                                record = {scale = model.scale, shift = model.shift, vae = opt.vae, range = opt.range,
                                          latent = train.shape,
                                          judge = judge and ld.metrics.weights_hash(judge) or false}})
local perceptual = judge and ld.perceptual{net = judge, mean = judge.record.mean, std = judge.record.std,
                                           weight = opt.perceptual, gate = opt.gate}

-- eps-MSE on the held-out latents, the number that notebook 30 prints.
local function evaluate()
  unet:eval()
  local sum, first = 0, 0
  for batch in valid:in_order(256) do
    sum = sum + ld.no_grad(function()
      return model:loss(batch.x, {seed = opt.seed + 1, first = first}):item() * batch.x.shape[1]
    end)
    first = first + batch.x.shape[1]
  end
  unet:train()
  return sum / valid.count
end

run:draws(function(n, together)
  return vae:decode_images(model:sample{n = n, channels = train.shape[1], size = train.shape[2], seed = opt.seed,
                                        sampler = sampler, split = together})
end, model:statistics(train, opt.batch, opt.seed + 1))

local function loss(batch)
  return model:loss(batch.x, {seed = opt.seed, first = batch.first, perceptual = perceptual})
end
if opt.find_lr then return run:find_lr(train, opt.batch, loss) end

for batch in run:batches(train, opt.batch, opt.epochs) do
  run:step(loss)
  if run:epoch_end() then
    local mse = ld.precision(opt.precision, evaluate)
    run:log{event = 'epoch', epoch = batch.epoch, valid_mse = mse}
    run:say('epoch %d: held-out eps-MSE %.4f; samples in %s', batch.epoch, mse,
      run:image('samples', run:draw(opt.samples)))
  end
end
run:finish()
