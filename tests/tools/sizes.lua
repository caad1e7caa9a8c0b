-- Sizes and manners: files of at most 600 lines, functions of at most 60, no output or exit in the core, no notes to
-- do something later. Run from the repository's root: luajit tests/tools/sizes.lua
package.path = 'tests/tools/?.lua;' .. package.path
local source = require 'source'
local report = source.report('sizes')

local FILE_LINES, FUNCTION_LINES = 600, 60

-- What only csrc/host may call, and the streams that go with it. snprintf and writing to files are no output.
local forbidden_calls = {'printf', 'vprintf', 'puts', 'putchar', 'perror', 'exit', '_exit', '_Exit', 'quick_exit',
                         'abort', 'assert'}
local forbidden_words = {'stdout', 'stderr'}
local notes = {'TO' .. 'DO', 'FIX' .. 'ME', 'X' .. 'XX'}

-- Every word of `text` with its position.
local function words(text)
  local at = 1
  return function()
    local i, j = text:find('[%a_][%w_]*', at)
    if not i then return nil end
    at = j + 1
    return text:sub(i, j), i, j
  end
end

local function set(list)
  local out = {}
  for _, v in ipairs(list) do out[v] = true end
  return out
end
local calls, streams, note = set(forbidden_calls), set(forbidden_words), set(notes)

local function check_length(path, text)
  local n = select(2, text:gsub('\n', ''))
  if n > FILE_LINES then report.complain(path, n, '%d lines, at most %d', n, FILE_LINES) end
end

local function check_notes(path, text)
  for word, i in words(text) do
    if note[word] then report.complain(path, source.line_of(text, i), 'the word %s', word) end
  end
end

local function check_manners(path, code)
  for word, i, j in words(code) do
    if streams[word] then
      report.complain(path, source.line_of(code, i), '%s is for csrc/host only', word)
    elseif calls[word] and code:find('^%s*%(', j + 1) and code:sub(i - 1, i - 1) ~= '>' then
      report.complain(path, source.line_of(code, i), '%s() is for csrc/host only', word)
    end
  end
end

local function check_function(path, first, last, name)
  if last - first + 1 > FUNCTION_LINES then
    report.complain(path, first, '%s has %d lines, at most %d', name, last - first + 1, FUNCTION_LINES)
  end
end

-- A C function: braces at depth 0 that follow a parenthesis. It starts after the last ; or } before it.
local function check_c_functions(path, statements)
  local depth, from, opened, head = 0, 1, nil, nil
  for at, c in statements:gmatch('()([{};])') do
    if c == '{' then
      if depth == 0 then
        head = statements:sub(from, at - 1)
        opened = head:find('%)%s*$') and from + #head:match('^%s*') or nil
      end
      depth = depth + 1
    elseif c == '}' then
      depth = depth - 1
      if depth == 0 and opened then
        check_function(path, source.line_of(statements, opened), source.line_of(statements, at),
                       head:match('([%a_][%w_]*)%s*%(') or '?')
        opened = nil
      end
    end
    if depth == 0 then from = at + 1 end
  end
end

-- A Lua function: from `function` to its `end`, other blocks counted in between.
local function check_lua_functions(path, code)
  local opens = {['function'] = true, ['if'] = true, ['do'] = true, ['repeat'] = true}
  local closes = {['end'] = true, ['until'] = true}
  local stack = {}
  for word, i, j in words(code) do
    if opens[word] then
      stack[#stack + 1] = {word, i, word == 'function' and (code:match('^%s*([%w_.:]+)', j + 1) or 'function')}
    elseif closes[word] then
      local block = table.remove(stack)
      if block and block[1] == 'function' then
        check_function(path, source.line_of(code, block[2]), source.line_of(code, i), block[3])
      end
    end
  end
end

local count = 0
local function each(folder, suffixes, check)
  for _, path in ipairs(source.list(folder, unpack(suffixes))) do
    local text = source.read(path)
    count = count + 1
    check_length(path, text)
    check_notes(path, text)
    check(path, text)
  end
end

for _, folder in ipairs{'csrc', 'kernels', 'tests/c', 'tests/sim'} do
  each(folder, {'.c', '.h', '.cpp', '.cu', '.cuh'}, function(path, text)
    local code = source.c_code(text)
    check_c_functions(path, source.c_statements(code))
    if not path:find('^tests/') and not path:find('^csrc/host/') then check_manners(path, code) end
  end)
end
for _, folder in ipairs{'lua', 'recipes', 'tests'} do
  each(folder, {'.lua'}, function(path, text) check_lua_functions(path, source.lua_code(text)) end)
end
each('tests', {'.sh', '/run'}, function() end)
report.finish(count .. ' files')
