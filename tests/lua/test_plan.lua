-- Planning: what ld.memory.plan says is what a call takes, and nothing is changed by it.
local t = dofile 'tests/lua/harness.lua'
local ld = require 'ld'

local tmp = os.getenv 'TEST_TMP' or '/tmp/ldlua-test-plan'
os.execute('mkdir -p ' .. tmp)

-- ---- the figures ----------------------------------------------------------------------------------------------------

-- One training step of `net` by loss(i), with averages and clipping.
local function trainer(net, loss, kind)
  local optim = ld.optim[kind or 'adamw'](net:parameters(), {lr = 1e-3})
  local ema, parameters, i = ld.ema.of(net, {decay = 0.9}), net:parameters(), 0
  local function step()
    i = i + 1
    ld.scope(function()
      loss(i):backward()
      optim:step{ema = ema.average, norm = ld.core.grad_norm(parameters), clip = 1, drop = true}
    end)
  end
  return step, optim, ema
end

local function unet(batch, options)
  local net = ld.models.unet{channels = {16, 32, 48}, layers = 1, norm = options.norm}
  local model, z = ld.diffusion.cosine(net), ld.randn(batch, 4, 16, 16)
  local judge = options.perceptual and ld.perceptual{
    net = ld.models.classifier{channels = {8, 16}, blocks = {1}, classes = 5}, mean = {0, 0, 0, 0}, std = {1, 1, 1, 1},
    layers = {pool = 1, [1] = 0.1}}
  return net, function(i) return (model:loss(z, {first = i * batch, perceptual = judge or nil})) end
end

local function classifier(batch)
  local net = ld.models.classifier{channels = {16, 32}, blocks = {1}, classes = 10, dropout = 0.2}
  local x, label = ld.randn(batch, 4, 16, 16), (ld.rand(batch) * 10):i64()
  return net, function() return ld.cross_entropy(net(x), label) end
end

-- peak, and live + cached at the end, of one call. The peak is planned to the byte; what is held depends on the order
-- in which blocks go back, which the collector has a say in, and these networks have few blocks: within a quarter.
local function measured(step)
  ld.memory 'reset'
  step()
  local m = ld.memory()
  return m.peak, m.live + m.cached
end

for name, make in pairs{
  ['U-Net'] = function() return unet(8, {}) end,
  ['U-Net, odd batch, group norm'] = function() return unet(7, {norm = 'group'}) end,
  ['U-Net with the perceptual loss'] = function() return unet(8, {perceptual = true}) end,
  ['classifier with dropout'] = function() return classifier(6) end,
  ['classifier, odd batch'] = function() return classifier(3) end,
} do
  for _, kind in ipairs{'adamw', 'sgd'} do
    t.test(('%s, %s: the plan is what the first and the later steps take'):format(name, kind), function()
      ld.seed(1)
      local net, loss = make()
      local step = trainer(net, loss, kind)
      collectgarbage()
      ld.memory 'trim'
      local before = ld.memory()
      local p = ld.memory.plan(step)
      local after = ld.memory()
      t.eq({after.live, after.cached, after.blocks, after.tensors},
        {before.live, before.cached, before.blocks, before.tensors})
      t.eq(measured(step), p.first.peak)
      for _ = 1, 3 do
        local peak, held = measured(step)
        t.eq(peak, p.peak)
        t.ok(math.abs(held - p.held) <= 0.25 * p.held, ('held %d, planned %d'):format(held, p.held))
      end
      local again = ld.memory.plan(step) -- from here the first call is like the others
      t.eq(again.first.peak, p.peak)
      t.eq(again.peak, p.peak)
      t.ok(p.before < p.peak and p.workspace <= p.largest_workspace, 'parts')
      local sum = p.before
      for _, use in ipairs(p.largest) do sum = sum + use.bytes end
      t.ok(sum <= p.peak and sum > 0.9 * p.peak, 'the largest blocks make up the peak')
      t.ok(p.room > p.held, 'there is room')
    end)
  end
end

t.test('a call that leaves gradients, and one that finds them', function()
  ld.seed(1)
  local net, loss = classifier(4)
  local optim = ld.optim.adamw(net:parameters())
  local function step()
    ld.scope(function()
      optim:zero_grad()
      loss():backward()
      optim:step()
    end)
  end
  local first = ld.memory.plan(step).first.peak
  t.eq(measured(step), first)
  local second = ld.memory.plan(step).first.peak
  t.eq(measured(step), second)
  local gradient = net:parameters()[1].grad:tolist()
  local function accumulate() ld.scope(function() loss():backward() end) end
  collectgarbage() -- no handle of a gradient: it could not be added to in place
  local third = ld.memory.plan(accumulate).first.peak
  t.eq(net:parameters()[1].grad:tolist(), gradient)
  collectgarbage()
  t.eq(measured(accumulate), third)
end)

t.test('a hundred steps do not outgrow the plan', function()
  ld.seed(2)
  local step = trainer(unet(4, {perceptual = true}))
  collectgarbage()
  ld.memory 'trim'
  local p = ld.memory.plan(step)
  ld.memory 'reset'
  for _ = 1, 100 do step() end
  local m = ld.memory()
  t.eq(m.peak, p.peak)
  t.ok(math.abs(m.live + m.cached - p.held) <= 0.25 * p.held, 'held')
end)

-- ---- nothing changes ------------------------------------------------------------------------------------------------

-- Everything a training holds, as numbers.
local function everything(net, optim, ema)
  local out = {seed = {ld.seed()}}
  for name, x in pairs(net:state()) do out[name] = x:tolist() end
  for name, x in pairs(optim:state()) do out['optimiser ' .. name] = x:tolist() end
  for name, x in pairs(ema:state()) do out['average ' .. name] = x:tolist() end
  out.updates = ema.average:updates()
  for i, x in ipairs(net:parameters()) do
    if x.grad then out['gradient ' .. i] = x.grad:tolist() end
    out['version ' .. i] = x.version
  end
  return out
end

local function same(a, b, versions)
  for name, x in pairs(a) do
    if versions or not name:find '^version' then t.eq(b[name], x, name) end
  end
  for name in pairs(b) do t.ok(a[name] ~= nil, name) end
end

t.test('a plan changes nothing, and a training with plans is one without', function()
  local function train(plans)
    ld.seed(3)
    local net, loss = classifier(5)
    local step, optim, ema = trainer(net, loss)
    for _ = 1, 3 do
      if plans then
        local before = everything(net, optim, ema)
        ld.memory.plan(step)
        same(before, everything(net, optim, ema), true)
      end
      step()
    end
    return everything(net, optim, ema)
  end
  same(train(false), train(true))
end)

t.test('gradients, averages and modes that the call changes', function()
  local net, loss = classifier(4)
  local _, optim, ema = trainer(net, loss)
  ld.scope(function() loss():backward() end)
  local before = everything(net, optim, ema)
  ld.memory.plan(function()
    optim:zero_grad()
    loss():backward()
    net:parameters()[1].grad = nil
    optim:load_state(optim:state())
    ema.average:swap()
    ld.no_grad(function() net:parameters()[1]:zero_() end)
    ld.rand(3)
  end)
  same(before, everything(net, optim, ema), true)
end)

t.test('a call that fails leaves everything as it was', function()
  local net, loss = classifier(4)
  local step, optim, ema = trainer(net, loss)
  step()
  local before = everything(net, optim, ema)
  t.raises(function() ld.memory.plan(function() step() error('on purpose', 0) end) end, 'on purpose')
  t.raises(function() ld.memory.plan(function() step() net:to 'f64' end) end, 'while memory is planned')
  t.raises(function() ld.memory.plan(function() ld.memory.plan(step) end) end, 'another plan is under way')
  t.raises(function() ld.memory.plan(5) end, 'memory.plan')
  collectgarbage()
  same(before, everything(net, optim, ema), true)
  t.eq(ld.grad_enabled(), true)
  step()
end)

t.test('a tensor that outlives its plan is zeros, counts, and goes like others', function()
  collectgarbage()
  local before, kept = ld.memory(), nil
  ld.memory.plan(function() kept = ld.keep(ld.ones(1000, 100)) end)
  t.eq(ld.scope(function() return kept:sum():item() end), 0)
  t.ok(ld.memory().live >= before.live + 400000)
  kept:release()
  t.eq(ld.memory().live, before.live)
  t.eq(ld.memory().blocks, before.blocks)
end)

-- ---- run:step -------------------------------------------------------------------------------------------------------

t.test('run:step plans its first step, and trains as without', function()
  local data = {count = 12, name = 'numbers', get = function(_, indices)
    return {x = ld.noise({#indices, 4, 16, 16}, {seed = 2, first = indices[1]})}
  end}
  local function train(folder, plan)
    ld.seed(5)
    local net = ld.models.classifier{channels = {8, 16}, blocks = {1}, classes = 3, dropout = 0.2}
    local run = ld.run(tmp .. '/' .. folder, {
      model = net, optim = ld.optim.adamw(net:parameters()), ema = 0.9, clip = 1, quiet = true, plan = plan,
      graph = false})
    local peaks, calls = {}, 0
    for batch in run:batches(data, 4, 2) do
      ld.memory 'reset'
      run:step(function()
        calls = calls + 1
        return ld.cross_entropy(net(batch.x), ld.zeros({batch.x.shape[1]}, {dtype = 'i64'}))
      end)
      peaks[#peaks + 1] = ld.memory().peak
    end
    return everything(net, run.optim, run.ema), run, peaks, calls
  end
  local without, plain, _, calls = train('without', false)
  local with, run, peaks, calls_with = train('with', true)
  same(without, with)
  t.eq(plain.memory, nil)
  t.eq({calls, calls_with}, {6, 7})
  t.eq(peaks[1], run.memory.first.peak)
  for i = 2, #peaks do t.eq(peaks[i], run.memory.peak) end
end)

-- What a planned function makes and keeps is zeros for ever: a run refuses to train on that.
t.test('what outlives a plan is told, and a run does not go on with it', function()
  t.eq(ld.memory.plan(function() return ld.ones(3) * 2 end).outlived, 0)
  local kept
  local p = ld.memory.plan(function() kept = ld.keep(ld.exp(ld.ones(3))) end)
  t.ok(p.outlived > 0)
  t.eq(p.outlived_op, 'exp')
  kept:release()
  local net, scale = ld.nn.linear{in_features = 3, out_features = 2}, nil
  local run = ld.run(tmp .. '/lazy', {model = net, optim = ld.optim.sgd(net:parameters(), {lr = 0.1}), quiet = true})
  local x = ld.randn(4, 3)
  t.raises(function()
    for _ in run:batches({count = 8, name = 'eight'}, 4, 1) do
      run:step(function()
        scale = scale or ld.keep(ld.reciprocal(ld.full({3}, 4)))
        return (net(x) * net(x)):mean() + (x * scale):sum()
      end)
    end
  end, 'run:step: the function keeps .* by reciprocal.*plan = false')
end)

os.execute('rm -rf ' .. tmp)
t.finish()
