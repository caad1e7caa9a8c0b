-- How far apart two sets of features are: Frechet distance (FID, when the features are Inception's) and the kernel
-- distance KID. All in f64 on the CPU. Source: method section 8; Heusel et al. 2017, arXiv:1706.08500; Binkowski et al.
-- 2018, arXiv:1801.01401.
local ffi = require 'ffi'
local core = require 'ld.core'
local take = require 'ld.take'

local metrics = {}

-- (N,d) features as f64 on the CPU.
local function features(who, x)
  if not core.is_tensor(x) or x.ndim ~= 2 or x.shape[1] < 2 then
    core.fail(('%s: features are a tensor (N,d) with at least 2 rows, not %s'):format(who,
      core.is_tensor(x) and x:describe() or type(x)))
  end
  return x:detach():to('cpu'):to('f64')
end

local function pair(who, x, y)
  x, y = features(who, x), features(who, y)
  if x.shape[2] ~= y.shape[2] then
    core.fail(('%s: the sets have %d and %d features a row'):format(who, x.shape[2], y.shape[2]))
  end
  return x, y
end

-- ---- symmetric matrices as rows of doubles -------------------------------------------------------------------------

-- A copy of a tensor's elements, row-major.
local function doubles(x)
  local n, bytes = x:numel(), x:bytes()
  local a = ffi.new('double[?]', math.max(n, 1))
  ffi.copy(a, bytes, 8 * n)
  return a
end

local function to_tensor(a, rows, columns)
  local x = core.zeros(rows, columns, {dtype = 'f64', device = 'cpu'})
  ffi.copy(x:ptr(), a, 8 * rows * columns)
  return x
end

-- F (n,r) with F F' = S for a symmetric S (n,n) without negative eigenvalues: Cholesky with the largest remaining
-- diagonal element first, which ends by itself at S's rank r. About n^2 r operations.
local function factor(s)
  local n = s.shape[1]
  local a, d, used = doubles(s), ffi.new('double[?]', n), {}
  local f = ffi.new('double[?]', n * n) -- row k: column k of F
  local most = 0
  for i = 0, n - 1 do
    d[i] = a[i * n + i]
    most = math.max(most, d[i])
  end
  local rank = 0
  for k = 0, n - 1 do
    local p, top = -1, n * 2.2e-16 * most
    for i = 0, n - 1 do
      if not used[i] and d[i] > top then p, top = i, d[i] end
    end
    if p < 0 then break end
    used[p] = true
    local row, root = f + k * n, math.sqrt(top)
    for i = 0, n - 1 do row[i] = a[p * n + i] end
    for j = 0, k - 1 do
      local other = f + j * n
      local c = other[p]
      for i = 0, n - 1 do row[i] = row[i] - c * other[i] end
    end
    for i = 0, n - 1 do
      row[i] = (used[i] and i ~= p) and 0 or row[i] / root
      d[i] = d[i] - row[i] * row[i]
    end
    rank = k + 1
  end
  if rank == 0 then return nil end
  return to_tensor(f, rank, n):transpose()
end

-- Householder: the diagonal d and subdiagonal e (e[i] beside d[i - 1] and d[i]) of a tridiagonal matrix with the
-- eigenvalues of a (n,n), which is overwritten. Golub & Van Loan, algorithm 8.3.1; 4/3 n^3 operations.
local function tridiagonal(a, n)
  local d, e = ffi.new('double[?]', n), ffi.new('double[?]', n)
  local v, p = ffi.new('double[?]', n), ffi.new('double[?]', n)
  for k = 0, n - 3 do
    local norm = 0
    for i = k + 1, n - 1 do
      v[i] = a[k * n + i]
      norm = norm + v[i] * v[i]
    end
    norm = math.sqrt(norm)
    local alpha = v[k + 1] > 0 and -norm or norm
    e[k + 1] = alpha
    v[k + 1] = v[k + 1] - alpha
    local square = 2 * norm * (norm + math.abs(v[k + 1] + alpha))
    if square > 0 then
      local beta, dot = 2 / square, 0
      for i = k + 1, n - 1 do
        local row, sum = a + i * n, 0
        for j = k + 1, n - 1 do sum = sum + row[j] * v[j] end
        p[i] = beta * sum
        dot = dot + p[i] * v[i]
      end
      local half = beta * dot / 2
      for i = k + 1, n - 1 do p[i] = p[i] - half * v[i] end
      for i = k + 1, n - 1 do
        local row, vi, pi = a + i * n, v[i], p[i]
        for j = k + 1, n - 1 do row[j] = row[j] - vi * p[j] - pi * v[j] end
      end
    end
  end
  for i = 0, n - 1 do d[i] = a[i * n + i] end
  if n > 1 then e[n - 1] = a[(n - 2) * n + n - 1] end
  return d, e
end

-- One implicit QL step from l to m with Wilkinson's shift (d, e as tridiagonal gives them).
local function ql_step(d, e, l, m)
  local g = (d[l + 1] - d[l]) / (2 * e[l + 1])
  local r = math.sqrt(g * g + 1)
  g = d[m] - d[l] + e[l + 1] / (g + (g >= 0 and r or -r))
  local s, c, p = 1, 1, 0
  for i = m - 1, l, -1 do
    local f, b = s * e[i + 1], c * e[i + 1]
    r = math.sqrt(f * f + g * g)
    if i + 2 <= m then e[i + 2] = r end
    if r == 0 then
      d[i + 1] = d[i + 1] - p
      return
    end
    s, c = f / r, g / r
    g = d[i + 1] - p
    local w = (d[i] - g) * s + 2 * c * b
    p = s * w
    d[i + 1] = g + p
    g = c * w - b
  end
  d[l] = d[l] - p
  e[l + 1] = g
end

local function ql(d, e, n)
  local largest = 0
  for i = 0, n - 1 do largest = math.max(largest, math.abs(d[i]) + (i > 0 and math.abs(e[i]) or 0)) end
  for l = 0, n - 1 do
    for turn = 1, 101 do
      local m = l
      while m < n - 1 do
        local around = math.max(math.abs(d[m]) + math.abs(d[m + 1]), 1e-3 * largest)
        if math.abs(e[m + 1]) <= 2.2e-16 * around then break end
        m = m + 1
      end
      if m == l then break end
      if turn > 100 then core.fail('metrics: the eigenvalues do not converge; is there a NaN among the features?') end
      ql_step(d, e, l, m)
    end
  end
end

--- Eigenvalues (n) f64 of a symmetric matrix (n,n), rising.
function metrics.eigenvalues(s)
  if s.ndim ~= 2 or s.shape[1] ~= s.shape[2] then
    core.fail(('metrics.eigenvalues: a square matrix is needed, not %s'):format(s:describe()))
  end
  local n, list = s.shape[1], {}
  local d, e = tridiagonal(doubles(s:detach():to('cpu'):to('f64')), n)
  ql(d, e, n)
  for i = 0, n - 1 do list[i + 1] = d[i] end
  table.sort(list)
  return core.tensor(list, {dtype = 'f64', device = 'cpu'})
end

-- ---- Frechet distance ----------------------------------------------------------------------------------------------

local function trace(s)
  local at, n, sum = doubles(s), s.shape[1], 0
  for i = 0, n - 1 do sum = sum + at[i * n + i] end
  return sum
end

--- Mean (d) and covariance (d,d; divided by N - 1) of features (N,d), in f64.
function metrics.statistics(x)
  return core.no_grad(function()
    x = features('metrics.statistics', x)
    local mean = x:mean(1)
    local centred = x - mean
    return mean, core.matmul(centred:transpose():contiguous(), centred) * (1 / (x.shape[1] - 1))
  end)
end

-- tr sqrt(S1 S2), for covariances: S1 = F F' and F' S2 F has the eigenvalues of S1 S2 that are not 0.
local function trace_by_eigenvalues(s1, s2)
  local f, sum = factor(s1), 0
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
  local value = trace(y) * math.sqrt(scale)
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
    return core.sumsq(mean1 - mean2):item() + trace(cov1) + trace(cov2) - 2 * method(cov1, cov2)
  end)
end

--- Frechet distance of two sets of features (N,d) and (M,d): frechet(x, y, {method = 'eigenvalues'}).
function metrics.frechet(x, y, options)
  x, y = pair('metrics.frechet', x, y)
  local m1, s1 = metrics.statistics(x)
  local m2, s2 = metrics.statistics(y)
  return metrics.frechet_of(m1, s1, m2, s2, options)
end

-- ---- kernel distance -----------------------------------------------------------------------------------------------

-- Sum of k(a,b) = (a.b / d + 1)^3 over all pairs of rows, 1024 rows of x at a time.
local function kernel_sum(x, y)
  local n, sum, turned = x.shape[1], 0, y:transpose():contiguous()
  for first = 1, n, 1024 do
    sum = sum + core.scope(function()
      local k = core.matmul(x:slice(1, first, math.min(first + 1023, n)), turned):affine(1 / x.shape[2], 1)
      return (core.square(k) * k):sum():item()
    end)
  end
  return sum
end

-- Sum of k(a,a).
local function kernel_diagonal(x)
  local k = core.square(x):sum(2):affine(1 / x.shape[2], 1)
  return (core.square(k) * k):sum():item()
end

--- Unbiased squared maximum mean discrepancy of two sets (N,d), (M,d) with the kernel (a.b / d + 1)^3.
function metrics.mmd2(x, y)
  x, y = pair('metrics.mmd2', x, y)
  return core.no_grad(function()
    local n, m = x.shape[1], y.shape[1]
    return (kernel_sum(x, x) - kernel_diagonal(x)) / (n * (n - 1)) +
      (kernel_sum(y, y) - kernel_diagonal(y)) / (m * (m - 1)) - 2 * kernel_sum(x, y) / (n * m)
  end)
end

--- KID: the mean of mmd2 over `blocks` consecutive slices of both sets, by default one for every 50 rows of the smaller
-- set and at least 4. Also the standard error of that mean.
function metrics.kid(x, y, options)
  x, y = pair('metrics.kid', x, y)
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

return metrics
