-- Steps that a device records: the same weights, averages, log and generator as computed one operation at a time. On a
-- device that cannot record, both sides are computed alike, and what is said of recordings is skipped.
local ld = require 'ld'
local t = dofile 'tests/lua/harness.lua'

local tmp = os.getenv 'TEST_TMP' or '/tmp/ldlua-test-graph'
os.execute('mkdir -p ' .. tmp)
local able = ld.graph_able()

local serial = 0
local function fresh()
  serial = serial + 1
  return ('%s/run-%d'):format(tmp, serial)
end

-- 21 pictures in batches of 8, 8 and 5; picture `bad` is no number.
local function pictures(bad)
  return {count = 21, name = 'noise', get = function(_, indices)
    return ld.scope(function()
      local x, labels = {}, {}
      for i, index in ipairs(indices) do
        labels[i] = index % 3
        x[i] = ld.noise({1, 2, 8, 8}, {seed = 9, first = index}) + labels[i]
        if index == bad then x[i] = x[i] * (0 / 0) end
      end
      return {x = ld.concat(x, 1), label = ld.tensor(labels, {dtype = 'i64'})}
    end)
  end}
end

local function classifier()
  return ld.models.classifier{in_channels = 2, channels = {4, 6}, blocks = {1}, classes = 3, dropout = 0.3}
end

local function loss_of(net, batch)
  local loss = ld.cross_entropy(net(batch.x + ld.randn(batch.x.shape) * 0.1), batch.label)
  return loss, {half = loss * 0.5, one = 1}
end

-- A run; o: folder, graph, epochs, data, net, f (of net and batch) or make
-- (of net and run, gives f), each (after every step, of run and batch),
-- clip, optim. Returns the run and how often f was called.
local function train(o)
  ld.seed(4)
  local net = (o.net or classifier)()
  local optim = (o.optim or ld.optim.adamw)(net:parameters(), {lr = 1e-2})
  local run = ld.run(o.folder or fresh(), {model = net, optim = optim, schedule = ld.schedule.one_cycle{max = 1e-2},
                                           ema = o.ema or 0.9, clip = o.clip or 1, precision = o.precision,
                                           compare_every = o.compare_every, seed = 6, quiet = true, log_every = 3,
                                           graph = o.graph})
  local said = {}
  function run.say(_, text, ...) said[#said + 1] = text:format(...) end
  local count = {calls = 0} -- in a table: an upvalue that changes would have the step recorded anew
  local f = o.make and o.make(net, run) or o.f or loss_of
  for batch in run:batches(o.data or pictures(), 8, o.epochs or 6) do
    if o.before then o.before(run, batch) end
    run:step(function()
      count.calls = count.calls + 1
      return f(net, batch, run)
    end)
    if o.each and o.each(run, batch) then return run, count.calls, said end
  end
  run:finish()
  return run, count.calls, said
end

-- Everything a run leaves: the checkpoint's tensors and record, and its log but for times and speed.
local function result(run)
  local c = ld.checkpoint.open(run.folder .. '/last.h5')
  local out = {log = {}}
  for _, name in ipairs(c.file:list()) do out[name] = c.file:read(name):tolist() end
  c.file:close()
  c.record.mean = nil
  out.record = c.record
  for line in io.lines(run.folder .. '/log.jsonl') do
    local e = ld.json_decode(line)
    for _, key in ipairs{'time', 'images_per_second', 'data_wait', 'memory_live', 'memory_peak', 'memory_resident'} do
      e[key] = nil
    end
    e.environment = nil
    out.log[#out.log + 1] = e
  end
  return out
end

-- The same training both ways; what was said of the recorded one, the calls of f there and in the other.
local function both(o)
  o.graph = false
  local plain, all = train(o)
  o.graph, o.folder = nil, nil
  local run, calls, said = train(o)
  t.eq(result(run), result(plain))
  return table.concat(said, '\n'), calls, all, run
end

local function on_device(name, f)
  if able then t.test(name, f) else t.skip(name, 'this device cannot record') end
end

t.test('a classifier: weights, averages, log and generator, with the short last batch of an epoch', function()
  local said, calls, all = both{}
  t.eq(all, 18 + 1) -- one plans the memory
  if not able then return t.eq(calls, all) end
  -- batches of 8: two steps, two to look, one to record; of 5 in two epochs likewise
  t.eq(calls, 1 + 5 + 5)
  t.ok(said:find('recorded the step on .* of 8 pictures; it holds') and said:find('of 5 pictures; it holds'), said)
end)

local function unet()
  local net = ld.models.unet{in_channels = 2, out_channels = 2, channels = {8, 16}, layers = 1, attention_from = 1,
                             attention_width = 8, groups = 4}
  return net
end

local function diffusion_loss(net)
  local model = ld.diffusion.cosine(net, {scale = 0.5})
  return function(_, batch) return model:loss(batch.x, {seed = 5, first = batch.first}) end
end

t.test('a diffusion U-Net, whose times and noise follow the clock', function()
  local _, calls, all = both{net = unet, make = diffusion_loss, epochs = 5}
  t.ok(not able or calls < all, calls .. ' calls')
end)

t.test('a run resumed in the middle ends as an uninterrupted one', function()
  local want = result((train{graph = false}))
  for _, at in ipairs{5, 8, 12} do
    local folder, steps = fresh(), 0
    local o = {folder = folder, each = function(run)
      steps = steps + 1
      if steps == at then run:save() end
      return steps == at + 1
    end}
    train(o)
    ld.unlock_folder(folder)
    o.each = nil
    local got = result((train(o)))
    got.log, want.log = nil, nil
    t.eq(got, want, 'stopped after step ' .. at)
  end
end)

t.test('steps that are not finite change nothing and are counted', function()
  local said, _, _, run = both{data = pictures(13), epochs = 8}
  t.eq(run.skipped, 8)
  t.ok(not able or said:find('recorded', 1, true), said)
end)

t.test('ten in a row stop the run', function()
  local steps = 0
  local message = t.raises(function()
    train{epochs = 20, each = function(run)
      steps = steps + 1
      if steps == 7 then
        ld.no_grad(function() run.parameters[1]:copy_(run.parameters[1] * (0 / 0)) end)
      end
    end}
  end, 'not finite in 10 steps in a row')
  t.ok(steps >= 16 and steps <= 20, steps .. ' steps, ' .. message)
end)

t.test('clipping off, and no averages of some buffers', function() both{clip = 0, epochs = 4} end)

on_device('bf16: shadows of the weights are as in eager steps, averages swapped in between', function()
  local function each(run) -- the averages' pass makes shadows of its own
    local function use() return run.model(ld.ones(2, 2, 8, 8), ld.zeros(2)) end
    if run:every{images = 105} then run:averaged(use, use, 1) end
  end
  local said, calls, all = both{net = unet, make = diffusion_loss, precision = 'bf16', epochs = 10, each = each}
  t.ok(calls < all and said:find('recorded', 1, true), calls .. ' of ' .. all)
  both{precision = 'bf16', data = pictures(13), epochs = 8} -- with a step that is not finite
end)

on_device('averages of widths are computed step by step', function()
  local widths = {sigma_rel = {0.05, 0.1}, every = 42}
  local said, calls, all = both{net = unet, make = diffusion_loss, ema = widths, epochs = 4}
  t.ok(calls == all, said)
end)

on_device('a learning rate that was set from outside holds in replays', function()
  local made = {}
  local calls, all = select(2, both{epochs = 6, before = function(run, batch)
    if batch.epoch == 4 and not made[run] then
      made[run] = true
      run.serial = 1
      run.changes[1] = {serial = 1, images = run.images, factor = 0.25}
    end
  end})
  t.ok(calls < all, calls .. ' calls')
end)

on_device('steps that compare gradients are computed', function()
  local function make(net)
    local model = ld.diffusion.cosine(net, {scale = 0.5})
    return function(_, batch)
      local mse = model:loss(batch.x, {seed = 5, first = batch.first})
      local term = mse * mse
      return mse + term, {mse = mse, perceptual = term}
    end
  end
  local _, calls, all, run = both{net = unet, make = make, epochs = 8, compare_every = 5}
  t.ok(calls < all, calls .. ' calls')
  local compared = 0
  for line in io.lines(run.folder .. '/log.jsonl') do
    if ld.json_decode(line).gradient_cosine then compared = compared + 1 end
  end
  t.ok(compared >= 4, compared .. ' comparisons')
end)

on_device('another shape is computed first, and recorded when it comes again', function()
  local shapes = {}
  local data = pictures()
  local get = data.get
  function data:get(indices, first)
    local batch = get(self, indices)
    local epoch = math.floor(first / 21) + 1
    return epoch % 3 == 0 and {x = ld.keep(batch.x:slice(4, 1, 4)), label = batch.label} or batch
  end
  local said, calls, all = both{epochs = 9, data = data, f = function(net, batch)
    shapes[table.concat(batch.x.shape, ',')] = true
    return loss_of(net, batch)
  end}
  t.ok(shapes['8,2,8,8'] and shapes['8,2,8,4'] and shapes['5,2,8,4'])
  t.ok(calls < all, calls .. ' calls')
  local _, times = said:gsub('recorded the step', '')
  t.eq(times, 4)
end)

on_device('what the function reads from outside is followed', function()
  local factor, calls, all
  calls, all = select(2, both{epochs = 7, before = function(_, batch) factor = batch.epoch > 4 and 3 or 2 end,
                              f = function(net, batch) return loss_of(net, batch) * factor end})
  t.ok(calls < all, calls .. ' calls')
  local said
  said, calls, all = both{epochs = 7, before = function(_, batch) factor = 1 + batch.first / 100 end,
                          f = function(net, batch) return loss_of(net, batch) * factor end}
  t.ok(said:find('changes too often', 1, true), said)
  t.ok(calls >= all, calls .. ' calls')
end)

-- ---- what cannot be recorded ----------------------------------------------------------------------------------------

local function refused(name, why, o)
  on_device(name, function()
    local said, calls, all = both(o)
    t.ok(said:find('steps are computed one operation at a time: ', 1, true) and said:find(why, 1, true), said)
    local _, times = said:gsub('one operation at a time', '')
    t.eq(times, 1)
    t.ok(calls >= all, calls .. ' calls')
  end)
end

refused('a function that reads numbers on the host', 'are read on the host', {epochs = 3, f = function(net, batch)
  local loss = loss_of(net, batch)
  return loss, {seen = loss:item()}
end})
refused('one that computes with the clock', 'unary', {epochs = 3, f = function(net, batch)
  return loss_of(net, batch) * (1 + batch.first / 1000)
end})
refused('one that draws from a seed of its own that follows the clock', 'uniform', {epochs = 3, f = function(net, batch)
  return loss_of(net, batch) + ld.noise({1}, {seed = batch.first, uniform = true}):sum()
end})
refused('one that brings data of its own', 'a copy to the device', {epochs = 3, f = function(net, batch)
  return loss_of(net, batch) + ld.tensor{batch.first / 1000}:sum()
end})
refused('one that reads batch.indices', 'batch.indices', {epochs = 3, f = function(net, batch)
  return loss_of(net, batch) + #batch.indices
end})

on_device('one that reads batch.epoch is recorded once an epoch', function()
  local calls = select(2, both{epochs = 6, f = function(net, batch)
    return loss_of(net, batch) * (batch.epoch < 100 and 2 or 3)
  end})
  t.ok(calls > 11, calls .. ' calls')
end)

on_device('sgd', function()
  local said = select(3, train{epochs = 2, graph = true, optim = function(p)
    return ld.optim.sgd(p, {lr = 0.1})
  end})
  t.ok(table.concat(said, '\n'):find('those of sgd cannot be recorded', 1, true), table.concat(said, '\n'))
end)

on_device('options that change are followed: they are recorded anew', function()
  local steps = {}
  local function each(run)
    steps[run] = (steps[run] or 0) + 1
    if steps[run] == 9 then run.optim.weight_decay = 0.5 end
    if steps[run] == 12 then run.parameters[1]:requires_grad_(false) end
  end
  local calls = select(2, both{epochs = 7, each = each})
  t.ok(calls > 11, calls .. ' calls')
end)

on_device('memory of recordings counts, and goes back at the end', function()
  local most = 0
  local before = ld.memory().graphs
  train{each = function() most = math.max(most, ld.memory().graphs) end}
  t.ok(most > 10000, most .. ' bytes')
  t.eq(ld.memory().graphs, before)
  local largest = ld.memory('largest').largest
  t.ok(#largest > 0 and largest[1].bytes >= largest[#largest].bytes and type(largest[1].op) == 'string')
end)

-- ---- sampling -------------------------------------------------------------------------------------------------------

t.test('sampling: the same pictures, whatever the batch', function()
  ld.seed(2)
  local net = unet()
  local model = ld.diffusion.cosine(net, {scale = 0.5})
  local sampler = ld.sampler.ddim{steps = 8, eta = 1}
  local calls = 0
  local forward = setmetatable({}, {__index = net, __call = function(_, ...)
    calls = calls + 1
    return net(...)
  end})
  for _, name in ipairs{'eval', 'train', 'device'} do
    forward[name] = function(_, ...) return net[name](net, ...) end
  end
  model.net = forward
  local got = model:sample{n = 5, batch = 2, size = 8, channels = 2, seed = 3, sampler = sampler}
  -- two batches of 2 (7 calls of the network each; one computed, three to record) and one of 1
  if able then t.eq(calls, 1 + 3 + 7) else t.eq(calls, 21) end
  local one = ld.no_grad(function()
    net:eval()
    local x = ld.diffusion.sampler_noise({5, 2, 8, 8}, {seed = 3})
    for i = 1, sampler:steps() do
      local eps = sampler:needs_eps(i) and model:predict(x, sampler:t(i)) or nil
      local noise = sampler:needs_noise(i) and ld.diffusion.sampler_noise({5, 2, 8, 8}, {seed = 3, step = i}) or nil
      x = sampler:step(i, x, eps, noise)
    end
    net:train()
    return model:denormalise(x)
  end)
  t.ok(((got - one):abs():max():item()) < 1e-5)
  t.eq(ld.memory().graphs, 0)
end)

t.test('sampling with labels and guidance', function()
  ld.seed(2)
  local net = ld.models.unet{in_channels = 2, out_channels = 2, channels = {8, 16}, layers = 1, attention_from = 1,
                             attention_width = 8, groups = 4, classes = 3}
  local model = ld.diffusion.cosine(net, {scale = 0.5})
  local o = {n = 5, batch = 2, size = 8, channels = 2, seed = 3, label = {0, 1, 2, 2, 1}, guidance = 2,
             sampler = ld.sampler.ddim{steps = 8, eta = 1}}
  local most = 0
  o.each = function() most = math.max(most, ld.memory().graphs) end
  local got = model:sample(o)
  t.ok(not able or most > 0, most .. ' bytes')
  local able_now = ld.core.graph_able
  ld.core.graph_able = function() return false end
  local ok, want = pcall(model.sample, model, o)
  ld.core.graph_able = able_now
  t.ok(ok, want)
  t.eq(got:tolist(), want:tolist())
  t.eq(ld.memory().graphs, 0)
  o.label = {0, 1, 2, 2, 7}
  t.raises(function() model:sample(o) end, '7')
end)

t.finish()
