-- A file of recorded tensors: reads by name, and which names nobody has read.
local ld = require 'ld'

local Source = {}
Source.__index = Source

function Source.open(path)
  local file = ld.safetensors_open(path)
  local self = setmetatable({file = file, path = path, name = path:match('([^/]+)$'), meta = file:metadata(),
                             list = file:names(), known = {}, used = {}}, Source)
  for _, name in ipairs(self.list) do self.known[name] = true end
  return self
end

function Source:has(name) return self.known[name] ~= nil end

--- The tensor, or an error that names the file.
function Source:read(name)
  if not self.known[name] then error(('%s has no tensor %s'):format(self.name, name), 0) end
  self.used[name] = true
  return self.file:read(name):to(ld.default_device())
end

--- {rest of the name = tensor} of all names that start with prefix.
function Source:below(prefix)
  local out = {}
  for _, name in ipairs(self.list) do
    if name:sub(1, #prefix) == prefix then out[name:sub(#prefix + 1)] = self:read(name) end
  end
  return out
end

function Source:any(pattern)
  for _, name in ipairs(self.list) do
    if name:match(pattern) then return true end
  end
  return false
end

--- Names whose tensors were never read.
function Source:unused()
  local out = {}
  for _, name in ipairs(self.list) do
    if not self.used[name] then out[#out + 1] = name end
  end
  return out
end

--- The list of integers in metadata such as '(16, 32, 48)'; nil when the key is absent.
function Source:integers(key)
  local text = self.meta[key]
  if not text then return nil end
  local out = {}
  for number in text:gmatch('%-?%d+') do out[#out + 1] = tonumber(number) end
  return out
end

--- A number of the metadata; an error that names file and key when it is absent.
function Source:number(key)
  local value = tonumber(self.meta[key])
  if not value then error(('%s: its metadata has no number %s'):format(self.name, key), 0) end
  return value
end

--- A number that the metadata gives inside a sentence, found by a pattern.
function Source:number_in(key, pattern)
  local found = tonumber((self.meta[key] or ''):match(pattern))
  if not found then error(("%s: its metadata '%s' has no number like %s"):format(self.name, key, pattern), 0) end
  return found
end

return Source
