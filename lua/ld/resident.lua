-- Whether a data set may lie in the memory of the device that trains: option `resident` of data sets.
local core = require 'ld.core'

local resident = {}

--- check(who, value): true, false or 'auto'; nil is 'auto'.
function resident.check(who, value)
  if value == nil then return 'auto' end
  if type(value) ~= 'boolean' and value ~= 'auto' then
    core.fail(("%s: resident is '%s'; known: true false 'auto'"):format(who, tostring(value)))
  end
  return value
end

--- device(): the default device's name where its memory is not the host's, else nil.
function resident.device()
  local name = core.default_device()
  return name ~= 'cpu' and name or nil
end

--- comfortable(bytes, plan): whether a set of so many bytes leaves enough of the default device. With the memory plan
-- of a step (ld.memory.plan): it takes at most half of what a step leaves; the other half is for what the plan does not
-- see, such as drawing and measuring. Without one: at most a quarter of what is free.
function resident.comfortable(bytes, plan)
  if plan then return bytes <= (plan.room - plan.held) / 2 end
  local now = core.memory.plan(function() end)
  return bytes <= (now.room - now.held) / 4
end

--- amount(bytes): as text.
function resident.amount(bytes)
  local mib = bytes / 2 ^ 20
  if mib < 1 then return ('%.3g KiB'):format(bytes / 1024) end
  return mib < 1000 and ('%.3g MiB'):format(mib) or ('%.3g GiB'):format(mib / 1024)
end

--- refuse(who, bytes, device, why): the error where a set that has to be resident is not.
function resident.refuse(who, bytes, device, why)
  core.fail(("%s: resident = true needs %s in the memory of %s; 'auto' does without: %s"):format(who,
    resident.amount(bytes), device, why))
end

return resident
