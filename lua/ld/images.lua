-- Sets of pictures: folders, archives, data bases, or synthetic faces; read as batches of u8 tensors.
--
-- A set has `count`, `name`, `classes`, and read(indices): (n,3,size,size) u8 and {position = reason} of bad pictures.
-- A set of stored pictures has `source`, the list of them in C (csrc/data/source.h); nothing is kept by picture here.
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
Set.__index, Set.__name = Set, 'set'
Set.__tostring = function(self)
  return ('%d pictures of %s%s'):format(self.count, self.name,
    #self.classes > 0 and (' in %d classes'):format(#self.classes) or '')
end

--- Pictures `indices` (from 1) at the set's size: u8 tensor, and the reasons of those that could not be read.
function Set:read(indices)
  return self.source:read(indices, {size = self.size, transform = self.transform, exif = self.exif})
end

function Set:label(i) return self.source:label(i) end
function Set:file_name(i) return self.source:name(i) end

--- What identifies the pictures: a hash over names, sizes in bytes and labels, in order.
function Set:fingerprint() return self.source:fingerprint(self.count) end

local Faces = {}
Faces.__index, Faces.__name = Faces, 'set'
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
function Faces:file_name(i) return ('face-%06d'):format(i) end
function Faces:fingerprint() return ('synthetic faces, renderer 1, seed %d, count %d'):format(self.seed, self.count) end

--- images.synthetic_faces{n = 10000, size = 256, seed = 0}: faces of our own renderer, as many as wanted.
function images.synthetic_faces(options)
  local o = take('synthetic_faces', options, {n = 10000, size = 256, seed = 0})
  whole('synthetic_faces', o, {'n', 'size'})
  return setmetatable({count = o.n, size = o.size, seed = o.seed, transform = 'stretch', classes = {},
                       name = 'synthetic faces', path = 'synthetic'}, Faces)
end

-- Where the wnids stand in the order of ILSVRC2012_ID, for ImageNet's own list of validation labels.
local function synsets()
  local root = debug.getinfo(1, 'S').source:match('^@(.*)lua/ld/images%.lua$')
  local path = (root or '') .. 'data/ilsvrc2012_synsets.txt'
  return core.file_kind(path) and path or nil
end

-- Listing a large archive takes minutes where each member is a movement of a disk's head: it says how far it is.
local function listing()
  local started, told = core.clock(), core.clock()
  return function(members, archive)
    local t = core.clock()
    if t - told < 5 then return end
    told = t
    io.stderr:write(('listing %s: %d members in %d s\n'):format(archive, members, t - started))
  end
end

--- images.open(path, {size = 256, transform = 'adm', exif = false, limit, labels, partial = false}): the pictures of
-- a folder (sub-folder = class), of a tar or zip, of a folder of those, of an LMDB, or of CIFAR's binary files; a path
-- may go on inside an archive. labels: a file that gives classes, such as ImageNet's lists for its validation pictures;
-- partial: take what a damaged archive has before the damage; exif: turn pictures as their EXIF data say.
-- transform, how a picture becomes size x size (csrc/io/image.h says it to the pixel): adm (guided-diffusion: shrink,
-- cut the centre), short-center-bilinear (fast.ai: cut the centre square, shrink), topleft (LSUN notebook), lanczos
-- (StyleGAN, EDM), center (torchvision), stretch, dct-fast (adm, of JPEGs decoded small).
function images.open(path, options)
  local o = take('images', options, {size = 256, transform = 'adm', exif = false, limit = take.optional,
                                     labels = take.optional, partial = false})
  whole('images', o, {'size', 'limit'})
  local source = core.source(path, {labels = o.labels, synsets = o.labels and synsets(), partial = o.partial,
                                    cache = core.cache_folder 'index', progress = listing()})
  local count = math.min(source:count(), o.limit or math.huge)
  return setmetatable({source = source, count = count, classes = source:classes(), size = o.size,
                       transform = o.transform, exif = o.exif, path = path, name = path}, Set)
end

--- picture(path, options): one picture file as (1,3,size,size) u8; options as for images.open.
function images.picture(path, options)
  local folder, name = path:match('^(.*)/([^/]+)$')
  if core.file_kind(path) ~= 'file' then core.fail(('images: there is no file %s'):format(path)) end
  local set = images.open(folder or '.', options)
  for i = 1, set.count do
    if set:file_name(i) == (name or path) then
      local x, bad = set:read{i}
      if bad[1] then core.fail(('images: %s: %s'):format(path, bad[1])) end
      return x
    end
  end
  core.fail(('images: %s is no PNG, JPEG or WebP'):format(path))
end

--- exists(path): whether there is something that open might read: a file or folder, or an archive of which the path
-- names a part.
function images.exists(path)
  if core.file_kind(path) then return true end
  local outer = path:match('^(.*[^/])/+[^/]+/*$')
  while outer and not core.file_kind(outer) do outer = outer:match('^(.*[^/])/+[^/]+$') end
  if not outer then return false end
  if core.file_kind(outer) == 'file' then return true end
  local archive = path:sub(1, #outer) .. '/' .. path:sub(#outer + 1):match('[^/]+')
  for _, suffix in ipairs{'.tar', '.zip', '.tgz', '.tar.gz', '.tar.xz', '.tar.zst', '.tar.bz2'} do
    if core.file_kind(archive .. suffix) == 'file' then return true end
  end
  return false
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
