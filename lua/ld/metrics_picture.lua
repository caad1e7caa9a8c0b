-- How alike pictures are: PSNR and SSIM. In f64 on the CPU.
local core = require 'ld.core'

local picture = {}

-- Pictures (N,C,H,W) in [0,1], or u8, as f64 on the CPU in [0,1].
local function pictures(who, x)
  if not core.is_tensor(x) or x.ndim ~= 4 then
    core.fail(('%s: pictures are a tensor (N,C,H,W), not %s'):format(who, core.is_tensor(x) and x:describe()
      or type(x)))
  end
  local scale = x.dtype == 'u8' and 1 / 255 or 1
  return x:detach():to('cpu'):to('f64'):affine(scale, 0)
end

local function pair(who, x, y)
  x, y = pictures(who, x), pictures(who, y)
  if table.concat(x.shape, ',') ~= table.concat(y.shape, ',') then
    core.fail(('%s: the pictures are (%s) and (%s)'):format(who, table.concat(x.shape, ','),
      table.concat(y.shape, ',')))
  end
  return x, y
end

--- psnr(x, y): peak signal-to-noise ratio in dB of pictures (N,C,H,W) in [0,1] (or u8): -10 log10 of the squared
-- difference's mean over a picture; infinite where they are equal. The mean over pictures, and a list of each one's.
function picture.psnr(x, y)
  x, y = pair('metrics.psnr', x, y)
  local list, sum = core.no_grad(function() return core.square(x - y):mean({2, 3, 4}):tolist() end), 0
  for i, mse in ipairs(list) do
    list[i] = mse == 0 and math.huge or -10 * math.log10(mse)
    sum = sum + list[i]
  end
  return sum / #list, list
end

local SIDE, SIGMA = 11, 1.5
local C1, C2 = 0.01 ^ 2, 0.03 ^ 2

local function window()
  local list, sum = {}, 0
  for i = 1, SIDE do
    list[i] = math.exp(-((i - (SIDE + 1) / 2) / SIGMA) ^ 2 / 2)
    sum = sum + list[i]
  end
  return core.tensor(list, {dtype = 'f64', device = 'cpu'}) * (1 / sum)
end

--- ssim(x, y): structural similarity of pictures (N,C,H,W) in [0,1] (or u8), at least 11 x 11: Gaussian windows of
-- 11 x 11 with sigma 1.5 that lie wholly inside, variances divided by their weights' sum, K1 0.01, K2 0.03, of each
-- channel by itself. The mean over pictures, and a list of each one's. Source: Wang et al. 2004, "Image quality
-- assessment: from error visibility to structural similarity".
function picture.ssim(x, y)
  x, y = pair('metrics.ssim', x, y)
  local n, c, h, w = x.shape[1], x.shape[2], x.shape[3], x.shape[4]
  if h < SIDE or w < SIDE then
    core.fail(('metrics.ssim: pictures of %d x %d; at least %d x %d is needed'):format(h, w, SIDE, SIDE))
  end
  local list = core.no_grad(function()
    local g = window()
    local across, down = g:reshape(1, 1, 1, SIDE), g:reshape(1, 1, SIDE, 1)
    local function blur(z) return core.conv2d(core.conv2d(z, across), down) end
    local out = {}
    for i = 1, n do
      out[i] = core.scope(function()
        local a, b = x:slice(1, i, i):reshape(c, 1, h, w) - 0.5, y:slice(1, i, i):reshape(c, 1, h, w) - 0.5
        local ma, mb = blur(a), blur(b) -- of values about 0, so that variances cancel less
        local va, vb = blur(core.square(a)) - core.square(ma), blur(core.square(b)) - core.square(mb)
        local vab = blur(a * b) - ma * mb
        ma, mb = ma + 0.5, mb + 0.5
        local likeness = ((ma * mb):affine(2, C1) * vab:affine(2, C2)) /
          ((core.square(ma) + core.square(mb)):affine(1, C1) * (va + vb):affine(1, C2))
        return likeness:mean():item()
      end)
    end
    return out
  end)
  local sum = 0
  for _, v in ipairs(list) do sum = sum + v end
  return sum / n, list
end

return picture
