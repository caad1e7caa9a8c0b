-- Options of a recipe: a table of defaults, overridden by the command line.
--
-- Options of these names count something in every recipe: a whole number, not below what stands here.
local counts = {size = 1, crop = 1, batch = 1, epochs = 1, samples = 1, steps = 2, layers = 1, width = 1,
                attention_width = 1, n = 1, limit = 1, every = 1, sample = 1, faces = 0, pad = 0, seed = 0, first = 0,
                overfit = 0}

local core = require 'ld.core'

local function sorted(t)
  local list = {}
  for key in pairs(t) do list[#list + 1] = key end
  table.sort(list)
  return list
end

local function text(v)
  return type(v) == 'table' and '{' .. table.concat(v, ',') .. '}' or tostring(v)
end

local function refuse(message, ...)
  core.fail(message:format(...))
end

-- A word of the command line as the type of its default.
local function convert(key, default, word)
  if type(default) == 'number' then
    local value, least = tonumber(word), counts[key]
    if not value or value ~= value then refuse("option --%s must be a number, not '%s'", key, word) end
    if least and default >= least and default % 1 == 0 and (value < least or value % 1 ~= 0) then
      refuse("option --%s must be a whole number, at least %d, not '%s'", key, least, word)
    end
    return value
  elseif type(default) == 'boolean' then
    if word == 'true' or word == 'false' then return word == 'true' end
    refuse("option --%s must be true or false, not '%s'", key, word)
  elseif type(default) == 'table' then
    local list = {}
    for part in word:gmatch('[^,]+') do
      list[#list + 1] = tonumber(part) or refuse("option --%s must be numbers such as 64,128, not '%s'", key, word)
    end
    if #list == 0 then refuse("option --%s must be numbers such as 64,128, not '%s'", key, word) end
    return list
  end
  return word
end

local function append(list, word)
  list[#list + 1] = word
  return list
end

-- `places`: the names of options that may stand without their names, in order; `rest` that of a list of all words after
-- those, or nil.
local function parse(defaults, places, rest, words)
  local out, set = {}, {}
  for key, value in pairs(defaults) do out[key] = value end
  local known, i, place = table.concat(sorted(defaults), ' '), 1, 0
  while i <= #words do
    local word = words[i]
    local key, value = word:match('^%-%-([%w_%-]+)=(.*)$')
    key = key or word:match('^%-%-([%w_%-]+)$') or word == '-h' and 'help'
    local name = key and key:gsub('%-', '_')
    if not key and rest and place == #places then
      out[rest] = append(set[rest] and out[rest] or {}, word)
      set[rest] = true
    elseif not key then
      place = place + 1
      name = places[place]
      if not name then
        refuse("'%s' is no option; options are --name value; known: %s dry-run help", word, known)
      end
      out[name] = convert(name, defaults[name], word)
      set[name] = true
    elseif (name == 'dry_run' or name == 'help') and defaults[name] == nil then
      set[name] = true
    elseif defaults[name] == nil then
      refuse("unknown option '--%s'; known: %s dry-run help", key, known)
    else
      if value == nil and type(defaults[name]) == 'boolean' and
         (words[i + 1] == nil or words[i + 1]:match('^%-%-')) then
        value = 'true'
      elseif value == nil then
        i = i + 1
        value = words[i]
        if not value or value:match('^%-%-') then refuse('option --%s needs a value', key) end
      end
      out[name] = convert(key, defaults[name], value)
      set[name] = true
    end
    i = i + 1
  end
  return out, set
end

-- The comment at the head of the script.
local function print_head(path)
  local f = path and io.open(path)
  for line in f and f:lines() or function() end do
    local words = line:match('^%-%- ?(.*)$')
    if not words then break end
    print(words)
  end
  if f then f:close() end
end

local function print_table(defaults, out, set)
  for _, key in ipairs(sorted(defaults)) do
    print(('%-16s %-40s %s'):format(key, text(out[key]), set[key] and '(command line)' or '(recipe)'))
  end
end

--- options{data = 'folder', epochs = 250, ...}: the defaults with the script's arguments (--epochs 10) applied. Unknown
-- options are refused; --dry-run prints the resolved table and ends the program, --help (-h) the comment at the head of
-- the script and what each option means: the comment behind it where it has its line alone, else what its name means in
-- every recipe. Lists are written 64,128. Options named first, options{'data', data = ''}, are also taken
-- without their names, in that order; 'runs...' as the last of them takes all words left, as a list.
return function(given)
  local defaults, places = {}, {}
  for key, value in pairs(given) do
    if type(key) == 'number' then places[key] = value else defaults[key] = value end
  end
  local rest = places[#places] and places[#places]:match('^(.*)%.%.%.$')
  if rest then places[#places] = nil end
  local words = {}
  for i, word in ipairs(rawget(_G, 'arg') or {}) do words[i] = word end
  local out, set = parse(defaults, places, rest, words)
  if set.help then
    print_head(rawget(_G, 'arg')[0])
    print('\noptions and their values; --dry-run prints them alone, --name value sets one:')
    require('ld.option_help').print(rawget(_G, 'arg')[0], out, text)
  elseif set.dry_run then
    print_table(defaults, out, set)
  end
  if set.help or set.dry_run then os.exit(0, true) end
  if type(out.precision) == 'string' then require('ld.precision').check('', out.precision) end -- before hours of work
  return setmetatable(out, {__index = function(_, key) core.fail(("there is no option '%s'"):format(tostring(key))) end,
                            __set = set})
end
