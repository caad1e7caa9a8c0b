-- Power-function averages and how to fit one by others. The average of exponent gamma at time t weights the weights at
-- time tau by p(tau) = (gamma + 1) tau^gamma / t^(gamma + 1) on [0, t]; its width sigma_rel is p's standard deviation
-- divided by t. Time is images seen. Source: Karras et al. 2024, arXiv:2312.02696, section 3 and appendix C.
local ffi = require 'ffi'
local core = require 'ld.core'

local profile = {}

local LARGEST = 1 / math.sqrt(12) -- that of gamma = 0, the plain mean of all weights so far

--- sigma_rel(gamma): the width.
function profile.sigma_rel(gamma)
  return math.sqrt((gamma + 1) / (gamma + 3)) / (gamma + 2)
end

--- gamma(sigma_rel): its inverse, for widths above 0 and below 1/sqrt(12), by bisection of a falling function.
function profile.gamma(sigma_rel)
  if type(sigma_rel) ~= 'number' or not (sigma_rel > 0 and sigma_rel < LARGEST) then
    core.fail(('ema: a width sigma_rel of %s; a number above 0 and below %.4f is needed'):format(tostring(sigma_rel),
      LARGEST))
  end
  local low, high = 0, 1 / sigma_rel -- gamma + 2 < 1/sigma_rel
  for _ = 1, 200 do
    local middle = (low + high) / 2
    if middle == low or middle == high then break end
    if profile.sigma_rel(middle) > sigma_rel then low = middle else high = middle end
  end
  return (low + high) / 2
end

--- decay(gamma, before, now): what the average at time `before` is multiplied with at the update of time `now`; the
-- weights at `now` get the rest. Steps of any size telescope, so the average is always that of its profile, with the
-- weights constant from one update to the next.
function profile.decay(gamma, before, now)
  return (before / now) ^ (gamma + 1)
end

--- product(a, b): the integral of two profiles {gamma, t}.
function profile.product(a, b)
  local first, last = a, b
  if a.t > b.t then first, last = b, a end
  return (a.gamma + 1) * (b.gamma + 1) / (a.gamma + b.gamma + 1) * (first.t / last.t) ^ last.gamma / last.t
end

-- x with A x = b, A (n,n) symmetric without negative eigenvalues and with ones on the diagonal (doubles, overwritten):
-- Cholesky, largest remaining diagonal element first; what is within rounding a combination of others gets 0.
local function solve(a, b, n)
  local order, y, x, rank = {}, ffi.new('double[?]', n), ffi.new('double[?]', n), 0
  for i = 0, n - 1 do order[i] = i end
  for k = 0, n - 1 do
    local p = k
    for i = k + 1, n - 1 do
      if a[order[i] * n + order[i]] > a[order[p] * n + order[p]] then p = i end
    end
    order[k], order[p] = order[p], order[k]
    local at = order[k]
    local pivot = a[at * n + at]
    if pivot <= n * 2.2e-16 then break end
    local root = math.sqrt(pivot)
    a[at * n + at] = root
    for i = k + 1, n - 1 do
      local row = a + order[i] * n
      row[at] = row[at] / root
    end
    for i = k + 1, n - 1 do
      local row, c = a + order[i] * n, a[order[i] * n + at]
      for j = k + 1, i do
        local column = order[j]
        row[column] = row[column] - c * a[column * n + at]
        a[column * n + order[i]] = row[column]
      end
    end
    rank = k + 1
  end
  for k = 0, rank - 1 do
    local sum = b[order[k]]
    for j = 0, k - 1 do sum = sum - a[order[k] * n + order[j]] * y[j] end
    y[k] = sum / a[order[k] * n + order[k]]
  end
  for k = rank - 1, 0, -1 do
    local sum = y[k]
    for j = k + 1, rank - 1 do sum = sum - a[order[j] * n + order[k]] * x[order[j]] end
    x[order[k]] = sum / a[order[k] * n + order[k]]
  end
  return x
end

--- fit(list, wanted): the coefficients with which the profiles {gamma, t} of a list add up to the wanted one with the
-- least squared difference, and that difference's norm divided by the wanted one's.
function profile.fit(list, wanted)
  local n, scale = #list, {}
  local a, b = ffi.new('double[?]', n * n), ffi.new('double[?]', n)
  local own = profile.product(wanted, wanted)
  for i, p in ipairs(list) do scale[i] = 1 / math.sqrt(profile.product(p, p)) end
  for i, p in ipairs(list) do
    for j, q in ipairs(list) do a[(i - 1) * n + j - 1] = scale[i] * scale[j] * profile.product(p, q) end
    b[i - 1] = scale[i] * profile.product(p, wanted) / math.sqrt(own)
  end
  local right = ffi.new('double[?]', n)
  ffi.copy(right, b, 8 * n)
  local x, out, explained = solve(a, right, n), {}, 0
  for i = 1, n do
    out[i] = x[i - 1] * scale[i] * math.sqrt(own)
    explained = explained + x[i - 1] * b[i - 1]
  end
  return out, math.sqrt(math.max(1 - explained, 0))
end

return profile
