-- Pictures side by side in one.
local core = require 'ld.core'

--- grid(images, {columns, gap}): (N,C,H,W) in [0,1] or u8 as one picture (C,H',W'), `gap` (2) white pixels between.
return function(images, options)
  options = options or {}
  local n, c, h, w = images.shape[1], images.shape[2], images.shape[3], images.shape[4]
  local columns, gap = options.columns or math.ceil(math.sqrt(n)), options.gap or 2
  local rows = math.ceil(n / columns)
  local white = images.dtype == 'u8' and 255 or 1
  local out = core.full({c, rows * (h + gap) - gap, columns * (w + gap) - gap}, white,
                        {dtype = images.dtype, device = images.device})
  core.no_grad(function()
    for i = 0, n - 1 do
      local top, left = math.floor(i / columns) * (h + gap) + 1, (i % columns) * (w + gap) + 1
      out[{{}, {top, top + h - 1}, {left, left + w - 1}}] = images[i + 1]
    end
  end)
  return out
end
