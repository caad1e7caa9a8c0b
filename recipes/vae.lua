-- Train the small autoencoder (8 times down, 4 channels) on synthetic faces and, where given, real photographs.
--   data    --photos a folder of pictures (any sub-folders); without it only the synthetic faces are used
--   train   ldlua recipes/vae.lua --photos data/imagenet [--epochs 20 ...]     run it again to resume
--   look    runs/vae/report.html; runs/vae/samples/*.png: pictures above, what the autoencoder makes of them below
--   use     ldlua recipes/celeba.lua --vae runs/vae/vae.h5
local ld = require 'ld'

local opt = ld.options{
  photos = 'data/photos', out = 'runs/vae', size = 128, crop = 64, faces = 4000, held_out = 0.1,
  width = 64, blocks = 3, epochs = 20, batch = 16, lr = 2e-3, seed = 1, ema = 0.999,
  precision = 'f32',   -- of training and measuring: f32, or bf16 on a CUDA device
  l1 = 0.2, find_lr = false, overfit = 0, tensorboard = false, quiet = false,
}

local data = ld.picture_mix{photos = opt.photos, faces = opt.faces, size = opt.size, crop = opt.crop, seed = opt.seed,
                            held_out = opt.held_out}
if not ld.images.exists(opt.photos) then
  print(('there is no folder %s: faces only; name any folder of photographs with --photos (docs/data.md)'):format(
    opt.photos))
end
print(data)
ld.seed(opt.seed)
local net   = ld.models.small_autoencoder{width = opt.width, blocks = opt.blocks}
local adamw = ld.optim.adamw(net:parameters(), {lr = opt.lr, weight_decay = 1e-4})
local run   = ld.run(opt.out, {opt = opt, model = net, optim = adamw, ema = opt.ema, seed = opt.seed, clip = 1,
                               precision = opt.precision,
                               schedule = ld.schedule.one_cycle{max = opt.lr, pct_start = 0.1},
                               overfit = opt.overfit, tensorboard = opt.tensorboard, quiet = opt.quiet})

local function loss(batch)
  local x = ld.augment.random_flip(batch.x:f32():affine(1 / 255, 0), {seed = opt.seed, first = batch.first})
  local y = net(x)
  local mse, l1 = ld.mse(y, x), ld.l1(y, x)
  return mse * 10 + l1 * opt.l1, {mse = mse}
end
if opt.find_lr then return run:find_lr(data, opt.batch, loss) end

for batch in run:batches(data, opt.batch, opt.epochs) do
  run:step(loss)
  if run:epoch_end() then
    run:averaged(function()
      local held = data:held_out_images(64)
      local vae = ld.vae.wrap(net, {name = 'small'})
      local back = vae:decode_images(vae:encode_images(held))
      local db, likeness = ld.metrics.psnr(held, back), ld.metrics.ssim(held, back)
      run:log{event = 'held out', images = run.images, psnr = db, ssim = likeness}
      run:say('epoch %d: %.2f dB on %d pictures it never saw, SSIM %.3f', batch.epoch, db, held.shape[1], likeness)
      local n = math.min(8, held.shape[1])
      local few = held:slice(1, 1, n):to(back.device):f32() * (1 / 255)
      run:image('round-trip', ld.concat({few, back:slice(1, 1, n)}, 1), {columns = n})
    end)
    net:requires_grad_(true):train()
  end
end

run:averaged(function() ld.checkpoint.write(opt.out .. '/vae.h5', {model = net, record = {name = 'vae-small'}}) end)
run:finish()
