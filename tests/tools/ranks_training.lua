-- A small training that several ranks share: LDLUA tests/tools/ranks_training.lua FOLDER EPOCHS [MICRO [STOP [SEED]]]
-- LD_TEST_FAST: without `deterministic`; LD_TEST_PRECISION: bf16, say. With STOP, rank 0 asks for the end at that many
-- images; with SEED, the last rank's weights begin otherwise.
-- Prints a sum of all bytes that are trained.
local ld = require 'ld'
local folder, epochs, micro, stop, seed = arg[1], tonumber(arg[2]), tonumber(arg[3] or 0), tonumber(arg[4]), arg[5]

local data = dofile('tests/tools/run_training.lua').data

ld.seed(seed and ld.ranks.rank() == ld.ranks.count() - 1 and tonumber(seed) or 4)
local net = ld.models.classifier{in_channels = 2, channels = {4, 6}, blocks = {1}, classes = 3, dropout = 0.3}
local run = ld.run(folder, {model = net, optim = ld.optim.adamw(net:parameters(), {lr = 1e-2}), ema = 0.9, clip = 1,
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
print('sum ' .. table.concat(ld.core.ranks.sum(trained), ' '))
