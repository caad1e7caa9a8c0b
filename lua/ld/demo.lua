-- What the recipes share for users who have no data yet: smaller settings, a classifier trained on the spot,
-- directions.
local core = require 'ld.core'

local demo = {}

-- Settings under which celeba.lua ends within ten minutes on two cores.
local small = {size = 64, epochs = 30, batch = 32, lr = 3e-3, ema = 0.998, channels = {32, 64, 96}, layers = 1,
               attention_from = 2, samples = 36, steps = 50, every = 10, out = 'runs/demo', judge = '', data = ''}

--- options(defaults): as ld.options; with --demo the small settings are the defaults, and the judge lies in `out`.
function demo.options(defaults)
  local words = rawget(_G, 'arg') or {}
  for i, word in ipairs(words) do
    if word == '--demo=true' or (word == '--demo' and words[i + 1] ~= 'false') then
      for key, value in pairs(small) do
        if defaults[key] ~= nil then defaults[key] = value end
      end
    end
  end
  local opt = require('ld.options')(defaults)
  if opt.demo and opt.judge == '' then opt.judge = opt.out .. '/judge.h5' end
  return opt
end

-- A small classifier that tells sixteen kinds of latents apart: the signs of four fixed random directions of the
-- picture's coarse latent, those of a seed. It needs no labels and gives features that know shape and colour.
local function pseudo_labels(store, seed)
  local c, parts = store.shape[1], {}
  return core.no_grad(function()
    for batch in store:in_order(256) do
      parts[#parts + 1] = core.adaptive_avg_pool2d(store:standardise(batch.x), 4, 4)
    end
    local flat = core.concat(parts, 1):reshape(store.count, c * 16)
    local directions = core.noise({c * 16, 4}, {seed = seed, device = flat.device})
    local bits = core.matmul(flat - core.mean(flat, 1, true), directions)
    local powers = core.tensor({1, 2, 4, 8}, {device = flat.device})
    return core.matmul(core.gt(bits, 0):f32(), powers):i64()
  end)
end

--- train_judge(path, store, seed, kinds): trains such a classifier and writes it; kinds is the seed of the directions.
function demo.train_judge(path, store, seed, kinds)
  local ld = require 'ld'
  ld.seed(seed)
  local labels = core.keep(pseudo_labels(store, kinds))
  local net = ld.models.classifier{in_channels = store.shape[1], channels = {16, 32, 64, 128}, blocks = {1, 1, 1},
                                   classes = 16}
  local adamw = ld.optim.adamw(net:parameters(), {lr = 3e-3, eps = 1e-5})
  local batch, epochs, right, seen = math.min(64, store.count), 6, 0, 0
  local per_epoch = math.floor(store.count / batch)
  for step = 0, epochs * per_epoch - 1 do
    local list = {}
    for i = 1, batch do
      list[i] = core.shuffled(step % per_epoch * batch + i, store.count, seed, math.floor(step / per_epoch))
    end
    adamw.lr, adamw.beta1 = core.schedule.one_cycle(step, epochs * per_epoch, {max = 3e-3})
    core.scope(function()
      local logits = net(store:standardise(store:get(list).x):to(net:device()))
      local at = core.tensor(list, {dtype = 'i64', device = labels.device}) - 1
      local target = core.gather(labels, at):to(logits.device)
      adamw:zero_grad()
      core.cross_entropy(logits, target):backward()
      adamw:step()
      if step >= (epochs - 1) * per_epoch then
        right, seen = right + core.eq(logits:argmax(2), target):i64():sum():item(), seen + batch
      end
    end)
  end
  print(('classifier: accuracy %.2f over the last epoch (chance %.2f)'):format(right / seen, 1 / 16))
  ld.checkpoint.write(path, {model = net, record = {mean = store.mean, std = store.std, vae_hash = store.vae_hash,
                                                    pixel_range = store.pixel_range}})
end

-- A classifier only understands latents of the autoencoder and pixel range it learnt.
local function compare_judge(record, path, hash, range, what)
  if record.vae_hash and record.vae_hash ~= hash then
    core.fail(('%s was trained on latents of another autoencoder than %s'):format(path, what))
  end
  if record.pixel_range and record.pixel_range ~= range then
    core.fail(("%s was trained on latents of pixel range '%s'; %s has '%s'"):format(path, record.pixel_range, what,
      range))
  end
end

--- check_judge(judge, path, store): they must belong together.
function demo.check_judge(judge, path, store)
  compare_judge(judge.record, path, store.vae_hash, store.pixel_range, store.path)
end

--- expect_judge(opt, vae): before hours of encoding: the judge that is there must be one for this autoencoder.
function demo.expect_judge(opt, vae)
  if opt.perceptual == 0 or not core.file_kind(opt.judge) then return end
  local c = require('ld.checkpoint').open(opt.judge)
  c.file:close()
  if c.model_name ~= 'classifier' then
    core.fail(("%s holds a '%s'; the judge is a classifier"):format(opt.judge, tostring(c.model_name)))
  end
  compare_judge(c.record.extra or c.record, opt.judge, vae.hash, vae.pixel_range, vae.name)
end

--- judge(opt, store): the classifier of the perceptual loss, or nil when its weight is 0 or there is none (said so).
-- In the demo it is trained first.
function demo.judge(opt, store)
  if opt.perceptual == 0 then return nil end
  require('ld.ranks').first(function()
    if opt.demo and not core.file_kind(opt.judge) then
      print('no classifier for the perceptual loss yet: training a small one on these latents (16 pseudo classes)')
      demo.train_judge(opt.judge, store, opt.seed, 7)
    end
  end)
  if not core.file_kind(opt.judge) then
    print(('no classifier %s: training with MSE only; make one with recipes/imagenet_classifier.lua'):format(opt.judge))
    return nil
  end
  local judge = require('ld.models').classifier.load(opt.judge)
  demo.check_judge(judge, opt.judge, store)
  return judge
end

--- farewell(opt, path): where the pictures are and, after the demo, what to do next.
function demo.farewell(opt, path)
  print(('sample grid: %s'):format(path))
  if not opt.demo then return end
  print[[
That was the whole road: pictures -> latents -> classifier -> U-Net with perceptual latent loss -> DDIM -> PNG, small.
To train for real (docs/data.md says where to get the pictures and the sd-vae-ft-ema weights):
  ./ldlua recipes/imagenet_latents.lua    --data data/imagenet/train --vae data/sd-vae-ft-ema
  ./ldlua recipes/imagenet_classifier.lua --train runs/imagenet/train.h5
  ./ldlua recipes/celeba.lua              --data data/celeba-hq --vae data/sd-vae-ft-ema
  ./ldlua recipes/lsun.lua                --data data/lsun-bedrooms --vae data/sd-vae-ft-ema --range own]]
end

return demo
