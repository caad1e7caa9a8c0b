-- Every slot of csrc/backend/backend.h on the default device, through the operations that call it, in each dtype that
-- it takes, at sizes 0, 1, 31, 33, 1000 and odd shapes, against the CPU:
--
--   ldlua --device cuda:0 tests/lua/test_slots.lua
--
-- The CPU computes in f64 from the device's own (rounded) inputs, so that what is measured is the device's error alone;
-- under the CPU as the default device its f32 is held against its f64. The profile says which slots ran: one without a
-- case here, or not run in some dtype that it is to take, fails the last test.
local t = dofile 'tests/lua/harness.lua'
local ld = require 'ld'
local core = ld.core

ld.threads(1)
core.tune(false)
local HALVES = core.computes('bf16', t.device)

-- The largest difference, by the largest number of the result. f32: a few roundings (6e-8), more where sums are long or
-- a convolution is transformed. bf16 and f16: what goes in is the same on both sides, arithmetic is f32, and results
-- round once (2^-9, 2^-12); probabilities and intermediate results of two-step operations round once more each. f64:
-- 1e-16 and sums.
local TOLERANCE = {f32 = 1e-5, f64 = 1e-11, bf16 = 2 ^ -6, f16 = 2 ^ -9}

local ran = {} -- ran[slot][dtype]

-- What an operation takes, for one side: x(...) are random numbers, the same on both. dtype: the device's.
local function side(dtype, reference, seed)
  local s, n = {dtype = dtype, reference = reference}, 0
  local device = reference and 'cpu' or t.device
  local half = dtype == 'bf16' or dtype == 'f16'
  local function place(x, of)
    x = x:to(of) -- rounded for both
    return (reference and x:to('f64') or x:to(device))
  end
  local function draw(shape)
    n = n + 1
    return core.noise({1, unpack(shape)}, {seed = seed + n, device = 'cpu'}):reshape(unpack(shape)):f64()
  end
  local shape_of = function(...) return type((...)) == 'table' and (...) or {...} end
  function s.x(...) return place(draw(shape_of(...)), dtype) end
  function s.positive(...) return place(core.abs(draw(shape_of(...))) + 0.5, dtype) end
  function s.apart(...) -- away from 0, where slopes jump
    local x = draw(shape_of(...))
    return place(x + core.sign(x) * 0.3, dtype)
  end
  function s.distinct(m, k) -- no two alike in any dtype
    local x = {}
    for i = 1, m * k do x[i] = (i * 37) % 101 - 50 end
    return place(core.tensor(x, {dtype = 'f64', device = 'cpu'}):reshape(m, k), dtype)
  end
  function s.wide(...) return place(draw(shape_of(...)), half and 'f32' or dtype) end -- weights of norms, film
  function s.classes(list) return core.tensor(list, {dtype = 'i64', device = 'cpu'}):to(device) end
  -- results of y and the gradients of leaves, from a gradient that differs everywhere
  function s.grads(f, ...)
    local leaves = {...}
    for _, leaf in ipairs(leaves) do leaf:requires_grad_(true) end
    local y = f(...)
    y:backward(place(draw(y.shape), y.dtype == 'f64' and dtype or y.dtype))
    local out = {y:detach()}
    for i, leaf in ipairs(leaves) do out[i + 1] = leaf.grad end
    return unpack(out)
  end
  return s
end

local function slots_of(f, dtype)
  local out
  local p = core.profile(function() out = {f()} end)
  for _, entry in ipairs(p.ops) do
    ran[entry.op] = ran[entry.op] or {}
    ran[entry.op][dtype] = true
  end
  return out
end

local function flat(x) return x:to('cpu'):to('f64'):reshape(-1) end

local function compare(what, got, want, tolerance)
  t.eq(#got, #want)
  for i, w in ipairs(want) do
    local g = got[i]
    t.eq(table.concat(g.shape, ','), table.concat(w.shape, ','))
    if w:numel() > 0 then
      local a, b = flat(g), flat(w)
      local largest, off = core.abs(b):max():item(), core.abs(a - b):max():item()
      local good = off <= tolerance * math.max(largest, 1e-3) -- false for NaN
      if not good then
        error(('%s: result %d is off by %.3g of %.3g, %.3g of it is allowed'):format(what, i, off, largest, tolerance))
      end
    end
  end
end

-- case(name, dtypes, f, factor): f(side) gives results; factor times the tolerance, where the operation says why.
local function case(name, dtypes, f, factor)
  for dtype in dtypes:gmatch('%w+') do
    local half = dtype == 'bf16' or dtype == 'f16'
    local computes = dtypes:match('!') == nil or HALVES or not half -- '!': the CPU has it in f32 and f64 alone
    if computes then
      t.test(('%s in %s'):format(name, dtype), function()
        local got = slots_of(function() return f(side(dtype, false, #name * 1000)) end, dtype)
        compare(name, got, {f(side(dtype, true, #name * 1000))}, TOLERANCE[dtype] * (factor or 1))
      end)
    end
  end
end
local FLOATS, ALL = 'f32 f64 bf16 f16', '!f32 f64 bf16 f16' -- ALL: halves where the device computes in them
local SHAPES = {{0}, {1}, {31}, {33}, {1000}, {3, 0}, {33, 31}, {2, 3, 5, 7}, {1, 40, 3, 3}}

-- ---- elementwise ----------------------------------------------------------------------------------------------------

local UNARY = {neg = 'x', abs = 'apart', exp = 'x', log = 'positive', sqrt = 'positive', rsqrt = 'positive',
               square = 'x', reciprocal = 'apart', sin = 'x', cos = 'x', tanh = 'x', sigmoid = 'x', silu = 'x',
               gelu = 'x', relu = 'apart', tan = 'small', leaky_relu = 'apart', general_relu = 'apart', sign = 'apart'}
for name, domain in pairs(UNARY) do
  case(name, FLOATS, function(s)
    local out = {}
    for _, shape in ipairs(SHAPES) do
      local x = domain == 'small' and s.x(shape) * 0.25 or s[domain](shape)
      for _, r in ipairs{s.grads(core[name], x)} do out[#out + 1] = r end
      if #shape > 1 then out[#out + 1] = core[name](s[domain == 'small' and 'x' or domain](shape):transpose(1, 2)) end
    end
    return unpack(out)
  end, name == 'tan' and 4 or 2)
end
case('clamp, pow, affine, floor, round', FLOATS, function(s)
  local out = {}
  for _, shape in ipairs(SHAPES) do
    local x = s.positive(shape)
    for _, f in ipairs{function(v) return core.clamp(v, 0.6, 1.3) end, function(v) return core.pow(v, 1.5) end,
                       function(v) return core.affine(v, -1.5, 2) end} do
      for _, r in ipairs{s.grads(f, x)} do out[#out + 1] = r end
      x:zero_grad()
      x = x:detach()
    end
    local whole = s.apart(shape)
    out[#out + 1], out[#out + 2] = core.floor(whole), core.round(whole)
  end
  return unpack(out)
end, 2)
for _, name in ipairs{'add', 'sub', 'mul', 'div', 'maximum', 'minimum'} do
  case(name, FLOATS, function(s)
    local out = {}
    for _, shape in ipairs(SHAPES) do
      for _, r in ipairs{s.grads(core[name], s.apart(shape), s.apart(shape))} do out[#out + 1] = r end
    end
    for _, r in ipairs{s.grads(core[name], s.apart(5, 1, 7), s.apart(3, 1))} do out[#out + 1] = r end
    return unpack(out)
  end, 2)
end
case('comparisons, where', FLOATS, function(s)
  local out = {}
  for _, shape in ipairs(SHAPES) do
    local a, b = s.x(shape), s.x(shape)
    for _, name in ipairs{'eq', 'ne', 'lt', 'le', 'gt', 'ge'} do out[#out + 1] = core[name](a, b) end
    local c = core.lt(a, b)
    for _, r in ipairs{s.grads(function(u, v) return core.where(c, u, v) end, a, b)} do out[#out + 1] = r end
  end
  return unpack(out)
end)
case('fill, copy between dtypes and layouts', FLOATS, function(s)
  local out = {}
  for _, shape in ipairs(SHAPES) do
    local x = s.x(shape) * 50
    if s.reference then x = x:to(s.dtype):to('f64') end
    for _, to in ipairs{'f32', 'f64', 'i64', 'i32'} do out[#out + 1] = x:to(to) end
    out[#out + 1] = x:to('i64'):to(s.reference and 'f64' or s.dtype)
    local y = core.full(shape, 0.5, {dtype = x.dtype, device = x.device})
    if #shape == 4 then y:copy_(x:permute(1, 2, 4, 3):contiguous():permute(1, 2, 4, 3)) end
    out[#out + 1] = y
  end
  return unpack(out)
end)
t.test('integers are exact', function()
  for _, dtype in ipairs{'i64', 'i32', 'u8'} do
    local function numbers(device)
      local x = core.arange(200, {dtype = dtype, device = device}):reshape(8, 25)
      local y = core.full({8, 25}, 7, {dtype = dtype, device = device})
      return x + y, x * y, core.maximum(x, y), core.eq(x, y), x:sum(), x:max(2), x:min(1), core.argmax(x, 2),
        core.gather(x, core.tensor({3, 0, 7}, {dtype = 'i64', device = device})), x:transpose(1, 2):contiguous(),
        x:to('f32')
    end
    compare(dtype, slots_of(function() return numbers(t.device) end, dtype), {numbers('cpu')}, 0)
  end
end)

-- ---- sums and rows --------------------------------------------------------------------------------------------------

case('reduce', FLOATS, function(s)
  local out = {}
  for _, shape in ipairs{{1}, {31}, {33}, {1000}, {3, 0}, {33, 31}, {3, 1000}, {1000, 3}, {2, 3, 5, 7}, {4, 5000}} do
    for _, name in ipairs{'sum', 'mean', 'sumsq'} do
      for d = 1, #shape do
        if name ~= 'mean' or shape[d] > 0 then out[#out + 1] = core[name](s.positive(shape), d) end
      end
      if name ~= 'mean' or shape[2] ~= 0 then out[#out + 1] = core[name](s.positive(shape)) end
    end
  end
  for _, r in ipairs{s.grads(function(x) return core.mean(x, 2) end, s.x(7, 33))} do out[#out + 1] = r end
  return unpack(out)
end, 3)
case('max, min, argmax, argmin', FLOATS, function(s)
  local out = {}
  for _, size in ipairs{{1, 1}, {3, 31}, {31, 3}, {33, 3}, {1, 100}} do
    local x = s.distinct(unpack(size))
    for d = 1, 2 do
      for _, name in ipairs{'max', 'min', 'argmax', 'argmin'} do out[#out + 1] = core[name](x, d) end
    end
  end
  return unpack(out)
end)
case('softmax', ALL, function(s)
  local out = {}
  for _, shape in ipairs{{0, 5}, {1, 1}, {3, 31}, {2, 33}, {3, 1000}, {2, 5000}} do
    for _, r in ipairs{s.grads(core.softmax, s.x(shape))} do out[#out + 1] = r end
  end
  return unpack(out)
end, 3)
case('cross entropy', ALL, function(s)
  local out = {}
  for _, k in ipairs{1, 31, 33, 1000} do
    for _, smoothing in ipairs{0, 0.1} do
      local c = s.classes{k - 1, 0, math.floor(k / 2)}
      local function loss(x) return core.cross_entropy(x, c, {reduction = 'none', smoothing = smoothing}) end
      for _, r in ipairs{s.grads(loss, s.x(3, k))} do out[#out + 1] = r end
    end
  end
  return unpack(out)
end, 3)
case('gather, scatter', ALL, function(s)
  local out = {}
  for _, k in ipairs{1, 31, 33, 1000} do
    local rows = s.classes{4, 0, 4, 2, 1, 4}
    for _, r in ipairs{s.grads(function(x) return core.gather(x, rows) end, s.x(5, k))} do out[#out + 1] = r end
  end
  return unpack(out)
end, 2)

-- ---- products and convolutions --------------------------------------------------------------------------------------

case('matmul, linear', ALL, function(s)
  local out = {}
  for _, m in ipairs{{1, 1, 1}, {31, 33, 7}, {64, 128, 32}, {3, 1000, 5}, {0, 4, 3}, {8, 16, 24}} do
    for _, r in ipairs{s.grads(core.matmul, s.x(m[1], m[2]), s.x(m[2], m[3]))} do out[#out + 1] = r end
    for _, r in ipairs{s.grads(core.linear, s.x(m[1], m[2]), s.x(m[3], m[2]), s.x(m[3]))} do out[#out + 1] = r end
  end
  for _, r in ipairs{s.grads(core.matmul, s.x(3, 5, 7), s.x(3, 7, 9))} do out[#out + 1] = r end
  for _, r in ipairs{s.grads(core.matmul, s.x(3, 5, 7), s.x(7, 9):transpose(1, 2):contiguous():transpose(1, 2))} do
    out[#out + 1] = r
  end
  return unpack(out)
end, 4)
local CONVOLUTIONS = { -- x, w, options
  {{2, 3, 9, 11}, {8, 3, 3, 3}, {padding = 1}}, {{2, 16, 8, 8}, {32, 16, 3, 3}, {padding = 1}},
  {{1, 64, 8, 8}, {64, 64, 3, 3}, {padding = 1}}, {{2, 8, 7, 5}, {16, 8, 3, 3}, {stride = 2, padding = 1}},
  {{2, 16, 5, 5}, {24, 16, 1, 1}, {}}, {{1, 4, 12, 12}, {8, 4, 5, 5}, {padding = 2}},
  {{2, 8, 6, 6}, {8, 8, 3, 3}, {padding = 1, upsample = true}}, {{1, 3, 1, 33}, {4, 3, 1, 3}, {}}}
case('conv2d', ALL, function(s)
  local out = {}
  for _, c in ipairs(CONVOLUTIONS) do
    local function conv(x, w, b) return core.conv2d(x, w, b, c[3]) end
    for _, r in ipairs{s.grads(conv, s.x(c[1]), s.x(c[2]), s.x(c[2][1]))} do out[#out + 1] = r end
  end
  out[#out + 1] = core.conv2d(s.x(0, 3, 4, 4), s.x(2, 3, 3, 3), nil, {padding = 1})
  local function back(x, w, b) return core.conv_transpose2d(x, w, b, {stride = 2, padding = 1, output_padding = 1}) end
  for _, r in ipairs{s.grads(back, s.x(2, 8, 4, 5), s.x(8, 16, 3, 3), s.x(16))} do out[#out + 1] = r end
  return unpack(out)
end, 4)

-- ---- norms, attention, pooling --------------------------------------------------------------------------------------

local NORMS = {{2, 4}, {2, 8, 5}, {3, 6, 31}, {2, 32, 8, 8}, {2, 64, 33, 1}, {1, 6, 3, 2}}
local function norms(s, name)
  local out = {}
  for _, shape in ipairs(NORMS) do
    for _, act in ipairs{'identity', 'relu', 'leaky', 'silu'} do
      for _, with_film in ipairs{false, true} do
        local c = shape[2]
        local function norm(x, w, b, film)
          local o = {weight = w, bias = b, film = film, act = act, slope = 0.1, sub = 0.4, eps = 0.1}
          if name == 'group' then return core.group_norm(x, 2, o) end
          o.training = true
          return core.batch_norm(x, o)
        end
        local results = {s.grads(norm, s.x(shape), s.wide(c), s.wide(c),
                                 with_film and s.wide(shape[1], 2 * c) or nil)}
        -- a slope jumps at 0: where rounding moves a value across, one gradient is another
        local smooth = act == 'identity' or act == 'silu'
        for i, r in ipairs(results) do out[#out + 1] = (smooth or i == 1) and r or nil end
      end
    end
  end
  return unpack(out)
end
case('batch norm', ALL, function(s) return norms(s, 'batch') end, 6)
case('group norm', ALL, function(s) return norms(s, 'group') end, 6)
case('batch norm with running statistics', ALL, function(s)
  local out = {}
  for _, shape in ipairs(NORMS) do
    local c = shape[2]
    local mean, var = s.wide(c), core.abs(s.wide(c)) + 0.5
    local function norm(x, w, b)
      return core.batch_norm(x, {weight = w, bias = b, running_mean = mean, running_var = var})
    end
    for _, r in ipairs{s.grads(norm, s.x(shape), s.wide(c), s.wide(c))} do out[#out + 1] = r end
    core.batch_norm(s.x(shape), {running_mean = mean, running_var = var, training = true})
    out[#out + 1], out[#out + 2] = mean, var
  end
  return unpack(out)
end, 6)
case('layer norm', ALL, function(s)
  local out = {}
  for _, shape in ipairs{{1, 2}, {3, 31}, {33, 33}, {5, 1000}, {2, 16, 64}, {0, 8}} do
    local c = shape[#shape]
    local function norm(x, w, b) return core.layer_norm(x, {weight = w, bias = b}) end
    for _, r in ipairs{s.grads(norm, s.x(shape), s.wide(c), s.wide(c))} do out[#out + 1] = r end
  end
  return unpack(out)
end, 6)
-- probabilities and gradients of scores are rounded to the dtype before the second product
case('attention', ALL, function(s)
  local out = {}
  for _, z in ipairs{{1, 1, 1, 1, 1}, {2, 16, 16, 16, 2}, {1, 31, 33, 8, 1}, {2, 64, 64, 64, 4}, {1, 33, 31, 40, 1},
                     {1, 128, 100, 32, 1}, {1, 20, 20, 128, 1}} do
    local n, rows, keys, width, heads = unpack(z)
    local function attend(q, k, v) return core.attention(q, k, v, heads) end
    for _, r in ipairs{s.grads(attend, s.x(n, rows, width), s.x(n, keys, width), s.x(n, keys, width))} do
      out[#out + 1] = r
    end
  end
  local packed = s.x(2, 33, 48)
  for _, r in ipairs{s.grads(function(x) return core.attention_packed(x, 2) end, packed)} do out[#out + 1] = r end
  return unpack(out)
end, 4)
case('pooling and resizing', ALL, function(s)
  local out = {}
  for _, shape in ipairs{{2, 3, 4, 6}, {1, 33, 5, 7}, {2, 8, 31, 1}, {1, 1, 1, 1}} do
    for _, f in ipairs{function(x) return core.avg_pool2d(x, 2, {ceil = true}) end,
                       function(x) return core.adaptive_avg_pool2d(x, 1) end,
                       function(x) return core.adaptive_avg_pool2d(x, 2, 3) end,
                       function(x) return core.upsample_nearest(x, 2) end,
                       function(x) return core.resize_bilinear(x, 3, 4, {antialias = true}) end,
                       function(x) return core.resize_bilinear(x, 9, 8, {antialias = false}) end} do
      for _, r in ipairs{s.grads(f, s.x(shape))} do out[#out + 1] = r end
    end
  end
  return unpack(out)
end, 3)

-- ---- random numbers, training ---------------------------------------------------------------------------------------

-- The same stream in the same dtype: uniform ones are the same, normal ones are worked out by other functions.
for _, dtype in ipairs{'f32', 'f64', 'bf16', 'f16'} do
  t.test('random numbers in ' .. dtype, function()
    local function draw(device)
      local out = {}
      for _, shape in ipairs{{0}, {1}, {31}, {33}, {1000}, {2, 3, 5, 7}} do
        ld.seed(5)
        local o = {dtype = dtype, device = device}
        out[#out + 1], out[#out + 2] = core.rand(shape, o), core.randn(shape, o)
        out[#out + 1] = core.dropout(core.ones(shape, o), 0.4)
        if #shape > 1 then out[#out + 1] = core.noise(shape, {seed = 9, first = 3, device = device}) end
      end
      return unpack(out)
    end
    compare('random', slots_of(function() return draw(t.device) end, dtype), {draw('cpu')},
            dtype == 'bf16' and 2 ^ -8 or dtype == 'f16' and 2 ^ -11 or 1e-6)
  end)
end
for _, dtype in ipairs{'f32', 'f64'} do
  t.test('what training draws, in ' .. dtype, function()
    local function draw(device)
      local out = {}
      for _, shape in ipairs{{1, 4, 1, 1}, {3, 4, 8, 8}, {2, 3, 31, 33}} do
        local z = core.noise(shape, {seed = 3, device = 'cpu'}):to(dtype):to(device)
        for _, r in ipairs{core.diffusion.batch(z, {scale = 0.3, seed = 4, first = 77, x0 = true})} do
          out[#out + 1] = r
        end
      end
      return unpack(out)
    end
    compare('noised', slots_of(function() return draw(t.device) end, dtype), {draw('cpu')}, 1e-6)
  end)
end
for _, dtype in ipairs{'f32', 'f64', 'bf16', 'f16', 'u8'} do
  t.test('training pictures out of a data set, in ' .. dtype, function()
    local function draw(device)
      local out = {}
      for _, shape in ipairs{{1, 1, 1, 1}, {33, 3, 5, 7}, {31, 4, 16, 16}} do
        local x = core.clamp(core.noise(shape, {seed = 3, device = 'cpu'}):affine(40, 128), 0, 255):to(dtype):to(device)
        local o = {device = device}
        local shift, scale = core.full({shape[2]}, 100, o), core.full({shape[2]}, 0.02, o)
        out[#out + 1] = core.augment.gather(x, {1, shape[1], 1}, {shift = shift, scale = scale, seed = 4, first = 9})
        out[#out + 1] = core.augment.gather(x, nil, {pad = 2, erase = 0.4, max = 3, flip = 0.5, seed = 4, first = 77,
                                                     shift = shift, scale = scale})
      end
      return unpack(out)
    end
    compare('gather_augment', slots_of(function() return draw(t.device) end, dtype), {draw('cpu')}, 4e-6)
  end)
end
for _, name in ipairs{'mse', 'l1', 'huber'} do
  case(name, FLOATS, function(s)
    local out = {}
    for _, shape in ipairs{{1}, {31}, {33}, {1000}, {2, 3, 5, 7}, {30011}} do
      for _, r in ipairs{s.grads(core[name], s.x(shape), s.x(shape))} do out[#out + 1] = r end
    end
    return unpack(out)
  end, 4)
end

-- Parameters after a few steps; gradients as backward gives them, of 16 bits where the network has those.
local function steps(s, make)
  local ps, out = {}, {}
  for i, n in ipairs{1, 31, 33, 1000, 5000} do ps[i] = s.wide(n):requires_grad_(true) end
  local how = make(ps)
  for _ = 1, 3 do
    for _, p in ipairs(ps) do (p * s.wide(p:numel())):sum():backward() end
    out[#out + 1] = core.tensor({core.grad_norm(ps)}, {dtype = 'f64', device = 'cpu'})
    how()
    for _, p in ipairs(ps) do p:zero_grad() end
  end
  for _, p in ipairs(ps) do out[#out + 1] = p:detach() end
  return out
end
case('adamw with averages', 'f32 f64', function(s)
  local averages
  local out = steps(s, function(ps)
    local adamw = core.optim.adamw(ps, {lr = 1e-2, weight_decay = 0.1})
    averages = core.ema(ps, {decay = 0.9})
    return function() adamw:step{ema = averages, norm = core.grad_norm(ps), clip = 1} end
  end)
  for i = 1, 5 do out[#out + 1] = averages:average(i) end
  return unpack(out)
end, 4)
case('sgd', 'f32 f64', function(s)
  return unpack(steps(s, function(ps)
    local sgd = core.optim.sgd(ps, {lr = 0.1, momentum = 0.9, weight_decay = 0.01, nesterov = true})
    return function() sgd:step() end
  end))
end, 4)
-- f32 weights met by an x of 16 bits: gradients of 16 bits, whose norm is taken and which the update reads.
case('adamw in mixed precision', '!bf16 f16', function(s)
  local w, b = s.wide(33, 31):requires_grad_(true), s.wide(33):requires_grad_(true)
  local adamw, out = core.optim.adamw({w, b}, {lr = 1e-2, weight_decay = 0.1}), {}
  for _ = 1, 3 do
    s.grads(core.linear, s.x(40, 31), w, b)
    out[#out + 1] = core.tensor({core.grad_norm{w, b}}, {dtype = 'f64', device = 'cpu'})
    adamw:step()
    adamw:zero_grad()
  end
  out[#out + 1], out[#out + 2] = w:detach(), b:detach()
  return unpack(out)
end, 2)

-- ---- is that all? ---------------------------------------------------------------------------------------------------

-- In f32 every slot; in the others those that the device has in it. `judge` belongs to recorded steps: test_graph.lua.
local WITHOUT = {f32 = 'judge', f64 = 'judge', bf16 = 'noised sgd judge', f16 = 'noised sgd judge'}
t.test('every slot has a case', function()
  if rawget(_G, 'arg') and arg[1] then return end -- some of the tests alone were asked for
  local f = assert(io.open('csrc/backend/backend.h'))
  local text = f:read('*a')
  f:close()
  local missing, count = {}, 0
  for slot in text:match('#define LD_SLOTS%(X%)(.*)'):gmatch('\n    X%(([%l_%d]+),') do
    count = count + 1
    for _, dtype in ipairs{'f32', 'f64', 'bf16', 'f16'} do
      local left_out = (' ' .. (WITHOUT[dtype] or '') .. ' '):find(' ' .. slot .. ' ', 1, true)
      local has = HALVES or dtype == 'f32' or dtype == 'f64'
      if has and not left_out and not (ran[slot] and ran[slot][dtype]) then
        missing[#missing + 1] = slot .. ' in ' .. dtype
      end
    end
  end
  t.eq(table.concat(missing, ', '), '')
  if count < 40 then error('only ' .. count .. ' slots were found in backend.h') end
end)

t.finish()
