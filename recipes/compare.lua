-- Perceptual latent loss against MSE only: the same network, data, order, noise and seeds, trained twice; then samples
-- side by side from the same starting noise.
--   ldlua recipes/compare.lua --store runs/celeba/latents.h5 --judge runs/imagenet-classifier/best.h5
--   look    runs/compare/compare.png: rows in pairs, MSE only above, with the perceptual loss below
--   numbers --evaluator CLASSIFIER (another one than the judge) --n 1000: distances of generated to real latents
--   curves  runs/compare/report.html, of both
local ld = require 'ld'

local opt = ld.options{
  store = 'runs/celeba/latents.h5', vae = 'data/vae-small.h5', judge = 'runs/imagenet-classifier/best.h5',
  out = 'runs/compare', epochs = 50, batch = 64, lr = 3e-3, ema = 0.999, seed = 1,
  channels = {64, 128, 256}, layers = 1, attention_from = 2, attention_width = 16, scale = 0,
  perceptual = 0.1, gate = 3, samples = 16, steps = 100, eta = 1,
  evaluator = '',                     -- latent classifier that judges samples and was not in the loss; none: no figures
  n = 1000,                           -- samples that it judges
  precision = 'f32',                  -- of training and drawing: f32, or bf16 on a CUDA device
  tensorboard = false, quiet = false,
}

for _, file in ipairs{opt.store, opt.judge, opt.evaluator ~= '' and opt.evaluator or nil} do
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

local evaluator = opt.evaluator ~= '' and ld.metrics.judge(opt.evaluator)
local judge_hash = ld.metrics.weights_hash(judge)

-- One training; returns samples, the mean losses of the last log entry, and a record of the evaluation.
local function train(name, weight)
  ld.seed(opt.seed)
  local unet  = ld.models.unet{in_channels = store.shape[1], out_channels = store.shape[1], channels = opt.channels,
                               layers = opt.layers, attention_from = opt.attention_from,
                               attention_width = opt.attention_width}
  local model = ld.diffusion.cosine(unet, store:scaling(opt.scale))
  local adamw = ld.optim.adamw(unet:parameters(), {lr = opt.lr, eps = 1e-5, weight_decay = 0.01})
  local run   = ld.run(opt.out .. '/' .. name, {opt = opt, model = unet, optim = adamw, ema = opt.ema, seed = opt.seed,
                                                schedule = ld.schedule.one_cycle{max = opt.lr},
                                                precision = opt.precision,
                                                tensorboard = opt.tensorboard, quiet = opt.quiet,
                                                record = {scale = model.scale, shift = model.shift, vae = opt.vae,
                                                          store = opt.store, latent = store.shape,
                                                          judge = weight > 0 and judge_hash}})
  local function draw(n)
    return model:sample{n = n, channels = store.shape[1], size = store.shape[2], seed = opt.seed, sampler = sampler}
  end
  local statistics = model:statistics(store, opt.batch, opt.seed + 1)
  run:draws(function(n) return vae:decode_images(draw(n)) end, statistics)
  -- both runs measure the distance in feature space; only one is pulled by it
  local perceptual = ld.perceptual{net = judge, mean = judge.record.mean, std = judge.record.std,
                                   weight = math.max(weight, 1e-12), gate = opt.gate}
  for _ in run:batches(store, opt.batch, opt.epochs) do
    run:step(function(batch)
      local loss, parts = model:loss(batch.x, {seed = opt.seed, first = batch.first, perceptual = perceptual})
      return loss, {mse = parts.mse, distance = parts.perceptual * (1 / perceptual.weight)}
    end)
  end
  run:finish()
  local z, record = run:averaged(function()
    return draw(opt.samples), evaluator and ld.metrics.evaluate{
      judge = evaluator, store = store, n = opt.n, draw = draw, seed = opt.seed, weights = 'ema', run = run.folder,
      images = run:seen(), loss_judge = weight > 0 and judge_hash,
      sampler = {name = 'ddim', steps = opt.steps, eta = opt.eta}}
  end, statistics)
  if record then ld.metrics.write_record(run.folder .. '/evaluation.json', record) end
  local pictures = vae:decode_images(z)
  run:image('samples', pictures)
  return pictures, run.mean, record
end

local plain, a, plain_record = train('mse', 0)
local pulled, b, pulled_record = train('perceptual', opt.perceptual)
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
if evaluator then print(ld.metrics.summary{plain_record, pulled_record}) end
ld.report.compare({opt.out .. '/mse', opt.out .. '/perceptual'}, opt.out .. '/report.html')
print(opt.out .. '/compare.png and ' .. opt.out .. '/report.html')
