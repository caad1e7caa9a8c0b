-- Train the latent classifier whose pooled features become the perceptual latent loss. Source: docs/method.md.
--   data    --train and --valid: stores made by recipes/imagenet_latents.lua (without --valid a tenth is held out)
--   run     ldlua recipes/imagenet_classifier.lua [--epochs 30]     run it again to resume
--   look    runs/imagenet-classifier/report.html; best.h5 is what recipes/celeba.lua takes as --judge
local ld = require 'ld'

local opt = ld.options{
  train = 'runs/imagenet/train.h5', valid = '', out = 'runs/imagenet-classifier',
  channels = {32, 64, 128, 512, 1024}, blocks = {1, 2, 4, 3}, dropout = 0.1,
  epochs = 30, batch = 128, lr = 1e-2, weight_decay = 0.01, eps = 1e-5, smoothing = 0, seed = 1,
  precision = 'f32',                  -- f32, or bf16 on a CUDA device
  pad = 2, erase = 0.2, find_lr = false, overfit = 0, tensorboard = false, quiet = false, sync_bn = false,
}

if not ld.file_kind(opt.train) then
  ld.fail('there is no store %s: make it with recipes/imagenet_latents.lua --data FOLDER --out %s', opt.train,
    opt.train)
end
local held  = opt.valid ~= ''
local train = ld.latents.open(opt.train)
local valid = held and ld.latents.open(opt.valid)
if held then valid:check_same(train) end
if #train.classes < 2 then ld.fail('%s has no classes to learn', opt.train) end
if not held then train, valid = train:shuffled_split(0.1, opt.seed) end
if table.concat(valid.classes, ' ') ~= table.concat(train.classes, ' ') then
  ld.fail('%s and %s have different classes', opt.train, opt.valid)
end

ld.seed(opt.seed)
local net   = ld.models.classifier{in_channels = train.shape[1], channels = opt.channels, blocks = opt.blocks,
                                   classes = #train.classes, dropout = opt.dropout}
local adamw = ld.optim.adamw(net:parameters(), {lr = opt.lr, eps = opt.eps, weight_decay = opt.weight_decay})
local run   = ld.run(opt.out, {opt = opt, model = net, optim = adamw, seed = opt.seed,
                               schedule = ld.schedule.one_cycle{max = opt.lr}, precision = opt.precision,
                                overfit = opt.overfit, tensorboard = opt.tensorboard, quiet = opt.quiet,
                                sync_bn = opt.sync_bn,
                               record = {mean = train.mean, std = train.std, classes = train.classes,
                                         vae = train.vae, vae_hash = train.vae_hash, pixel_range = train.pixel_range}})
print(('%d parameters, %d latents to train on, %d held out, %d classes'):format(net:count(), train.count, valid.count,
  #train.classes))

-- Loss and accuracy on the held-out latents.
local function evaluate()
  net:eval()
  local loss, right = 0, 0
  for batch in valid:in_order(256) do
    ld.no_grad(function()
      local logits = net(train:standardise(batch.x))
      loss = loss + ld.cross_entropy(logits, batch.label, {reduction = 'sum'}):item()
      right = right + ld.eq(logits:argmax(2), batch.label):i64():sum():item()
    end)
  end
  net:train()
  return loss / valid.count, right / valid.count
end

local data = train:augmented{standardise = true, pad = opt.pad, erase = opt.erase}
local seen, right = 0, 0
local function loss_of(batch)
  local logits = net(batch.x)
  seen = seen + batch.count
  right = right + ld.eq(logits:argmax(2), batch.label):i64():sum():item()
  return ld.cross_entropy(logits, batch.label, {smoothing = opt.smoothing})
end
if opt.find_lr then return run:find_lr(data, opt.batch, loss_of) end

for batch in run:batches(data, opt.batch, opt.epochs) do
  run:step(loss_of)
  if run:epoch_end() then
    local loss, accuracy = ld.precision(opt.precision, evaluate)
    run:log{event = 'epoch', epoch = batch.epoch, train_accuracy = right / seen, valid_loss = loss,
            valid_accuracy = accuracy}
    run:say('epoch %d: train accuracy %.3f, held out: loss %.3f, accuracy %.3f', batch.epoch, right / seen, loss,
      accuracy)
    seen, right = 0, 0
    run:best(accuracy)
  end
end
run:finish()
