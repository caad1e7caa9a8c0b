-- A small training with everything a run has: batch norm, dropout, averages, a schedule, random numbers of the program.
-- The same text serves in tests and in processes that they start and kill.
local ld = require 'ld'
local training = {}

training.data = {count = 37, name = 'noise', get = function(_, indices)
  return ld.scope(function()
    local x, labels = {}, {}
    for i, index in ipairs(indices) do
      labels[i] = index % 3
      x[i] = ld.noise({1, 2, 8, 8}, {seed = 9, first = index}) + labels[i]
    end
    return {x = ld.concat(x, 1), label = ld.tensor(labels, {dtype = 'i64'})}
  end)
end}

function training.start(folder, o)
  o = o or {}
  ld.seed(4)
  local net = ld.models.classifier{in_channels = 2, channels = {4, 6}, blocks = {1}, classes = 3, dropout = 0.3}
  local optim = ld.optim.adamw(net:parameters(), {lr = 1e-2})
  return ld.run(folder, {model = net, optim = optim, schedule = o.schedule or ld.schedule.one_cycle{max = 1e-2},
                         ema = 0.9, clip = 1, seed = 6, quiet = o.quiet ~= false, log_every = o.log_every or 3,
                         opt = o.opt, save_minutes = o.save_minutes or 5, keep = o.keep, micro = o.micro,
                         plan = o.plan, report_minutes = o.report_minutes, graph = o.graph})
end

function training.loss(run, batch)
  local loss = ld.cross_entropy(run.model(batch.x + ld.randn(batch.x.shape) * 0.1), batch.label)
  return loss, {half = loss * 0.5}
end

-- The whole loop; each(batch, run) after every step may say true to break out.
function training.go(run, epochs, each)
  for batch in run:batches(training.data, 8, epochs) do
    run:step(function() return training.loss(run, batch) end)
    if each and each(batch, run) then return run end
  end
  run:finish()
  return run
end
-- All tensors of a checkpoint and its record, but for times.
function training.content(path)
  local c = ld.checkpoint.open(path)
  local out = {}
  for _, name in ipairs(c.file:list()) do out[name] = c.file:read(name):tolist() end
  c.file:close()
  c.record.mean = nil
  out.record = c.record
  return out
end

return training
