-- A small U-Net with the perceptual latent loss, for tests that kill it: ldlua kill_training.lua FOLDER [EPOCHS]. It
-- goes on where it stopped, with a checkpoint after every step, and ends by printing a sum over all numbers of its last
-- checkpoint.
local ld = require 'ld'

local folder, epochs = arg[1], tonumber(arg[2] or 5)
local data = {count = 26, name = 'noise', get = function(_, indices)
  return ld.scope(function()
    local x = {}
    for i, index in ipairs(indices) do x[i] = ld.noise({1, 4, 8, 8}, {seed = 9, first = index}) end
    return {x = ld.concat(x, 1)}
  end)
end}

ld.seed(3)
local judge = ld.models.classifier{in_channels = 4, channels = {8, 16}, blocks = {1}, classes = 3}
local unet = ld.models.unet{in_channels = 4, out_channels = 4, channels = {8, 16}, layers = 1, attention_from = 2,
                            attention_width = 8}
local model = ld.diffusion.cosine(unet, {scale = 1})
local perceptual = ld.perceptual{net = judge, mean = {0, 0, 0, 0}, std = {1, 1, 1, 1}, weight = 0.1, gate = 3}
local adamw = ld.optim.adamw(unet:parameters(), {lr = 1e-3})
local run = ld.run(folder, {model = unet, optim = adamw, ema = 0.9, seed = 5, clip = 1, micro = 4, deterministic = true,
                            schedule = ld.schedule.one_cycle{max = 1e-3}, save_minutes = 0, log_every = 2,
                            keep = {last = 2, every = 60}})
for _ in run:batches(data, 8, epochs) do
  run:step(function(batch)
    local x = batch.x + ld.randn(batch.x.shape) * 0.01 -- the program's own random numbers are part of the run
    return model:loss(x, {seed = 5, first = batch.first, perceptual = perceptual})
  end)
end
run:finish()

local c = ld.checkpoint.open(folder .. '/last.h5')
local text, r = {}, c.record
for _, name in ipairs(c.file:list()) do text[#text + 1] = name .. ' ' .. ld.json_encode(c.file:read(name):tolist()) end
c.file:close()
print(('sum %s of %d tensors, %d images, %d draws, %d updates of averages'):format(
  ld.core.sha256(table.concat(text, '\n')), #text, r.images, r.generator_draws, r.averages.updates))
