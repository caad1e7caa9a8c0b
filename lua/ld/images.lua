-- Sets of pictures: a folder, or synthetic faces; read as batches of u8 tensors.
--
-- A set has `count`, `name`, `classes`, and read(indices): (n,3,size,size) u8 and {position = reason} of bad pictures.
local core = require 'ld.core'
local take = require 'ld.take'

local images = {}

local function whole(who, o, names)
  for _, name in ipairs(names) do
    local v = o[name]
    if v and (type(v) ~= 'number' or v < 1 or v % 1 ~= 0) then
      core.fail(('%s: %s is %s; a whole number, at least 1, is needed'):format(who, name, tostring(v)))
    end
  end
end

local Set = {}
Set.__index = Set
Set.__tostring = function(self)
  return ('%d pictures of %s%s'):format(self.count, self.name,
    #self.classes > 0 and (' in %d classes'):format(#self.classes) or '')
end

--- Pictures `indices` (from 1) at the set's size: u8 tensor, and the reasons of those that could not be read.
function Set:read(indices)
  return self.files:read(indices, {size = self.size, fit = self.fit})
end

function Set:label(i) return self.files:label(i) end
function Set:file_name(i) return self.files:name(i) end

--- The first eight bytes of the SHA-256 of picture i's file; zeros when it cannot be read.
function Set:checksum(i)
  local ok, hex = pcall(core.sha256_file, self.path .. '/' .. self.files:name(i))
  local bytes = {}
  for k = 1, 8 do bytes[k] = ok and tonumber(hex:sub(2 * k - 1, 2 * k), 16) or 0 end
  return bytes
end

--- What identifies the pictures: a hash over names and sizes in bytes, in order.
function Set:fingerprint()
  local parts = {}
  for i = 1, self.count do
    local name = self.files:name(i)
    local _, bytes = core.file_kind(self.path .. '/' .. name)
    parts[i] = name .. ' ' .. tostring(bytes)
  end
  return core.sha256(table.concat(parts, '\n'))
end

local Faces = {}
Faces.__index = Faces
Faces.__tostring = function(self) return ('%d synthetic faces, seed %d'):format(self.count, self.seed) end

function Faces:read(indices)
  local parts, i = {}, 1
  while i <= #indices do -- runs of neighbours are rendered together
    local n = 1
    while indices[i + n] == indices[i] + n do n = n + 1 end
    parts[#parts + 1] = core.faces(n, {size = self.size, seed = self.seed, first = indices[i] - 1})
    i = i + n
  end
  return #parts == 1 and parts[1] or core.concat(parts, 1), {}
end

function Faces:label() return -1 end
function Faces:checksum() return {0, 0, 0, 0, 0, 0, 0, 0} end
function Faces:file_name(i) return ('face-%06d'):format(i) end
function Faces:fingerprint() return ('synthetic faces, renderer 1, seed %d, count %d'):format(self.seed, self.count) end

--- images.synthetic_faces{n = 10000, size = 256, seed = 0}: faces of our own renderer, as many as wanted.
function images.synthetic_faces(options)
  local o = take('synthetic_faces', options, {n = 10000, size = 256, seed = 0})
  whole('synthetic_faces', o, {'n', 'size'})
  return setmetatable({count = o.n, size = o.size, seed = o.seed, fit = 'stretch', classes = {},
                       name = 'synthetic faces', path = 'synthetic'}, Faces)
end

--- images.open(path, {size = 256, fit = 'center', limit}): the pictures below a folder, sub-folder = class. fit:
-- center (shrink, then cut), short-center (cut, then shrink: fast.ai), topleft (LSUN notebook), stretch.
function images.open(path, options)
  local o = take('images', options, {size = 256, fit = 'center', limit = take.optional})
  whole('images', o, {'size', 'limit'})
  local files = core.image_set(path)
  local count = math.min(files:count(), o.limit or math.huge)
  return setmetatable({files = files, count = count, classes = files:classes(), size = o.size, fit = o.fit,
                       path = path, name = path}, Set)
end

--- batch(set, indices, on_bad): the pictures that can be read, or nil; each bad one is told to on_bad(index, reason).
function images.batch(set, indices, on_bad)
  local x, bad = set:read(indices)
  local good = {}
  for i = 1, #indices do
    if bad[i] then on_bad(indices[i], bad[i]) else good[#good + 1] = i - 1 end
  end
  if #good == #indices then return x end
  if #good == 0 then return nil end
  return core.gather(x, core.tensor(good, {dtype = 'i64', device = x.device}))
end

return setmetatable(images, {__call = function(_, path, options) return images.open(path, options) end})
