-- Batches of pixels for encoding: the pipeline of a stored set, or the same of a set that makes its pictures itself.
--
-- batches_of(set, {batch, done, readers, decoders, ahead}) gives an object with next(seconds) -> nil at the end, false
-- when nothing came in time, else {first (from 1), count, x, label, valid, crc32, bad = {[position] = reason} or nil};
-- stats(), nil where nothing waits; close(). done is a bitmap of rows not wanted, a pointer or a string; may be nil.
local core = require 'ld.core'
local ffi = require 'ffi'

local Own = {}
Own.__index = Own

-- Whether rows first .. first + n - 1 (from 1) are all done.
function Own:passed(first, n)
  if not self.bits then return false end
  for i = first - 1, first + n - 2 do
    if math.floor(self.bits[math.floor(i / 8)] / 2 ^ (i % 8)) % 2 == 0 then return false end
  end
  return true
end

function Own:next()
  while self.at <= self.set.count do
    local first, n = self.at, math.min(self.batch, self.set.count - self.at + 1)
    self.at = first + n
    if not self:passed(first, n) then return self:make(first, n) end
  end
end

function Own:make(first, n)
  local list, label, valid, crc32 = {}, {}, {}, {}
  for i = 1, n do
    list[i], label[i], valid[i], crc32[i] = first + i - 1, self.set:label(first + i - 1), 1, 0
  end
  local x, bad = self.set:read(list)
  for i in pairs(bad) do valid[i] = 0 end
  return {first = first, count = n, x = x, label = core.tensor(label, {dtype = 'i32'}),
          valid = core.tensor(valid, {dtype = 'u8'}), crc32 = core.tensor(crc32, {dtype = 'i64'}),
          bad = next(bad) and bad or nil}
end

function Own.stats() end
function Own.close() end

local function own(set, o)
  local bits = o.done and ffi.cast('const uint8_t *', o.done)
  -- done is there so that a string stays alive
  return setmetatable({set = set, batch = o.batch, at = 1, bits = bits, done = o.done}, Own)
end

return function(set, o)
  if not set.source then return own(set, o) end
  return core.pipeline(set.source, {size = set.size, transform = set.transform, exif = set.exif, batch = o.batch,
                                    count = set.count, readers = o.readers, decoders = o.decoders, ahead = o.ahead,
                                    done = o.done})
end
