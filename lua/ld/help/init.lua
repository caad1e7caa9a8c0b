-- Help: one entry for each public name, read by the prompt (? name, ??word, Tab inside {...}), by ld.help, by
-- docs/api and by the tests.
--
-- An entry is text in one of the files beside this one:
--
--   ld.flip(x, dim)                        one or more signatures, at the margin. Options: {name = default}, or a bare
--   ld.flop(x)                             name for one that is needed, and `= nil` for one that may be left out
--     What it does, in a sentence.         two blanks in
--     x        what it is                  every argument and option: name, two blanks or more, what it is
--     returns  what comes back             further words of this kind: errors source see
--     example
--       print(ld.flip(ld.ones(2), 1))      runs by itself, with ld and nn there
--
-- A blank line ends it. A signature whose line ends in a comma goes on in the next one. Objects go by their class: x
-- (tensor), net (module), run, set, store, vae, model ... A method
-- x:name covers the function ld.name, and the other way round. Names for the library's own use are listed under
-- `internal`. tests/lua/test_help.lua compares all this with what is there.
local core = require 'ld.core'

local help = {}

help.subjects = {'tensor', 'elementwise', 'shape', 'op', 'grad', 'nn', 'models', 'diffusion', 'optim', 'images', 'data',
                 'runs', 'files', 'prompt'}

local words = {returns = true, errors = true, source = true, see = true, example = true}

-- C classes by the name in their metatables; Lua classes say theirs in __name.
local classes = {['ld.tensor'] = 'x', ['ld.optim'] = 'optimizer', ['ld.sampler'] = 'sampler', ['ld.h5'] = 'h5',
  ['ld.safetensors'] = 'safetensors', ['ld.npy'] = 'npy', ['ld.npy_folder'] = 'npy_folder', ['ld.source'] = 'source',
  ['ld.loader'] = 'loader', ['ld.ema'] = 'averages', ['ld.latents'] = 'rows', ['ld.layer'] = 'layer',
  ['ld.pipeline'] = 'pipeline', ['ld.store_writer'] = 'store_writer'}

--- Those names: a table.
function help.class_names() return classes end

-- The last {...} of a signature as a list of {name, default}, nil where it takes no options.
local function options_of(signature)
  local inside = signature:match('{(.*)}%)?$')
  if not inside then return nil end
  local list, depth, at = {}, 0, 1
  for i = 1, #inside + 1 do
    local c = inside:sub(i, i)
    if c == '{' then depth = depth + 1 elseif c == '}' then depth = depth - 1 end
    if depth == 0 and (c == ',' or c == '') then
      local name, default = inside:sub(at, i - 1):match('^%s*([%w_]+)%s*=?%s*(.-)%s*$')
      if name then list[#list + 1] = {name, default ~= '' and default or nil} end
      at = i + 1
    end
  end
  return list
end

local function parse_signature(line)
  local name, rest = line:match('^([%w_.:]+)(.*)$')
  local positional = rest:match('^%((.-),? ?{.*}%)$') or rest:match('^%((.*)%)$') or ''
  local arguments = {}
  for a in positional:gmatch('[^, ]+') do arguments[#arguments + 1] = a end
  return {text = line, name = name, arguments = arguments, options = options_of(line), callable = rest ~= ''}
end

-- The lines of a block, the signatures first.
local function parse(block, subject)
  local e, item = {signatures = {}, summary = '', lines = {}, subject = subject}, nil
  local head, body = block:match('^(.-)(\n  .*)$')
  while head and head:match(',$') do -- a signature goes on
    local more, rest = body:match('^\n%s*([^\n]*)(.*)$')
    head, body = head .. ' ' .. more, rest
    local further, last_part = body:match('^(\n%S[^\n]*)(.*)$')
    while further do
      head, body = head .. further, last_part
      further, last_part = body:match('^(\n%S[^\n]*)(.*)$')
    end
  end
  for line in ((head or '') .. (body or block) .. '\n'):gmatch('([^\n]*)\n') do
    local key, value = line:match('^  ([%w_.]+)%s%s+(%S.*)$')
    if not key and line:match('^  example%s*$') then key, value = 'example', '' end
    if line:match('^%S') then
      e.signatures[#e.signatures + 1] = parse_signature(line)
    elseif line:match('^    ') and item then
      item[2] = item[2] .. (item[1] == 'example' and line:sub(5) .. '\n' or ' ' .. line:match('^%s*(.*)$'))
    elseif key then
      item = {key, value}
      e.lines[#e.lines + 1] = item
      if words[key] then e[key] = item end
    elseif line ~= '' then
      e.summary = e.summary .. (e.summary == '' and '' or ' ') .. line:match('^%s*(.*)$')
    end
  end
  return e
end

local index -- name -> entry, in all its spellings
local loaded -- {title, name, entries} of each subject

local function add(e)
  for _, s in ipairs(e.signatures) do
    index[s.name] = e
  end
end

local function load_all()
  if index then return end
  index, loaded, help.internal = {}, {}, {}
  for _, subject in ipairs(help.subjects) do
    local part = require('ld.help.' .. subject)
    local one = {name = subject, title = part.title, entries = {}}
    for block in (part[1] .. '\n\n'):gmatch('(.-)\n\n+') do
      if block:match('%S') then
        local e = parse(block, subject)
        one.entries[#one.entries + 1] = e
        add(e)
      end
    end
    for name in (part.internal or ''):gmatch('%S+') do help.internal[name] = true end
    loaded[#loaded + 1] = one
  end
end

--- Every subject: {name, title, entries}.
function help.all()
  load_all()
  return loaded
end

--- The entry of a name as written, nil when there is none; also the signature that has the name.
function help.entry(name)
  load_all()
  local other = name:match('^x:(.*)$') and 'ld.' .. name:sub(3) or name:match('^ld%.[%w_]+$') and 'x:' .. name:sub(4)
  local e = index[name] or (other and index[other])
  for _, s in ipairs(e and e.signatures or {}) do
    if s.name == name or s.name == other then return e, s end
  end
  return e
end

--- Every name as it is written, with its entry.
function help.index()
  load_all()
  return index
end

--- The class of a value as entries call it: x, net, run ...; nil when it has none.
function help.class(value)
  local meta = debug.getmetatable(value)
  if type(value) == 'string' or type(meta) ~= 'table' then return nil end
  local name = rawget(meta, '__name')
  local parent = debug.getmetatable(meta)
  if not name and type(parent) == 'table' and type(rawget(parent, '__index')) == 'table' then
    name = rawget(parent.__index, '__name')
  end
  return classes[name] or name
end

-- Whether a name is one, or a.b:c, with parts spelt so.
local function distance(a, b)
  local row = {}
  for j = 0, #b do row[j] = j end
  for i = 1, #a do
    local diagonal = row[0]
    row[0] = i
    for j = 1, #b do
      local cost = a:byte(i) == b:byte(j) and 0 or 1
      diagonal, row[j] = row[j], math.min(row[j] + 1, row[j - 1] + 1, diagonal + cost)
    end
  end
  return row[#b]
end

local function last(name) return name:match('([%w_]+)$') or name end

--- Names like this one, the nearest first, at most five.
function help.near(name)
  load_all()
  local found = {}
  for known in pairs(index) do
    local d = distance(name, known)
    if not (name:match('^ld%.') and known:match('^ld%.')) then d = math.min(d, distance(last(name), last(known))) end
    if d <= math.max(1, math.floor(#last(name) / 3)) then found[#found + 1] = {d, known} end
  end
  table.sort(found, function(a, b) return a[1] < b[1] or (a[1] == b[1] and a[2] < b[2]) end)
  local names = {}
  for i = 1, math.min(5, #found) do names[i] = found[i][2] end
  return names
end

-- Whether a text has every word of a list.
local function has_all(text, list)
  for _, word in ipairs(list) do
    if not text:find(word, 1, true) then return false end
  end
  return true
end

-- Names whose last part begins so, at most five.
local function beginning(stem)
  local names = {}
  for known in pairs(index) do
    if last(known):sub(1, #stem) == stem then names[#names + 1] = known end
  end
  table.sort(names)
  return {unpack(names, 1, 5)}
end

--- Every entry whose name, summary or lines have the word, or all of several words, as a list of {name, summary}.
function help.search(text)
  load_all()
  local found, list = {}, {}
  for word in text:lower():gmatch('%S+') do list[#list + 1] = word end
  for _, part in ipairs(loaded) do
    for _, e in ipairs(part.entries) do
      local names, says = {}, e.summary
      for _, s in ipairs(e.signatures) do names[#names + 1] = s.name end
      for _, item in ipairs(e.lines) do says = says .. ' ' .. (item[1] ~= 'example' and item[2] or '') end
      local name = table.concat(names, ' '):lower()
      if has_all(name .. ' ' .. says:lower(), list) then
        found[#found + 1] = {e.signatures[1].name, e.summary, has_all(name, list) and 0 or 1}
      end
    end
  end
  table.sort(found, function(a, b) return a[3] < b[3] or (a[3] == b[3] and a[1] < b[1]) end)
  return found
end

-- The entry of what a text names: as it is written, below ld, or through the variables of the program.
local function find(name)
  local e = help.entry(name) or help.entry('ld.' .. name) or help.entry('x:' .. name) or help.entry('net:' .. name)
  if e then return e end
  local first, method = name:match('^([%a_][%w_]*)[.:]([%w_]+)$')
  local value = first and rawget(_G, first)
  local class = value ~= nil and help.class(value)
  return class and (help.entry(class .. ':' .. method) or help.entry(class .. '.' .. method)) or nil
end

--- Option names of the call `name`, for Tab; an empty table when it takes none.
function help.options(name)
  local names, e = {}, find(name)
  for _, s in ipairs(e and e.signatures or {}) do
    if last(s.name) == last(name) then
      for _, o in ipairs(s.options or {}) do names[#names + 1] = o[1] end
    end
  end
  return names
end

-- ---- as text --------------------------------------------------------------------------------------------------------

local function show_entry(e)
  local out, widest = {}, 0
  for _, s in ipairs(e.signatures) do out[#out + 1] = s.text end
  out[#out + 1] = '  ' .. e.summary
  for _, item in ipairs(e.lines) do widest = math.max(widest, #item[1]) end
  for _, item in ipairs(e.lines) do
    if item[1] == 'example' then
      out[#out + 1] = '  example\n    ' .. item[2]:gsub('\n$', ''):gsub('\n', '\n    ')
    else
      out[#out + 1] = ('  %s%s  %s'):format(item[1], (' '):rep(widest - #item[1]),
        (item[2]:gsub('\n', '\n' .. (' '):rep(widest + 4))))
    end
  end
  return table.concat(out, '\n')
end

local function list_class(class)
  local out = {}
  for _, part in ipairs(loaded) do
    for _, e in ipairs(part.entries) do
      for _, s in ipairs(e.signatures) do
        if s.name:match('^([%w_]+)[.:]') == class then out[#out + 1] = ('  %-36s %s'):format(s.name, e.summary) end
      end
    end
  end
  return #out > 0 and table.concat(out, '\n') or nil
end

local function command_line(c) return ('  %-20s %s'):format(c[2], c[3]) end

-- What the prompt's command of a name does, nil when there is none.
local function show_command(name)
  for _, c in ipairs(require 'ld.help.commands') do
    for _, known in ipairs(c[1]) do
      if known == name then return command_line(c) end
    end
  end
end

local function list_subjects()
  local out = {'Names by subject; how to ask for one stands at the end.'}
  for _, part in ipairs(help.all()) do
    local names = {}
    for _, e in ipairs(part.entries) do
      for _, s in ipairs(e.signatures) do names[#names + 1] = s.name end
    end
    local text, width = '', 0
    for _, name in ipairs(names) do
      if width + #name + 1 > 76 then text, width = text .. '\n   ', 0 end
      text, width = text .. ' ' .. name, width + #name + 1
    end
    out[#out + 1] = part.title .. '\n   ' .. text
  end
  out[#out + 1] = 'At the prompt'
  for _, c in ipairs(require 'ld.help.commands') do out[#out + 1] = command_line(c) end
  return table.concat(out, '\n')
end

-- A public function's name, from its value.
local function name_of(value)
  for name, found in pairs(require('ld.help.names')()) do
    if rawequal(found.value, value) and help.entry(name) then return name end
  end
end

--- The text that ? name shows.
function help.show(what)
  load_all()
  if what == nil then return list_subjects() end
  if type(what) ~= 'string' then
    local name = name_of(what)
    local class = help.class(what)
    local text = name and show_entry(help.entry(name)) or class and list_class(class)
    return text or ('a %s; no entry belongs to it'):format(type(what))
  end
  local name = what:match('^%s*(.-)%s*$'):gsub('%(%)$', '')
  if name == '' or name == 'ld' then return list_subjects() end
  local e = find(name)
  local methods = list_class(name)
  if e then return show_entry(e) .. (methods and '\n\n' .. methods or '') end
  local value = name:match('^[%a_][%w_]*$') and rawget(_G, name)
  if value ~= nil and value ~= false and (help.class(value) or type(value) == 'function') then
    return help.show(value)
  end
  local parts = {list_class(name)}
  for known, entry in pairs(index) do
    local below = known:sub(1, #name + 4) == 'ld.' .. name .. '.' or
      (name:match('^ld%.') and known:sub(1, #name + 1) == name .. '.')
    if last(known) == name or below then
      parts[#parts + 1] = ('  %-36s %s'):format(known, entry.summary)
    end
  end
  table.sort(parts)
  if #parts == 1 and not parts[1]:find('\n', 1, true) then return show_entry(index[parts[1]:match('%S+')]) end
  if #parts > 0 then return table.concat(parts, '\n') end
  if help.internal[name] then return name .. " is for the library's own use" end
  local command = show_command(name)
  if command then return command end
  if not name:match('^[%w_.:]+$') then
    return ("'%s' is no name; ? takes one, such as ? ld.conv2d, and ??word searches"):format(name)
  end
  local near = #last(name) > 2 and help.near(name) or {}
  if #near == 0 and #last(name) > 2 then near = beginning(last(name)) end
  return ("no entry '%s'%s; ??%s searches"):format(name, #near > 0 and '; did you mean ' .. table.concat(near, ', ') ..
    '?' or '', last(name))
end

--- The text that ??word shows.
function help.found(word)
  local out = {}
  for _, f in ipairs(help.search(word)) do out[#out + 1] = ('  %-32s %s'):format(f[1], f[2]) end
  return #out > 0 and table.concat(out, '\n') or ("nothing has the word '%s'"):format(word)
end

--- A page of docs/api: the entries of a subject as Markdown.
function help.markdown(part)
  local out = {'# ' .. part.title, '',
    'Made from `lua/ld/help/' .. part.name .. '.lua` by `make docs`; at the prompt, `? name` shows the same.', ''}
  for _, e in ipairs(part.entries) do
    out[#out + 1] = '```'
    for _, s in ipairs(e.signatures) do out[#out + 1] = s.text end
    out[#out + 1] = '```\n\n' .. e.summary .. '\n'
    for _, item in ipairs(e.lines) do
      if item[1] == 'example' then
        out[#out + 1] = '\n```lua\n' .. item[2] .. '```'
      else
        out[#out + 1] = ('- %s: %s'):format(words[item[1]] and '*' .. item[1] .. '*' or '`' .. item[1] .. '`',
          (item[2]:gsub('\n', ' ')))
      end
    end
    out[#out + 1] = ''
  end
  return table.concat(out, '\n')
end

return setmetatable(help, {__call = function(_, ...)
  if select('#', ...) > 0 and (...) == nil then
    core.fail('help: nil has no entry; write the name as text, as in ld.help "conv2d", or ? conv2d at the prompt')
  end
  print(require('ld.help.fit')(help.show((...)), select(2, core.terminal())))
end})
