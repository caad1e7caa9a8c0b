-- Pictures for training an autoencoder: photographs, whole and as random crops, mixed with synthetic faces.
local core = require 'ld.core'
local images = require 'ld.images'
local take = require 'ld.take'

local Mix = {}
Mix.__index, Mix.__name = Mix, 'mix'
Mix.__tostring = function(self)
  return ('%d photographs to train on, %d held out, %d synthetic faces, at %d x %d'):format(self.photo_count,
    self.held_count, self.faces and self.faces.count or 0, self.size, self.size)
end

local CHUNK = 64

-- Every picture of a set that can be read, as one u8 tensor.
local function read_all(set, indices)
  local parts = {}
  for at = 1, #indices, CHUNK do
    local some = {}
    for i = at, math.min(at + CHUNK - 1, #indices) do some[#some + 1] = indices[i] end
    local x = images.batch(set, some, function(i, why)
      io.stderr:write(('skipped %s: %s\n'):format(set:file_name(i), why))
    end)
    if x then parts[#parts + 1] = x end
  end
  return #parts > 0 and core.concat(parts, 1) or nil
end

-- Pictures of the held-out share are every k-th by position, so that they stay the same from run to run.
local function split(count, share)
  local train, held, k = {}, {}, share > 0 and math.floor(1 / share) or 0
  for i = 1, count do
    local list = k > 0 and i % k == 0 and held or train
    list[#list + 1] = i
  end
  return train, held
end

-- Half of the crops are cut from pictures one and a half times as large.
local ZOOM = 1.5

--- picture_mix{photos = folder or nil, faces = 0, size = 128, crop = size, seed = 0, held_out = 0.1, repeats = 16}: a
-- data set for ld.run. An epoch shows `repeats` random crop x crop cuts of each photograph, at two scales, and one of
-- each face.
local function new(options)
  local o = take('picture_mix', options, {photos = take.optional, faces = 0, size = 128, crop = take.optional, seed = 0,
                                          held_out = 0.1, repeats = 16})
  if o.crop and o.crop > o.size then
    core.fail(('picture_mix: crops of %d are larger than the pictures, %d'):format(o.crop, o.size))
  end
  local self = setmetatable({size = o.size, crop_size = o.crop or o.size, seed = o.seed, photo_count = 0,
                             held_count = 0, name = 'picture mix', repeats = o.repeats}, Mix)
  if o.photos and images.exists(o.photos) then
    local whole = images.open(o.photos, {size = o.size})
    local large = images.open(o.photos, {size = math.floor(o.size * ZOOM)})
    local train, held = split(whole.count, o.held_out)
    self.whole, self.large, self.held = read_all(whole, train), read_all(large, train), read_all(whole, held)
    self.photo_count = self.whole and self.whole.shape[1] or 0
    self.held_count = self.held and self.held.shape[1] or 0
  end
  if o.faces > 0 then self.faces = images.synthetic_faces{n = o.faces, size = o.size, seed = o.seed} end
  self.count = self.photo_count * o.repeats + o.faces
  if self.count == 0 then core.fail('picture_mix: neither photographs nor faces were given') end
  return self
end

-- A crop of one u8 picture (3,H,W); where it lies depends on the draw alone.
function Mix:crop(picture, draw)
  local side, size = picture.shape[2], self.crop_size
  local u = core.noise({1, 2}, {seed = self.seed, purpose = 7, first = draw, uniform = true})
  local top, left = math.floor(u[{1, 1}]:item() * (side - size + 1)), math.floor(u[{1, 2}]:item() * (side - size + 1))
  return picture[{{}, {top + 1, top + size}, {left + 1, left + size}}]
end

--- A batch: crops of the pictures `indices`; sample first + i decides where they lie.
function Mix:get(indices, first)
  return core.scope(function()
    local parts = {}
    for i, index in ipairs(indices) do
      local k, picture = index - 1
      if k >= self.photo_count * self.repeats then
        picture = self.faces:read({k - self.photo_count * self.repeats + 1})[1]
      else
        local turn = math.floor(k / self.photo_count)
        picture = (turn % 2 == 0 and self.whole or self.large)[k % self.photo_count + 1]
      end
      parts[i] = self:crop(picture, first + i)
    end
    return {x = core.stack(parts, 1)}
  end)
end

--- At most n pictures that training never shows: photographs, or faces of another seed where there are none.
function Mix:held_out_images(n)
  if self.held then return self.held:slice(1, 1, math.min(n, self.held_count)) end
  return images.synthetic_faces{n = n, size = self.size, seed = self.seed + 1}:read((function()
    local list = {}
    for i = 1, n do list[i] = i end
    return list
  end)())
end

return new
