-- conv2d{upsample = true} is upsample_nearest and conv2d, whichever way computes it. The environment variable LD_CONV
-- is read at each call.
local t = dofile 'tests/lua/harness.lua'
local ld = require 'ld'
local ffi = require 'ffi'
local nn = ld.nn

ffi.cdef 'int setenv(const char *name, const char *value, int overwrite); int unsetenv(const char *name);'

-- Where a way does not fit, the rule chooses.
local WAYS = {'direct', 'blocked', 'winograd', 'folded', 'rule'}
local UP = {padding = 1, upsample = true}
-- Of the L2 norm; folded weights are rounded sums, Winograd adds before it multiplies (measured: about 1e-6).
local TOL = 3e-6

local function with_way(way, f)
  ffi.C.setenv('LD_CONV', way, 1)
  local ok, why = pcall(f)
  ffi.C.unsetenv('LD_CONV')
  if not ok then error(why, 0) end
end

-- Results and gradients of one way to write it down, by name.
local function compute(f, tensors, g)
  local x, w, b = tensors.x:detach(), tensors.w:detach(), tensors.b and tensors.b:detach() or nil
  for _, v in ipairs{x, w, b} do v:requires_grad_(true) end
  local y = f(x, w, b)
  y:backward(g)
  return {y = y:detach(), dx = x.grad, dw = w.grad, db = b and b.grad or nil}
end

local function upsampled(x, w, b) return ld.conv2d(x, w, b, UP) end
local function two_steps(x, w, b) return ld.conv2d(ld.upsample_nearest(x, 2), w, b, {padding = 1}) end

local function distance(a, b)
  a, b = a:f64(), b:f64()
  local d = a - b
  return math.sqrt((d * d):sum():item() / (b * b):sum():item())
end

-- n, c, h, w, o, bias
local cases = {{2, 32, 6, 5, 48, true}, {1, 3, 4, 4, 7, true}, {3, 16, 1, 1, 16, false}, {2, 64, 4, 4, 32, true},
               {1, 32, 8, 8, 3, true}}

t.test('upsample = true is upsample_nearest and a convolution, under every way', function()
  for _, c in ipairs(cases) do
    local n, channels, h, w, o = unpack(c)
    local single = {x = ld.randn(n, channels, h, w), w = ld.randn(o, channels, 3, 3) * 0.1,
                    b = c[6] and ld.randn(o) or nil}
    local g = ld.randn(n, o, 2 * h, 2 * w)
    local double = {x = single.x:f64(), w = single.w:f64(), b = single.b and single.b:f64() or nil}
    local want = compute(two_steps, double, g:f64())
    for name, value in pairs(compute(upsampled, double, g:f64())) do
      t.ok(distance(value, want[name]) < 1e-13, name .. ' in f64')
    end
    for _, way in ipairs(WAYS) do
      with_way(way, function()
        for kind, f in pairs{upsampled = upsampled, ['in two steps'] = two_steps} do
          local got = compute(f, single, g)
          t.eq(got.y.shape, {n, o, 2 * h, 2 * w})
          for name, value in pairs(got) do
            local d = distance(value, want[name])
            t.ok(d < TOL, ('%s, %s, %s of %d -> %d channels: off by %.3g'):format(way, kind, name, channels, o, d))
          end
        end
      end)
    end
  end
end)

t.test('without a gradient too, again and again with the same weights', function()
  local x, w = ld.randn(2, 32, 4, 4), ld.randn(48, 32, 3, 3)
  local want = two_steps(x:f64(), w:f64())
  for _, way in ipairs(WAYS) do
    with_way(way, function()
      local first = upsampled(x, w)
      t.ok(distance(first, want) < TOL, way)
      for _ = 1, 3 do t.eq(ld.json_encode(upsampled(x, w):tolist()), ld.json_encode(first:tolist()), way) end
      t.ok(distance(upsampled(x, w * 2), want * 2) < TOL, way)
    end)
  end
end)

t.test('the ways differ in rounding, so the variable does count', function()
  local x, w, seen, count = ld.randn(2, 32, 8, 8), ld.randn(32, 32, 3, 3), {}, 0
  for _, way in ipairs{'direct', 'winograd', 'folded'} do
    with_way(way, function()
      local text = ld.json_encode(upsampled(x, w):tolist())
      if not seen[text] then seen[text], count = true, count + 1 end
    end)
  end
  t.eq(count, 3)
  t.raises(function() with_way('fast', function() upsampled(x, w) end) end,
    "LD_CONV is 'fast'; known: direct, blocked, winograd, folded, rule, auto")
end)

t.test('what upsample does not go with', function()
  local x, w3, w5 = ld.ones(1, 2, 4, 4), ld.ones(3, 2, 3, 3), ld.ones(3, 2, 5, 5)
  local text = 'conv2d: with upsample the kernel is 3 x 3, stride 1, padding 1; weight is '
  t.raises(function() ld.conv2d(x, w5, nil, UP) end, text .. '(3,2,5,5) f32 cpu, stride 1 x 1, padding 1 1 1 1')
  t.raises(function() ld.conv2d(x, w3, nil, {padding = 1, stride = 2, upsample = true}) end,
    text .. '(3,2,3,3) f32 cpu, stride 2 x 2, padding 1 1 1 1')
  t.raises(function() ld.conv2d(x, w3, nil, {upsample = true}) end,
    text .. '(3,2,3,3) f32 cpu, stride 1 x 1, padding 0 0 0 0')
  t.raises(function() ld.conv2d(x, w3, nil, {padding = 1, upsample = 2}) end, 'conv2d: upsample must be')
  for _, wrong in ipairs{{kernel = 5, padding = 1}, {kernel = 3, padding = 1, stride = 2}, {kernel = 3},
                         {kernel = {3, 1}, padding = 1}, {kernel = 3, padding = {1, 1, 1, 0}}} do
    wrong.in_channels, wrong.out_channels, wrong.upsample = 2, 3, true
    t.raises(function() nn.conv2d(wrong) end, 'conv2d: upsample takes a kernel of 3, stride 1 and padding 1')
  end
  t.raises(function() nn.conv_transpose2d{in_channels = 2, out_channels = 3, kernel = 3, upsample = true} end,
    "unknown option 'upsample'")
end)

t.test('as a layer', function()
  local conv = nn.conv2d{in_channels = 2, out_channels = 3, kernel = 3, padding = 1, upsample = true}
  t.eq(tostring(conv), 'conv2d(2, 3, kernel 3, stride 1, padding 1, upsample)  57')
  local plain = nn.conv2d{in_channels = 2, out_channels = 3, kernel = 3, padding = 1, bias = false, upsample = true}
  t.eq(tostring(plain), 'conv2d(2, 3, kernel 3, stride 1, padding 1, upsample, no bias)  54')
  t.ok(not tostring(nn.conv2d{in_channels = 2, out_channels = 3, kernel = 3, padding = 1}):find 'upsample')
  local x, p = ld.randn(2, 2, 3, 5), conv:parameters()
  t.eq(p[1].shape, {3, 2, 3, 3})
  t.eq(conv(x), ld.conv2d(x, p[1], p[2], UP))
  t.eq(conv(x).shape, {2, 3, 6, 10})
end)

t.finish()
