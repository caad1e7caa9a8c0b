-- Pictures inside a page: PNG files as data: addresses, made small first.
local bit = require 'bit'
local core = require 'ld.core'

local picture = {}

local letters = {}
for i = 0, 63 do
  letters[i] = ('ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/'):sub(i + 1, i + 1)
end

--- base64(bytes). Source: RFC 4648, section 4.
function picture.base64(bytes)
  local out, n = {}, #bytes
  for i = 1, n, 3 do
    local a, b, c = bytes:byte(i, i + 2)
    local v = a * 65536 + (b or 0) * 256 + (c or 0)
    out[#out + 1] = letters[bit.rshift(v, 18)] .. letters[bit.band(bit.rshift(v, 12), 63)] ..
      (b and letters[bit.band(bit.rshift(v, 6), 63)] or '=') .. (c and letters[bit.band(v, 63)] or '=')
  end
  return table.concat(out)
end

local function bytes_of(path)
  local f = io.open(path, 'rb')
  if not f then return nil end
  local bytes = f:read('*a')
  f:close()
  return bytes
end

-- The PNG at `path` with its longer side at most `side`: means over squares of pixels.
local function small_png(path, side)
  local tmp = os.tmpname()
  local ok, bytes = pcall(core.scope, function()
    core.no_grad(function()
      local x = core.load_image(path):f32()
      local c, h, w = x.shape[1], x.shape[2], x.shape[3]
      local k = math.ceil(math.max(h, w) / side)
      x = x:slice(2, 1, math.floor(h / k) * k):slice(3, 1, math.floor(w / k) * k)
      local small = core.avg_pool2d(x:reshape(1, c, x.shape[2], x.shape[3]), k) * (1 / 255)
      core.save_image(small:reshape(c, small.shape[3], small.shape[4]), tmp)
    end)
    return bytes_of(tmp)
  end)
  os.remove(tmp)
  return ok and bytes or nil
end

local cache, cached = {}, 0

--- source(path, width, height, side): the PNG as a data: address, its longer side at most about `side`; nil when it
-- cannot be read. What was made once is kept for the next version of the page.
function picture.source(path, width, height, side)
  local _, size = core.file_kind(path)
  if not size then return nil end
  local key = ('%s %d %d'):format(path, size, side)
  if not cache[key] then
    local large = math.max(width or side, height or side) > side
    local bytes = large and small_png(path, side) or not large and bytes_of(path)
    if not bytes then return nil end
    if cached >= 64 then cache, cached = {}, 0 end
    cache[key], cached = 'data:image/png;base64,' .. picture.base64(bytes), cached + 1
  end
  return cache[key]
end

return picture
