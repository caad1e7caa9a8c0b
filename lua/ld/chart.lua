-- Curves and histograms as pictures (3,height,width) of u8, and as SVG. Used by ld.show.
local core = require 'ld.core'
local ffi = require 'ffi'

local chart = {}

local LINE, GROUND, GRID = {70, 160, 250}, {16, 18, 24}, {58, 62, 72}

local function finite(v) return v == v and v ~= math.huge and v ~= -math.huge end

-- Smallest and largest of the finite numbers; nil when there is none.
local function range(list)
  local low, high
  for _, v in ipairs(list) do
    if finite(v) then low, high = math.min(low or v, v), math.max(high or v, v) end
  end
  return low, high
end

--- chart.curve(xs, ys, names): what draw and svg need: points with finite x and y, in order of x, and their ranges.
-- names: {x = , y = }. An error when no point is left.
function chart.curve(xs, ys, names)
  local points = {}
  for i, y in ipairs(ys) do
    if finite(y) and finite(xs[i]) then points[#points + 1] = {xs[i], y} end
  end
  if #points == 0 then core.fail('show: a curve needs at least one finite number; there is none') end
  local self = {points = points, names = names, fill = false}
  local x, y = {}, {}
  for i, p in ipairs(points) do x[i], y[i] = p[1], p[2] end
  self.left, self.right = range(x)
  self.low, self.high = range(y)
  return self
end

--- chart.histogram(values, bins): counts of a list of numbers in equal bins, as a curve that is filled from 0. Values
-- that are not finite are left out and counted in `lost`.
function chart.histogram(values, bins)
  local low, high = range(values)
  if not low then core.fail('show: a histogram needs at least one finite number; there is none') end
  local counts, lost, width = {}, 0, (high - low) / bins
  for i = 1, bins do counts[i] = 0 end
  for _, v in ipairs(values) do
    if finite(v) then
      local i = width > 0 and math.min(math.floor((v - low) / width) + 1, bins) or 1
      counts[i] = counts[i] + 1
    else
      lost = lost + 1
    end
  end
  local points, most = {}, 0
  for i, n in ipairs(counts) do
    points[#points + 1] = {low + (i - 1) * width, n}
    points[#points + 1] = {low + i * width, n}
    most = math.max(most, n)
  end
  return {points = points, names = {x = 'value', y = 'count'}, fill = true, left = low, right = high, low = 0,
          high = most, lost = lost}
end

-- Where a point lies in a field of w x h, from the left and from the top, as numbers in 0 .. w and 0 .. h.
local function place(self, p, w, h)
  local across, up = self.right - self.left, self.high - self.low
  return across > 0 and (p[1] - self.left) / across * w or w / 2, up > 0 and h - (p[2] - self.low) / up * h or h / 2
end

--- chart.draw(self, width, height): (3,height,width) u8. A column is filled between its lowest and highest point; lines
-- are a 150th of the height thick.
function chart.draw(self, width, height)
  local top, bottom = {}, {} -- by column from 0: rows from 0
  local more = self.fill and 0 or math.max(0, math.floor(height / 150 + 0.5) - 1)
  local function mark(column, row)
    top[column] = math.min(top[column] or row, row)
    bottom[column] = self.fill and height - 1 or math.max(bottom[column] or row, row)
  end
  local px, py
  for _, p in ipairs(self.points) do
    local x, y = place(self, p, width - 1, height - 1)
    px, py = px or x, py or y
    local from, to = math.floor(px + 0.5), math.floor(x + 0.5)
    local function row(column) -- of the line from the last point to this one
      return to > from and py + (y - py) * math.max(0, math.min(1, (column - from) / (to - from))) or y
    end
    for column = from, to do -- to half-way to the columns beside, so that a steep line has no gaps
      mark(column, math.floor(row(column - 0.5) + 0.5))
      mark(column, math.floor(row(column + 0.5) + 0.5))
    end
    if to == from then mark(to, math.floor(py + 0.5)) end
    px, py = x, y
  end
  local out = core.zeros(height, width, 3, {dtype = 'u8', device = 'cpu'})
  local to = ffi.cast('uint8_t *', out:ptr())
  for row = 0, height - 1 do
    for column = 0, width - 1 do
      local line = top[column] and row >= top[column] and row <= bottom[column] + more
      local edge = row == 0 or row == height - 1 or column == 0 or column == width - 1
      local color = line and LINE or edge and GRID or GROUND
      for c = 0, 2 do to[(row * width + column) * 3 + c] = color[c + 1] end
    end
  end
  return out:permute(3, 1, 2)
end

--- chart.text(self): one line that says what the axes span.
function chart.text(self)
  local last = self.points[#self.points][2]
  local text = ('%s %.4g .. %.4g over %s %.6g .. %.6g'):format(self.names.y, self.low, self.high, self.names.x,
    self.left, self.right)
  if not self.fill then text = text .. (', last %.4g'):format(last) end
  if (self.lost or 0) > 0 then text = text .. (', %d not finite'):format(self.lost) end
  return text
end

--- chart.svg(self, title): the text of an SVG file, by ld.plot.
function chart.svg(self, title)
  local xs, ys = {}, {}
  for i, p in ipairs(self.points) do xs[i], ys[i] = p[1], p[2] end
  return require('ld.plot')({{x = xs, y = ys, name = self.names.y}},
    {title = title, x_label = self.names.x, zero = self.fill, alone = true})
end

return chart
