-- Perceptual latent loss against MSE only: the same network, data, order, noise and seeds, trained twice; then samples
-- side by side from the same starting noise.
--   ldlua recipes/compare.lua --store runs/celeba/latents.h5 --judge runs/imagenet-classifier/best.h5
--   look    runs/compare/compare.png: rows in pairs, MSE only above, with the perceptual loss below
local ld = require 'ld'

local opt = ld.options{
  store = 'runs/celeba/latents.h5', vae = 'data/vae-small.h5', judge = 'runs/imagenet-classifier/best.h5',
  out = 'runs/compare', epochs = 50, batch = 64, lr = 3e-3, ema = 0.999, seed = 1,
  channels = {64, 128, 256}, layers = 1, attention_from = 2, attention_width = 16, scale = 0,
  perceptual = 0.1, gate = 3, samples = 16, steps = 100, eta = 1,
}

for _, file in ipairs{opt.store, opt.judge} do
  if not ld.file_kind(file) then
    ld.fail('there is no %s: recipes/celeba.lua makes the store, recipes/imagenet_classifier.lua the judge', file)
  end
end
local sampler = ld.sampler.ddim{steps = opt.steps, eta = opt.eta}
local vae   = ld.vae.load(opt.vae)
local store = ld.latents.open(opt.store)
store:check_vae(vae)
local judge = ld.models.classifier.load(opt.judge)
ld.demo.check_judge(judge, opt.judge, store)

-- One training; returns samples and the mean losses of the last log entry.
local function train(name, weight)
  ld.seed(opt.seed)
  local unet  = ld.models.unet{in_channels = store.shape[1], out_channels = store.shape[1], channels = opt.channels,
                               layers = opt.layers, attention_from = opt.attention_from,
                               attention_width = opt.attention_width}
  local model = ld.diffusion.cosine(unet, store:scaling(opt.scale))
  local adamw = ld.optim.adamw(unet:parameters(), {lr = opt.lr, eps = 1e-5, weight_decay = 0.01})
  local run   = ld.run(opt.out .. '/' .. name, {opt = opt, model = unet, optim = adamw, ema = opt.ema, seed = opt.seed,
                                                schedule = ld.schedule.one_cycle{max = opt.lr},
                                                record = {scale = model.scale, shift = model.shift, vae = opt.vae,
                                                          store = opt.store, latent = store.shape}})
  -- both runs measure the distance in feature space; only one is pulled by it
  local perceptual = ld.perceptual{net = judge, mean = judge.record.mean, std = judge.record.std,
                                   weight = math.max(weight, 1e-12), gate = opt.gate}
  for batch in run:batches(store, opt.batch, opt.epochs) do
    run:step(function()
      local loss, parts = model:loss(batch.x, {seed = opt.seed, first = batch.first, perceptual = perceptual})
      return loss, {mse = parts.mse, distance = parts.perceptual * (1 / perceptual.weight)}
    end)
  end
  run:finish()
  local z = run:averaged(function()
    return model:sample{n = opt.samples, channels = store.shape[1], size = store.shape[2], seed = opt.seed,
                        sampler = sampler}
  end, function(i) model:loss(store:random_batch(opt.batch, i).x, {seed = opt.seed + 1, first = i * opt.batch}) end)
  return vae:decode_images(z), run.mean
end

local plain, a = train('mse', 0)
local pulled, b = train('perceptual', opt.perceptual)
local columns, rows = math.min(8, opt.samples), {}
for i = 1, opt.samples, columns do
  local last = math.min(i + columns - 1, opt.samples)
  rows[#rows + 1] = plain:slice(1, i, last)
  rows[#rows + 1] = pulled:slice(1, i, last)
end
ld.save_image(ld.grid(ld.concat(rows, 1), {columns = columns}), opt.out .. '/compare.png')
if a and b then
  print(('last steps, MSE only:        eps-MSE %.4f, feature distance %.4f'):format(a.mse, a.distance))
  print(('last steps, with perceptual: eps-MSE %.4f, feature distance %.4f'):format(b.mse, b.distance))
end
print(opt.out .. '/compare.png')
