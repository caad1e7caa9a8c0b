-- A small training for tests on a card, and the comparison of two of them by their logs.
--
--   ldlua --device cuda:0 tests/cuda/training.lua train FOLDER STEPS PRECISION [STOP]    STOP: it ends there, killed
--   ldlua tests/cuda/training.lua compare FOLDER OTHER LIMIT            of the mean relative difference
--
-- Data, weights, times and noise follow from one seed and are the same on every device.
local ld = require 'ld'

local what = arg[1]

local function train(folder, steps, precision, stop)
  ld.seed(3)
  local net = ld.models.unet{channels = {32, 64}, layers = 1, attention_from = 2, attention_width = 16}
  local model = ld.diffusion.cosine(net)
  local o = {model = net, optim = ld.optim.adamw(net:parameters(), {lr = 1e-3}), ema = 0.9, clip = 1, log_every = 1,
             seed = 3, save_minutes = 1e9}
  if precision ~= 'f32' then o.precision = precision end
  local run = ld.run(folder, o)
  local data = {count = 64, name = 'latents', get = function(_, indices, first)
    return {x = ld.noise({#indices, 4, 16, 16}, {seed = 7, first = first % 64}) * 0.5 + 1}
  end}
  local n = 0
  for batch in run:batches(data, 8, steps / 8) do
    run:step(function() return model:loss(batch.x, {first = batch.first}) end)
    n = n + 1
    if n == stop then
      run:save()
      require('ffi').cdef 'void _exit(int);'
      require('ffi').C._exit(9)
    end
  end
  run:finish()
end

local function losses(folder)
  local out = {}
  for line in io.lines(folder .. '/log.jsonl') do
    local entry = ld.core.json_decode(line)
    if entry.loss and entry.images then out[entry.images] = entry.loss end
  end
  return out
end

local function compare(a, b, limit)
  local x, y, sum, n, last = losses(a), losses(b), 0, 0, 0
  for images, loss in pairs(x) do
    local other = y[images] or ld.fail('%s has no loss at %d images', b, images)
    sum, n, last = sum + math.abs(loss - other) / math.abs(loss), n + 1, math.max(last, images)
  end
  if n < 5 then ld.fail('%d losses in %s are too few', n, a) end
  print(('%d losses, from %.4f to %.4f, mean relative difference %.2e'):format(n, x[8] or 0, x[last], sum / n))
  if sum / n > limit then ld.fail('they differ by more than %g', limit) end
  local fell = x[last] < 0.9 * (x[8] or 0) -- not, where it is NaN
  if not fell then ld.fail('the loss does not fall') end
end

if what == 'train' then
  train(arg[2], tonumber(arg[3]), arg[4], tonumber(arg[5]))
elseif what == 'compare' then
  compare(arg[2], arg[3], tonumber(arg[4]))
else
  ld.fail('training: train or compare, not %s', tostring(what))
end
