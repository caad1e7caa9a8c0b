-- Options of a recipe: a table of defaults, overridden by the command line.
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
    return tonumber(word) or refuse("option --%s must be a number, not '%s'", key, word)
  elseif type(default) == 'boolean' then
    if word == 'true' or word == 'false' then return word == 'true' end
    refuse("option --%s must be true or false, not '%s'", key, word)
  elseif type(default) == 'table' then
    local list = {}
    for part in word:gmatch('[^,]+') do
      list[#list + 1] = tonumber(part) or refuse("option --%s must be numbers such as 64,128, not '%s'", key, word)
    end
    return list
  end
  return word
end

local function parse(defaults, words)
  local out, set = {}, {}
  for key, value in pairs(defaults) do out[key] = value end
  local known, i = table.concat(sorted(defaults), ' '), 1
  while i <= #words do
    local word = words[i]
    local key, value = word:match('^%-%-([%w_%-]+)=(.*)$')
    key = key or word:match('^%-%-([%w_%-]+)$')
    if not key then refuse("'%s' is no option; options are --name value; known: %s dry-run", word, known) end
    local name = key:gsub('%-', '_')
    if name == 'dry_run' then
      set.dry_run = true
    elseif defaults[name] == nil then
      refuse("unknown option '--%s'; known: %s dry-run", key, known)
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

--- options{data = 'folder', epochs = 250, ...}: the defaults with the script's arguments (--epochs 10) applied. Unknown
-- options are refused; --dry-run prints the resolved table and ends the program. Lists are written 64,128.
return function(defaults)
  local words = {}
  for i, word in ipairs(rawget(_G, 'arg') or {}) do words[i] = word end
  local out, set = parse(defaults, words)
  if set.dry_run then
    for _, key in ipairs(sorted(defaults)) do
      print(('%-16s %-40s %s'):format(key, text(out[key]), set[key] and '(command line)' or '(recipe)'))
    end
    os.exit(0, true)
  end
  return setmetatable(out, {__index = function(_, key) core.fail(("there is no option '%s'"):format(tostring(key))) end,
                            __set = set})
end
