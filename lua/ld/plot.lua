-- Curves as SVG: for reports, beside a learning-rate search, at the prompt. No script, no outside resource.
local take = require 'ld.take'

local plot = {}

-- ---- text -----------------------------------------------------------------------------------------------------------

local entities = {['&'] = '&amp;', ['<'] = '&lt;', ['>'] = '&gt;', ['"'] = '&quot;', ["'"] = '&#39;'}

-- Length of the UTF-8 sequence that begins at i, nil when there is none.
local function sequence(s, i)
  local c = s:byte(i)
  local n = c < 0x80 and 1 or c >= 0xC2 and c < 0xE0 and 2 or c >= 0xE0 and c < 0xF0 and 3 or
            c >= 0xF0 and c < 0xF5 and 4
  if not n then return nil end
  for k = 1, n - 1 do
    local b = s:byte(i + k)
    if not b or b < 0x80 or b > 0xBF then return nil end
  end
  local second = s:byte(i + 1)
  if c == 0xE0 and second < 0xA0 or c == 0xED and second > 0x9F or c == 0xF0 and second < 0x90 or
     c == 0xF4 and second > 0x8F then return nil end
  return n
end

--- escape(value): as text of XML or of an attribute; control characters and bytes that are no UTF-8 become U+FFFD.
function plot.escape(value)
  local s = tostring(value)
  if s:find('[%c\127-\255]') then
    local out, i = {}, 1
    while i <= #s do
      local n = sequence(s, i)
      local c = s:sub(i, i + (n or 1) - 1)
      out[#out + 1] = n and not c:find('^[%z\1-\8\11\12\14-\31\127]') and c or '\239\191\189'
      i = i + (n or 1)
    end
    s = table.concat(out)
  end
  return (s:gsub('[&<>"\']', entities))
end

--- number(v): short: 1.25, 0.0031, 3.2e-5, 12k, 1.5M.
function plot.number(v)
  local a = math.abs(v)
  if v ~= v or a == math.huge then return tostring(v) end
  if a == 0 then return '0' end
  if a >= 1e9 then return ('%.4gG'):format(v / 1e9) end
  if a >= 1e6 then return ('%.4gM'):format(v / 1e6) end
  if a >= 1e4 then return ('%.4gk'):format(v / 1e3) end
  local text = a < 1e-3 and ('%.3g'):format(v):gsub('e%-0', 'e-') or ('%.4g'):format(v)
  return text
end

-- ---- ticks ----------------------------------------------------------------------------------------------------------

-- Round steps so that about n ticks lie between low and high.
local function linear_ticks(low, high, n)
  local raw = (high - low) / n
  local power = 10 ^ math.floor(math.log10(raw))
  local m = raw / power
  local step = (m < 1.5 and 1 or m < 3.5 and 2 or m < 7.5 and 5 or 10) * power
  local out = {}
  for k = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) do out[#out + 1] = k * step end
  return out
end

-- Powers of ten, with 2 and 5 between where there are few.
local function log_ticks(low, high)
  local out, decades = {}, math.log10(high / low)
  if decades < 0.7 then return linear_ticks(low, high, 4) end
  local every = math.max(1, math.ceil(decades / 6))
  for e = math.floor(math.log10(low)), math.ceil(math.log10(high)) do
    for _, m in ipairs(decades < 3 and {1, 2, 5} or {1}) do
      local v = m * 10 ^ e
      if v >= low * (1 - 1e-9) and v <= high * (1 + 1e-9) and e % every == 0 then out[#out + 1] = v end
    end
  end
  return out
end

-- ---- series ---------------------------------------------------------------------------------------------------------

local function finite(v) return v == v and v ~= math.huge and v ~= -math.huge end

-- Points that can be drawn.
local function usable(s, log_x, log_y)
  local xs, ys = {}, {}
  for i, x in ipairs(s.x) do
    local y = s.y[i]
    if finite(x) and y and finite(y) and (not log_x or x > 0) and (not log_y or y > 0) then
      xs[#xs + 1], ys[#ys + 1] = x, y
    end
  end
  return xs, ys
end

-- At most about 2n points: of each run of neighbours the lowest and the highest.
local function thin(xs, ys, n)
  if #xs <= 2 * n then return xs, ys end
  local ox, oy, per = {}, {}, #xs / n
  for k = 0, n - 1 do
    local first, last = math.floor(k * per) + 1, math.floor((k + 1) * per)
    local low, high = first, first
    for i = first, last do
      if ys[i] < ys[low] then low = i end
      if ys[i] > ys[high] then high = i end
    end
    for _, i in ipairs(low < high and {low, high} or low > high and {high, low} or {low}) do
      ox[#ox + 1], oy[#oy + 1] = xs[i], ys[i]
    end
  end
  return ox, oy
end

--- smooth(ys, share = 0.04): means over windows around each value of that share of all.
function plot.smooth(ys, share)
  local n, sums, out = #ys, {[0] = 0}, {}
  local half = math.floor(n * (share or 0.04) / 2)
  for i = 1, n do sums[i] = sums[i - 1] + ys[i] end
  for i = 1, n do
    local h = math.min(half, i - 1, n - i)
    out[i] = (sums[i + h] - sums[i - h - 1]) / (2 * h + 1)
  end
  return out
end

-- ---- the picture ----------------------------------------------------------------------------------------------------

local LEFT, RIGHT, TOP, BOTTOM = 58, 20, 10, 34
local LEGEND = 20 -- height of the line of names

-- The box of numbers that all series lie in, a little wider than they are.
local function bounds(list, o)
  local box = {x0 = math.huge, x1 = -math.huge, y0 = math.huge, y1 = -math.huge}
  for _, s in ipairs(list) do
    for i, x in ipairs(s.xs) do
      box.x0, box.x1 = math.min(box.x0, x), math.max(box.x1, x)
      box.y0, box.y1 = math.min(box.y0, s.ys[i]), math.max(box.y1, s.ys[i])
    end
  end
  if box.x0 > box.x1 then return nil end
  if o.zero and not o.log_y then box.y0 = math.min(box.y0, 0) end
  if box.x0 == box.x1 then box.x0, box.x1 = box.x0 * 0.5, box.x1 * 1.5 + (box.x1 == 0 and 1 or 0) end
  if o.log_y then
    local margin = math.max((box.y1 / box.y0) ^ 0.05, 1.02)
    box.y0, box.y1 = box.y0 / margin, box.y1 * margin
  else
    local margin = (box.y1 - box.y0) * 0.05
    if margin == 0 then margin = math.max(math.abs(box.y0) * 0.1, 1e-9) end
    box.y0, box.y1 = o.zero and box.y0 == 0 and 0 or box.y0 - margin, box.y1 + margin
  end
  return box
end

-- Functions from numbers to positions.
local function scales(box, o)
  local function scale(a, b, log, from, to)
    if log then a, b = math.log(a), math.log(b) end
    return function(v) return from + ((log and math.log(v) or v) - a) / (b - a) * (to - from) end
  end
  return scale(box.x0, box.x1, o.log_x, LEFT, o.width - RIGHT),
         scale(box.y0, box.y1, o.log_y, o.height - BOTTOM, TOP + (o.legend and LEGEND or 0))
end

-- The names of the lines above them, each behind a piece of its line; 6 is about the width of a letter.
local function draw_legend(out, series)
  local at = LEFT
  for k, s in ipairs(series) do
    local name, colour = tostring(s.name or ''), s.colour or (k - 1) % 8 + 1
    out[#out + 1] = ('<path class="line c%d" d="M%d 12h16"/><text x="%d" y="16">%s</text>'):format(colour, at, at + 22,
      plot.escape(name))
    at = at + 42 + 6 * #name
  end
end

local function draw_axes(out, box, X, Y, o)
  local left, right, bottom = LEFT, o.width - RIGHT, o.height - BOTTOM
  for _, v in ipairs(o.log_y and log_ticks(box.y0, box.y1) or linear_ticks(box.y0, box.y1, 5)) do
    out[#out + 1] = ('<path class="grid" d="M%d %.1fH%d"/><text x="%d" y="%.1f" text-anchor="end">%s</text>'):format(
      left, Y(v), right, left - 6, Y(v) + 3.5, plot.number(v))
  end
  for _, v in ipairs(o.log_x and log_ticks(box.x0, box.x1) or linear_ticks(box.x0, box.x1, 6)) do
    out[#out + 1] = ('<path class="tick" d="M%.1f %dv4"/><text x="%.1f" y="%d" text-anchor="middle">%s</text>'):format(
      X(v), bottom, X(v), bottom + 16, plot.number(v))
  end
  out[#out + 1] = ('<path class="axis" d="M%d %dH%d"/>'):format(left, bottom, right)
  if o.x_label then
    out[#out + 1] = ('<text class="label" x="%d" y="%d" text-anchor="end">%s</text>'):format(right, o.height - 4,
      plot.escape(o.x_label))
  end
end

local function draw_line(out, s, X, Y, o)
  local xs, ys = thin(s.xs, s.ys, 300)
  local points = {}
  for i, x in ipairs(xs) do points[i] = ('%s%.1f %.1f'):format(i == 1 and 'M' or 'L', X(x), Y(ys[i])) end
  local class = ('line c%d%s'):format(s.colour, s.faint and ' faint' or '')
  if #xs == 1 or s.dots then
    for i, x in ipairs(xs) do
      out[#out + 1] = ('<circle class="dot c%d" cx="%.1f" cy="%.1f" r="2.5"/>'):format(s.colour, X(x), Y(ys[i]))
    end
  end
  if #xs > 1 then
    out[#out + 1] = ('<path class="%s" d="%s"><title>%s: last %s</title></path>'):format(class, table.concat(points),
      plot.escape(s.name or ''), plot.number(s.ys[#s.ys]))
  end
  for _, x in ipairs(s.marks or {}) do
    if x >= o.box.x0 and x <= o.box.x1 then
      out[#out + 1] = ('<path class="mark" d="M%.1f %dl4 7h-8z"/>'):format(X(x), o.height - BOTTOM - 7)
    end
  end
end

-- Colours as variables, so that a page can follow the reader's light or dark setting.
plot.style = [[
:root{--ground:#fff;--ink:#1d2329;--soft:#5c6670;--rule:#e3e6ea;--card:#f7f8fa;--alert:#b3261e;
--c1:#2463a9;--c2:#b85c12;--c3:#2c7a51;--c4:#7b4aa5;--c5:#a8324f;--c6:#1b7f8c;--c7:#77702a;--c8:#5c6670}
@media(prefers-color-scheme:dark){:root{--ground:#14171b;--ink:#dfe4ea;--soft:#98a2ad;--rule:#2b3138;--card:#1b1f24;
--alert:#f08a80;
--c1:#74aee8;--c2:#e79b57;--c3:#73c596;--c4:#bd97e0;--c5:#e88aa0;--c6:#6cc5d0;--c7:#c9c06d;--c8:#98a2ad}}
svg.plot{display:block;width:100%;height:auto}
svg.plot text{font:11px system-ui,sans-serif;fill:var(--soft)}
svg.plot .grid{stroke:var(--rule);fill:none}svg.plot .axis,svg.plot .tick{stroke:var(--soft);fill:none}
svg.plot .line{fill:none;stroke-width:1.7;stroke-linejoin:round}svg.plot .faint{stroke-width:1;opacity:.28}
svg.plot .mark{fill:var(--alert)}
]] .. (function()
  local out = {}
  for k = 1, 8 do
    out[k] = ('svg.plot .line.c%d{stroke:var(--c%d)}svg.plot .dot.c%d{fill:var(--c%d)}'):format(k, k, k, k)
  end
  return table.concat(out, '\n') .. '\n'
end)()

local known = {title = take.optional, width = 640, height = 250, log_x = false, log_y = false, zero = false,
               x_label = take.optional, smooth = 0, alone = false, legend = false}

-- The series as they are drawn: with smoothing, the values faint and their means over them.
local function prepare(series, o)
  local list = {}
  for k, s in ipairs(series) do
    local xs, ys = usable(s, o.log_x, o.log_y)
    local colour = s.colour or (k - 1) % 8 + 1
    local smoothed = o.smooth > 0 and #xs > 30 and not s.dots
    list[#list + 1] = {xs = xs, ys = ys, name = s.name, colour = colour, faint = smoothed or s.faint, dots = s.dots,
                       marks = s.marks}
    if smoothed then
      list[#list + 1] = {xs = xs, ys = plot.smooth(ys, o.smooth), name = s.name, colour = colour}
    end
  end
  return list
end

--- plot(series, {title, width = 640, height = 250, log_x, log_y, zero (y begins at 0), x_label, smooth (share of the
-- width, 0 = none), alone, legend (names above the lines)}): an SVG element as text, nil when there is nothing to draw.
-- series: a list of {x = {...}, y = {...}, name, colour (1 to 8), dots, faint, marks (positions on x)}; values that are
-- not finite, and those that a logarithm does not take, are left out. The colours are those of plot.style; with alone =
-- true it is in the SVG, which then is a file of its own.
local function new(series, options)
  local o = take('plot', options, known)
  local list = prepare(series, o)
  o.box = bounds(list, o)
  if not o.box then return nil end
  local X, Y = scales(o.box, o)
  local out = {('<svg xmlns="http://www.w3.org/2000/svg" class="plot" viewBox="0 0 %d %d" role="img">'):format(
    o.width, o.height)}
  if o.title then out[#out + 1] = ('<title>%s</title>'):format(plot.escape(o.title)) end
  if o.alone then
    out[#out + 1] = ('<style>%s</style><rect width="100%%" height="100%%" fill="var(--ground)"/>'):format(plot.style)
  end
  draw_axes(out, o.box, X, Y, o)
  if o.legend then draw_legend(out, series) end
  for _, s in ipairs(list) do draw_line(out, s, X, Y, o) end
  out[#out + 1] = '</svg>'
  return table.concat(out, '\n')
end

return setmetatable(plot, {__call = function(_, series, options) return new(series, options) end})
