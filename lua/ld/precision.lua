-- The precision in which networks compute. Weights, optimisers, averages, statistics of norms and losses stay f32; with
-- 'bf16' or 'f16' convolutions, linear and attention layers take their input and a copy of their weights to 16 bits,
-- and what lies between them follows. Networks of ld.models give f32.
local core = require 'ld.core'

local precision = {}

-- Fails where there is no such precision, or the device, the default one when nil, does not compute in it.
function precision.check(who, name, device)
  if name ~= 'f32' and name ~= 'bf16' and name ~= 'f16' then
    core.fail(("%sunknown precision '%s'; known: f32 bf16 f16"):format(who, tostring(name)))
  end
  if core.computes(name, device) then return end
  core.fail(('%sprecision %s needs a CUDA device; %s computes in f32'):format(who, name,
    device or core.default_device()))
end

-- As precision(name, f, ...), whatever the default device.
function precision.within(name, f, ...)
  local was = core.precision(name)
  if f == nil then return end
  local results = {pcall(f, ...)}
  core.precision(was)
  if not results[1] then error(results[2], 0) end
  return unpack(results, 2, table.maxn(results))
end

--- precision(): the name in force, 'f32' at the start. precision(name): 'f32', 'bf16' or 'f16' from here on.
-- precision(name, f, ...): within f alone, whose results it returns. Layers on devices that only compute in f32 do so;
-- where the default device is one, bf16 and f16 are refused. ld.run has it as an option.
return setmetatable(precision, {__call = function(self, name, f, ...)
  if name == nil then return core.precision() end
  self.check('', name)
  return self.within(name, f, ...)
end})
