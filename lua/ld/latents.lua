-- Latents as data sets: a store of latents read from its file, splits of it, batches for training. Nothing is held for
-- each picture here: which row comes when is computed (csrc/data/loader.h). The file: csrc/data/latent_store.h.
local core = require 'ld.core'
local resident = require 'ld.resident'
local take = require 'ld.take'

local latents = {}

--- latents.encode(vae, set, path, options): every picture of a set into a store; see ld.encode.
function latents.encode(...)
  local arguments, n = {...}, select('#', ...)
  return require('ld.ranks').first(function() return require('ld.encode').encode(unpack(arguments, 1, n)) end)
end

--- latents.verify(path, vae, set, options): rows chosen at random are encoded again and compared; see ld.encode_verify.
function latents.verify(...) return require('ld.encode_verify')(...) end

--- latents.import(path, out, options): latents that other programs made, from NumPy's files; see ld.import.
function latents.import(...) return require('ld.import')(...) end

local Store = {}
Store.__index, Store.__name = Store, 'store'
Store.__tostring = function(self)
  return ('%d latents (%s) of %s by %s'):format(self.count, table.concat(self.shape, ','), self.name, self.vae)
end

local ATTRIBUTES = {'vae', 'vae_hash', 'vae_kind', 'pixel_range', 'size', 'transform', 'exif', 'source', 'source_hash'}

-- What the file says of itself; the HDF5 library is done with it then.
local function describe(self, path)
  local f = core.h5_open(path)
  local ok, message = pcall(function()
    self.attributes = {}
    for _, key in ipairs(ATTRIBUTES) do self.attributes[key] = f:attribute('/', key) end
    self.classes = f:read_strings('/class_name')
  end)
  f:close()
  if not ok then error(message, 0) end
  local a = self.attributes
  self.vae, self.vae_hash, self.pixel_range, self.name = a.vae, a.vae_hash, a.pixel_range, a.source
end

-- The same store with other rows.
local function with_rows(self, data)
  local copy = setmetatable({}, Store)
  for key, value in pairs(self) do copy[key] = value end
  copy.data, copy.count = data, data:count()
  return copy
end

--- latents.open(path, {split = 'train' or 'valid', share = 0.1, resident = 'auto', mirror = true, unfinished}): a store
-- as a data set. split divides by position without shuffling: the last `share` of the rows is 'valid' (fast.ai's rule);
-- pictures in class folders come class by class: divide those with shuffled_split. resident: hold the latents in the
-- memory of the device that trains; 'auto' does when they take at most half of what a step leaves there (the host's:
-- half of what is free), else batches are read ahead. mirror: where the store has latents of mirrored pictures,
-- training takes those half of the time. unfinished = true: a store in the making too.
function latents.open(path, options)
  local o = take('latents.open', options, {split = take.optional, share = 0.1, resident = take.optional,
                                           mirror = true, unfinished = false})
  if o.split and o.split ~= 'train' and o.split ~= 'valid' then
    core.fail(("latents.open: unknown split '%s'; known: train valid"):format(tostring(o.split)))
  end
  o.resident = resident.check('latents.open', o.resident)
  local data = core.store_open(path, o.unfinished)
  local info, statistics = data:info(), data:statistics()
  local self = setmetatable({path = path, data = data, count = data:count(), shape = info.shape, dtype = info.dtype,
                             mirrored = info.mirrored, moments = info.moments, mean = statistics.mean,
                             std = statistics.std, resident = o.resident, mirror = o.mirror}, Store)
  -- made here and not when they are first wanted, which may be while memory is planned and nothing is computed
  local c = #self.mean
  self.mean_tensor = core.keep(core.tensor(self.mean):reshape(1, c, 1, 1))
  self.inverse_std = core.keep(core.reciprocal(core.tensor(self.std)):reshape(1, c, 1, 1))
  describe(self, path)
  if not o.split then return self end
  local cut = data:before(math.floor(info.count * (1 - o.share)) + 1)
  return with_rows(self, o.split == 'train' and data:part(1, cut) or data:part(cut + 1, self.count - cut))
end

--- get(indices): {x = (n,C,h,w) f32 raw latents, label = (n) i64}, on the default device. With `first` (images seen)
-- and `seed` as training takes them, see augmented.
function Store:get(indices, first, seed)
  return core.scope(function()
    local x, label = self.data:get(indices)
    local here, a = core.default_device(), first and self.augment
    x = x:to(here)
    if a then
      local c = #self.mean
      x = core.augment.gather(x, nil, {pad = a.pad, erase = a.erase, max = a.max, flip = a.flip, first = first,
        seed = seed or 0, shift = a.standardise and self.mean_tensor:to(here):reshape(c) or nil,
        scale = a.standardise and self.inverse_std:to(here):reshape(c) or nil})
    end
    return {x = x, label = label:to(here)}
  end)
end

--- augmented{standardise = false, pad = 0, erase = 0, max = 4, flip = 0}: the same rows; what training takes of them
-- (run:batches, loader) is standardised, cropped after padding, erased and mirrored, in this order, by (seed, images
-- seen + position). get and in_order give rows as they are.
function Store:augmented(options)
  local o = take('augmented', options, {standardise = false, pad = 0, erase = 0, max = 4, flip = 0})
  local copy = with_rows(self, self.data)
  copy.augment = o
  return copy
end

--- resident_bytes(): what the latents take in memory.
function Store:resident_bytes() return self.data:info().bytes end

--- loader{batch, seed = 0, rank = 1, ranks = 1, micro = 0, ahead = 4, threads = 4, resident, device, mirror}: batches
-- by the clock of images seen, each epoch in an order of its own. A rank's share of one are its micro-batches of
-- `micro` pictures (0: equal shares). loader:batch(images, count) gives x (n,C,h,w) f32 and label (n) i64 of the share,
-- loader:next(images) where the next batch begins and its size, loader:place(device) takes the latents into its memory
-- (nil and the reason where it has no room), loader:stats() {batches, wait (seconds waited for the disk), spent
-- (seconds in all), resident, device, memory (bytes)}. resident: in the memory of `device`, which is the default
-- device; on 'auto' when that is comfortable (resident.lua) without knowing of a step. ld.run uses it by itself.
function Store:loader(options)
  local o = take('loader', options, {batch = take.optional, seed = 0, rank = 1, ranks = 1, micro = 0, ahead = 4,
                                     threads = 4, resident = take.optional, device = take.optional,
                                     mirror = self.mirror}, {'batch'})
  if o.resident == nil then o.resident = self.resident end
  local device, wanted = o.device or core.default_device(), o.resident
  o.device = nil
  if device ~= 'cpu' then
    if wanted == 'auto' then wanted = resident.comfortable(self:resident_bytes()) end
    o.resident = o.resident == 'auto' and not wanted and 'auto'
  end
  if self.augment then
    for _, key in ipairs{'pad', 'erase', 'max', 'flip'} do o[key] = self.augment[key] end
    if self.augment.standardise then o.mean, o.std = self.mean, self.std end
  end
  local loader = self.data:loader(o) -- no tail call, so that errors have the caller's line
  if device ~= 'cpu' and wanted then
    local ok, why = loader:place(device)
    if not ok then resident.refuse('loader', self:resident_bytes(), device, why) end
  end
  return loader
end

--- part(first, count): the rows from `first` (from 1) on as a data set.
function Store:part(first, count)
  return with_rows(self, self.data:part(first, count))
end

--- row(i): where the i-th picture of the data set lies in the store; name(i): what the picture was called.
function Store:row(i) return (self.data:row(i)) end
function Store:file_name(i) return (self.data:name(self.data:row(i))) end

--- Every row in order, `size` at a time: for batch in store:in_order(64) do batch.x, batch.label end
function Store:in_order(size)
  local at = 1
  return function()
    if at > self.count then return end
    local list = {}
    for i = at, math.min(at + size - 1, self.count) do list[#list + 1] = i end
    at = at + #list
    return self:get(list)
  end
end

--- standardise(z): per channel (z - mean) / std of the whole store, for classifiers.
function Store:standardise(z)
  return (z - self.mean_tensor:to(z.device)) * self.inverse_std:to(z.device)
end

--- scaling(scale): options of diffusion.cosine: with scale 0, one shift a channel and one common scale that give the
-- data mean 0 and mean variance 1; else that scale and no shift (fast.ai's 0.2, which suits sd-vae-ft-ema). Noise has a
-- standard deviation of 1, so a scale that makes that of the latents far smaller or larger is told.
function Store:scaling(scale)
  local variance = 0
  for _, s in ipairs(self.std) do variance = variance + s * s / #self.std end
  local std = math.sqrt(variance)
  if scale == 0 then return {scale = 1 / std, shift = self.mean} end
  if std * scale < 0.3 or std * scale > 3 then
    io.stderr:write(('latents: with scale %g those of %s have a standard deviation of %.2g where about 1 is needed; '
      .. 'samples will be bad; scale 0 fits the scale to the data\n'):format(scale, self.path, std * scale))
  end
  return {scale = scale}
end

--- random_batch(n, k): the k-th of endlessly many random batches.
function Store:random_batch(n, k)
  local list = {}
  for i = 1, n do list[i] = core.shuffled(((k - 1) * n + i - 1) % self.count + 1, self.count, 99, 0) end
  return self:get(list)
end

--- shuffled_split(share, seed): two data sets over the same latents, rows chosen at random; the second has `share`.
function Store:shuffled_split(share, seed)
  local cut = math.floor(self.count * (1 - share))
  return with_rows(self, self.data:part(1, cut, seed)), with_rows(self, self.data:part(cut + 1, self.count - cut, seed))
end

-- Imported latents may not know the weights that made them. Their autoencoder is taken on trust then, which is told.
local function trust(self, who, what)
  io.stderr:write(('latents: %s does not know the weights of %s that made it; %s is taken to be the same\n'):format(
    self.path, self.vae, who == self.vae and what or what .. ' (' .. who .. ')'))
end

--- Two stores that serve together must come from one autoencoder and pixel range.
function Store:check_same(other)
  local unknown = (self.vae_hash == 'unknown' and self) or (other.vae_hash == 'unknown' and other)
  if (other.vae_hash ~= self.vae_hash and not unknown) or other.pixel_range ~= self.pixel_range then
    core.fail(('latents: %s was made by %s (%s, pixel range %s), %s by %s (%s, pixel range %s)'):format(self.path,
      self.vae, self.vae_hash:sub(1, 12), self.pixel_range, other.path, other.vae, other.vae_hash:sub(1, 12),
      other.pixel_range))
  end
  if table.concat(self.shape, ' ') ~= table.concat(other.shape, ' ') then
    core.fail(('latents: those of %s are (%s), those of %s (%s)'):format(self.path, table.concat(self.shape, ','),
      other.path, table.concat(other.shape, ',')))
  end
  if unknown and self ~= other then
    local known = unknown == self and other or self
    trust(unknown, known.vae, 'that of ' .. known.path)
  end
end

--- The store must have been made by this autoencoder, with its pixel range. Where the store does not know its weights,
-- pixel range and channels must fit, and the rest is told to be taken on trust.
function Store:check_vae(vae)
  local unknown = self.vae_hash == 'unknown'
  if (vae.hash ~= self.vae_hash and not unknown) or vae.pixel_range ~= self.pixel_range or
     vae.latent_channels ~= self.shape[1] then
    core.fail(('latents: %s was made by %s (%s, pixel range %s), not by %s (%s, pixel range %s)'):format(self.path,
      self.vae, self.vae_hash:sub(1, 12), self.pixel_range, vae.name, vae.hash:sub(1, 12), vae.pixel_range))
  end
  if unknown then trust(self, vae.name, 'this one') end
end

return latents
