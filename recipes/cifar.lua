-- Class-conditional diffusion of CIFAR-10 in pixel space: U-Net with labels, classifier-free guidance, DDIM samples.
--   data    --data PATH: CIFAR-10's binary files or any set with classes (docs/data.md)
--   train   ldlua recipes/cifar.lua --data data/cifar-10-batches-bin [--epochs 200 ...]     run it again to resume
--   look    runs/cifar/samples/*.png: a row for each class; recipes/cifar.lua --epochs 0 only draws
local ld = require 'ld'

local opt = ld.options{
  data = 'data/cifar-10-batches-bin', out = 'runs/cifar', size = 32, limit = 0,
  channels = {64, 128, 256}, layers = 2, attention_from = 2, attention_width = 16, norm = 'group',
  epochs = 200, batch = 128, lr = 1e-3, ema = 0.9995, seed = 1,
  drop = 0.1,                          -- share of labels that the network does not see, for guidance
  guidance = 2, columns = 8, steps = 50, eta = 0.5, every = 5,
}

if not ld.images.exists(opt.data) then
  ld.fail('there is no %s: name CIFAR-10, or a folder with a sub-folder for each class, with --data (docs/data.md)',
    opt.data)
end
local set = ld.images.open(opt.data, {size = opt.size, limit = opt.limit > 0 and opt.limit or nil})
local classes = #set.classes
if classes < 2 then ld.fail('%s has no classes; recipes/celeba.lua trains without', opt.data) end
local data = ld.pixels(set, {flip = true, seed = opt.seed})
print(('%s in %d classes'):format(tostring(data), classes))

ld.seed(opt.seed)
local unet  = ld.models.unet{in_channels = 3, out_channels = 3, channels = opt.channels, layers = opt.layers,
                             attention_from = opt.attention_from, attention_width = opt.attention_width,
                             norm = opt.norm, classes = classes}
local model = ld.diffusion.cosine(unet, {scale = 1}) -- pixels in [-1,1] are their own latents
local run   = ld.run(opt.out, {opt = opt, model = unet, ema = opt.ema, seed = opt.seed, clip = 1,
                               optim = ld.optim.adamw(unet:parameters(), {lr = opt.lr, weight_decay = 0.01}),
                               schedule = ld.schedule.one_cycle{max = opt.lr},
                               record = {scale = 1, classes = set.classes, pixels = opt.size}})
print(('U-Net of %d parameters, %d classes'):format(unet:count(), classes))

local function sample(n, label, together)
  return model:sample{n = n, channels = 3, size = opt.size, seed = opt.seed, label = label, guidance = opt.guidance,
                      split = together, sampler = ld.sampler.ddim{steps = opt.steps, eta = opt.eta}}
end
local function statistics(i)
  local list = {}
  for k = 1, math.min(opt.batch, data.count) do list[k] = (i * opt.batch + k) % data.count + 1 end
  local batch, device = data:get(list, i * opt.batch), unet:device()
  model:loss(batch.x:to(device), {seed = opt.seed + 1, first = i * opt.batch, label = batch.label:to(device)})
end

-- For those who attach: one picture of each class in turn. The recipe's own: a row for each class, the same noise in
-- every row.
run:draws(function(n, together)
  local label = {}
  for i = 1, n do label[i] = (i - 1) % classes end
  return sample(n, label, together):affine(0.5, 0.5):clamp(0, 1)
end, statistics)
local function show()
  return run:image('samples', run:averaged(function()
    local rows = {}
    for class = 0, classes - 1 do rows[#rows + 1] = sample(opt.columns, class, true) end
    return ld.concat(rows, 1):affine(0.5, 0.5):clamp(0, 1)
  end, statistics), {columns = opt.columns})
end

local path
for _ in run:batches(data, opt.batch, opt.epochs) do
  run:step(function(batch)
    return model:loss(batch.x, {seed = opt.seed, first = batch.first, label = batch.label, drop = opt.drop})
  end)
  if run:every{epochs = opt.every} then path = show() end
end
run:finish()
print('samples: ' .. (path or show()))
