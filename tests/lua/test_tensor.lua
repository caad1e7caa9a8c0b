-- Tensors in Lua: making, converting, indexing, views, arithmetic, reductions, printing, random numbers.
local t = dofile 'tests/lua/harness.lua'
local ld = require 'ld'

local dtypes = {'f32', 'bf16', 'f16', 'f64', 'i64', 'i32', 'u8'}
local floats = {'f32', 'bf16', 'f16', 'f64'}
local function i64(list) return ld.tensor(list, {dtype = 'i64'}) end

-- ---- making -------------------------------------------------------------------------------------------------------

t.test('zeros, ones, full in every dtype', function()
  for _, dtype in ipairs(dtypes) do
    local x = ld.zeros({2, 3}, {dtype = dtype})
    t.eq(x.dtype, dtype)
    t.eq(x.shape, {2, 3})
    t.eq(x, {{0, 0, 0}, {0, 0, 0}}, dtype)
    t.eq(ld.ones({2}, {dtype = dtype}), {1, 1}, dtype)
    t.eq(ld.full({2}, 7, {dtype = dtype}), {7, 7}, dtype)
  end
  t.eq(ld.zeros(2, 1), {{0}, {0}})
  t.eq(ld.ones(3).dtype, 'f32')
  t.eq(ld.full(2, 1.5), {1.5, 1.5})
  t.eq(ld.zeros().shape, {})
  t.eq(ld.zeros(0, 3), {})
  t.eq(ld.zeros(2, 0), {{}, {}})
end)

t.test('tensor from nested tables', function()
  t.eq(ld.tensor{{1, 2}, {3, 4}}, {{1, 2}, {3, 4}})
  t.eq(ld.tensor(5), 5)
  t.eq(ld.tensor(5).ndim, 0)
  t.eq(ld.tensor{}.shape, {0})
  t.eq(ld.tensor{{}, {}}.shape, {2, 0})
  t.eq(ld.tensor{true, false}, {1, 0})
  t.eq(ld.tensor({{{1}}}, {dtype = 'u8'}).shape, {1, 1, 1})
  t.eq(ld.tensor({1}, {requires_grad = true}).requires_grad, true)
  t.raises(function() ld.tensor{{1, 2}, {3}} end, 'rows differ in length: 2 values were expected, 1 found')
  t.raises(function() ld.tensor{{1, 2}, 3} end, 'rows differ in length: 2 values were expected, number found')
  t.raises(function() ld.tensor{1, 'x'} end, 'a table of numbers was expected, string found in it')
  t.raises(function() ld.tensor{{{{{{{{{1}}}}}}}}} end, 'nested deeper than 8')
end)

t.test('a copied tensor is another', function()
  local x = ld.tensor{1, 2}
  for _, y in ipairs{ld.tensor(x), x:clone()} do
    t.eq(ld.same_storage(x, y), false)
    t.eq(y, {1, 2})
  end
  t.eq(ld.same_storage(x, x:to('f32')), true, 'nothing to convert')
end)

t.test('arange', function()
  t.eq(ld.arange(4), {0, 1, 2, 3})
  t.eq(ld.arange(2, 5), {2, 3, 4, 5})
  t.eq(ld.arange(0, 1, 0.25), {0, 0.25, 0.5, 0.75, 1})
  t.eq(ld.arange(3, 1, -1), {3, 2, 1})
  t.eq(ld.arange(0), {})
  t.eq(ld.arange(3, {dtype = 'i64'}).dtype, 'i64')
  t.eq(#ld.arange(0, 1, 0.1), 11) -- 0.1 ten times is not quite 1
  t.raises(function() ld.arange(5, 1) end, 'no steps of 1 lead from 5 to 1')
  t.raises(function() ld.arange(1, 5, 0) end, 'no steps of 0')
end)

t.test('like another', function()
  local x = ld.randn({2, 3}, {dtype = 'f64'})
  t.eq(ld.zeros_like(x), {{0, 0, 0}, {0, 0, 0}})
  t.eq(ld.ones_like(x).dtype, 'f64')
  t.eq(ld.randn_like(x).shape, {2, 3})
  t.eq(ld.zeros_like(ld.ones({1}, {requires_grad = true})).requires_grad, false)
end)

-- ---- conversions --------------------------------------------------------------------------------------------------

t.test('every dtype to every other', function()
  for _, from in ipairs(dtypes) do
    for _, to in ipairs(dtypes) do
      local x = ld.tensor({0, 1, 2, 100}, {dtype = from})
      t.eq(x:to(to), {0, 1, 2, 100}, from .. ' to ' .. to)
      t.eq(x:to(to).dtype, to)
      t.eq(x[to](x).dtype, to)
    end
  end
end)

t.test('rounding of conversions', function()
  t.eq(ld.tensor({1.7, -1.7, 2.5}):i64(), {1, -1, 2}) -- towards zero
  t.eq(ld.tensor({300, -5, 0 / 0}):u8(), {255, 0, 0}) -- the nearest there is
  t.eq(ld.tensor({1 + 2 ^ -8, 1 + 3 * 2 ^ -8}):bf16(), {1, 1 + 2 ^ -6}) -- 8 bits, ties to even
  t.eq(ld.tensor({1 + 2 ^ -11, 1 + 3 * 2 ^ -11}):f16(), {1, 1 + 2 ^ -9}) -- 11 bits
  t.eq(ld.tensor({70000}):f16(), {1 / 0})
  t.eq(ld.tensor({0.1}), {0.10000000149011612}) -- the f32 next to 0.1
  t.eq(ld.tensor({0.1}, {dtype = 'f64'}), {0.1})
end)

-- ---- indexing -----------------------------------------------------------------------------------------------------

t.test('x[i] and negative positions', function()
  local x = ld.tensor{{1, 2, 3}, {4, 5, 6}}
  t.eq(x[1], {1, 2, 3})
  t.eq(x[-1], {4, 5, 6})
  t.eq(x[2][3]:item(), 6)
  t.eq(x[{2, -1}]:item(), 6)
  t.eq(x[{-2}], {1, 2, 3})
  for _, bad in ipairs{0, 3, -3} do
    t.raises(function() return x[bad] end, ('index: position %d of dimension 1; it has 2'):format(bad))
  end
  t.raises(function() return x[{1, 4}] end, 'position 4 of dimension 2; it has 3')
  t.raises(function() return x[{1, 1, 1}] end, 'index: 3 indices for (2,3) f32 cpu')
  t.raises(function() return x[1.5] end, 'must be a whole number, not 1.5')
  t.raises(function() return ld.tensor(1)[1] end, 'the tensor has no dimensions; use item()')
end)

t.test('ranges', function()
  local x = ld.arange(24):reshape(4, 6)
  t.eq(x[{{}, 1}], {0, 6, 12, 18})
  t.eq(x[{{2, 3}, {1, 2}}], {{6, 7}, {12, 13}})
  t.eq(x[{{1, -1, 2}, {-2, -1}}], {{4, 5}, {16, 17}})
  t.eq(x[{{2}, {3}}], {{8}})
  t.eq(x[{{}, {3, 2}}].shape, {4, 0})
  t.eq(x[{}], x)
  t.eq(x:slice(2, 2, 6, 2), {{1, 3, 5}, {7, 9, 11}, {13, 15, 17}, {19, 21, 23}})
  t.eq(x:slice(1, -1), {{18, 19, 20, 21, 22, 23}})
  t.eq(x:select(2, -1), {5, 11, 17, 23})
  t.raises(function() return x[{{1, 3, 0}}] end, 'with a step of at least 1')
  t.raises(function() return x[{{1, 9}}] end, 'position 9 of dimension 1; it has 4')
  t.raises(function() return x[{'a'}] end, 'an index is a number, {} or {first, last, step}, not string')
end)

t.test('assignment', function()
  local x = ld.zeros(3, 4)
  x[1] = 5
  x[{2, {2, 3}}] = ld.tensor{7, 8}
  x[{{}, 4}] = -1
  t.eq(x, {{5, 5, 5, -1}, {0, 7, 8, -1}, {0, 0, 0, -1}})
  x[3] = ld.tensor{9} -- broadcast
  t.eq(x[3], {9, 9, 9, 9})
  x[3] = i64{1, 2, 3, 4} -- converted
  t.eq(x[3], {1, 2, 3, 4})
  t.raises(function() x[1] = ld.ones(3) end, 'copy_: shapes do not broadcast: (4) f32 cpu and (3) f32 cpu')
  t.raises(function() x[1] = 'five' end, 'a number or a tensor can be assigned, not string')
  t.raises(function() x.shape = {1} end, "a tensor's 'shape' cannot be set")
end)

t.test('assignment between overlapping parts', function()
  local x = ld.arange(6)
  x[{{2, 6}}] = x[{{1, 5}}]
  t.eq(x, {0, 0, 1, 2, 3, 4})
  local y = ld.arange(6)
  y[{{1, 5}}] = y[{{2, 6}}]
  t.eq(y, {1, 2, 3, 4, 5, 5})
  local z = ld.arange(4):reshape(2, 2)
  z:add_(z:transpose())
  t.eq(z, {{0, 3}, {3, 6}})
end)

t.test('views share storage', function()
  local x = ld.arange(6):reshape(2, 3)
  local views = {x[1], x[{{}, 2}], x:transpose(), x:reshape(3, 2), x:flatten(), x:unsqueeze(1), x:detach(),
                 x:slice(2, 1, 2)}
  for i, v in ipairs(views) do t.eq(ld.same_storage(x, v), true, 'view ' .. i) end
  x:transpose()[{3, 1}] = 50
  t.eq(x[{1, 3}]:item(), 50)
  x[2]:fill_(-1)
  t.eq(x, {{0, 1, 50}, {-1, -1, -1}})
  t.eq(ld.same_storage(x, x:transpose():contiguous()), false)
  t.eq(ld.same_storage(x, x + 0), false)
end)

t.test('fields and #', function()
  local x = ld.zeros(3, 4)
  t.eq(#x, 3)
  t.eq(#ld.tensor(1), 0)
  t.eq(x.ndim, 2)
  t.eq(x.device, 'cpu')
  t.eq(x:size(), {3, 4})
  t.eq(x:size(-1), 4)
  t.eq(x:numel(), 12)
  t.eq(x:stride(), {4, 1})
  t.eq(x:describe(), '(3,4) f32 cpu')
  t.eq(x.released, false)
  local before = x.version
  x:add_(1)
  t.ok(x.version > before)
  t.raises(function() return x.colour end, "a tensor has no field or method 'colour'")
end)

-- ---- shapes -------------------------------------------------------------------------------------------------------

t.test('reshape, flatten, squeeze, unsqueeze', function()
  local x = ld.arange(12)
  t.eq(x:reshape(3, -1).shape, {3, 4})
  t.eq(x:reshape{2, 2, 3}[{2, 1}], {6, 7, 8})
  t.eq(x:reshape(1, 12, 1):squeeze().shape, {12})
  t.eq(x:reshape(1, 12, 1):squeeze(-1).shape, {1, 12})
  t.eq(x:unsqueeze(1).shape, {1, 12})
  t.eq(x:unsqueeze(-1).shape, {12, 1})
  t.eq(x:reshape(2, 3, 2):flatten(2).shape, {2, 6})
  t.eq(x:reshape(2, 3, 2):flatten(1, 2).shape, {6, 2})
  t.eq(ld.tensor(3):flatten(), {3})
  t.eq(ld.zeros(0, 3):reshape(3, 0, 2).shape, {3, 0, 2})
  t.raises(function() return x:reshape(5, 2) end, 'reshape: (12) f32 cpu has 12 elements, which do not fill (5,2)')
  t.raises(function() return x:reshape(-1, -1) end, 'one size may be -1')
  t.raises(function() return ld.zeros(1, 1, 1, 1, 1, 1, 1, 1):unsqueeze(1) end, 'to 9 dimensions; at most 8')
  t.raises(function() return x:reshape(2, 6):flatten(2, 1) end, 'the first dimension, 2, lies behind the last, 1')
end)

t.test('permute, transpose, expand, flip, pad', function()
  local x = ld.arange(6):reshape(2, 3)
  t.eq(x:permute(2, 1), {{0, 3}, {1, 4}, {2, 5}})
  t.eq(x:transpose(), {{0, 3}, {1, 4}, {2, 5}})
  t.eq(ld.zeros(2, 3, 4):transpose(1, -1).shape, {4, 3, 2})
  t.eq(ld.tensor{{1}, {2}}:expand(2, 3), {{1, 1, 1}, {2, 2, 2}})
  t.eq(ld.tensor{1, 2}:expand(3, -1).shape, {3, 2})
  t.eq(x:flip(2), {{2, 1, 0}, {5, 4, 3}})
  t.eq(x:pad({1, 0, 0, 1}, 9), {{9, 0, 1, 2}, {9, 3, 4, 5}, {9, 9, 9, 9}})
  t.raises(function() return x:permute(1, 1) end, 'permute: dimension 1 is named twice')
  t.raises(function() return x:permute(1) end, 'permute: 1 dimensions named; (2,3) f32 cpu has 2')
  t.raises(function() return x:expand(4, 3) end, 'expand: (2,3) f32 cpu does not stretch to (4,3)')
end)

t.test('concat, stack, chunk', function()
  local a, b = ld.tensor{{1, 2}}, ld.tensor{{3, 4}}
  t.eq(ld.concat{a, b}, {{1, 2}, {3, 4}})
  t.eq(ld.concat({a, b}, 2), {{1, 2, 3, 4}})
  t.eq(ld.stack({a, b}, -1).shape, {1, 2, 2})
  local x, y = ld.arange(4):chunk(2)
  t.eq(x, {0, 1})
  t.eq(y, {2, 3})
  t.raises(function() return ld.concat{} end, 'concat: the table is empty')
  t.raises(function() return ld.concat{a, 5} end, 'concat: entry 2 is number, not a tensor')
  t.raises(function() return ld.concat{a, ld.ones(1, 3)} end, 'all but dimension 1 must agree')
  t.raises(function() return ld.arange(5):chunk(2) end, 'does not divide into 2 parts')
end)

t.test('rank 4 lies NHWC in memory', function()
  local x = ld.arange(24):reshape(1, 2, 3, 4)
  local image = x:contiguous()
  t.eq(ld.zeros(2, 3, 4, 5):stride(), {60, 1, 15, 3})
  t.eq(ld.zeros(2, 3, 4):stride(), {12, 4, 1})
  t.eq(image, x, 'the same elements')
  local ffi = require 'ffi'
  local p = ffi.cast('float *', image:cpu():ptr())
  t.eq({p[0], p[1], p[2], p[3]}, {0, 12, 1, 13}) -- channels innermost
  t.eq(x:flatten():tolist(), ld.arange(24):tolist(), 'logical order stays')
end)

-- ---- arithmetic ---------------------------------------------------------------------------------------------------

t.test('operators', function()
  local a, b = ld.tensor{6, 8}, ld.tensor{2, 4}
  t.eq(a + b, {8, 12})
  t.eq(a - b, {4, 4})
  t.eq(a * b, {12, 32})
  t.eq(a / b, {3, 2})
  t.eq(-a, {-6, -8})
  t.eq(b ^ 2, {4, 16})
  t.eq(b ^ b, {4, 256})
  t.eq(2 ^ b, {4, 16})
  t.eq(1 - a, {-5, -7})
  t.eq(24 / a, {4, 3})
  t.eq(a + 1, {7, 9})
  t.eq(3 * a, {18, 24})
  t.eq(a:add(b), {8, 12})
  t.eq(ld.maximum(a, 7), {7, 8})
  t.eq(ld.minimum(a, b), {2, 4})
end)

t.test('comparisons and where', function()
  local a = ld.tensor{1, 2, 3}
  t.eq(a:gt(2), {0, 0, 1})
  t.eq(a:ge(2).dtype, 'u8')
  t.eq(a:eq(ld.tensor{1, 5, 3}), {1, 0, 1})
  t.eq(a:ne(2), {1, 0, 1})
  t.eq(a:lt(2), {1, 0, 0})
  t.eq(a:le(ld.tensor{2}), {1, 1, 0})
  t.eq(ld.where(a:gt(1), a, ld.tensor{-1}), {-1, 2, 3})
end)

t.test('broadcasting', function()
  local column, row = ld.tensor{{1}, {2}}, ld.tensor{10, 20, 30}
  t.eq(column + row, {{11, 21, 31}, {12, 22, 32}})
  t.eq(ld.tensor(1) + row, {11, 21, 31})
  t.eq((ld.zeros(2, 0) + ld.zeros(1, 1)).shape, {2, 0})
  t.eq((ld.zeros(3, 1, 2) + ld.zeros(4, 1)).shape, {3, 4, 2})
  t.raises(function() return ld.ones(2, 3) + ld.ones(4) end,
    'add: shapes do not broadcast: (2,3) f32 cpu and (4) f32 cpu (sizes 3 and 4)')
end)

t.test('integers', function()
  local x = i64{7, -7, 9}
  t.eq(x + 1, {8, -6, 10})
  t.eq(x * i64{2}, {14, -14, 18})
  t.eq(x / 2, {3, -3, 4}) -- towards zero
  t.eq(x / 0, {0, 0, 0}) -- defined, and no signal
  t.eq(-x, {-7, 7, -9})
  t.eq(x:gt(0), {1, 0, 1})
  t.eq(x:sum():item(), 9)
  t.raises(function() return x + 0.5 end, "add: the number 0.5 is none of (3) i64 cpu's dtype: convert with :f32()")
  t.raises(function() return x:gt(0.5) end, 'gt: the number 0.5')
  t.raises(function() x:mul_(0.5) end, 'mul_: the number 0.5')
  t.raises(function() return ld.zeros({1}, {dtype = 'u8'}) - 300 end, 'sub: the number 300')
  t.raises(function() return x + ld.ones(3) end, 'add: dtypes differ: (3) i64 cpu and (3) f32 cpu; convert one')
  t.raises(function() return x:exp() end, 'exp: (3) i64 cpu; a float is needed')
end)

t.test('in place', function()
  local x = ld.tensor{1, 2, 3}
  local same = x:add_(1):mul_(2):sub_(ld.tensor{1})
  t.eq(x, {3, 5, 7})
  t.eq(ld.same_storage(x, same), true)
  t.eq(x:clamp_(4, 6), {4, 5, 6})
  t.eq(x:div_(2), {2, 2.5, 3})
  t.eq(x:copy_(ld.tensor{9}), {9, 9, 9})
  t.eq(x:axpby_(ld.tensor{1, 2, 3}, 10, 0.5), {14.5, 24.5, 34.5})
  t.eq(x:zero_(), {0, 0, 0})
  t.eq(x:fill_(2):square_(), {4, 4, 4})
  t.raises(function() x:add_(ld.ones(2, 3)) end, 'add_: (2,3) f32 cpu does not broadcast to (3) f32 cpu')
end)

t.test('functions of one argument', function()
  local x = ld.tensor({-1, 0.25, 2}, {dtype = 'f64'})
  local same = {abs = math.abs, exp = math.exp, sin = math.sin, cos = math.cos, tan = math.tan, tanh = math.tanh,
                floor = math.floor, square = function(v) return v * v end, reciprocal = function(v) return 1 / v end,
                sigmoid = function(v) return 1 / (1 + math.exp(-v)) end, relu = function(v) return math.max(v, 0) end,
                silu = function(v) return v / (1 + math.exp(-v)) end, sign = function(v) return v > 0 and 1 or -1 end,
                leaky_relu = function(v) return v > 0 and v or 0.01 * v end, neg = function(v) return -v end,
                general_relu = function(v) return (v > 0 and v or 0.1 * v) - 0.4 end}
  for name, f in pairs(same) do
    t.near(ld[name](x), {f(-1), f(0.25), f(2)}, 1e-14, name) -- f64 rounding
    t.eq(x:clone()[name .. '_'](x:clone()), ld[name](x), name .. '_')
  end
  local p = ld.tensor({0.25, 4}, {dtype = 'f64'})
  t.near(p:log(), {math.log(0.25), math.log(4)}, 1e-14)
  t.eq(p:sqrt(), {0.5, 2})
  t.eq(p:rsqrt(), {2, 0.5})
  t.near(ld.gelu(x), {-0.15865525393145707, 0.14967658142073092, 1.9544997361036416}, 1e-12) -- x Phi(x)
  t.eq(ld.round(ld.tensor{0.5, 1.5, -0.4}), {0, 2, 0})
  t.eq(ld.affine(x, 2, 1), {-1, 1.5, 5})
end)

t.test('half-width floats compute, too', function()
  for _, dtype in ipairs{'bf16', 'f16'} do
    local x = ld.tensor({1, 2, 4}, {dtype = dtype})
    t.eq(x * 2 + x, {3, 6, 12}, dtype)
    t.eq(ld.exp(x - x), {1, 1, 1}, dtype)
    t.eq(x:sum():item(), 7, dtype)
    if ld.computes(dtype) then
      t.eq(x:matmul(x):item(), 21, dtype)
      t.eq(x:matmul(x).dtype, dtype)
    else
      t.raises(function() return x:matmul(x) end, 'f32 or f64 is needed: convert with :f32()')
    end
  end
end)

t.test('products', function()
  local a, b = ld.tensor{{1, 2}, {3, 4}}, ld.tensor{{5, 6}, {7, 8}}
  t.eq(a:matmul(b), {{19, 22}, {43, 50}})
  t.eq(a:matmul(b:transpose()), {{17, 23}, {39, 53}})
  t.eq(a:matmul(ld.tensor{1, 1}), {3, 7})
  t.eq(ld.tensor{1, 1}:matmul(a), {4, 6})
  t.eq(ld.linear(a, b, ld.tensor{100, 200}), {{117, 223}, {139, 253}})
end)

-- ---- reductions ---------------------------------------------------------------------------------------------------

t.test('reductions over dimensions', function()
  local x = ld.arange(24, {dtype = 'f64'}):reshape(2, 3, 4)
  t.eq(x:sum():item(), 276)
  t.eq(x:sum().shape, {})
  t.eq(x:sum(1), {{12, 14, 16, 18}, {20, 22, 24, 26}, {28, 30, 32, 34}})
  t.eq(x:sum(-1), {{6, 22, 38}, {54, 70, 86}})
  t.eq(x:sum({1, 3}), {60, 92, 124})
  t.eq(x:sum({1, 3}, true).shape, {1, 3, 1})
  t.eq(x:sum(2, true).shape, {2, 1, 4})
  t.eq(x:mean({2, 3}), {5.5, 17.5})
  t.eq(x:max({1, 2}), {20, 21, 22, 23})
  t.eq(x:min(3), {{0, 4, 8}, {12, 16, 20}})
  t.eq(ld.tensor{1, 2, 3}:sumsq():item(), 14)
  t.eq(ld.zeros(2, 0):sum(2), {0, 0})
  t.eq(ld.zeros(0):sum():item(), 0)
  t.raises(function() return ld.zeros(0):max() end, 'max: nothing to choose from')
  t.raises(function() return x:sum(4) end, 'sum: dimension 4; the tensor has 3 (counted from 1')
  t.raises(function() return x:sum(0) end, 'sum: dimension 0')
end)

t.test('a reduction of a large tensor keeps its digits', function()
  local x = ld.full({1000, 1000}, 0.1)
  t.near(x:sum():item(), 100000.00149, 0.05) -- f32 0.1 a million times; plain f32 sums are off by 900
  t.near(ld.mean(x):item(), 0.1, 1e-6)
end)

t.test('argmax counts from 0, as what tensors hold does', function()
  local x = ld.tensor{{1, 9, 3}, {7, 2, 7}}
  t.eq(x:argmax(2), {1, 0}) -- the first of equals
  t.eq(x:argmax(1), {1, 0, 1})
  t.eq(x:argmin(-1), {0, 1})
  t.eq(x:argmax(2, true).shape, {2, 1})
  t.eq(x:argmax(2).dtype, 'i64')
  t.raises(function() return x:argmax() end, 'argmax: the dimension must be a number, not no value')
end)

t.test('var and std', function()
  local x = ld.tensor{{1, 2, 3}, {2, 4, 9}}
  t.near(ld.var(x, 2), {1, 13}, 1e-5)
  t.near(ld.std(x, 2, true), {math.sqrt(2 / 3), math.sqrt(26 / 3)}, 1e-6)
  t.near(ld.var(x):item(), 8.3, 1e-5)
end)

-- ---- text, lists, bytes -------------------------------------------------------------------------------------------

local function prints(x, text) t.eq(tostring(x), text) end

t.test('printing', function()
  prints(ld.tensor{1, -2, 30}, '    1.  -2.  30.\n[tensor (3) f32 cpu]')
  prints(ld.tensor{0.5, -123.456}, '     0.5000 -123.4560\n[tensor (2) f32 cpu]')
  prints(ld.tensor({{1, 2}, {3, 255}}, {dtype = 'u8'}), '     1    2\n     3  255\n[tensor (2,2) u8 cpu]')
  prints(i64{123456789, -2 ^ 53}, '          123456789 -9007199254740992\n[tensor (2) i64 cpu]')
  prints(ld.tensor({1e-5, 2e-7}, {dtype = 'f64'}), '   1.0000e-05  2.0000e-07\n[tensor (2) f64 cpu]')
  prints(ld.tensor({1e8, 0.5}, {dtype = 'f64'}), '   1.0000e+08  5.0000e-01\n[tensor (2) f64 cpu]')
  prints(ld.tensor{0 / 0, -1 / 0, 1}, '  nan -inf  1.\n[tensor (3) f32 cpu]')
  prints(ld.tensor(3.25), ' 3.2500\n[tensor () f32 cpu]')
  prints(ld.zeros(0, 3), '[tensor (0,3) f32 cpu]')
  prints(ld.zeros(2):requires_grad_(), '   0.  0.\n[tensor (2) f32 cpu, requires_grad]')
  prints(ld.zeros(1):requires_grad_() * 1, '   0.\n[tensor (1) f32 cpu, has history]')
  local gone = ld.zeros(1)
  gone:release()
  prints(gone, 'released tensor')
end)

t.test('printing what is large', function()
  local text = tostring(ld.arange(10000, {dtype = 'i64'}):reshape(100, 100))
  t.ok(text:find('0     1     2     3  ...    96    97    98    99\n', 1, true), text)
  t.ok(text:find('\n  ...\n', 1, true), text)
  local _, lines = text:gsub('\n', '')
  t.eq(lines, 9) -- four rows, dots, four rows
  local four = tostring(ld.zeros(2, 1, 1, 2))
  t.ok(four:find('[1,1]\n', 1, true) and four:find('[2,1]\n', 1, true), four)
  t.ok(#tostring(ld.zeros(100, 100, 100)) < 10000)
end)

t.test('tolist, item, bytes, ptr', function()
  t.eq(ld.tensor{{1, 2}, {3, 4}}:transpose():tolist(), {{1, 3}, {2, 4}})
  t.eq(ld.tensor(7):tolist(), 7)
  t.eq(ld.zeros(2, 0):tolist(), {{}, {}})
  t.eq(ld.tensor{{5}}:item(), 5)
  t.raises(function() return ld.zeros(2):item() end, 'item: (2) f32 cpu has 2 elements; one was needed')
  t.eq(ld.tensor({{1, 2}, {3, 4}}, {dtype = 'u8'}):transpose():bytes(), '\1\3\2\4')
  t.eq(#ld.zeros(3):bytes(), 12)
  local ffi = require 'ffi'
  local x = ld.tensor({1, 2, 3}, {dtype = 'f64', device = 'cpu'})
  local p = ffi.cast('double *', x:ptr())
  p[1] = 20
  t.eq(x, {1, 20, 3})
  t.eq(ffi.cast('double *', x[3]:ptr())[0], 3)
end)

t.test('a nested loop over integers keeps them', function()
  local x = i64{2 ^ 53, -2 ^ 53, 0}
  t.eq(x:tolist(), {2 ^ 53, -2 ^ 53, 0})
  t.eq((x + 0):tolist(), {2 ^ 53, -2 ^ 53, 0})
end)

-- ---- random numbers -----------------------------------------------------------------------------------------------

t.test('seed starts the same numbers again', function()
  ld.seed(7)
  local a, b = ld.randn(5), ld.rand(5)
  ld.seed(7)
  t.eq(ld.randn(5), a)
  local seed, draws = ld.seed()
  t.eq(ld.rand(5), b)
  ld.seed(seed, draws)
  t.eq(ld.rand(5), b)
  ld.seed(8)
  t.ok(ld.randn(5):eq(a):sum():item() == 0)
  t.raises(function() ld.seed(-1) end, 'seed: -1; it must not be negative')
end)

t.test('moments of random numbers', function()
  ld.seed(3)
  local n = ld.randn({100000}, {dtype = 'f64'})
  t.near(n:mean():item(), 0, 0.016) -- 5 standard errors of 1/sqrt(100000)
  t.near(ld.var(n):item(), 1, 0.023) -- 5 of sqrt(2/100000)
  local u = ld.rand({100000}, {dtype = 'f64'})
  t.near(u:mean():item(), 0.5, 0.0046) -- 5 of 1/sqrt(12 * 100000)
  t.ok(u:min():item() >= 0 and u:max():item() < 1)
  local w = ld.zeros(100000):uniform_(2, 4)
  t.near(w:mean():item(), 3, 0.0092)
  t.ok(w:min():item() >= 2 and w:max():item() <= 4)
  t.near(ld.zeros(100000):normal_(5, 2):mean():item(), 5, 0.032)
  for _, dtype in ipairs(floats) do t.eq(ld.randn({3}, {dtype = dtype}).dtype, dtype) end
  t.raises(function() return ld.randn({3}, {dtype = 'i64'}) end, 'randn: i64; a float dtype is needed')
end)

t.test('noise is keyed by sample', function()
  local all = ld.noise({6, 2, 3}, {seed = 5})
  local part = ld.noise({2, 2, 3}, {seed = 5, first = 3})
  t.eq(part[1], all[4])
  t.eq(part[2], all[5])
  t.eq(ld.noise({6, 2, 3}, {seed = 5}), all)
  t.ok(ld.noise({6, 2, 3}, {seed = 6})[1][1][1]:item() ~= all[1][1][1]:item())
  t.ok(ld.noise({6, 2, 3}, {seed = 5, purpose = 65})[1][1][1]:item() ~= all[1][1][1]:item())
  local u = ld.noise({1000}, {seed = 1, uniform = true})
  t.ok(u:min():item() >= 0 and u:max():item() < 1)
  t.eq(ld.noise({2, 3, 4, 5}, {seed = 1, first = 1})[1], ld.noise({3, 3, 4, 5}, {seed = 1})[2], 'rank 4')
  local before = {ld.seed()}
  ld.noise({3}, {seed = 1})
  t.eq({ld.seed()}, before, 'the global generator is left alone')
end)

t.test('shuffled is a permutation', function()
  local seen = {}
  for i = 1, 100 do seen[ld.shuffled(i, 100, 1, 0)] = true end
  t.eq(#seen, 100)
  local same = 0
  for i = 1, 100 do same = same + (ld.shuffled(i, 100, 1, 0) == ld.shuffled(i, 100, 1, 1) and 1 or 0) end
  t.ok(same < 20, 'another epoch, another order')
  t.raises(function() return ld.shuffled(0, 10, 1, 0) end, 'position 0 is outside 1 .. 10')
end)

t.test('one_hot and gather', function()
  t.eq(ld.one_hot(i64{1, 0}, 3), {{0, 1, 0}, {1, 0, 0}})
  t.eq(ld.one_hot(i64{{2}}, 3, 'f64').shape, {1, 1, 3})
  t.eq(ld.gather(ld.tensor{{1, 2}, {3, 4}}, i64{1, 1, 0}), {{3, 4}, {3, 4}, {1, 2}})
  t.raises(function() return ld.gather(ld.ones(2, 2), i64{2}) end, 'gather: entry 1 is 2; 0 to 1 are possible')
  t.raises(function() return ld.gather(ld.ones(2, 2), ld.ones(1)) end, 'i64 is needed')
  t.raises(function() return ld.one_hot(i64{-1}, 3) end, 'one_hot: entry 1 is -1; 0 to 2 are possible')
end)

t.finish()
