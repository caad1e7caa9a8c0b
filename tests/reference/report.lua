-- Recorded tensors against computed ones: one line a group, with the worst tensor and its error.
--
-- The error of a tensor is the largest difference over the largest absolute value recorded; a shape that differs, a NaN
-- or an infinity that was not recorded is an infinite error.
local ffi = require 'ffi'

local Report = {}
Report.__index = Report

-- Elements in row-major order as doubles, read without the library's arithmetic. The string keeps the memory.
local function doubles(x)
  local bytes = x:detach():to('cpu'):to('f64'):bytes()
  return ffi.cast('const double *', bytes), x:numel(), bytes
end

-- Largest absolute value; NaN when one is in it.
local function largest(x)
  local at, n, keep = doubles(x)
  local most = 0
  for i = 0, n - 1 do
    local a = math.abs(at[i])
    if a > most or a ~= a then most = a end
    if a ~= a then break end
  end
  return most, keep
end

local function largest_difference(got, want, relative)
  local a, n, keep_a = doubles(got)
  local b, _, keep_b = doubles(want)
  local most = 0
  for i = 0, n - 1 do
    local d = math.abs(a[i] - b[i])
    if relative and d > 0 then d = d / math.abs(b[i]) end
    if a[i] == b[i] then d = 0 end
    if d ~= d then d = math.huge end
    if d > most then most = d end
  end
  return most, keep_a, keep_b
end

local function size_text(x) return '(' .. table.concat(x.shape, ',') .. ')' end

-- A scalar is recorded as one element, whatever its number of dimensions.
local function same_shape(a, b)
  return size_text(a) == size_text(b) or (a:numel() == 1 and b:numel() == 1)
end

--- report.new(say): say(line) is given a line for every group and remark; print when nil.
function Report.new(say)
  return setmetatable({say = say or print, failed = {}, groups = 0, tensors = 0, skipped = {}}, Report)
end

local Group = {}
Group.__index = Group

--- One group of quantities with one limit; finish it with :done().
function Report:group(title, limit)
  return setmetatable({report = self, title = title, limit = limit, n = 0, worst = -1, name = '', note = ''}, Group)
end

--- A tensor of the group. options.scale: what the difference is divided by in place of the largest recorded value;
-- options.each: every difference is divided by its own recorded value.
function Group:check(name, got, want, options)
  options = options or {}
  self.n = self.n + 1
  local e, note = math.huge, ''
  if not got then
    note = want and ' absent' or ''
  elseif not same_shape(got, want) then
    note = (' is %s, recorded %s'):format(size_text(got), size_text(want))
  elseif options.each then
    e = largest_difference(got, want, true)
  else
    local scale = options.scale or largest(want)
    e = largest_difference(got, want)
    if scale > 0 then e = e / scale end
    if e ~= e then e = math.huge end
  end
  if e > self.worst then self.worst, self.name, self.note = e, name, note end
end

function Group:holds() return self.n > 0 and self.worst <= self.limit end

--- Prints the group's line and counts it.
function Group:done(remark)
  local r, bad = self.report, not self:holds()
  r.groups, r.tensors = r.groups + 1, r.tensors + self.n
  local text = ('%-4s %-52s worst %-9s limit %-6.0e %s%s%s'):format(bad and 'FAIL' or 'ok',
    ('%s (%d tensor%s)'):format(self.title, self.n, self.n == 1 and '' or 's'), ('%.2e'):format(self.worst), self.limit,
    self.name, self.note, remark and '; ' .. remark or '')
  if self.n == 0 then text, bad = ('FAIL %s: nothing to compare'):format(self.title), true end
  if bad then r.failed[#r.failed + 1] = text end
  r.say(text)
end

--- Something that must be the case and has no numbers.
function Report:expect(title, true_value, why)
  self.groups = self.groups + 1
  local text = ('%-4s %s%s'):format(true_value and 'ok' or 'FAIL', title, true_value and '' or ': ' .. why)
  if not true_value then self.failed[#self.failed + 1] = text end
  self.say(text)
end

--- Something that was not there to compare.
function Report:skip(what, why)
  self.skipped[#self.skipped + 1] = what .. ': ' .. why
  self.say(('skip %s: %s'):format(what, why))
end

Report.largest = largest
return Report
