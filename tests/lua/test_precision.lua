-- Mixed precision: bf16 and f16 between f32 weights and f32 losses. On the CPU only what it refuses, and how dtypes
-- meet; the rest runs on a device that computes in 16 bits (tests/fake, or a card).
local ld = require 'ld'
local t = dofile 'tests/lua/harness.lua'

local tmp = os.getenv 'TEST_TMP' or '/tmp/ldlua-test-precision'
os.execute('mkdir -p ' .. tmp)
local able = ld.computes 'bf16'

local function on_device(name, f)
  if able then t.test(name, f) else t.skip(name, t.device .. ' computes in f32') end
end

local function refused(text, f) t.raises(f, text) end

local function rel(a, b)
  a, b = a:f64(), b:f64()
  return math.sqrt(ld.square(a - b):sum():item() / ld.square(b):sum():item())
end

-- ---- what is refused, on any device --------------------------------------------------------------------------------

local function network() return ld.models.small_autoencoder{width = 4, blocks = 1} end

t.test('precisions that there are not', function()
  refused("precision: unknown precision 'f64'; known: f32 bf16 f16", function() ld.core.precision 'f64' end)
  refused("unknown precision 'bf17'; known: f32 bf16 f16", function() ld.precision('bf17', print) end)
  local net = network()
  refused("run: unknown precision 'half'; known: f32 bf16 f16", function()
    ld.run(tmp .. '/none', {model = net, optim = ld.optim.adamw(net:parameters(), {}), precision = 'half'})
  end)
  t.eq(ld.precision(), 'f32')
end)

t.test('training in f16', function()
  local net = network()
  local device = able and 'run: precision f16 is for networks in use' or 'run: precision f16 needs a CUDA device'
  refused(device, function()
    ld.run(tmp .. '/none', {model = net, optim = ld.optim.adamw(net:parameters(), {}), precision = 'f16'})
  end)
end)

if not able then
  t.test('a device that computes in f32', function()
    refused('precision bf16 needs a CUDA device; cpu computes in f32', function() ld.precision 'bf16' end)
    refused('precision f16 needs a CUDA device; cpu computes in f32', function() ld.precision('f16', print) end)
    local net = network()
    refused('run: precision bf16 needs a CUDA device; cpu computes in f32', function()
      ld.run(tmp .. '/none', {model = net, optim = ld.optim.adamw(net:parameters(), {}), precision = 'bf16'})
    end)
    t.eq(ld.file_kind(tmp .. '/none'), nil)
    refused('conv2d: (1,3,8,8) bf16 cpu; f32 or f64 is needed: convert with :f32()', function()
      ld.conv2d(ld.zeros(1, 3, 8, 8):bf16(), ld.zeros(2, 3, 3, 3))
    end)
    local layer = ld.nn.linear{in_features = 3, out_features = 2}
    local y = ld.precision.within('bf16', function() return layer(ld.ones(1, 3)) end)
    t.eq(y.dtype, 'f32')
  end)
end

-- ---- how dtypes meet, on any device --------------------------------------------------------------------------------

t.test('elementwise promotion is PyTorch\'s where 16 bits are in it', function()
  local f, b, h = ld.tensor{1, 2, 3}, ld.tensor({1, 2, 3}, {dtype = 'bf16'}), ld.tensor({1, 2, 3}, {dtype = 'f16'})
  local zero_f, zero_b = ld.tensor(2), ld.tensor(2, {dtype = 'bf16'})
  t.eq({(f + b).dtype, (b * f).dtype, (b - h).dtype, (h / f).dtype}, {'f32', 'f32', 'f32', 'f32'})
  t.eq({(b * zero_f).dtype, (zero_f * b).dtype, (f * zero_b).dtype, (b * 0.3).dtype}, {'bf16', 'bf16', 'f32', 'bf16'})
  t.eq((b * zero_f):f32(), {2, 4, 6})
  t.eq(f + b, {2, 4, 6})
  t.eq(ld.lt(b, f * 2), {1, 1, 1})
  refused('add: dtypes differ', function() return b + b:f64() end)
  refused('add: dtypes differ', function() return b + b:i64() end)
end)

t.test('in place, the changed tensor must hold the result', function()
  local f, b = ld.tensor{1, 2}, ld.tensor({1, 2}, {dtype = 'bf16'})
  t.eq(f:add_(b), {2, 4})
  t.eq(f:axpby_(b, 2, 1), {4, 8})
  refused('add_: dtypes differ', function() b:add_(f) end)
  t.eq(b:mul_(b):f32(), {1, 4})
end)

t.test('a cast and an operation that widens give gradients in the dtype of their input', function()
  local x = ld.tensor({1, 2, 3}, {requires_grad = true})
  local b = ld.tensor({1, 2, 3}, {dtype = 'bf16', requires_grad = true})
  local y = (x:to('bf16') * b + x) * ld.tensor{1, 10, 100}
  t.eq(y.dtype, 'f32')
  y:backward(ld.ones(3))
  t.eq({x.grad.dtype, b.grad.dtype}, {'f32', 'bf16'})
  t.eq(x.grad, {2, 30, 400}) -- all of them bf16 numbers, as are the next
  t.eq(b.grad:f32(), {1, 20, 300})
end)

t.test('losses are f32', function()
  local x, y = ld.randn(4, 3):to('bf16'), ld.randn(4, 3)
  for _, loss in ipairs{ld.mse, ld.l1, ld.huber} do
    t.eq(loss(x, y).dtype, 'f32')
    t.eq(loss(x, y):item(), loss(x:f32(), y):item())
    t.eq(loss(x, y:to('f16')).dtype, 'f32')
  end
  local label = ld.tensor({0, 1, 2, 1}, {dtype = 'i64'})
  t.eq(ld.cross_entropy(x, label):item(), ld.cross_entropy(x:f32(), label):item())
end)

-- ---- layers --------------------------------------------------------------------------------------------------------

-- Every layer kind that has weights: constructor, input shape.
local layers = {
  conv2d = {function()
    return ld.nn.conv2d{in_channels = 3, out_channels = 5, kernel = 3, padding = 1}
  end, {2, 3, 6, 6}},
  upsampling = {function()
    return ld.nn.conv2d{in_channels = 3, out_channels = 5, kernel = 3, padding = 1, upsample = true}
  end, {2, 3, 6, 6}},
  transposed = {function()
    return ld.nn.conv_transpose2d{in_channels = 3, out_channels = 5, kernel = 4, stride = 2, padding = 1}
  end, {2, 3, 6, 6}},
  linear = {function() return ld.nn.linear{in_features = 7, out_features = 4} end, {5, 7}},
  attention = {function() return ld.nn.attention{channels = 16, head_width = 8} end, {2, 16, 4, 4}},
}
local following = {
  batch_norm = {function() return ld.nn.batch_norm{channels = 6} end, {4, 6, 5, 5}},
  group_norm = {function() return ld.nn.group_norm{groups = 2, channels = 6} end, {4, 6, 5, 5}},
  layer_norm = {function() return ld.nn.layer_norm{features = 6} end, {4, 5, 6}},
}

-- Result, gradient of the input and of the parameters for a fixed upstream gradient.
local function gradients(layer, x)
  x = x:detach():requires_grad_()
  layer:zero_grad()
  local y = layer(x)
  y:backward(ld.noise(y.shape, {seed = 5, first = 0}):to(y.dtype))
  local out = {x.grad}
  for _, p in ipairs(layer:parameters()) do out[#out + 1] = p.grad end
  return y, out
end

for _, half in ipairs{'bf16', 'f16'} do
  -- a product of rounded numbers, rounded: a few times 2^-9 (bf16) or 2^-12 (f16)
  local near = half == 'bf16' and 0.02 or 0.003
  for name, case in pairs(layers) do
    on_device(('%s in %s: f32 weights, 16-bit arithmetic'):format(name, half), function()
      ld.seed(2)
      local layer, x = case[1](), ld.randn(case[2])
      local y, d = gradients(layer, x)
      local ny, nd = ld.precision(half, gradients, layer, x)
      t.eq({y.dtype, ny.dtype, layer:parameters()[1].dtype}, {'f32', half, 'f32'})
      t.ok(rel(ny, y) < near and rel(ny, y) > near / 1000, ('result is off by %g'):format(rel(ny, y)))
      t.eq(nd[1].dtype, 'f32') -- of the f32 input
      for i, g in ipairs(d) do
        t.ok(rel(nd[i], g) < 2 * near, ('gradient %d is off by %g'):format(i, rel(nd[i], g)))
      end
      t.eq(nd[#nd].dtype, half)
      -- the same as doing it by hand
      t.eq(ny:f32(), layer(x:to(half)):f32())
    end)
  end
  for name, case in pairs(following) do
    on_device(('%s of %s: f32 weights and statistics'):format(name, half), function()
      ld.seed(2)
      local layer, x = case[1](), ld.randn(case[2]) * 3 + 1
      local narrow = x:to(half)
      local y, d = gradients(layer, narrow:f32())
      local running = layer:state()
      local mean = running.running_mean and running.running_mean:clone()
      if mean then running.running_mean:zero_() end
      local ny, nd = gradients(layer, narrow)
      t.eq({ny.dtype, nd[1].dtype, nd[2].dtype, nd[3].dtype}, {half, half, 'f32', 'f32'})
      t.ok(rel(ny, y) < near / 4, ('result is off by %g'):format(rel(ny, y)))
      for i, g in ipairs(d) do t.ok(rel(nd[i], g) < near, ('gradient %d is off by %g'):format(i, rel(nd[i], g))) end
      if mean then t.eq(running.running_mean, mean) end -- computed in f32 from the same numbers
    end)
  end
end

on_device('16-bit arguments must fit', function()
  local x, w = ld.ones(1, 3, 4, 4), ld.ones(2, 3, 3, 3)
  refused('conv2d: dtypes differ: (1,3,4,4) f32 cpu and (2,3,3,3) bf16 cpu', function() ld.conv2d(x, w:to('bf16')) end)
  refused('conv2d: dtypes differ', function() ld.conv2d(x:to('bf16'), w:to('f16')) end)
  refused('matmul: dtypes differ', function() ld.matmul(ld.ones(2, 2), ld.ones(2, 2):to('bf16')) end)
    refused('batch_norm: running_mean is (3) bf16 cpu; f32 is needed', function()
    ld.batch_norm(x:to('bf16'), {running_mean = ld.zeros(3):to('bf16'), running_var = ld.ones(3), training = true})
  end)
  refused('linear: dtype bf16; layers take f32 and f64', function()
    ld.nn.linear{in_features = 2, out_features = 2, dtype = 'bf16'}
  end)
end)

on_device('a weight that is the result of an operation gets an f32 gradient', function()
  local w = ld.randn(4, 7):requires_grad_()
  ld.linear(ld.ones(2, 7):to('bf16'), w * 2):backward(ld.ones(2, 4):to('bf16'))
  t.eq(w.grad.dtype, 'f32')
  t.eq(w.grad, ld.full({4, 7}, 4))
end)

on_device('gradients of two passes add up in f32', function()
  local layer, x = ld.nn.linear{in_features = 3, out_features = 2, bias = false}, ld.full({1, 3}, 1):to('bf16')
  layer(x):backward(ld.full({1, 2}, 256):to('bf16'))
  local w = layer:parameters()[1]
  t.eq(w.grad.dtype, 'bf16')
  layer(x):backward(ld.ones(1, 2):to('bf16'))
  t.eq(w.grad.dtype, 'f32')
  t.eq(w.grad, ld.full({2, 3}, 257)) -- which is no bf16 number
end)

-- ---- shadows -------------------------------------------------------------------------------------------------------

-- Whatever changes a weight, the next call computes with what it is then.
local function fresh(layer, x)
  local p = layer:parameters()
  return ld.linear(x, p[1]:detach():clone():to('bf16'), p[2]:detach():clone():to('bf16')):f32()
end

on_device('the 16-bit copy of a weight follows every change', function()
  ld.seed(7)
  local layer, x = ld.nn.linear{in_features = 5, out_features = 4}, ld.randn(3, 5):to('bf16')
  local other = ld.nn.linear{in_features = 5, out_features = 4}
  local function same(what)
    local y = ld.no_grad(function() return layer(x):f32() end)
    t.ok(rel(y, fresh(layer, x)) == 0, 'after ' .. what)
    return y
  end
  local before = same('making it')
  t.eq(same('nothing'), before)
  ld.no_grad(function() layer:parameters()[1]:mul_(2) end)
  t.ok(rel(same('a change in place'), before) > 0.1, 'it changed')
  layer:load_state(other:state())
  same('load_state')
  for _, kind in ipairs{'adamw', 'adam', 'sgd'} do
    local optim = ld.optim[kind](layer:parameters(), {lr = 0.1})
    local average = ld.ema.of(layer, {decay = 0.5})
    for i = 1, 3 do
      ld.mse(layer(x), ld.ones(3, 4)):backward()
      optim:step{ema = average.average, drop = true}
      same(kind .. ' step ' .. i)
    end
    local live = same('training')
    average:use(function() t.ok(rel(same('averages swapped in'), live) > 1e-3, 'averages are others') end)
    t.eq(same('averages swapped out'), live)
  end
  layer:to('f64'):to('f32')
  same('another dtype and back')
  layer(ld.randn(3, 5):to('f16'))
  same('use in f16')
end)

on_device('averages that have changed as often as the weights are told from them', function()
  local layer, x = ld.nn.linear{in_features = 5, out_features = 4}, ld.randn(3, 5):to('bf16')
  local average = ld.ema.of(layer, {decay = 0.5})
  average.average:load(1, ld.randn(4, 5)) -- one change, as the initialisation of the weights is
  local y = layer(x):f32()
  average:use(function()
    t.ok(rel(layer(x), fresh(layer, x)) == 0, 'averages swapped in')
    t.ok(rel(layer(x), y) > 0.1, 'they are others')
  end)
end)

on_device('copies of weights go with the weights', function()
  local x = ld.randn(3, 5)
  collectgarbage()
  collectgarbage()
  local before = ld.memory()
  local layer = ld.nn.linear{in_features = 5, out_features = 4}
  for _, half in ipairs{'bf16', 'f16', 'bf16'} do ld.scope(function() ld.precision(half, layer, x) end) end
  t.eq(ld.memory().tensors, before.tensors + 4) -- weight, bias, a copy of each
  layer = nil -- luacheck: ignore
  collectgarbage()
  collectgarbage()
  t.eq({ld.memory().tensors, ld.memory().live}, {before.tensors, before.live})
end)

on_device('a step between forward and backward of another graph is refused', function()
  local layer, x = ld.nn.linear{in_features = 5, out_features = 4}, ld.randn(3, 5):to('bf16'):requires_grad_()
  local optim = ld.optim.adamw(layer:parameters(), {lr = 0.1})
  local early = ld.mse(layer(x), ld.ones(3, 4))
  ld.mse(layer(x), ld.ones(3, 4)):backward()
  optim:step()
  refused('was changed in place', function() early:backward() end)
end)

-- ---- networks ------------------------------------------------------------------------------------------------------

local function unet(options)
  options = options or {}
  ld.seed(3)
  local net = ld.models.unet{channels = {16, 32}, layers = 1, attention_from = 2, attention_width = 8,
                             norm = options.norm}
  local judge = ld.models.classifier{channels = {8, 16}, blocks = {1}, classes = 5}
  local perceptual = ld.perceptual{net = judge, mean = {0, 0, 0, 0}, std = {1, 1, 1, 1},
                                   layers = {pool = 1, [1] = 0.1}}
  local model = ld.diffusion.cosine(net)
  local z = ld.randn(16, 4, 16, 16)
  return net, function(first) return model:loss(z, {seed = 1, first = first or 0, perceptual = perceptual}) end, model
end

for _, norm in ipairs{'batch', 'group'} do
  on_device(('U-Net, %s norm, perceptual loss: gradients within 2%% of f32'):format(norm), function()
    local all = {}
    for _, precision in ipairs{'f32', 'bf16'} do
      local net, loss = unet{norm = norm}
      ld.precision(precision, loss):backward()
      local flat = {}
      for i, p in ipairs(net:parameters()) do
        t.eq(p.dtype, 'f32')
        flat[i] = p.grad:f32():flatten()
      end
      all[#all + 1] = ld.concat(flat, 1)
    end
    -- measured: 0.006 and 0.008; PyTorch's autocast has 0.03 where the same network starts without zeroed convolutions,
    -- and this one 0.024
    local off = rel(all[2], all[1])
    t.ok(off < 0.02 and off > 1e-5, ('off by %g'):format(off))
  end)
end

on_device('networks of ld.models give f32 in any precision', function()
  local faces = ld.rand(2, 3, 32, 32)
  local small = network()
  local kl = ld.models.kl_autoencoder{block_out_channels = {32, 32}, layers_per_block = 1}
  local judge = ld.models.classifier{channels = {8, 16}, blocks = {1}, classes = 5}
  local net, _, model = unet()
  net:eval()
  for _, half in ipairs{'bf16', 'f16'} do
    for _, f in ipairs{function() return small(faces) end, function() return small:encode(faces) end,
                       function() return kl:encode(faces) end, function() return kl:decode(ld.rand(1, 4, 8, 8)) end,
                       function() return judge(ld.rand(2, 4, 16, 16)) end,
                       function() return judge:features{1}(ld.rand(2, 4, 16, 16)) end,
                       function() return select(2, judge:features{1}(ld.rand(2, 4, 16, 16)))[1] end,
                       function() return net(ld.rand(2, 4, 16, 16), ld.rand(2)) end,
                       function() return model:sample{n = 2, size = 16, sampler = ld.sampler.ddim{steps = 3}} end} do
      ld.seed(1)
      local wide = f()
      ld.seed(1)
      local y = ld.precision(half, f)
      t.eq(y.dtype, 'f32')
      -- five layers' worth of roundings at least, of 2^-9 or 2^-12 each
      t.ok(rel(y, wide) < (half == 'bf16' and 0.05 or 0.005) and rel(y, wide) > 0, ('off by %g'):format(rel(y, wide)))
    end
  end
end)

-- ---- training ------------------------------------------------------------------------------------------------------

-- Losses of 40 steps on one batch; after(net) spoils something.
local function curve(precision, after)
  local net, loss = unet()
  local optim, losses = ld.optim.adamw(net:parameters(), {lr = 2e-4, eps = 1e-5}), {}
  for i = 1, 40 do
    ld.scope(function()
      local l = ld.precision(precision, loss)
      l:backward()
      optim:step{drop = true}
      if after then ld.no_grad(after, net) end
      losses[i] = l:item()
    end)
  end
  return losses
end

local function furthest(a, b)
  local most = 0
  for i, v in ipairs(a) do most = math.max(most, math.abs(v - b[i]) / b[i]) end
  return most
end

on_device('a loss curve in bf16 is that of f32, and is not where the weights themselves are bf16', function()
  local f32 = curve('f32')
  local bf16 = furthest(curve('bf16'), f32)
  local wrong = furthest(curve('bf16', function(net)
    for _, p in ipairs(net:parameters()) do p:copy_(p:to('bf16')) end
  end), f32)
  t.ok(f32[40] < 0.8 * f32[1], 'it learns')
  t.ok(bf16 < 0.01, ('bf16 is off by %g'):format(bf16)) -- measured 0.002
  t.ok(wrong > 0.03, ('bf16 weights are off by %g'):format(wrong)) -- measured 0.07
end)

local data = {count = 20, name = 'noise', get = function(_, indices)
  return ld.scope(function()
    local x = {}
    for i, index in ipairs(indices) do x[i] = ld.noise({1, 4, 16, 16}, {seed = 9, first = index}) end
    return {x = ld.concat(x, 1)}
  end)
end}

local function train(folder, steps, epochs)
  local net, _, model = unet()
  local run = ld.run(folder, {model = net, optim = ld.optim.adamw(net:parameters(), {lr = 1e-3}), ema = 0.9, clip = 1,
                              precision = 'bf16', seed = 4, quiet = true})
  local n = 0
  for batch in run:batches(data, 4, epochs) do
    run:step(function()
      t.eq(ld.precision(), 'bf16')
      return model:loss(batch.x, {seed = 4, first = batch.first})
    end)
    n = n + 1
    if n == steps then
      run:save()
      ld.core.unlock_folder(folder)
      return net, run
    end
  end
  run:finish()
  return net, run
end

on_device('a run in bf16: checkpoints hold f32 weights, and it resumes to the bit', function()
  local whole, run = train(tmp .. '/whole', nil, 2)
  train(tmp .. '/halves', 4, 2)
  local half = train(tmp .. '/halves', nil, 2)
  t.eq(ld.precision(), 'f32')
  for name, x in pairs(whole:state()) do
    t.ok(ld.eq(x, half:state()[name]):to('f32'):mean():item() == 1, name .. ' is the same')
  end
  local f = ld.h5_open(tmp .. '/whole/last.h5')
  local narrow = 0
  for _, entry in ipairs(whole:named_parameters()) do
    for _, group in ipairs{'model/', 'ema/'} do
      local x = f:read(group .. entry[1])
      t.eq(x.dtype, 'f32')
      if ld.eq(x, x:to('bf16'):f32()):to('f32'):mean():item() == 1 then narrow = narrow + 1 end
    end
  end
  f:close()
  t.ok(narrow < 10, narrow .. ' tensors could have been bf16') -- biases of zero, and the like
  t.eq(run.precision, 'bf16')
end)

on_device('averages are of the f32 weights', function()
  ld.seed(1)
  local layer, x = ld.nn.linear{in_features = 6, out_features = 6}, ld.randn(3, 6)
  local optim = ld.optim.adamw(layer:parameters(), {lr = 1e-3})
  local ema = ld.ema.of(layer, {decay = 0.5, warmup = false})
  local w = layer:parameters()[1]
  local before = w:detach():clone()
  ld.precision('bf16', function() return ld.mse(layer(x), ld.ones(3, 6)) end):backward()
  optim:step{ema = ema.average, drop = true}
  t.ok(rel(ema.average:average(1), (before + w:detach()) * 0.5) < 1e-6, 'half of each')
end)

-- ---- memory --------------------------------------------------------------------------------------------------------

-- A training step's plan, with averages and the norm of the gradient.
local function planned(net, precision, loss)
  local optim, ema = ld.optim.adamw(net:parameters(), {lr = 1e-3}), ld.ema.of(net, {decay = 0.9})
  local function step()
    loss():backward()
    optim:step{ema = ema.average, norm = ld.grad_norm(net:parameters()), clip = 1, drop = true}
  end
  return ld.memory.plan(function() ld.precision(precision, step) end), step
end

on_device('the plan is what a step in bf16 takes, and half of what it takes in f32', function()
  local net, loss = unet()
  local wide = planned(net, 'f32', loss)
  local p, step = planned(net, 'bf16', loss)
  t.eq(p.outlived, 0)
  local live = ld.memory().live
  for i = 1, 3 do
    ld.memory 'reset'
    ld.scope(function() ld.precision('bf16', step) end)
    t.eq(ld.memory().peak, i == 1 and p.first.peak or p.peak)
  end
  local weights = 0
  for _, x in ipairs(net:parameters()) do weights = weights + 4 * x:numel() end
  local state = ld.memory().live - live
  t.ok(state < 2.8 * weights and state > 2.4 * weights, -- two moments, and the weights in 16 bits
    ('%d bytes for %d of weights'):format(state, weights))
  local share = (p.peak - p.before) / (wide.peak - wide.before)
  t.ok(share > 0.48 and share < 0.6, ('activations and gradients are %g of those in f32'):format(share))
end)

on_device('the U-Net of notebook 30 trains at batch 128 below 8 GB', function()
  local net = ld.models.unet{}
  local model, z = ld.diffusion.cosine(net), ld.zeros(128, 4, 32, 32)
  local p = planned(net, 'bf16', function() return (model:loss(z, {})) end)
  -- 5.01 GB planned, of which 2.90 are weights, moments, averages and 16-bit weights; beside it only the convolutions'
  -- workspace, which a card alone has
  t.ok(p.peak < 5.3e9, ('%.2f GB'):format(p.peak / 1e9))
  t.ok(p.peak > 4e9, ('%.2f GB are too few to be all'):format(p.peak / 1e9))
end)

t.finish()
