-- Every name that a user can reach, found by walking what is there: the tables below ld, the methods of classes.
--
-- Classes of C are found by their metatables; those of Lua among the upvalues of reachable functions: a table that is
-- its own __index. They say what entries call them in __name.

local parts = {'nn', 'models', 'vae', 'diffusion', 'perceptual', 'schedule', 'ema', 'images', 'latents', 'run',
               'options', 'gradcheck', 'grid', 'checkpoint', 'metrics', 'demo', 'picture_mix', 'help', 'ranks',
               'pixels', 'precision', 'report', 'plot', 'health', 'find_lr', 'show', 'trained'}

-- A name that several classes of one kind have is at several places.
local function add(names, name, owner, key)
  local found = names[name]
  names[name] = {owner = owner, key = key, value = rawget(owner, key), also = found}
end

-- The tables that are called or hold functions, below a name.
local function walk_table(names, prefix, t, seen)
  if seen[t] then return end
  seen[t] = true
  local meta = getmetatable(t)
  if type(meta) == 'table' and rawget(meta, '__call') then
    names[prefix] = {owner = meta, key = '__call', value = t, called = true}
  end
  for key, value in pairs(t) do
    local name = type(key) == 'string' and (prefix .. '.' .. key)
    if name and not key:match('^_') and prefix .. '.' .. key ~= 'ld.core' then
      if type(value) == 'table' then walk_table(names, name, value, seen)
      else add(names, name, t, key) end
    end
  end
end

local function methods(names, class, t, in_lua)
  for key, value in pairs(t) do
    if type(key) == 'string' and not key:match('^__') and type(value) == 'function' then
      -- what calling a network does is one entry
      local shared = key == 'forward' and in_lua
      add(names, (shared and 'net' or class) .. ':' .. key, t, key)
    end
  end
end

-- Classes among the upvalues of functions, in the library's files alone.
local function lua_classes(names, unnamed, root, seen)
  local function visit(v)
    if (type(v) ~= 'table' and type(v) ~= 'function') or seen[v] then return end
    seen[v] = true
    if type(v) == 'function' then
      if debug.getinfo(v, 'S').what == 'C' then return end
      for i = 1, 60 do
        local name, value = debug.getupvalue(v, i)
        if not name then break end
        visit(value)
      end
      return
    end
    if rawget(v, '__index') == v then
      local class = rawget(v, '__name') or rawget(v, 'name')
      if type(class) == 'string' then methods(names, class, v, true)
      elseif next(v) then unnamed[#unnamed + 1] = v end
    end
    for key, value in pairs(v) do
      if key ~= '_G' then visit(value) end
    end
    local meta = getmetatable(v)
    if type(meta) == 'table' then visit(meta) end
  end
  visit(root)
end

--- name -> {value, owner, key, also = the next place}: rawset(owner, key, f) replaces it. Second: Lua classes
-- that do not say their name.
return function()
  local ld, help = require 'ld', require 'ld.help'
  local names, unnamed = {}, {}
  for _, part in ipairs(parts) do local _ = ld[part] end
  for name in pairs(require 'ld.metrics_record') do local _ = ld.metrics[name] end -- loaded when they are asked for
  walk_table(names, 'ld', ld, {[_G] = true})
  walk_table(names, 'nn', ld.nn, {})
  for name in pairs(names) do
    if name:match('^ld%.nn') then names[name] = nil end
  end
  for meta_name, class in pairs(help.class_names()) do
    local meta = debug.getregistry()[meta_name]
    local index = meta and rawget(meta, '__index')
    local behind = type(index) == 'function' and select(2, debug.getupvalue(index, 1))
    if meta then methods(names, class, rawget(meta, 'methods') or type(behind) == 'table' and behind or meta) end
  end
  local seen = {[_G] = true, [package.loaded] = true, [require 'ld.core'] = true}
  for _, file in ipairs{'encode', 'encode_verify', 'encode_progress', 'encode_bad', 'encode_batches', 'import'} do
    local part = package.loaded['ld.' .. file]
    if part then seen[part] = true end
  end
  for name, module in pairs(package.loaded) do
    if type(name) == 'string' and name:match('^ld%.[%w_.]+$') and not seen[module] then
      lua_classes(names, unnamed, module, seen)
    end
  end
  return names, unnamed
end
