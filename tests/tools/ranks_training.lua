-- A small training that several ranks share: LDLUA tests/tools/ranks_training.lua FOLDER EPOCHS [MICRO [STOP [SEED]]]
-- LD_TEST_FAST: without `deterministic`; LD_TEST_PRECISION: bf16, say. With STOP, rank 0 asks for the end at that many
-- images; with SEED, the last rank's weights begin otherwise.
-- LD_TEST_WIDTHS: averages of two widths, with snapshots, and a checkpoint at every step.
-- Prints a sum of all bytes that are trained, averages included.
local ld = require 'ld'
local folder, epochs, micro, stop, seed = arg[1], tonumber(arg[2]), tonumber(arg[3] or 0), tonumber(arg[4]), arg[5]

local data = dofile('tests/tools/run_training.lua').data

ld.seed(seed and ld.ranks.rank() == ld.ranks.count() - 1 and tonumber(seed) or 4)
local net = ld.models.classifier{in_channels = 2, channels = {4, 6}, blocks = {1}, classes = 3, dropout = 0.3}
local widths = os.getenv 'LD_TEST_WIDTHS'
local run = ld.run(folder, {model = net, optim = ld.optim.adamw(net:parameters(), {lr = 1e-2}), clip = 1,
                            ema = widths and {sigma_rel = {0.05, 0.1}, every = 16} or 0.9,
                            save_minutes = widths and 1e-9 or 5, -- then: at every step
                            schedule = ld.schedule.one_cycle{max = 1e-2}, seed = 6, log_every = 1, micro = micro,
                            deterministic = not os.getenv 'LD_TEST_FAST',
                            precision = os.getenv 'LD_TEST_PRECISION'})
for batch in run:batches(data, 8, epochs) do
  run:step(function(part)
    local loss = ld.cross_entropy(net(part.x), part.label)
    return loss, {half = loss * 0.5}
  end)
  if stop and run:seen() >= stop and ld.ranks.rank() == 0 then os.execute('kill -TERM $PPID') end
  if os.getenv 'LD_TEST_DIE' and run:seen() >= tonumber(os.getenv 'LD_TEST_DIE') and
     ld.ranks.rank() == ld.ranks.count() - 1 then
    os.execute('kill -KILL $PPID')
  end
  assert(batch.count <= 8)
end
run:finish()
local state = run.optim:state()
local names, trained = {}, {}
for name in pairs(state) do names[#names + 1] = name end
table.sort(names)
for _, name in ipairs(names) do trained[#trained + 1] = state[name] end
for _, list in ipairs{net:parameters(), net:buffers()} do
  for _, x in ipairs(list) do trained[#trained + 1] = x end
end
local groups = run.ema:groups()
for _, averages in ipairs{groups.ema, groups.ema_2} do
  local paths = {}
  for path in pairs(averages) do paths[#paths + 1] = path end
  table.sort(paths)
  for _, path in ipairs(paths) do trained[#trained + 1] = averages[path] end
end
print('sum ' .. table.concat(ld.core.ranks.sum(trained), ' '))
