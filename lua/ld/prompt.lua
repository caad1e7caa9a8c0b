-- What the prompt knows besides Lua: ? name, ??word, who, .load, .save, .time, .profile, .help; and Tab where entries
-- or variables have to be asked. csrc/host reads lines and calls this; it is loaded when it is first needed.
local core = require 'ld.core'
local help = require 'ld.help'

local prompt = {}

-- Help, as wide as the terminal.
local function tell(text) print(require('ld.help.fit')(text, select(2, core.terminal()))) end

local function statements() return debug.getregistry()['ld.statements'] or {} end

-- ---- commands -------------------------------------------------------------------------------------------------------

-- A statement's function, as the prompt compiles it.
local function compile(text, who)
  local f = loadstring('return ' .. text, '=prompt')
  if f then return f end
  local why
  f, why = loadstring(text, '=prompt')
  if not f then error(('%s: %s'):format(who, (why:gsub('^prompt:1: ', ''))), 0) end
  return f
end

local function show(...)
  local ld = require 'ld'
  for i = 1, select('#', ...) do print(ld.repr((select(i, ...)))) end
end

local function seconds_text(s)
  if s < 1e-3 then return ('%.0f us'):format(s * 1e6) end
  return s < 1 and ('%.3g ms'):format(s * 1e3) or ('%.3g s'):format(s)
end

local function bytes_text(n)
  if n < 1024 then return ('%d B'):format(n) end
  return n < 2 ^ 20 and ('%.1f KiB'):format(n / 1024) or ('%.1f MiB'):format(n / 2 ^ 20)
end

local sizes = {f32 = 4, bf16 = 2, f16 = 2, f64 = 8, i64 = 8, i32 = 4, u8 = 1}

local function needed(text, command, example)
  if text == '' then error(('%s: what? For example: %s'):format(command, example), 0) end
  return text
end

local commands = {}

--- .time statement: run it, and say how long it took.
commands['.time'] = function(text)
  local f = compile(needed(text, '.time', '.time ld.randn(1000, 1000):matmul(ld.randn(1000, 1000))'), '.time')
  local start = core.clock()
  local results = {n = 0}
  local function take(...) results = {n = select('#', ...), ...} end
  take(f())
  local s = core.clock() - start
  show(unpack(results, 1, results.n))
  print(seconds_text(s))
end

--- .profile statement: run it, and list the time of its operations, forward and backward.
commands['.profile'] = function(text)
  local f = compile(needed(text, '.profile', '.profile loss = model:loss(z) loss:backward()'), '.profile')
  local p, spent = core.profile(f), 0
  table.sort(p.ops, function(a, b) return a.seconds > b.seconds end)
  print(('%-24s %-9s %8s %10s %6s'):format('operation', 'pass', 'calls', 'time', 'share'))
  for _, op in ipairs(p.ops) do
    spent = spent + op.seconds
    print(('%-24s %-9s %8d %10s %5.1f%%'):format(op.op, op.pass, op.calls, seconds_text(op.seconds),
      100 * op.seconds / p.seconds))
  end
  print(('%-24s %-9s %8s %10s %5.1f%%'):format('besides operations', '', '', seconds_text(p.seconds - spent),
    100 * (p.seconds - spent) / p.seconds))
  print(('%-24s %-9s %8s %10s'):format('in all', '', '', seconds_text(p.seconds)))
end

--- .load file: run a file as if it had been typed.
commands['.load'] = function(text)
  local path = needed(text, '.load', '.load recipe.lua'):gsub('^[\'"](.*)[\'"]$', '%1')
  local f, why = loadfile(path)
  if not f then error('.load: ' .. why, 0) end
  return f()
end

--- .save file: the statements of this session that ran, into a file.
commands['.save'] = function(text)
  local path = needed(text, '.save', '.save session.lua'):gsub('^[\'"](.*)[\'"]$', '%1')
  local list = {}
  for _, s in ipairs(statements()) do
    if s:match('^%s*who%s*$') or s:match('^%s*help%s*$') then s = '' end -- a command, as what does not compile
    if s ~= '' and loadstring(s) then list[#list + 1] = s
    elseif s ~= '' and loadstring('return ' .. s) then list[#list + 1] = ('print(%s)'):format((s:gsub('%s+$', ''))) end
  end
  core.write_file(path, table.concat(list, '\n') .. '\n')
  print(('%d statements in %s'):format(#list, path))
end

commands['.help'] = function(text) tell(help.show(text ~= '' and text or nil)) end

-- The text of a tensor in the list of who.
local function row(name, x, maker)
  local bytes = x:numel() * sizes[x.dtype]
  return ('%-20s %-20s %-5s %-8s %10s  %s'):format(name, '(' .. table.concat(x.shape, ',') .. ')', x.dtype, x.device,
    bytes_text(bytes), maker or ''), bytes
end

local function sorted_globals()
  local keys = {}
  for key in pairs(_G) do
    if type(key) == 'string' and key ~= '_G' and key ~= 'ld' and key ~= 'nn' and key ~= 'package' then
      keys[#keys + 1] = key
    end
  end
  table.sort(keys)
  return keys
end

-- Tensors that no variable names, and the user's line that made them.
local function held(makers)
  local list, library = {}, package.loaded['ld.host'].root .. '/lua/ld/'
  collectgarbage()
  collectgarbage() -- a tensor that is gone leaves the table of makers one collection later
  for x, maker in pairs(makers) do
    if not x.released and maker:sub(1, #library) ~= library then list[#list + 1] = {x, maker} end
  end
  table.sort(list, function(a, b) return a[2] < b[2] end)
  return list
end

local MANY = 3 -- tensors without a name that one line made: as many have a row each

-- Rows for those of the list that have no name; their bytes.
local function others(list, named, lines)
  local of, order, total = {}, {}, 0
  for _, entry in ipairs(list) do
    local x, maker = unpack(entry, 1, 2)
    if not named[x] then
      if not of[maker] then of[maker], order[#order + 1] = {bytes = 0}, maker end
      local text, bytes = row('', x, maker)
      table.insert(of[maker], text)
      of[maker].bytes, total = of[maker].bytes + bytes, total + bytes
    end
  end
  for _, maker in ipairs(order) do
    local rows = of[maker]
    lines[#lines + 1] = #rows <= MANY and table.concat(rows, '\n') or ('%-20s %-36s %10s  %s'):format('', #rows ..
      ' tensors', bytes_text(rows.bytes), maker)
  end
  return total
end

--- who: the tensors there are, those of variables by name, then others that are still held somewhere.
function commands.who()
  local makers, named, lines, total = debug.getregistry()['ld.makers'] or {}, {}, {}, 0
  local rest = held(makers)
  local function add(name, x, maker)
    if x.released or named[x] then return end
    named[x] = true
    local text, bytes = row(name, x, maker)
    lines[#lines + 1], total = text, total + bytes
  end
  for _, key in ipairs(sorted_globals()) do
    local value = rawget(_G, key)
    if core.is_tensor(value) then
      add(key, value, makers[value])
    elseif help.class(value) == 'net' then
      local n, tensors = value:count()
      lines[#lines + 1] = ('%-20s %s, %d parameters in %d tensors on %s'):format(key, value.name or 'module', n,
        tensors, value:device())
    elseif type(value) == 'table' then
      for field, x in pairs(value) do
        if core.is_tensor(x) then add(('%s.%s'):format(key, tostring(field)), x, makers[x]) end
      end
    end
  end
  total = total + others(rest, named, lines)
  if #lines == 0 then return print('no tensors') end
  print(('%-20s %-20s %-5s %-8s %10s  %s'):format('name', 'shape', 'dtype', 'device', 'bytes', 'made by'))
  print(table.concat(lines, '\n'))
  local m = core.memory()
  print(('%s in these, %s live in all, %s cached'):format(bytes_text(total), bytes_text(m.live), bytes_text(m.cached)))
end

--- Runs a line that is no Lua: one that begins with ? or . and the word who.
function prompt.command(line)
  local text = line:match('^%s*(.-)%s*$'):gsub('^(%a+)%(%)$', '%1')
  local word = text:match('^%?%?%s*(.*)$')
  if word then return tell(word == '' and help.show() or help.found(word)) end
  local name = text:match('^%?%s*(.*)$') or (text == 'help' and '')
  if name then return tell(help.show(name)) end
  local command, rest = text:match('^(%S+)%s*(.*)$')
  if commands[command] then return commands[command](rest) end
  error(("there is no command '%s'; known: ? ?? who .help .load .profile .save .time"):format(command), 0)
end

-- ---- Tab ------------------------------------------------------------------------------------------------------------

-- What is open at the end of a text: a string (its text so far), and the innermost brackets as {bracket, position}.
local function scan(text)
  local stack, i = {}, 1
  while i <= #text do
    local c = text:sub(i, i)
    if c == '"' or c == "'" then
      local at = i
      repeat
        i = i + 1
        if text:sub(i, i) == '\\' then i = i + 2 end
      until i > #text or text:sub(i, i) == c
      if i > #text then return stack, text:sub(at + 1) end
    elseif c == '-' and text:sub(i, i + 1) == '--' then
      i = (text:find('\n', i, true) or #text + 1) - 1
    elseif c == '(' or c == '{' or c == '[' then
      stack[#stack + 1] = {c, i}
    elseif c == ')' or c == '}' or c == ']' then
      stack[#stack] = nil
    end
    i = i + 1
  end
  return stack
end

-- The name of the call whose option table is open at the end of the text.
local function open_call(text, stack)
  local top, below = stack[#stack], stack[#stack - 1]
  if not top or top[1] ~= '{' then return nil end
  local before = text:sub(1, top[2] - 1)
  local name = before:match('([%a_][%w_.:]*)%s*$')
  if not name and below and below[1] == '(' then name = text:sub(1, below[2] - 1):match('([%a_][%w_.:]*)%s*$') end
  return name
end

-- Components behind `base` ('ld.optim.', 'x:') of the names that have entries.
local function from_entries(base)
  local found, value = {}, rawget(_G, base:match('^([%w_]*)') or '')
  local class = value ~= nil and base:match('^[%w_]+[.:]$') and help.class(value) or nil
  for name in pairs(help.index()) do
    local rest
    if name:sub(1, #base) == base then rest = name:sub(#base + 1)
    elseif class and name:match('^[%w_]+') == class and name:sub(#class + 1, #class + 1) == base:sub(-1) then
      rest = name:sub(#class + 2)
    elseif class and base:sub(-1) == '.' and name:match('^([%w_]+)%.') == class then rest = name:sub(#class + 2) end
    rest = rest and rest:match('^[%w_]+')
    if rest then found[rest] = true end
  end
  return found
end

--- Candidates at the end of a text: the part of the word they complete, a set of them, and whether there are no others.
function prompt.candidates(text)
  local asked = text:match('^%s*%?%??%s*([%w_.:]*)$')
  local stack, inside = scan(text)
  if inside and not asked then
    local files, set = package.loaded['ld.host'].files(inside), {}
    for _, path in ipairs(files) do set[path] = true end
    return inside, set, true
  end
  local word = asked or text:match('[%w_.:]*$')
  local stem = word:match('[%w_]*$')
  local call = not asked and open_call(text, stack)
  if call and stem == word and text:sub(1, #text - #stem):match('[{,]%s*$') then
    local set, any = {}, false
    for _, name in ipairs(help.options(call)) do set[name], any = true, true end
    if any then return stem, set, true end
  end
  local base = word:sub(1, #word - #stem)
  if base == '' then return stem, asked and from_entries('') or {}, false end
  return stem, from_entries(base), false
end

return prompt
