-- Pictures that could not be read: kept beside the store while it is made, listed beside it in the end.
--
-- PATH.part.bad grows by a few lines whenever a batch has bad pictures, and they are on the disk before the batch's
-- rows count as done, so that the report has the bad ones of every run, however it ended:
--   batch FIRST COUNT            what was said of these rows before counts no more
--   ROW <tab> NAME <tab> REASON  rows count from 1
-- PATH.bad.txt has NAME <tab> REASON, in the order of the rows. Only bad pictures are held in memory.
local core = require 'ld.core'

local Bad = {}
Bad.__index = Bad

local bad_list = {}

-- Names and reasons on one line: control characters become \x..
local function plain(text)
  return (text:gsub('%c', function(c) return ('\\x%02x'):format(c:byte()) end))
end

function Bad:forget_rows(first, count)
  local n = 0
  for row in pairs(self.rows) do
    if row >= first and row < first + count then
      self.rows[row], n = nil, n + 1
    end
  end
  self.count = self.count - n
  return n
end

function Bad:add(row, name, why)
  if not self.rows[row] then self.count = self.count + 1 end
  self.rows[row] = {name, why}
end

-- A line that a kill or a power failure has cut off at the end goes, so that the next one begins where it should.
function Bad:load()
  local f = io.open(self.path, 'rb')
  if not f then return end
  local text = f:read('*a')
  f:close()
  if not text:find('\n$') then
    text = text:match('^.*\n') or ''
    core.write_file(self.path, text)
  end
  for line in text:gmatch('([^\n]*)\n') do
    local first, count = line:match('^batch (%d+) (%d+)$')
    local row, name, why = line:match('^(%d+)\t([^\t]*)\t(.*)$')
    if first then self:forget_rows(tonumber(first), tonumber(count)) end
    if row then self:add(tonumber(row), name, why) end
  end
end

--- batch(first, count, bad, name): what is known of rows first .. first + count - 1 now: bad is {[position] = reason}
-- or nil, name(row) a picture's name.
function Bad:batch(first, count, bad, name)
  if not bad and self.count == 0 then return end
  local forgotten = self:forget_rows(first, count)
  if not bad and forgotten == 0 then return end
  local lines = {('batch %d %d\n'):format(first, count)}
  for i = 1, count do
    if bad and bad[i] then
      local n, why = plain(name(first + i - 1)), plain(bad[i])
      self:add(first + i - 1, n, why)
      lines[#lines + 1] = ('%d\t%s\t%s\n'):format(first + i - 1, n, why)
    end
  end
  core.append_file(self.path, table.concat(lines))
end

--- report(path): writes PATH.bad.txt where there is something to report; how many, and the file's name.
function Bad:report(path)
  local rows, lines = {}, {}
  for row in pairs(self.rows) do rows[#rows + 1] = row end
  table.sort(rows)
  for i, row in ipairs(rows) do lines[i] = self.rows[row][1] .. '\t' .. self.rows[row][2] .. '\n' end
  if #lines > 0 then core.write_file(path .. '.bad.txt', table.concat(lines)) end
  return #lines, path .. '.bad.txt'
end

--- The store is complete: what was kept beside it goes.
function Bad:remove() os.remove(self.path) end

--- open(path): the list of the store at `path`, as far as an unfinished one has it.
function bad_list.open(path)
  local self = setmetatable({path = path .. '.part.bad', rows = {}, count = 0}, Bad)
  self:load()
  return self
end

--- forget(path): no store is there or in the making: what is left of an earlier one goes.
function bad_list.forget(path)
  os.remove(path .. '.part.bad')
  os.remove(path .. '.bad.txt')
end

return bad_list
