-- A training step of a U-Net by the ranks that run this: mpirun -np 2 ./ldlua --threads 1 tests/bench/ranks.lua [BATCH
-- [STEPS]]. Prints the median time of a step, pictures a second, and the bytes of gradients that a rank sends.
local ld = require 'ld'
local size, steps = tonumber(arg[1] or 16), tonumber(arg[2] or 8)
local folder = os.getenv 'TEST_TMP' or 'build/bench-ranks'
if ld.ranks.rank() == 0 then os.execute(('rm -rf %q'):format(folder)) end
ld.ranks.gather{}

ld.seed(1)
local unet = ld.models.unet{in_channels = 4, out_channels = 4, channels = {64, 128, 256, 384}, layers = 1,
                            attention_from = 2, attention_width = 16, norm = 'batch'}
local model = ld.diffusion.cosine(unet, {scale = 1})
local run = ld.run(folder, {model = unet, optim = ld.optim.adamw(unet:parameters(), {lr = 1e-4}), plan = false,
                            quiet = true, save_minutes = 1e6})
local data = {count = size * (steps + 2), name = 'noise', get = function(_, indices)
  return {x = ld.noise({#indices, 4, 32, 32}, {seed = 5, first = indices[1]})}
end}
local times, before = {}, nil
for _ in run:batches(data, size, 1) do
  run:step(function(batch) return model:loss(batch.x, {seed = 3, first = batch.first}) end)
  ld.ranks.gather{}
  local now = ld.clock()
  if before then times[#times + 1] = now - before end
  before = now
end
table.sort(times)
local median, ranks = times[math.ceil(#times / 2)], ld.ranks.count()
print(('%d ranks of %d threads, batch %d: %.0f ms a step (%.0f to %.0f), %.2f pictures/s, %.1f MB sent a step'):format(
  ranks, ld.threads(), size, median * 1e3, times[1] * 1e3, times[#times] * 1e3, size / median,
  unet:count() * 4 * 2 * (ranks - 1) / ranks / 1e6))
