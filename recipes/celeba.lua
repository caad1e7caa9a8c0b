-- CelebA-HQ faces in latent space: U-Net, eps target, MSE + perceptual latent loss, DDIM samples.
--   data    --data PATH: a folder, archive or LMDB of pictures (docs/data.md); without it synthetic faces, and said so
--   train   ldlua recipes/celeba.lua [--epochs 250 ...]     run it again to resume
--   look    runs/celeba/report.html, and runs/celeba/samples/*.png; docs/runs.md tells how to read a run
--   demo    ldlua recipes/celeba.lua --demo: a small network on synthetic faces, minutes on two cores
local ld = require 'ld'

local opt = ld.demo.options{
  data   = 'data/celeba-hq',
  vae    = 'data/vae-small.h5',        -- autoencoder; or sd-vae-ft-ema: a diffusers folder or .safetensors file
  judge  = 'runs/imagenet-classifier/best.h5', -- latent classifier for the perceptual loss; the demo trains its own
  out    = 'runs/celeba',
  size   = 256, epochs = 250, batch = 128, lr = 3e-3, ema = 0.9999, seed = 1,
  sigma_rel = {},                      -- e.g. 0.05,0.10: power-function averages of these widths in place of `ema`
  channels = {128, 256, 512, 768}, layers = 2, attention_from = 2, attention_width = 16, norm = 'batch',
  scale  = 0, perceptual = 0.1, gate = 3, samples = 64, steps = 100, eta = 1, every = 10,
  precision = 'f32',                   -- of training and drawing: f32, or bf16 on a CUDA device
  least_psnr = 15, find_lr = false, overfit = 0, tensorboard = false, quiet = false, sync_bn = false, demo = false,
}

local sampler = ld.sampler.ddim{steps = opt.steps, eta = opt.eta}
local vae    = ld.vae.load(opt.vae)
ld.demo.expect_judge(opt, vae)
local faces  = ld.images.exists(opt.data) and ld.images.open(opt.data, {size = opt.size})
               or ld.images.synthetic_faces{n = opt.demo and 3000 or 30000, size = opt.size, seed = opt.seed}
if not ld.images.exists(opt.data) then
  if not opt.demo then
    print(('there is no %s; for real faces get CelebA-HQ (30 000 pictures, docs/data.md says where) and name it with '
      .. '--data'):format(opt.data))
  end
  print('training on ' .. tostring(faces))
end
local store  = ld.latents.encode(vae, faces, opt.out .. '/latents.h5', {least_psnr = opt.least_psnr})
local judge  = ld.demo.judge(opt, store)

ld.seed(opt.seed)
local unet   = ld.models.unet{in_channels = store.shape[1], out_channels = store.shape[1], channels = opt.channels,
                              layers = opt.layers, attention_from = opt.attention_from,
                              attention_width = opt.attention_width, norm = opt.norm}
local model  = ld.diffusion.cosine(unet, store:scaling(opt.scale))
local adamw  = ld.optim.adamw(unet:parameters(), {lr = opt.lr, eps = 1e-5, weight_decay = 0.01})
local ema    = #opt.sigma_rel > 0 and {sigma_rel = opt.sigma_rel} or opt.ema
local run    = ld.run(opt.out, {opt = opt, model = unet, optim = adamw, ema = ema, seed = opt.seed,
                                schedule = ld.schedule.one_cycle{max = opt.lr}, precision = opt.precision,
                                overfit = opt.overfit, tensorboard = opt.tensorboard, quiet = opt.quiet,
                                sync_bn = opt.sync_bn,
                                record = {scale = model.scale, shift = model.shift, vae = opt.vae,
                                          latent = store.shape,
                                          judge = judge and ld.metrics.weights_hash(judge) or false}})
local perceptual = judge and ld.perceptual{net = judge, mean = judge.record.mean, std = judge.record.std,
                                           weight = opt.perceptual, gate = opt.gate}
print(('U-Net of %d parameters, %d latents, perceptual latent loss %s'):format(unet:count(), store.count,
  perceptual and ('weight %g'):format(opt.perceptual) or 'off'))

-- Pictures by the weights in the network; with averaged ones, batch-norm statistics are recomputed on data first.
run:draws(function(n, together)
  return vae:decode_images(model:sample{n = n, channels = store.shape[1], size = store.shape[2], seed = opt.seed,
                                        sampler = sampler, split = together})
end, model:statistics(store, opt.batch, opt.seed + 1))
local function show() return run:image('samples', run:draw(opt.samples)) end

local function loss(batch)
  return model:loss(batch.x, {seed = opt.seed, first = batch.first, perceptual = perceptual})
end
if opt.find_lr then return run:find_lr(store, opt.batch, loss) end

local path
for _ in run:batches(store, opt.batch, opt.epochs) do
  run:step(loss)
  if run:every{epochs = opt.every} then path = show() end
end
run:finish()
ld.demo.farewell(opt, path or show())
