-- Pictures in the terminal: images, grids, latents, curves, histograms; into a file where there is no terminal.
local core = require 'ld.core'
local chart = require 'ld.chart'
local take = require 'ld.take'

local known = {mode = take.optional, columns = take.optional, vae = take.optional, path = take.optional,
               as = take.optional, key = 'loss', bins = 64}
local kinds = {picture = true, latent = true, histogram = true}

-- ---- what is shown --------------------------------------------------------------------------------------------------

local function is_float(x) return x.dtype ~= 'u8' and x.dtype:match('^b?f') end

-- What a tensor is taken for: by its shape, unless the user says so.
local function kind_of(x, as)
  local rank = #x.shape
  local channels = (rank == 3 or rank == 4) and x.shape[rank - 2] or 0
  if as then
    if not kinds[as] then core.fail(("show: as = '%s'; known: histogram latent picture"):format(tostring(as))) end
    return as
  end
  if x:numel() == 0 then core.fail(('show: %s has nothing to show'):format(x:describe())) end
  if (channels == 3 or channels == 1) and (x.dtype == 'u8' or is_float(x)) then return 'picture' end
  return channels > 0 and is_float(x) and 'latent' or 'histogram'
end

local function batch(x)
  if #x.shape == 4 then return x end
  if #x.shape ~= 3 then
    core.fail(('show: %s is no picture; (3,height,width), (N,3,height,width) or latents are'):format(x:describe()))
  end
  return x:reshape(1, x.shape[1], x.shape[2], x.shape[3])
end

-- The first three channels of latents, each from 2.5 standard deviations below its mean to as many above.
local function preview(z)
  local n, c, h, w = z.shape[1], z.shape[2], z.shape[3], z.shape[4]
  local out = core.full({n, 3, h, w}, 0.5, {dtype = 'f32', device = z.device})
  for k = 1, math.min(c, 3) do
    local plane = z:slice(2, k, k):to('f32')
    local mean = core.mean(plane):item()
    local std = math.sqrt(core.mean(core.square(plane - mean)):item())
    out[{{}, {k, k}}] = (plane - mean) * (std > 0 and 0.2 / std or 0) + 0.5
  end
  return out
end

-- One picture (C,H,W) of a tensor that is pictures or latents.
local function picture(x, kind, o)
  local many = batch(x:detach())
  if kind == 'latent' and o.vae then
    many = o.vae:decode_images(many)
  elseif kind == 'latent' then
    many = preview(many)
  end
  local n, c, h, w = many.shape[1], many.shape[2], many.shape[3], many.shape[4]
  return n == 1 and many:reshape(c, h, w) or require('ld.grid')(many)
end

-- A run's log: {images, value} where the key is there.
local function read_log(path, key)
  local xs, ys, known_keys = {}, {}, {}
  for line in io.lines(path) do
    local ok, entry = pcall(core.json_decode, line)
    if ok and type(entry) == 'table' and not entry.event then
      for name, value in pairs(entry) do known_keys[name] = type(value) == 'number' or nil end
      if type(entry.images) == 'number' and type(entry[key]) == 'number' then
        xs[#xs + 1], ys[#ys + 1] = entry.images, entry[key]
      end
    end
  end
  if #ys == 0 then
    local names = {}
    for name in pairs(known_keys) do names[#names + 1] = name end
    table.sort(names)
    core.fail(("show: %s has no '%s'; it has: %s"):format(path, key, #names > 0 and table.concat(names, ' ') or
      'no entries yet'))
  end
  return chart.curve(xs, ys, {x = 'images', y = key})
end

local function curve_of_list(list)
  local xs = {}
  for i, v in ipairs(list) do
    if type(v) ~= 'number' then
      core.fail(('show: entry %d of the list is a %s; numbers are needed'):format(i, type(v)))
    end
    xs[i] = i
  end
  return chart.curve(xs, list, {x = 'position', y = 'value'})
end

-- A numbered or given path: a picture file, a log, or the folder of a run.
local function from_path(path, o)
  local what = core.file_kind(path)
  if what == 'folder' then path = path .. '/log.jsonl' end
  if not core.file_kind(path) then core.fail(('show: there is no %s'):format(path)) end
  if path:match('%.jsonl$') then return nil, read_log(path, o.key) end
  return core.load_image(path), nil
end

-- A picture (C,H,W), or a chart.
local function subject(x, o)
  if type(x) == 'string' then return from_path(x, o) end
  if type(x) == 'table' and getmetatable(x) == nil then return nil, curve_of_list(x) end
  if not core.is_tensor(x) then
    core.fail(('show: a %s; a tensor, a list of numbers, or the path of a picture, a log.jsonl or a run is needed')
      :format(type(x)))
  end
  local kind = kind_of(x, o.as)
  if kind ~= 'histogram' then return picture(x, kind, o), nil end
  return nil, chart.histogram(x:detach():reshape(x:numel()):to('cpu'):to('f64'):tolist(), o.bins)
end

-- ---- where it is shown ----------------------------------------------------------------------------------------------

-- The first runs/show/<number> that is free.
local function free_path(suffix)
  core.make_dirs('runs/show')
  for i = 1, math.huge do
    local path = ('runs/show/%04d%s'):format(i, suffix)
    if not core.file_kind(path) then return path end
  end
end

local function to_file(image, plot, path)
  if plot and not (path and path:match('%.png$')) then
    path = path or free_path('.svg')
    core.write_file(path, chart.svg(plot, chart.text(plot)))
  else
    path = path or free_path('.png')
    core.save_image(image or chart.draw(plot, 640, 320), path)
  end
  return path
end

-- The most columns and rows that a picture may have, and the pixels of a cell.
local function room(mode)
  local columns, rows, cw, ch, widest, highest = core.terminal_size()
  local most, tall = columns > 0 and columns - 1 or 80, rows > 3 and rows - 2 or 1000
  if mode == 'sixel' and widest > 0 then -- a terminal cuts off what is larger
    most, tall = math.min(most, math.floor(widest / cw)), math.min(tall, math.floor(highest / ch))
  end
  return math.max(1, most), math.max(1, tall), cw, ch
end

-- Cells for a picture of w x h pixels: no wider than the terminal or what was asked for, no higher than the screen.
local function cells(w, h, mode, o)
  local most, tall, cw, ch = room(mode)
  if mode == 'half' then cw, ch = 1, 2 end
  local wide = o.columns or math.min(most, math.max(math.ceil(w / cw), mode == 'half' and 1 or 24))
  if not o.columns then wide = math.min(wide, math.max(1, math.floor(tall * ch * w / (h * cw)))) end
  return {mode = mode, columns = wide, rows = math.max(1, math.floor(wide * cw * h / (w * ch) + 0.5)),
          cell_width = mode == 'half' and 10 or cw, cell_height = mode == 'half' and 20 or ch}
end

local function to_terminal(image, plot, mode, o)
  local text
  if plot then
    local most, _, cw, ch = room(mode)
    local wide = o.columns or math.min(most, 100)
    local high = math.max(6, math.floor(wide / 5))
    if mode == 'half' then cw, ch = 1, 2 end
    image = chart.draw(plot, wide * cw, high * ch)
    text = core.terminal_picture(image, {mode = mode, columns = wide, rows = high,
                                         cell_width = mode == 'half' and 10 or cw,
                                         cell_height = mode == 'half' and 20 or ch})
    io.stdout:write(chart.text(plot), '\n')
  else
    local s = image.shape
    text = core.terminal_picture(image, cells(s[#s], s[#s - 1], mode, o))
  end
  io.stdout:write(text)
  io.stdout:flush()
end

-- The mode to show in, or nil and why there is none.
local function terminal_mode(o)
  if o.path then return nil end
  local mode, why = core.terminal_mode()
  if not mode then return nil, why end
  if o.mode then return o.mode end
  if not core.terminal() then return nil, 'standard output is no terminal' end
  local term = os.getenv 'TERM' or 'dumb'
  if term == 'dumb' or term == '' then return nil, 'the terminal shows text only (TERM is ' .. term .. ')' end
  return mode
end

--- show(x, {mode, columns, vae, path, as, key = 'loss', bins = 64}): shows x in the terminal, or writes it to a file
-- where there is none; then the path is printed and returned.
--   x     a tensor: (3,H,W), (N,3,H,W) or 1 in place of 3, u8 or floats in [0,1]: pictures, several as a grid;
--         other floats (C,H,W), (N,C,H,W): latents, decoded by `vae`, else previews of their first three channels, each
--         over mean +- 2.5 standard deviations; tensors of another shape: a histogram of `bins` bins
--         a list of numbers: a curve; the path of a log.jsonl, or of a run's folder: the curve of `key` over images
--         seen; another path: a picture file
--   mode  'half' (blocks, two pixels a character), 'sixel', 'kitty', 'iterm'; else what the terminal can, as the
--         environment or it says; given, it is used even where standard output is no terminal
--   columns  width in characters
--   path  write this file instead; a curve or histogram becomes SVG unless it ends in .png
--   as    'picture', 'latent' or 'histogram', where the shape would say otherwise
return function(x, options)
  local o = take('show', options, known)
  if o.mode and not (o.mode == 'half' or o.mode == 'sixel' or o.mode == 'kitty' or o.mode == 'iterm') then
    core.fail(("show: unknown mode '%s'; known: half sixel kitty iterm"):format(tostring(o.mode)))
  end
  local wide = o.columns or 80
  if not (type(wide) == 'number' and wide >= 1 and wide <= 1000 and wide % 1 == 0) then
    core.fail(('show: columns is %s; a whole number from 1 to 1000 is needed'):format(tostring(o.columns)))
  end
  if not (o.bins >= 1 and o.bins % 1 == 0) then
    core.fail(('show: bins is %g; a whole number, at least 1, is needed'):format(o.bins))
  end
  return core.scope(function()
    return core.no_grad(function()
      local image, plot = subject(x, o)
      local mode, why = terminal_mode(o)
      if mode then return to_terminal(image, plot, mode, o) end
      local path = to_file(image, plot, o.path)
      if why then print(('%s (%s)'):format(path, why)) end
      return path
    end)
  end)
end
