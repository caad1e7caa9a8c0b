-- What a training step of notebook 30's U-Net takes on the device, in bf16, by the pool's own counts: the planned peak,
-- the peak that was reached, and what was held for it (a card needs that much, and some hundred MB for the driver).
--
--   ldlua --device cuda:0 tests/cuda/memory.lua FOLDER GB [BATCH CHANNELS]      GB: none of them may reach it
local ld = require 'ld'

local folder, limit, batch = arg[1], tonumber(arg[2]) * 1e9, tonumber(arg[3] or 128)
local channels = {}
for c in (arg[4] or '128,256,512,768'):gmatch('%d+') do channels[#channels + 1] = tonumber(c) end

ld.seed(1)
local net = ld.models.unet{channels = channels, layers = 2, attention_from = 2, attention_width = 16}
local model = ld.diffusion.cosine(net)
local run = ld.run(folder, {model = net, optim = ld.optim.adamw(net:parameters(), {lr = 1e-4}), ema = 0.999, clip = 1,
                            precision = 'bf16', save_minutes = 1e9, log_every = 1, quiet = true})
local data = {count = 4 * batch, name = 'latents', get = function(_, indices, first)
  return {x = ld.noise({#indices, 4, 32, 32}, {seed = 7, first = first})}
end}
local n = 0
for b in run:batches(data, batch, 2) do
  run:step(function() return (model:loss(b.x, {first = b.first})) end)
  n = n + 1
  if n == 6 then break end
end
local m, plan = ld.memory(), run.memory
local value = 0 / 0
for line in io.lines(folder .. '/log.jsonl') do value = ld.core.json_decode(line).loss or value end
print(('batch %d, %d parameters, %d steps, loss %.4f'):format(batch, net:count(), n, value))
print(('planned %.2f GB; live at most %.2f GB, held %.2f GB; %.2f GB allowed'):format(plan.peak / 1e9, m.peak / 1e9,
  (m.live + m.cached) / 1e9, limit / 1e9))
local good = value == value and math.max(m.peak, m.live + m.cached, plan.peak) < limit
if not good then ld.fail('too much, or the loss is not finite') end
