-- Reading this repository's sources: listing, and blanking what is not code. Used by floors.lua and sizes.lua.
local source = {}

-- Files below `folder` whose name ends in one of the suffixes, sorted.
function source.list(folder, ...)
  local out = {}
  local suffixes = {...}
  local pipe = assert(io.popen("find '" .. folder .. "' -type f 2>/dev/null | LC_ALL=C sort"))
  for path in pipe:lines() do
    for _, suffix in ipairs(suffixes) do
      if path:sub(-#suffix) == suffix then out[#out + 1] = path end
    end
  end
  pipe:close()
  return out
end

function source.read(path)
  local f = assert(io.open(path, 'rb'))
  local text = f:read('*a')
  f:close()
  return text
end

function source.lines(text)
  local n, at = 0, 0
  return function()
    if at >= #text then return nil end
    local stop = text:find('\n', at + 1, true) or #text + 1
    local line = text:sub(at + 1, stop - 1)
    at, n = stop, n + 1
    return n, line
  end
end

-- Number of the line that holds byte `at`.
function source.line_of(text, at)
  local n = 1
  for _ in text:sub(1, at - 1):gmatch('\n') do n = n + 1 end
  return n
end

local function blank(s) return (s:gsub('[^\n]', ' ')) end

-- End of a quoted string that opens at `at`, backslashes minded.
local function quoted_end(text, at)
  local quote, i = text:sub(at, at), at + 1
  while i <= #text do
    local c = text:sub(i, i)
    if c == '\\' then
      i = i + 1
    elseif c == quote or c == '\n' then
      return i
    end
    i = i + 1
  end
  return #text
end

-- Replaces the ranges that `range_at(text, at)` gives (its end, or nil) by spaces; lines and positions stay.
local function blank_ranges(text, starts, range_at)
  local out, at = {}, 1
  while true do
    local i = text:find(starts, at)
    if not i then break end
    local stop = range_at(text, i)
    if stop then
      out[#out + 1] = text:sub(at, i - 1)
      out[#out + 1] = blank(text:sub(i, stop))
      at = stop + 1
    else
      out[#out + 1] = text:sub(at, i)
      at = i + 1
    end
  end
  out[#out + 1] = text:sub(at)
  return table.concat(out)
end

local function line_end(text, at) return (text:find('\n', at, true) or #text + 1) - 1 end

-- C without comments, strings and characters.
function source.c_code(text)
  return blank_ranges(text, '[/"\']', function(s, i)
    local two = s:sub(i, i + 1)
    if two == '//' then return line_end(s, i) end
    if two == '/*' then return select(2, s:find('*/', i + 2, true)) or #s end
    if two:sub(1, 1) == '/' then return nil end
    return quoted_end(s, i)
  end)
end

-- C code (from c_code) without preprocessor lines and their continuations.
function source.c_statements(code)
  local out, going_on = {}, false
  for _, line in source.lines(code) do
    local directive = going_on or line:find('^%s*#')
    out[#out + 1] = directive and '' or line
    going_on = directive and line:find('\\%s*$') ~= nil
  end
  return table.concat(out, '\n') .. '\n'
end

-- Lua without comments and strings.
function source.lua_code(text)
  return blank_ranges(text, '[-"\'%[]', function(s, i)
    local c = s:sub(i, i)
    if c == '"' or c == "'" then return quoted_end(s, i) end
    local open = c == '-' and (s:sub(i, i + 1) == '--' and i + 2) or c == '[' and i
    if not open then return nil end
    local level = s:match('^%[(=*)%[', open)
    if level then return select(2, s:find(']' .. level .. ']', open, true)) or #s end
    return c == '-' and line_end(s, i) or nil
  end)
end

-- Collects complaints; finish prints them and ends the program.
function source.report(what)
  local found = {}
  return {
    complain = function(path, line, fmt, ...)
      found[#found + 1] = string.format('%s:%d: %s', path, line, string.format(fmt, ...))
    end,
    finish = function(summary)
      for _, text in ipairs(found) do print(text) end
      print(#found == 0 and what .. ': ' .. summary .. ', good' or what .. ': ' .. #found .. ' wrong')
      os.exit(#found == 0 and 0 or 1)
    end,
  }
end

return source
