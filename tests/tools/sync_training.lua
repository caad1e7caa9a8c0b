-- Trainings whose batch norms may be synchronised: LDLUA tests/tools/sync_training.lua FOLDER NET COUNT BATCH EPOCHS
-- [SYNC [STOP]]: NET is unet (FiLM, attention, a perceptual loss by a judge that has batch norms itself) or classifier;
-- COUNT pictures, SYNC yes or no; STOP: rank 0 asks for the end at that many images. SGD with momentum: after one step
-- the optimiser's state is the gradient.
-- LD_TEST_DIE=n: the last rank kills itself inside the forward of a classifier's step that begins at n images, between
-- two norms.
local ld = require 'ld'
local folder, kind, count, batch, epochs = arg[1], arg[2], tonumber(arg[3]), tonumber(arg[4]), tonumber(arg[5])
local sync, stop, die = arg[6] == 'yes', tonumber(arg[7]), tonumber(os.getenv 'LD_TEST_DIE')
local rank, ranks = ld.ranks.rank(), ld.ranks.count()

local data = {count = count, name = 'noise', get = function(_, indices)
  return ld.scope(function()
    local x, labels = {}, {}
    for i, index in ipairs(indices) do
      labels[i] = index % 3
      -- pictures differ in mean and spread, so that statistics over a part are others than over the whole
      x[i] = ld.noise({1, 2, 8, 8}, {seed = 9, first = index}) * (0.5 + index % 5) + labels[i]
    end
    return {x = ld.concat(x, 1), label = ld.tensor(labels, {dtype = 'i64'})}
  end)
end}

ld.seed(4)
local judge = ld.models.classifier{in_channels = 2, channels = {4, 6}, blocks = {1}, classes = 3, dropout = 0}
local net, loss
if kind == 'unet' then
  net = ld.models.unet{in_channels = 2, out_channels = 2, channels = {8, 16}, layers = 1, attention_from = 2,
                       attention_width = 8, norm = 'batch'}
  for _, x in ipairs(net:parameters()) do -- convolutions that begin with zeros would hide what lies before them
    local noise = ld.randn(x.shape)
    ld.no_grad(function() x:add_(noise * 0.1) end)
  end
  local model = ld.diffusion.cosine(net, {scale = 0.5})
  local perceptual = ld.perceptual{net = judge, mean = {0, 0}, std = {1, 1}, weight = 0.5}
  loss = function(part) return model:loss(part.x, {seed = 3, first = part.first, perceptual = perceptual}) end
else
  net = judge
  loss = function(part) return ld.cross_entropy(net(part.x), part.label) end
end
if die and rank == ranks - 1 then -- between the stages' norms and the last one
  local relu = net[3]
  net[3] = ld.nn.func(function(x)
    if die <= 0 then os.execute('kill -KILL $PPID') end
    return relu(x)
  end)
end
local run = ld.run(folder, {model = net, optim = ld.optim.sgd(net:parameters(), {lr = 1e-2, momentum = 0.9}), seed = 6,
                            log_every = 1, deterministic = true, sync_bn = sync, quiet = stop == nil and not die,
                            ema = 0.9})
for _ in run:batches(data, batch, epochs) do
  if die and run:seen() >= tonumber(os.getenv 'LD_TEST_DIE') then die = 0 end
  run:step(loss)
  -- the judge, and networks outside training, are computed by whoever wants them: no other rank need answer
  if rank == 0 then
    net:eval()
    ld.no_grad(function() judge(ld.noise({4, 2, 8, 8}, {seed = 1})) end)
    net:train()
  end
  if stop and run:seen() >= stop and rank == 0 then os.execute('kill -TERM $PPID') end
end
run:finish()
