-- Improved precision and recall of one set of features by another: a set is taken for the union of balls around its
-- rows, each as large as the distance to the k-th nearest other row. Precision is the share of generated rows that lie
-- in the real set's balls, recall the share of real rows in those of the generated. In f64 on the CPU, O(N^2 d).
-- Source: Kynkaanniemi et al. 2019, arXiv:1904.06991.
local ffi = require 'ffi'
local core = require 'ld.core'
local matrix = require 'ld.metrics_matrix'
local take = require 'ld.take'

local manifold = {}

local function squares(x) return matrix.doubles(core.square(x):sum(2)) end

-- each(i, j, square): the squared distance of row i of x and row j of y, from 0, of all pairs; without y of x with
-- itself, each pair i < j once. Equal rows have equal distances to others, to the bit, so a copy of a row lies in its
-- ball even where rounding is all that the ball is made of.
local function distances(x, y, each)
  local xx, yy = squares(x), squares(y or x)
  matrix.tiles(x, y, function(tile, i, j)
    local n, m = tile.shape[1], tile.shape[2]
    local products = ffi.cast('double *', tile:ptr())
    for r = 0, n - 1 do
      local row, own = products + r * m, xx[i + r]
      for c = (y == nil and i == j) and r + 1 or 0, m - 1 do
        each(i + r, j + c, own + yy[j + c] - 2 * row[c])
      end
    end
  end)
end

-- Puts v into the k rising numbers from `best` on, if it is smaller than one of them.
local function insert(best, k, v)
  local at = k - 1
  if v >= best[at] then return end
  while at > 0 and best[at - 1] > v do
    best[at] = best[at - 1]
    at = at - 1
  end
  best[at] = v
end

-- Squared radii of the balls around the rows of x.
local function radii(x, k)
  local n = x.shape[1]
  local best, out = ffi.new('double[?]', n * k), ffi.new('double[?]', n)
  for i = 0, n * k - 1 do best[i] = math.huge end
  distances(x, nil, function(i, j, square)
    insert(best + i * k, k, square)
    insert(best + j * k, k, square)
  end)
  for i = 0, n - 1 do out[i] = best[i * k + k - 1] end
  return out
end

-- The shares of rows of x within the balls of y's rows, and of y within those of x's.
local function shares(x, y, k)
  local n, m, of_x, of_y = x.shape[1], y.shape[1], radii(x, k), radii(y, k)
  local x_in, y_in = ffi.new('uint8_t[?]', n), ffi.new('uint8_t[?]', m)
  distances(x, y, function(i, j, square)
    if square <= of_y[j] then x_in[i] = 1 end
    if square <= of_x[i] then y_in[j] = 1 end
  end)
  local a, b = 0, 0
  for i = 0, n - 1 do a = a + x_in[i] end
  for j = 0, m - 1 do b = b + y_in[j] end
  return a / n, b / m
end

--- precision_recall(real, generated, {k = 3}): of features (N,d) and (M,d).
function manifold.precision_recall(real, generated, options)
  local o = take('metrics.precision_recall', options, {k = 3})
  real, generated = matrix.pair('metrics.precision_recall', real, generated)
  local fewest = math.min(real.shape[1], generated.shape[1])
  if o.k < 1 or o.k % 1 ~= 0 or o.k >= fewest then
    core.fail(('metrics.precision_recall: k = %g; a whole number from 1 to %d is needed'):format(o.k, fewest - 1))
  end
  return core.no_grad(function()
    local centre = real:mean(1) -- distances of far off sets cancel
    return shares(generated - centre, real - centre, o.k)
  end)
end

return manifold
