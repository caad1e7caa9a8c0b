-- Options of a Lua function: unknown ones refused, missing ones filled from defaults.
local core = require 'ld.core'

local function names(defaults)
  local list = {}
  for key in pairs(defaults) do list[#list + 1] = key end
  table.sort(list)
  return #list > 0 and table.concat(list, ' ') or 'none'
end

--- take(who, given, defaults, needed): a new table. A default of core `take.optional` stands for nil.
local optional = {}
local take = setmetatable({optional = optional}, {
  __call = function(_, who, given, defaults, needed)
    if given ~= nil and type(given) ~= 'table' then
      core.fail(('%s: options must be a table, not %s; known: %s'):format(who, type(given), names(defaults)))
    end
    local out = {}
    for key, value in pairs(defaults) do
      if value ~= optional then out[key] = value end
    end
    for key, value in pairs(given or {}) do
      local default = defaults[key]
      if default == nil then
        core.fail(("%s: unknown option '%s'; known: %s"):format(who, tostring(key), names(defaults)))
      end
      if default ~= optional and type(default) ~= type(value) then
        core.fail(('%s: %s must be a %s, not a %s'):format(who, key, type(default), type(value)))
      end
      out[key] = value
    end
    for _, key in ipairs(needed or {}) do
      if out[key] == nil then core.fail(("%s: option '%s' is needed"):format(who, key)) end
    end
    return out
  end,
})

--- take.names(who, t): t, in which a name it lacks is an error that lists those it has.
function take.names(who, t)
  return setmetatable(t, {__index = function(_, key)
    core.fail(("%s has no '%s'; known: %s"):format(who, tostring(key), names(t)))
  end})
end

return take
