-- Memory: scopes, keep, release, and that nothing is left behind.
local t = dofile 'tests/lua/harness.lua'
local ld = require 'ld'
local nn = ld.nn

ld.threads(1) -- the tensors are too small to share out

local function settled()
  collectgarbage()
  collectgarbage()
  local m = ld.memory()
  return {live = m.live, tensors = m.tensors, blocks = m.blocks}
end

-- f() must leave as many tensors and bytes as it found
local function leaves_nothing(f)
  local before = settled()
  f()
  t.eq(settled(), before)
end

-- ---- scopes -------------------------------------------------------------------------------------------------------

t.test('a scope releases what was made in it', function()
  local inner
  local before = ld.memory()
  ld.scope(function()
    inner = ld.ones(1000)
    t.eq(inner.released, false)
    t.ok(ld.memory().live > before.live)
  end)
  t.eq(inner.released, true)
  t.eq(ld.memory().tensors, before.tensors)
  t.eq(ld.memory().live, before.live)
  t.raises(function() return inner + 1 end, 'argument 1 is a released tensor (its scope ended, or release was called)')
end)

t.test('results leave their scope, bare and in tables', function()
  local other
  local x, list, n = ld.scope(function(a)
    other = ld.ones(1)
    return a + 1, {ld.ones(2), deep = {name = 'z', z = ld.zeros(3)}}, 5
  end, ld.ones(4))
  t.eq(other.released, true)
  t.eq(x, {2, 2, 2, 2})
  t.eq(list[1], {1, 1})
  t.eq(list.deep.z, {0, 0, 0})
  t.eq(n, 5)
end)

t.test('what leaves an inner scope belongs to the outer one', function()
  local middle, stays
  local out = ld.scope(function()
    middle = ld.scope(function()
      stays = ld.ones(1)
      return ld.ones(2)
    end)
    t.eq(stays.released, true)
    t.eq(middle.released, false)
    return ld.scope(function() return ld.scope(function() return middle * 3 end) end)
  end)
  t.eq(middle.released, true)
  t.eq(out, {3, 3})
end)

t.test('tensors from outside are left alone, returned or not', function()
  local x, table_of_x = ld.ones(2), {}
  table_of_x.x = x
  ld.scope(function()
    ld.scope(function() return x end)
    ld.scope(function() return table_of_x end)
    ld.scope(function() return x * 1, {x, {x}} end)
  end)
  t.eq(x.released, false)
  t.eq(x, {1, 1})
end)

t.test('a tensor of the outer scope, and one named twice, returned from the inner', function()
  local before = ld.memory().tensors
  local kept = ld.scope(function()
    local a, gone = ld.ones(1), nil
    local b, c, again, list = ld.scope(function()
      gone = ld.ones(5)
      local new = ld.ones(2)
      return a, new, new, {new, a, ld.ones(3)}
    end)
    t.eq({gone.released, a.released, b.released, c.released, again.released, list[3].released},
      {true, false, false, false, false, false})
    t.eq(ld.memory().tensors, before + 3)
    return list[3]
  end)
  t.eq(kept, {1, 1, 1})
  t.eq(ld.memory().tensors, before + 1)
end)

t.test('a network returned through scopes keeps its own tensors', function()
  local Scale = nn.class('scale', function(self) self.factor = ld.ones({1}, {requires_grad = true}) end)
  function Scale:forward(x) return x * self.factor end
  local net
  ld.scope(function()
    net = ld.scope(function() return Scale() end)
    ld.scope(function() return net end)
  end)
  t.eq(net.factor.released, false)
  t.eq(net(ld.ones(2)), {1, 1})
end)

t.test('a table that holds itself, and a deep one', function()
  local round = ld.scope(function()
    local a = {x = ld.ones(1)}
    a.a = a
    return a
  end)
  t.eq(round.x, {1})
  local function chain(n)
    local list = {x = ld.ones(1)}
    for _ = 1, n do list = {list} end
    return list
  end
  local list = ld.scope(chain, 90)
  for _ = 1, 90 do list = list[1] end
  t.eq(list.x, {1})
  t.raises(function() ld.scope(chain, 200) end, 'scope: tables in the result are nested deeper than 100')
  t.raises(function() ld.scope(5) end, 'scope: a function was expected, not number')
end)

t.test('an error in a scope passes through and releases', function()
  local inner
  local message = t.raises(function()
    ld.scope(function()
      inner = ld.ones(2)
      return inner + ld.ones(3)
    end)
  end, 'shapes do not broadcast')
  t.ok(message:find 'test_memory.lua:%d+: add', message)
  t.eq(inner.released, true)
  local x = ld.ones(1)
  collectgarbage()
  t.eq(x.released, false, 'no scope is open any more')
end)

t.test('keep and release', function()
  local kept, list
  ld.scope(function()
    ld.scope(function()
      kept = ld.keep(ld.ones(2))
      list = ld.keep{ld.ones(1), {x = ld.ones(1)}}
    end)
  end)
  t.eq(kept, {1, 1})
  t.eq(list[2].x, {1})
  local before = ld.memory().tensors
  kept:release()
  t.eq(kept.released, true)
  t.eq(ld.memory().tensors, before - 1)
  kept:release() -- nothing more to do
  t.raises(function() ld.zeros(1).release(5) end, 'release: argument 1 must be a tensor, not number')
end)

t.test('a released tensor lives on where others need it', function()
  local x = ld.arange(4)
  local view = x[{{2, 3}}]
  x:release()
  t.eq(view, {1, 2})
end)

t.test('scopes in coroutines', function()
  leaves_nothing(function()
    local made = {}
    for i = 1, 3 do
      made[i] = coroutine.wrap(function()
        for k = 1, 3 do coroutine.yield(ld.scope(function() return ld.full({10}, k) + ld.ones(10) end)) end
      end)
    end
    for k = 1, 3 do
      for i = 1, 3 do t.eq(made[i]()[1]:item(), k + 1) end
    end
  end)
end)

t.test('no_grad is a scope', function()
  local inner
  local y = ld.no_grad(function()
    inner = ld.ones(1)
    return inner * 2
  end)
  t.eq(inner.released, true)
  t.eq(y, {2})
end)

-- ---- nothing is left ----------------------------------------------------------------------------------------------

-- conv + norm + attention, as in the networks; a step of training on it
local function small_step(norm)
  local net = nn.sequential{
    nn.conv2d{in_channels = 2, out_channels = 8, kernel = 3, padding = 1}, norm(8), nn.silu(),
    nn.attention{channels = 8, heads = 2}, nn.conv2d{in_channels = 8, out_channels = 2, kernel = 3, stride = 2}}
  local optim = ld.optim.adamw(net:parameters(), {lr = 1e-3})
  return function(i)
    local x = ld.noise({2, 2, 7, 7}, {seed = i})
    local loss = ld.mse(net(x), ld.noise({2, 2, 3, 3}, {seed = 1}))
    loss:backward()
    ld.clip_grad_norm(net:parameters(), 1)
    optim:step()
    optim:zero_grad()
    return loss:item()
  end
end

t.test('500 steps of training in scopes leave memory as it was', function()
  local step = small_step(function(c) return nn.batch_norm{channels = c} end)
  local first = ld.scope(step, 1)
  local before = settled()
  ld.memory 'reset'
  local last
  for _ = 1, 500 do last = ld.scope(step, 1) end
  local now = ld.memory()
  t.eq({live = now.live, tensors = now.tensors, blocks = now.blocks}, before, 'without a collection')
  t.ok(now.peak - before.live < 2 ^ 21, 'a step takes less than 2 MiB: ' .. now.peak - before.live)
  t.ok(last < first * 0.9, ('the loss falls: %g, %g'):format(first, last))
end)

t.test('steps without scopes are left to the collector, and leave nothing either', function()
  local step = small_step(function(c) return nn.group_norm{groups = 2, channels = c} end)
  step(1)
  leaves_nothing(function() for _ = 1, 100 do step(1) end end)
end)

t.test('errors leave nothing', function()
  local net = nn.conv2d{in_channels = 2, out_channels = 3, kernel = 3}
  local x = ld.ones(4, 5)
  leaves_nothing(function()
    for _ = 1, 50 do
      pcall(function() return net(ld.ones(1, 3, 5, 5)) end)
      pcall(function() return ld.ones(2) + ld.ones(3) end)
      pcall(function() return x[{9, 1}] end)
      pcall(function() return x[{{1, 2}, {1, 2, 0}}] end)
      pcall(function() return x[{{1, 2}, 'a'}] end)
      pcall(function() x[{1, 1}] = ld.ones(2) end)
      pcall(function() return ld.tensor{{1, 2}, {3}} end)
      pcall(function() return ld.concat{x, ld.ones(4)} end)
      pcall(function() return ld.batch_norm(ld.ones(1, 3), {training = true}) end)
      pcall(function() return ld.cross_entropy(ld.ones(2, 3), ld.tensor({0, 7}, {dtype = 'i64'})) end)
      pcall(function() (ld.ones({2}, {requires_grad = true}) * 2):backward() end)
      pcall(function() return nn.sequential{nn.linear{in_features = 3, out_features = 2}, 5} end)
    end
  end)
end)

t.test('a graph that is never used leaves nothing', function()
  local w = ld.ones({50}, {requires_grad = true})
  leaves_nothing(function()
    local y = w
    for _ = 1, 1000 do y = ld.tanh(y * w) end
    local retained = ld.sum(w * w)
    retained:backward(nil, {retain = true})
    w:zero_grad()
  end)
end)

t.test('a norm with film and activation keeps its input alone', function()
  for _, norm in ipairs{nn.batch_norm{channels = 64}, nn.group_norm{channels = 64, groups = 8}} do
    leaves_nothing(function()
      local x, film = ld.randn{4, 64, 16, 16}, ld.randn({4, 128}, {requires_grad = true})
      local before = settled()
      local y = nn.norm_act(norm, nn.silu(), x, film)
      local kept = ld.memory().live - before.live
      t.ok(kept < 1.1 * 4 * y:numel(), kept) -- the result, and a few numbers a channel; x is shared
      ld.sum(y):backward()
      norm:zero_grad()
    end)
  end
end)

t.test('networks, optimisers and averages leave nothing', function()
  leaves_nothing(function()
    local net = nn.sequential{nn.linear{in_features = 50, out_features = 50}, nn.batch_norm{channels = 50}}
    local optim = ld.optim.adamw(net:parameters(), {lr = 0.1})
    local ema = ld.ema.of(net, {decay = 0.9})
    ld.sum(net(ld.randn(4, 50))):backward()
    optim:step()
    ema:update()
    net:load_state(net:state())
    net:to('f64'):to('f32')
  end)
end)

-- ---- pressure and limits ------------------------------------------------------------------------------------------

t.test('dead tensors are collected under pressure of their bytes', function()
  collectgarbage()
  ld.memory 'reset'
  local before = ld.memory().live
  for _ = 1, 400 do ld.zeros(1024, 1024) end -- 4 MiB each, 1.6 GiB in all; 24 bytes each to Lua
  local peak = ld.memory().peak - before
  t.ok(peak < 700 * 2 ^ 20, ('the peak stays near 512 MiB: %d MiB'):format(peak / 2 ^ 20))
  ld.memory 'trim'
end)

t.test('a limit gives a clean error, and the program goes on', function()
  collectgarbage()
  ld.memory 'trim'
  local x = ld.ones(1000)
  ld.memory_limit(ld.memory().live + 8 * 2 ^ 20)
  local before = settled()
  for _ = 1, 3 do
    local message = t.raises(function() local _ = ld.zeros(1024, 1024, 4) end, 'zeros: out of memory on cpu: 16.0 MiB')
    t.ok(message:find 'test_memory.lua:%d+: zeros' and message:find 'limit', message)
  end
  t.eq(settled(), before)
  t.eq((x + 1)[1]:item(), 2)
  local net = nn.conv2d{in_channels = 4, out_channels = 64, kernel = 3, padding = 1}
  local image = ld.ones({1, 4, 64, 64})
  t.raises(function()
    local h = net(image)
    for _ = 1, 100 do h = h * net(image) end
  end, 'out of memory')
  ld.memory_limit(0)
  t.eq(net(image).shape, {1, 64, 64, 64})
  t.eq(ld.zeros(1024, 1024, 4):numel(), 2 ^ 22)
  t.raises(function() ld.memory_limit(-1) end, 'memory_limit: -1 bytes')
  t.eq(ld.memory('', t.device).live, ld.memory().live)
  t.raises(function() ld.memory('', 'gpu') end, "there is no 'gpu'")
end)

t.test('within a limit, what is dead makes room', function()
  collectgarbage()
  ld.memory 'trim'
  ld.memory_limit(ld.memory().live + 64 * 2 ^ 20)
  for _ = 1, 100 do ld.zeros(1024, 1024) end
  local made = coroutine.wrap(function() for _ = 1, 100 do ld.zeros(1024, 1024) end return 'done' end)()
  t.eq(made, 'done', 'in a coroutine')
  ld.memory_limit(0)
end)

t.test('backward out of memory leaves a usable program', function()
  local w = ld.ones({1024, 256}, {requires_grad = true}) -- 1 MiB
  local h = w
  for _ = 1, 10 do h = ld.tanh(h * 1.5) end
  local loss = ld.sum(h)
  collectgarbage()
  ld.memory 'trim'
  ld.memory_limit(ld.memory().live + 2 ^ 20 + 2 ^ 19)
  t.raises(function() loss:backward() end, 'out of memory')
  ld.memory_limit(0)
  t.eq(ld.grad_enabled(), true)
  w:zero_grad()
  ld.sum(w * 2):backward()
  t.eq(w.grad[{1, 1}]:item(), 2)
end)

t.test('memory and its words', function()
  local m = ld.memory()
  for key in ('live cached peak blocks tensors allocations'):gmatch '%a+' do t.eq(type(m[key]), 'number', key) end
  local x = ld.zeros(1000)
  t.eq(ld.memory().tensors, m.tensors + 1)
  t.ok(ld.memory().live >= m.live + 4000)
  x:release()
  t.ok(ld.memory().cached > 0)
  t.eq(ld.memory('trim').cached, 0)
  t.raises(function() ld.memory 'shrink' end, "memory: unknown word 'shrink'; known: reset trim")
end)

t.finish()
