-- Sets of features, and symmetric matrices, in f64 on the CPU: a factor, eigenvalues.
local ffi = require 'ffi'
local core = require 'ld.core'

local matrix = {}

--- rows(who, x): features (N,d) as f64 on the CPU; they must be finite, N at least 2.
function matrix.rows(who, x)
  if not core.is_tensor(x) or x.ndim ~= 2 or x.shape[1] < 2 then
    core.fail(('%s: features are a tensor (N,d) with at least 2 rows, not %s'):format(who,
      core.is_tensor(x) and x:describe() or type(x)))
  end
  x = x:detach():to('cpu'):to('f64')
  local size = core.sumsq(x):item()
  if size ~= size or size == math.huge then core.fail(who .. ': there are features that are not finite') end
  return x
end

--- pair(who, x, y): two sets of as many features a row.
function matrix.pair(who, x, y)
  x, y = matrix.rows(who, x), matrix.rows(who, y)
  if x.shape[2] ~= y.shape[2] then
    core.fail(('%s: the sets have %d and %d features a row'):format(who, x.shape[2], y.shape[2]))
  end
  return x, y
end

local TILE = 512 -- rows of each set: what is multiplied at a time stays in the cache

--- tiles(x, y, each): the products of all rows of x with all rows of y in tiles: each(tile, i, j), tile (n,m) f64 with
-- the products of the rows i + 1 .. i + n of x and j + 1 .. j + m of y. Without y those of x with itself, of tiles that
-- mirror each other only the one with i <= j.
function matrix.tiles(x, y, each)
  local other = y or x
  local rows, columns = x.shape[1], other.shape[1]
  for j = 0, columns - 1, TILE do
    core.scope(function()
      local turned = other:slice(1, j + 1, math.min(j + TILE, columns)):transpose():contiguous()
      for i = 0, y and rows - 1 or j, TILE do
        core.scope(function() each(core.matmul(x:slice(1, i + 1, math.min(i + TILE, rows)), turned), i, j) end)
      end
    end)
  end
end

--- doubles(x): a copy of a tensor's elements, row-major.
function matrix.doubles(x)
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

--- factor(s): F (n,r) with F F' = S for a symmetric S (n,n) without negative eigenvalues: Cholesky with the largest
-- remaining diagonal element first, which ends by itself at S's rank r. About n^2 r operations.
function matrix.factor(s)
  local n = s.shape[1]
  local a, d, used = matrix.doubles(s), ffi.new('double[?]', n), {}
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

--- eigenvalues(s): (n) f64, those of a symmetric matrix (n,n), rising.
function matrix.eigenvalues(s)
  if s.ndim ~= 2 or s.shape[1] ~= s.shape[2] then
    core.fail(('metrics.eigenvalues: a square matrix is needed, not %s'):format(s:describe()))
  end
  local n, list = s.shape[1], {}
  local d, e = tridiagonal(matrix.doubles(s:detach():to('cpu'):to('f64')), n)
  ql(d, e, n)
  for i = 0, n - 1 do list[i + 1] = d[i] end
  table.sort(list)
  return core.tensor(list, {dtype = 'f64', device = 'cpu'})
end

--- The sum of a square matrix's diagonal.
function matrix.trace(s)
  local at, n, sum = matrix.doubles(s), s.shape[1], 0
  for i = 0, n - 1 do sum = sum + at[i * n + i] end
  return sum
end

return matrix
