-- Distances between sets of features, precision and recall, PSNR and SSIM: against NumPy's numbers
-- (tests/tools/make_metrics_fixture.py) and closed forms.
local ld = require 'ld'
local t = dofile 'tests/lua/harness.lua'

local metrics = ld.metrics
local fixture = ld.safetensors_open('tests/fixtures/metrics.safetensors')
local function read(name) return fixture:read(name) end
local function number(name, i) return read(name):tolist()[i or 1] end

t.test('Frechet distance: NumPy, with fewer rows than features too', function()
  t.near(metrics.frechet(read 'x', read 'y'), number 'frechet', 1e-10)
  t.near(metrics.frechet(read 'x', read 'y', {method = 'newton_schulz'}), number 'frechet', 1e-8)
  t.near(metrics.frechet(read 'wide.x', read 'wide.y'), number 'wide.frechet', 1e-9)
  t.near(metrics.frechet(read 'y', read 'x'), number 'frechet', 1e-10)
  t.near(metrics.frechet(read 'x', read 'x'), 0, 1e-10)
end)

-- Diagonal covariances commute: |m1 - m2|^2 + sum (s1 - s2)^2.
t.test('Frechet distance: diagonal covariances', function()
  local m1, m2 = ld.tensor({1, 2, 3}, {dtype = 'f64'}), ld.tensor({1, 0, 6}, {dtype = 'f64'})
  local function diagonal(list)
    local rows = {}
    for i, v in ipairs(list) do
      rows[i] = {0, 0, 0}
      rows[i][i] = v
    end
    return ld.tensor(rows, {dtype = 'f64'})
  end
  t.near(metrics.frechet_of(m1, diagonal{4, 1, 0}, m2, diagonal{9, 1, 16}), 4 + 9 + 1 + 0 + 16, 1e-12)
  -- a shift of all rows moves the distance by the square of its length
  local x = read 'x'
  t.near(metrics.frechet(x, x + 0.5), 8 * 0.25, 1e-5)
end)

-- With one feature: k(a,b) = (ab + 1)^3.
t.test('MMD^2: NumPy, and by hand', function()
  t.near(metrics.mmd2(read 'x', read 'y'), number 'mmd2', 1e-11)
  local x, y = ld.tensor({{0}, {1}, {2}}, {dtype = 'f64'}), ld.tensor({{1}, {-1}}, {dtype = 'f64'})
  local xx, yy, xy = 2 * (1 + 1 + 27) / 6, 2 * 0 / 2, (1 + 1 + 8 + 0 + 27 - 1) / 6
  t.near(metrics.mmd2(x, y), xx + yy - 2 * xy, 1e-12)
end)

-- Tiles of 512 rows against the sum over pairs in slices of other sizes.
t.test('MMD^2 and precision of sets larger than a tile', function()
  local x, y = ld.noise({1100, 3}, {seed = 1}), ld.noise({700, 3}, {seed = 2}) * 1.2
  local function sum(a, b)
    local k = ld.matmul(a:f64(), b:f64():transpose():contiguous()) * (1 / 3) + 1
    return (k * k * k):sum():item()
  end
  local function own(a)
    local k = ld.square(a:f64()):sum(2) * (1 / 3) + 1
    return (k * k * k):sum():item()
  end
  local want = (sum(x, x) - own(x)) / (1100 * 1099) + (sum(y, y) - own(y)) / (700 * 699) - 2 * sum(x, y) / (1100 * 700)
  t.near(metrics.mmd2(x, y), want, 1e-12)
  -- the rows' order does not matter to precision and recall, but which tile they lie in changes
  local order = {}
  for i = 1, 1100 do order[i] = i * 7 % 1100 end
  local p, r = metrics.precision_recall(x, y)
  t.eq({metrics.precision_recall(ld.gather(x, ld.tensor(order, {dtype = 'i64'})), y)}, {p, r})
  t.ok(p > 0.5 and p < 1 and r > 0.5 and r < 1)
end)

t.test('KID: the mean over slices', function()
  local x, y = read 'x', read 'y'
  local mean, err = metrics.kid(x, y, {blocks = 2})
  local a = metrics.mmd2(x:slice(1, 1, 30), y:slice(1, 1, 23))
  local b = metrics.mmd2(x:slice(1, 31, 60), y:slice(1, 24, 47))
  t.near(mean, (a + b) / 2, 1e-12)
  t.near(err, math.abs(a - b) / 2, 1e-12)
end)

t.test('precision and recall: NumPy', function()
  for _, k in ipairs{1, 3} do
    local p, r = metrics.precision_recall(read 'x', read 'y', {k = k})
    t.near({p, r}, read('precision_recall.' .. k), 1e-12)
  end
  t.near({metrics.precision_recall(read 'wide.x', read 'wide.y')}, read 'wide.precision_recall.3', 1e-12)
end)

-- Real rows at 0, 1, 2, 3 and 100; with k = 1 balls of radius 1, that of 100 is 97 wide.
t.test('precision and recall: by hand', function()
  local real = ld.tensor({{0}, {1}, {2}, {3}, {100}})
  local made = ld.tensor({{-1}, {-1.5}, {2.5}, {150}, {198}})
  -- of the made: -1 is at the rim of 0's ball, -1.5 outside; 2.5 inside, 150 within 97 of 100, 198 not
  -- balls of the made: 0.5, 0.5, 3.5 (to -1), 48, 48; of the real only 0, 1, 2, 3 lie in one, that of 2.5
  t.near({metrics.precision_recall(real, made, {k = 1})}, {3 / 5, 4 / 5}, 1e-12)
  t.eq({metrics.precision_recall(real, real)}, {1, 1})
  local far = made + 1000
  t.eq({metrics.precision_recall(real, far, {k = 1})}, {0, 0})
  -- rows that are there five times have balls without size, and their copies lie in them
  local x = ld.noise({3, 40}, {seed = 8}) * 1e3
  local copies = ld.concat({x, x, x, x, x}, 1)
  t.eq({metrics.precision_recall(copies, ld.concat({x, x:slice(1, 2, 2)}, 1), {k = 3})}, {1, 1})
  t.eq({metrics.precision_recall(copies, copies)}, {1, 1})
end)

t.test('PSNR and SSIM: NumPy, window by window', function()
  local x, y = read 'picture.x', read 'picture.y'
  local mean, list = metrics.psnr(x, y)
  t.near(list, read 'psnr', 1e-9)
  t.near(mean, (list[1] + list[2]) / 2, 1e-12)
  local s, each = metrics.ssim(x, y)
  t.near(each, read 'ssim', 1e-12)
  t.near(s, (each[1] + each[2]) / 2, 1e-12)
  -- as f32 in [0,1] nearly the same
  t.near({(metrics.ssim(x:f32() / 255, y:f32() / 255))}, {s}, 1e-6)
end)

t.test('PSNR and SSIM: closed forms', function()
  local x = read 'picture.x':slice(1, 1, 1)
  t.eq(metrics.psnr(x, x), math.huge)
  t.near(metrics.ssim(x, x), 1, 1e-12)
  local flat, other = ld.full({1, 1, 16, 16}, 0.5), ld.full({1, 1, 16, 16}, 0.6)
  t.near(metrics.psnr(flat, other), 20, 1e-5)
  t.near(metrics.ssim(flat, other), (2 * 0.5 * 0.6 + 1e-4) / (0.25 + 0.36 + 1e-4), 1e-6) -- no variance is left
end)

t.test('what the metrics refuse', function()
  local x = read 'x'
  for _, f in ipairs{metrics.frechet, metrics.mmd2, metrics.kid, metrics.precision_recall} do
    t.raises(function() f(x, read 'wide.x') end, 'the sets have 8 and 33 features a row')
    t.raises(function() f(x, x:slice(1, 1, 1)) end, 'at least 2 rows')
    t.raises(function() f(x, 3) end, 'not number')
    local bad = x:clone()
    bad:slice(1, 3, 3):copy_(ld.full({1, 8}, 0 / 0))
    t.raises(function() f(bad, x) end, 'not finite')
    t.raises(function() f(x, x / 0) end, 'not finite')
  end
  t.raises(function() metrics.precision_recall(x, x, {k = 60}) end, 'k = 60; a whole number from 1 to 59')
  t.raises(function() metrics.precision_recall(x, x, {k = 1.5}) end, 'k = 1.5')
  t.raises(function() metrics.frechet(x, x, {method = 'guess'}) end, "unknown method 'guess'")
  t.raises(function() metrics.eigenvalues(x) end, 'square matrix')
  t.raises(function() metrics.ssim(ld.zeros(1, 3, 10, 20), ld.zeros(1, 3, 10, 20)) end, 'at least 11 x 11')
  t.raises(function() metrics.psnr(ld.zeros(1, 3, 10, 20), ld.zeros(1, 3, 20, 10)) end, '(1,3,10,20) and (1,3,20,10)')
  t.raises(function() metrics.psnr(ld.zeros(3), ld.zeros(3)) end, 'pictures are a tensor')
end)

t.finish()
