-- The pictures of README.md and docs/method.md, made again from one small training on synthetic faces.
--   make figures     trains below runs/figures, draws into docs/figures, prints the numbers that the captions give
-- Two U-Nets train from the same start on the same data, order and noise: one with MSE only, one with the perceptual
-- loss. Run again, it goes on where it stopped; what was trained or evaluated once is taken as it is.
local ld = require 'ld'

local opt = ld.options{
  out = 'runs/figures', to = 'docs/figures', vae = 'data/vae-small.h5',
  faces = 4000, size = 64, held_out = 512, seed = 1,
  epochs = 25, batch = 32, lr = 3e-3, channels = {32, 64, 96}, perceptual = 0.1, gate = 3,
  n = 500,                             -- samples of an evaluation
}

local WIDTHS, REBUILT = {0.05, 0.10}, 0.20 -- averages that are kept, and one that is made of their snapshots

-- ---- data, classifiers, training ------------------------------------------------------------------------------------

local vae = ld.vae.load(opt.vae)
local function latents(name, n, seed)
  return ld.latents.encode(vae, ld.images.synthetic_faces{n = n, size = opt.size, seed = seed}, opt.out .. name)
end
local store, held = latents('/latents.h5', opt.faces, opt.seed), latents('/held-out.h5', opt.held_out, opt.seed + 1)
local c, side = store.shape[1], store.shape[2]

-- The judge is that of the loss, the evaluator measures; they learnt other kinds from other beginnings.
local judge_path, evaluator_path = opt.out .. '/judge.h5', opt.out .. '/evaluator.h5'
for i, path in ipairs{judge_path, evaluator_path} do
  if not ld.file_kind(path) then ld.demo.train_judge(path, store, opt.seed + i - 1, 6 + i) end
end
local judge, evaluator = ld.models.classifier.load(judge_path), ld.metrics.judge(evaluator_path)
local judge_hash = ld.metrics.weights_hash(judge)
local function perceptual_loss(weight)
  return ld.perceptual{net = judge, mean = judge.record.mean, std = judge.record.std, weight = weight, gate = opt.gate}
end

local function train(name, weight)
  ld.seed(opt.seed)
  local unet  = ld.models.unet{in_channels = c, out_channels = c, channels = opt.channels, layers = 1,
                               attention_from = 2}
  local model = ld.diffusion.cosine(unet, store:scaling(0))
  local adamw = ld.optim.adamw(unet:parameters(), {lr = opt.lr, eps = 1e-5, weight_decay = 0.01})
  local run   = ld.run(opt.out .. '/' .. name, {opt = opt, model = unet, optim = adamw, ema = {sigma_rel = WIDTHS},
                                                seed = opt.seed, schedule = ld.schedule.one_cycle{max = opt.lr},
                                                record = {scale = model.scale, shift = model.shift, vae = opt.vae,
                                                          store = store.path, latent = store.shape,
                                                          judge = weight > 0 and judge_hash}})
  local perceptual = weight > 0 and perceptual_loss(weight) or nil
  for _ in run:batches(store, opt.batch, opt.epochs) do
    run:step(function(batch)
      return model:loss(batch.x, {seed = opt.seed, first = batch.first, perceptual = perceptual})
    end)
  end
  run:finish()
end
train('mse', 0)
train('perceptual', opt.perceptual)

-- ---- what is measured -----------------------------------------------------------------------------------------------

ld.make_dirs(opt.to)
local said = {}
local function say(text, ...)
  said[#said + 1] = text:format(...)
  print(said[#said])
end

-- Colours in 64 steps take half the bytes, and nobody sees it.
local function picture(name, images, columns)
  local path = ('%s/%s.png'):format(opt.to, name)
  ld.save_image(ld.floor(ld.grid(images, {columns = columns}) * 63 + 0.5) * (1 / 63), path)
  print(path)
end

local function curves(name, series, options)
  options.alone, options.legend, options.height = true, true, 270
  ld.write_file(('%s/%s.svg'):format(opt.to, name), ld.plot(series, options) .. '\n')
  print(('%s/%s.svg'):format(opt.to, name))
end

local function weights(name, kind)
  local run = ld.trained(opt.out .. '/' .. name, kind)
  run.unet:eval()
  run.name = name
  return run
end

local function ddim(steps, eta) return ld.sampler.ddim{steps = steps, eta = eta} end

local function sample(run, n, sampler, each)
  return run.model:sample{n = n, channels = c, size = side, seed = opt.seed, batch = 128, sampler = sampler,
                          each = each}
end

-- Frechet distance of samples to real latents, and of other real ones to the same; kept beside the run.
local function frechet(run, steps, eta)
  local path = ('%s/%s/evaluation/%s-%d-%g.json'):format(opt.out, run.name, run.weights:gsub(' ', '-'), steps, eta)
  if not ld.file_kind(path) then
    ld.metrics.write_record(path, ld.metrics.evaluate{
      judge = evaluator, store = store, n = opt.n, seed = opt.seed, weights = run.weights, run = run.name,
      images = run.record.images, loss_judge = run.extra.judge, sampler = {name = 'ddim', steps = steps, eta = eta},
      draw = function(n) return sample(run, n, ddim(steps, eta)) end})
  end
  local r = ld.metrics.read_record(path)
  return r.values.frechet, r.floor.frechet
end

-- Means over the held-out latents at time t: the squared error of the noise; d and w d of the perceptual loss; how long
-- the gradient of its term on eps^ is beside that of the squared error, without and with the factor w.
local held_rows, with_features = {}, perceptual_loss(1)
for i = 1, held.count do held_rows[i] = i end
held_rows = held:get(held_rows).x
local function at_time(run, t)
  return ld.scope(function()
    local model, times = run.model, ld.full({held.count}, t)
    local x0, eps = model:normalise(held_rows), ld.diffusion.eps(held_rows.shape, {seed = opt.seed + 2})
    local x_t = ld.diffusion.noised(x0, times, eps)
    local eps_hat = ld.no_grad(function() return run.unet(x_t, times) end)
    local function length(f)
      local leaf = eps_hat:detach():requires_grad_(true)
      f(leaf):backward()
      return math.sqrt(ld.sumsq(leaf.grad):item())
    end
    local d, w
    local pull = length(function(leaf)
      local _
      _, d, w = with_features:term{model = model, x_t = x_t, t = times, eps_hat = leaf, x0 = x0}
      return d:mean()
    end) * opt.perceptual / length(function(leaf) return ld.mse(leaf, eps) end)
    local mean, weight = d:mean():item(), w:mean():item() -- w is the same for all
    return ld.mse(eps_hat, eps):item(), mean, weight * mean, pull, weight * pull
  end)
end

-- ---- the pictures ---------------------------------------------------------------------------------------------------

local mse, mse_live = weights('mse'), weights('mse', {weights = 'live'})
local run, live = weights('perceptual'), weights('perceptual', {weights = 'live'})
local rebuilt = weights('perceptual', {sigma_rel = REBUILT})
local model = run.model

-- README: pictures of the set, the same through the autoencoder, and samples.
local real = ld.images.synthetic_faces{n = opt.faces, size = opt.size, seed = opt.seed}:read{1, 2, 3, 4, 5, 6, 7, 8}
picture('real', ld.concat({real:f32() * (1 / 255), vae:decode_images(vae:encode_images(real))}, 1), 4)
picture('samples', vae:decode_images(sample(run, 32, ddim(100, 1))), 8)

-- Section 4: two held-out faces, noised to growing t, decoded.
local shown, rows = held:get{1, 2}.x, {}
for i = 1, 2 do
  for _, t in ipairs{0, 0.2, 0.4, 0.6, 0.8, 0.9, 0.999} do
    local x0 = model:normalise(shown:slice(1, i, i))
    local eps = ld.diffusion.eps(x0.shape, {seed = opt.seed, first = i})
    rows[#rows + 1] = model:denormalise(ld.diffusion.noised(x0, ld.full({1}, t), eps))
  end
end
picture('noising', vae:decode_images(ld.concat(rows, 1)), 7)

-- Section 4: what the trained networks get wrong, by t; section 6: d, its share, and its pull.
local t, found = {}, {}
for k = 1, 5 do found[k] = {} end
local plain = {}
for i = 1, 25 do
  t[i] = (i - 0.5) / 25
  plain[i] = (at_time(mse, t[i]))
  for k, v in ipairs{at_time(run, t[i])} do found[k][i] = v end
end
local PLAIN, PULLED = 'MSE only', 'with the perceptual loss'
curves('eps-mse', {{x = t, y = plain, name = PLAIN}, {x = t, y = found[1], name = PULLED}},
  {log_y = true, x_label = 't'})
curves('distance', {{x = t, y = found[2], name = 'd'}, {x = t, y = found[3], name = 'w d'}},
  {zero = true, x_label = 't'})
curves('pull', {{x = t, y = found[4], name = 'without w'}, {x = t, y = found[5], name = 'with w'}},
  {log_y = true, x_label = 't'})
for _, i in ipairs{1, 5, 10, 15, 20, 25} do
  say('t %.2f: eps-MSE %.4f MSE only, %.4f perceptual; d %.3g, w d %.3g; pull %.3g without w, %.3g with', t[i],
    plain[i], found[1][i], found[2][i], found[3][i], found[4][i], found[5][i])
end

-- Section 7: x0^ along a path, and what fewer steps and eta do, from the same noise.
local path, take = {}, {[1] = 1, [5] = 2, [10] = 3, [20] = 4, [30] = 5, [40] = 6, [50] = 7}
sample(run, 2, ddim(50, 0), function(i, x0)
  local z = take[i] and model:denormalise(x0)
  for k = 1, z and 2 or 0 do path[(k - 1) * 7 + take[i]] = ld.keep(z:slice(1, k, k):clone()) end
end)
picture('path', vae:decode_images(ld.concat(path, 1)), 7)
rows = {}
for _, steps in ipairs{5, 10, 20, 50, 100} do
  for _, eta in ipairs{0, 1} do
    rows[#rows + 1] = sample(run, 4, ddim(steps, eta))
    local distance, floor = frechet(run, steps, eta)
    say('N %d, eta %g: Frechet %.3g, real against real %.3g', steps, eta, distance, floor)
  end
end
picture('steps', vae:decode_images(ld.concat(rows, 1)), 8)

-- Sections 6 and 8: the two losses, and the weights that are drawn with, from the same noise.
local function beside(name, runs)
  local parts = {}
  for _, r in ipairs(runs) do
    parts[#parts + 1] = sample(r, 8, ddim(50, 1))
    local distance, floor = frechet(r, 50, 1)
    say('%s, %s: %s: Frechet %.3g, real against real %.3g', name, r.name, r.weights, distance, floor)
  end
  picture(name, vae:decode_images(ld.concat(parts, 1)), 8)
end
beside('losses', {mse, run})
beside('averages', {live, run, rebuilt})
say('MSE only, live: Frechet %.3g', (frechet(mse_live, 50, 1)))

-- Section 9: the logs.
local function log(name)
  local x, y = {}, {}
  for line in io.lines(('%s/%s/log.jsonl'):format(opt.out, name)) do
    local entry = ld.json_decode(line)
    if entry.mse then x[#x + 1], y[#y + 1] = entry.images, entry.mse end
  end
  return x, y
end
local series = {}
for i, name in ipairs{'mse', 'perceptual'} do
  local x, y = log(name)
  series[i] = {x = x, y = y, name = ({PLAIN, PULLED})[i]}
  say('%s: eps-MSE of the last log line %.4f', name, y[#y])
end
curves('training', series, {log_y = true, smooth = 0.06, x_label = 'images seen'})
ld.write_file(opt.out .. '/numbers.txt', table.concat(said, '\n') .. '\n')
