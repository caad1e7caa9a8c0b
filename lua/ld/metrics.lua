-- How far apart two sets of features are: Frechet distance (FID, when the features are Inception's) and the kernel
-- distance KID. All in f64 on the CPU. Precision and recall are in metrics_manifold.lua, PSNR and SSIM in
-- metrics_picture.lua, the evaluation of a model in metrics_record.lua. Source: method section 8; Heusel et al. 2017,
-- arXiv:1706.08500; Binkowski et al. 2018, arXiv:1801.01401.
local core = require 'ld.core'
local matrix = require 'ld.metrics_matrix'
local take = require 'ld.take'

local metrics = {eigenvalues = matrix.eigenvalues}

for _, part in ipairs{'ld.metrics_manifold', 'ld.metrics_picture'} do
  for name, f in pairs(require(part)) do metrics[name] = f end
end

-- ---- Frechet distance ----------------------------------------------------------------------------------------------

--- Mean (d) and covariance (d,d; divided by N - 1) of features (N,d), in f64.
function metrics.statistics(x)
  return core.no_grad(function()
    x = matrix.rows('metrics.statistics', x)
    local mean = x:mean(1)
    local centred = x - mean
    return mean, core.matmul(centred:transpose():contiguous(), centred) * (1 / (x.shape[1] - 1))
  end)
end

-- tr sqrt(S1 S2), for covariances: S1 = F F' and F' S2 F has the eigenvalues of S1 S2 that are not 0.
local function trace_by_eigenvalues(s1, s2)
  local f, sum = matrix.factor(s1), 0
  if not f then return 0 end
  local m = core.matmul(core.matmul(f:transpose():contiguous(), s2), f:contiguous())
  for _, value in ipairs(metrics.eigenvalues((m + m:transpose()) * 0.5):tolist()) do
    if value > 0 then sum = sum + math.sqrt(value) end
  end
  return sum
end

local function norm(x) return math.sqrt(x:sumsq():item()) end

-- The same by the coupled Newton-Schulz iteration on S1 S2. It cannot end where the product is singular, that is with
-- fewer rows than features.
local function trace_by_newton_schulz(s1, s2)
  local a = core.matmul(s1, s2)
  local n, scale = a.shape[1], norm(a)
  if scale == 0 then return 0 end
  local eye = core.one_hot(core.arange(n, {dtype = 'i64', device = a.device}), n, 'f64')
  local y, z, before = a * (1 / scale), eye, math.huge
  for _ = 1, 100 do
    local following, zt, residual = core.scope(function()
      local t = (eye * 3 - core.matmul(z, y)) * 0.5
      local yt = core.matmul(y, t)
      return yt, core.matmul(t, z), norm(core.matmul(yt, yt) * scale - a) / scale
    end)
    if residual > before and before < 1e-6 then break end -- rounding has begun to grow
    y, z = following, zt
    if residual < 1e-13 or residual ~= residual then break end
    before = residual
  end
  local value = matrix.trace(y) * math.sqrt(scale)
  if value ~= value or before > 1e-6 then
    core.fail('metrics.frechet: Newton-Schulz does not converge on these covariances; use the eigenvalues')
  end
  return value
end

local methods = {eigenvalues = trace_by_eigenvalues, newton_schulz = trace_by_newton_schulz}

--- Frechet distance of two Gaussians: frechet_of(mean1, cov1, mean2, cov2, {method = 'eigenvalues'}).
-- |m1 - m2|^2 + tr(S1 + S2 - 2 sqrt(S1 S2)). method 'newton_schulz' is there to check the other.
function metrics.frechet_of(mean1, cov1, mean2, cov2, options)
  local o = take('metrics.frechet', options, {method = 'eigenvalues'})
  local method = methods[o.method]
  if not method then
    core.fail(("metrics.frechet: unknown method '%s'; known: eigenvalues newton_schulz"):format(o.method))
  end
  mean1, cov1, mean2, cov2 = mean1:cpu(), cov1:cpu(), mean2:cpu(), cov2:cpu()
  return core.no_grad(function()
    return core.sumsq(mean1 - mean2):item() + matrix.trace(cov1) + matrix.trace(cov2) - 2 * method(cov1, cov2)
  end)
end

--- Frechet distance of two sets of features (N,d) and (M,d): frechet(x, y, {method = 'eigenvalues'}).
function metrics.frechet(x, y, options)
  x, y = matrix.pair('metrics.frechet', x, y)
  local m1, s1 = metrics.statistics(x)
  local m2, s2 = metrics.statistics(y)
  return metrics.frechet_of(m1, s1, m2, s2, options)
end

-- ---- kernel distance -----------------------------------------------------------------------------------------------

-- Sum of k(a,b) = (a.b / d + 1)^3 over all pairs of rows of x and y, or of x and itself.
local function kernel_sum(x, y)
  local sum = 0
  matrix.tiles(x, y, function(tile, i, j)
    local k = tile:affine(1 / x.shape[2], 1)
    local part = (core.square(k) * k):sum():item()
    sum = sum + (y == nil and i < j and 2 or 1) * part
  end)
  return sum
end

-- Sum of k(a,a).
local function kernel_diagonal(x)
  local k = core.square(x):sum(2):affine(1 / x.shape[2], 1)
  return (core.square(k) * k):sum():item()
end

--- Unbiased squared maximum mean discrepancy of two sets (N,d), (M,d) with the kernel (a.b / d + 1)^3.
function metrics.mmd2(x, y)
  x, y = matrix.pair('metrics.mmd2', x, y)
  return core.no_grad(function()
    local n, m = x.shape[1], y.shape[1]
    return (kernel_sum(x) - kernel_diagonal(x)) / (n * (n - 1)) +
      (kernel_sum(y) - kernel_diagonal(y)) / (m * (m - 1)) - 2 * kernel_sum(x, y) / (n * m)
  end)
end

--- KID: the mean of mmd2 over `blocks` consecutive slices of both sets, by default one for every 50 rows of the smaller
-- set and at least 4. Also the standard error of that mean.
function metrics.kid(x, y, options)
  x, y = matrix.pair('metrics.kid', x, y)
  local o = take('metrics.kid', options, {blocks = take.optional})
  local n, m = x.shape[1], y.shape[1]
  local blocks = o.blocks or math.max(math.ceil(math.min(n, m) / 50), 4)
  if blocks < 1 or math.min(n, m) < 2 * blocks then
    core.fail(('metrics.kid: %d blocks of sets of %d and %d rows; each needs 2 rows'):format(blocks, n, m))
  end
  local function part(set, count, i)
    return set:slice(1, math.floor((i - 1) * count / blocks) + 1, math.floor(i * count / blocks))
  end
  local sum, squares = 0, 0
  for i = 1, blocks do
    local value = metrics.mmd2(part(x, n, i), part(y, m, i))
    sum, squares = sum + value, squares + value * value
  end
  local mean = sum / blocks
  local error_of_mean = blocks > 1 and math.sqrt(math.max(squares / blocks - mean * mean, 0) / (blocks - 1)) or 0
  return mean, error_of_mean
end

-- Evaluations load networks and stores: only when they are asked for.
return setmetatable(metrics, {__index = function(t, key)
  local value = require('ld.metrics_record')[key]
  if value == nil then core.fail(("ld.metrics has no '%s'"):format(tostring(key))) end
  rawset(t, key, value)
  return value
end})
