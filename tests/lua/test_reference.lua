-- Recorded numbers of PyTorch: the reduced set that the repository ships, and the full one where there is one, in
-- $LD_REFERENCE or beside the repository. Also that a recorded number that is wrong is noticed, and ld.metrics.
local ffi = require 'ffi'
local ld = require 'ld'
local t = dofile 'tests/lua/harness.lua'
local reference = dofile 'tests/reference/init.lua'
local Source = dofile 'tests/reference/source.lua'

local SHIPPED = 'tests/fixtures/reference'
local tmp = assert(os.getenv('TEST_TMP'), 'TEST_TMP must name an empty folder')

local function silent() end

-- Nothing fails, nothing is left aside, nothing is left out.
local function agrees(folder)
  local report = reference.run(folder, silent)
  t.eq(report.failed, {})
  t.eq(report.skipped, {})
  t.eq(report.unused, {})
  t.ok(report.tensors > 250, 'number of tensors')
end

t.test('the shipped set agrees', function() agrees(SHIPPED) end)

-- LD_CONV is read at every convolution.
ffi.cdef 'int setenv(const char *name, const char *value, int overwrite);'
for _, way in ipairs{'direct', 'blocked', 'winograd', 'folded'} do
  t.test('the shipped set agrees, convolutions ' .. way, function()
    local before = os.getenv('LD_CONV')
    ffi.C.setenv('LD_CONV', way, 1)
    local ok, why = pcall(agrees, SHIPPED)
    ffi.C.setenv('LD_CONV', before or 'auto', 1)
    if not ok then error(why, 0) end
  end)
end

local full = os.getenv('LD_REFERENCE') or '../shared/reference'
if ld.core.file_kind(full) == 'folder' then
  t.test('the full set agrees', function() agrees(full) end)
else
  t.skip('the full set agrees', 'no folder ' .. full .. ' (LD_REFERENCE names another)')
end

-- ---- wrong numbers are noticed -------------------------------------------------------------------------------------

-- A file of the shipped set with one tensor changed, alone in a folder, must give one failed group (or `groups`) that
-- names the tensor.
local function notices(file, name, change, groups)
  local source, tensors = Source.open(SHIPPED .. '/' .. file), {}
  for _, key in ipairs(source.list) do tensors[key] = source:read(key):clone() end
  tensors[name] = change(tensors[name])
  local folder = tmp .. '/' .. name
  ld.make_dirs(folder)
  ld.safetensors_write(folder .. '/' .. file, tensors, source.meta)
  local report = reference.run(folder, silent)
  t.eq(#report.failed, groups or 1, name .. ': failed groups')
  t.ok(report.failed[1]:find(name:gsub('^train%.grad%.', ''), 1, true), report.failed[1])
end

local function scaled(by) return function(x) return x * by end end

local function nan(x)
  local y = x:clone():reshape(x:numel())
  y[1] = 0 / 0
  return y:reshape(x.shape)
end

t.test('an output that is wrong by 2e-5 is noticed', function()
  notices('unet.safetensors', 'train.out', scaled(1 + 2e-5))
  notices('unet.safetensors', 'eval.out', scaled(1 + 2e-5))
  notices('classifier.safetensors', 'pll.per_sample', scaled(1 + 2e-5))
end)

t.test('a loss, a running statistic that are wrong by 2e-5 are noticed', function()
  notices('unet.safetensors', 'train.loss', scaled(1 + 2e-5))
  notices('classifier.safetensors', 'pll.loss', scaled(1 + 2e-5))
end)

t.test('a gradient that is wrong by 2e-4 is noticed', function()
  notices('unet.safetensors', 'train.grad.conv_in.weight', scaled(1 + 2e-4))
  notices('classifier.safetensors', 'pll.grad_eps_hat', scaled(1 + 2e-4))
end)

t.test('a trajectory, a schedule that are wrong by 3e-6 are noticed', function()
  local file = 'sampling_and_optim.safetensors'
  notices(file, 'ddim.10.eta1.0.x_after.5', scaled(1 + 3e-6))
  notices(file, 'optim.adamw.w_after.10', scaled(1 + 3e-6))
  notices(file, 'one_cycle.50.beta1', scaled(1 + 3e-6))
  notices(file, 'ddpm.abar', scaled(1 + 3e-6))
  notices(file, 'fid.value', scaled(1 + 3e-6), 2) -- by both methods
end)

t.test('a NaN, another shape are noticed', function()
  notices('unet.safetensors', 'eval.out', nan)
  notices('unet.safetensors', 'eval.out', function(x) return x:slice(1, 1, 2):contiguous() end)
end)

-- ---- metrics -------------------------------------------------------------------------------------------------------

t.test('eigenvalues', function()
  local second = ld.tensor{{2, -1, 0, 0}, {-1, 2, -1, 0}, {0, -1, 2, -1}, {0, 0, -1, 2}}
  local want = {}
  for k = 1, 4 do want[k] = 2 - 2 * math.cos(k * math.pi / 5) end
  t.near(ld.metrics.eigenvalues(second), want, 1e-14)
  t.near(ld.metrics.eigenvalues(ld.tensor{{0, 3}, {3, 0}}), {-3, 3}, 1e-14)
  t.eq(ld.metrics.eigenvalues(ld.zeros(3, 3)), {0, 0, 0})
  t.eq(ld.metrics.eigenvalues(ld.tensor{{7}}), {7})
  t.eq(ld.metrics.eigenvalues(ld.tensor{{4, 0, 0}, {0, 1, 0}, {0, 0, 9}}), {1, 4, 9})
  -- the sums of the eigenvalues and of their squares are the trace and the squared norm
  local x = ld.noise({40, 40}, {seed = 3}):to('f64')
  local s = x + x:transpose()
  local values, trace = ld.metrics.eigenvalues(s), 0
  for i = 1, 40 do trace = trace + s[i][i]:item() end
  t.near(values:sum():item(), trace, 1e-11)
  t.near(values:sumsq():item(), s:sumsq():item(), 1e-10)
  t.raises(function() ld.metrics.eigenvalues(ld.zeros(2, 3)) end, 'a square matrix is needed')
end)

t.test('Frechet distance of Gaussians whose distance is known', function()
  local function gaussian(mean, variances)
    local n, rows = #mean, {}
    for i = 1, n do
      rows[i] = {}
      for j = 1, n do rows[i][j] = i == j and variances[i] or 0 end
    end
    return ld.tensor(mean, {dtype = 'f64'}), ld.tensor(rows, {dtype = 'f64'})
  end
  local m1, s1 = gaussian({0, 0, 1}, {1, 4, 9})
  local m2, s2 = gaussian({3, 0, 1}, {4, 4, 1})
  for _, method in ipairs{'eigenvalues', 'newton_schulz'} do
    t.near(ld.metrics.frechet_of(m1, s1, m2, s2, {method = method}), 9 + 1 + 0 + 4, 1e-12, method)
  end
  t.raises(function() ld.metrics.frechet_of(m1, s1, m2, s2, {method = 'svd'}) end, "unknown method 'svd'")
end)

t.test('Frechet distance with fewer rows than features', function()
  local x, y = ld.noise({20, 64}, {seed = 1}), ld.noise({20, 64}, {seed = 2}) * 2
  local d = ld.metrics.frechet(x, y)
  t.near(ld.metrics.frechet(y, x), d, 1e-9)
  t.near(ld.metrics.frechet(x, x), 0, 1e-9)
  -- orthogonal changes of basis change nothing
  local flipped = ld.core.flip(x, 2) * -1
  t.near(ld.metrics.frechet(flipped, ld.core.flip(y, 2) * -1), d, 1e-9)
end)

t.test('MMD and KID', function()
  local x, y = ld.tensor{{1, 0}, {0, 1}, {1, 1}}, ld.tensor{{2, 0}, {0, 2}}
  local function k(a, b) return ((a[1] * b[1] + a[2] * b[2]) / 2 + 1) ^ 3 end
  local a, b, want = x:tolist(), y:tolist(), 0
  for i = 1, 3 do
    for j = 1, 3 do if i ~= j then want = want + k(a[i], a[j]) / 6 end end
    for j = 1, 2 do want = want - 2 * k(a[i], b[j]) / 6 end
  end
  want = want + 2 * k(b[1], b[2]) / 2
  t.near(ld.metrics.mmd2(x, y), want, 1e-13)
  local p, q = ld.noise({1100, 8}, {seed = 1}), ld.noise({1050, 8}, {seed = 2}) + 0.5
  local mean = ld.metrics.kid(p, q)
  t.near(mean, ld.metrics.mmd2(p, q), 0.05)
  t.near(ld.metrics.kid(p, q, {blocks = 1}), ld.metrics.mmd2(p, q), 1e-13)
  t.raises(function() ld.metrics.mmd2(x, ld.zeros(4, 3)) end, 'have 2 and 3 features')
  t.raises(function() ld.metrics.kid(x, y) end, 'each needs 2 rows')
end)

t.finish()
