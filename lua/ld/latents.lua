-- Latent stores: HDF5 files of VAE latents of a set of pictures, with what made them.
--
--   /latents/mean    (N,C,h,w) f16 or f32, posterior means, not scaled     /latents/logvar  the same, when asked for
--   /label (N) i32, -1 without classes    /valid (N) u8    /name (N) strings    /class_name strings
--   /checksum (N,8) u8, the first bytes of the SHA-256 of each picture's file, zeros for rendered ones
--   /statistics/mean, /statistics/std (C) f64 over the valid rows    /done (1) i64, rows written
--   attributes of /: format, vae, vae_hash, vae_kind, pixel_range, size, fit, source, source_hash, count
--
-- While it is made it is called <path>.part. Everything but numbers is written before the first row, so that a kill at
-- any moment leaves a file that can be opened; rows reach the disk before /done counts them.
local core = require 'ld.core'
local images = require 'ld.images'
local take = require 'ld.take'

local latents = {}

local FORMAT = 'ldlua latents 1'
local KEYS = {'vae', 'vae_hash', 'vae_kind', 'pixel_range', 'size', 'fit', 'source', 'count', 'source_hash', 'dtype',
              'moments'}

local function say(o, text, ...)
  if not o.quiet then
    io.stdout:write(text:format(...), '\n')
    io.stdout:flush()
  end
end

local function provenance(vae, set, o)
  if not vae.hash then core.fail('latents: the autoencoder has no hash of its weights; load it with ld.vae.load') end
  return {vae = vae.name, vae_hash = vae.hash, vae_kind = vae.kind, pixel_range = vae.pixel_range, size = set.size,
          fit = set.fit, source = set.path, source_hash = set:fingerprint(), count = set.count, dtype = o.dtype,
          moments = o.moments and 1 or 0}
end

-- What of the wanted provenance a file does not have: a sentence, or nil.
local function difference(f, wanted)
  for _, key in ipairs(KEYS) do
    local is = f:attribute('/', key)
    if is ~= wanted[key] and key ~= 'source' and key ~= 'vae' then
      return ('%s is %s, this run has %s'):format(key, tostring(is), tostring(wanted[key]))
    end
  end
end

-- ---- making ---------------------------------------------------------------------------------------------------------

local function create(path, vae, set, wanted, o)
  local f = core.h5_create(path)
  local side = set.size / vae.factor
  f:attribute('/', 'format', FORMAT)
  for key, value in pairs(wanted) do f:attribute('/', key, value) end
  f:make('/done', {1}, 'i64')
  f:make('/statistics/mean', {vae.latent_channels}, 'f64')
  f:make('/statistics/std', {vae.latent_channels}, 'f64')
  local shape = {set.count, vae.latent_channels, side, side}
  f:make('/latents/mean', shape, o.dtype)
  f:attribute('/latents/mean', 'dimensions', 'picture, channel, row, column; posterior mean, not scaled')
  if o.moments then f:make('/latents/logvar', shape, o.dtype) end
  f:make('/label', {set.count}, 'i32')
  f:make('/checksum', {set.count, 8}, 'u8')
  f:make('/valid', {set.count}, 'u8')
  local names = {}
  for i = 1, set.count do names[i] = set:file_name(i) end
  f:write_strings('/name', names)
  f:write_strings('/class_name', set.classes)
  f:commit()
end

-- A message without its position.
local function bare(message) return (tostring(message):gsub('^[^:]*:%d+: ', '')) end

-- The unfinished store beside `path`: an old one that fits, or a new one; and how many rows it has.
local function open_part(path, vae, set, wanted, o)
  local part = path .. '.part'
  if core.file_kind(part) then
    local ok, f = pcall(core.h5_open, part, true)
    if not ok then
      core.fail(('latents: %s cannot be continued; delete it to start again (%s)'):format(part, bare(f)))
    end
    local wrong = difference(f, wanted)
    if not wrong then return f, f:read('/done'):tolist()[1] end
    f:close()
    core.fail(('latents: %s was begun otherwise: %s; choose another file or delete it'):format(part, wrong))
  end
  create(part, vae, set, wanted, o)
  return core.h5_open(part, true), 0
end

-- Rows first, then their count.
local function save_progress(f, done)
  f:flush()
  core.scope(function() f:write_rows('/done', 1, core.tensor({done}, {dtype = 'i64'})) end)
  f:flush()
end

-- Round trip of the first pictures: a VAE fed with the wrong range shows here.
local function check_round_trip(vae, set, o)
  local n, list = math.min(16, set.count), {}
  for i = 1, n do list[i] = i end
  local x = images.batch(set, list, function() end)
  if not x then return end
  local db = vae:round_trip(x)
  say(o, 'round trip of the first %d pictures: %.2f dB', n, db)
  if db ~= db or db < o.least_psnr then
    core.fail(('latents: the round trip of the first pictures is %.2f dB, below %g: wrong VAE or pixel range (%s)? '
      .. 'Pass least_psnr to go on'):format(db, o.least_psnr, vae.pixel_range))
  end
end

local function encode_rows(f, vae, set, first, count, o)
  core.scope(function()
    local list, labels, valid, checksums = {}, {}, {}, {}
    for i = 1, count do
      list[i], labels[i], valid[i] = first + i - 1, set:label(first + i - 1), 1
      checksums[i] = set:checksum(first + i - 1)
    end
    local x, wrong = set:read(list)
    for i, why in pairs(wrong) do
      if o.on_bad == 'stop' then core.fail(('latents: %s'):format(why)) end
      valid[i] = 0
    end
    local mean, logvar = vae:encode_images(x, o.moments)
    f:write_rows('/latents/mean', first, mean:to(o.dtype))
    if o.moments then f:write_rows('/latents/logvar', first, logvar:to(o.dtype)) end
    f:write_rows('/label', first, core.tensor(labels, {dtype = 'i32'}))
    f:write_rows('/checksum', first, core.tensor(checksums, {dtype = 'u8'}))
    f:write_rows('/valid', first, core.tensor(valid, {dtype = 'u8'}))
  end)
end

-- Mean and standard deviation per channel over the valid rows, in f64.
local function statistics(f, count)
  local n, sum, squares = 0, nil, nil
  for first = 1, count, 1024 do
    local rows = math.min(1024, count - first + 1)
    core.scope(function()
      local x = f:read_rows('/latents/mean', first, rows):f64()
      local valid = f:read_rows('/valid', first, rows):f64()
      local w = valid:reshape(rows, 1, 1, 1)
      local s, q = core.sum(x * w, {1, 3, 4}), core.sum(core.square(x) * w, {1, 3, 4})
      n = n + valid:sum():item() * x.shape[3] * x.shape[4]
      sum, squares = core.keep(sum and sum + s or s), core.keep(squares and squares + q or q)
    end)
  end
  if n == 0 then core.fail('latents: none of the pictures could be read') end
  local mean = sum * (1 / n)
  local total = squares:sum():item()
  if total ~= total or total == math.huge then
    core.fail('latents: some latents are infinite or not a number: too large for f16, or the VAE is broken; try f32')
  end
  return mean, core.sqrt((squares * (1 / n) - core.square(mean)):clamp(0, nil))
end

-- Pictures left out, those of earlier sessions too, with the reasons: each is read once more.
local function report_bad(f, set, path, o)
  local lines = {}
  for i, good in ipairs(f:read('/valid'):tolist()) do
    if good == 0 then
      local _, why = set:read({i})
      lines[#lines + 1] = set:file_name(i) .. '\t' .. (why[1] or 'could be read afterwards') .. '\n'
    end
  end
  if #lines == 0 then return end
  local report = path .. '.bad.txt'
  core.write_file(report, table.concat(lines))
  say(o, '%d pictures could not be read and are left out; reasons in %s', #lines, report)
end

local function finish(f, set, path, o)
  local mean, std = statistics(f, set.count)
  f:write_rows('/statistics/mean', 1, mean)
  f:write_rows('/statistics/std', 1, std)
  f:flush()
  report_bad(f, set, path, o)
end

-- Every row from `done` + 1 on. Progress is kept every ten seconds, and when an error ends it.
local function encode_all(f, vae, set, done, o)
  local started, told, begun = core.clock(), core.clock(), done
  local ok, message = pcall(function()
    while done < set.count do
      local n = math.min(o.batch, set.count - done)
      encode_rows(f, vae, set, done + 1, n, o)
      done = done + n
      local t = core.clock()
      if t - told > 10 or done == set.count then
        save_progress(f, done)
        local speed = (done - begun) / math.max(t - started, 1e-3)
        say(o, 'encoded %d of %d pictures, %.1f a second, %d s left', done, set.count, speed,
          (set.count - done) / speed)
        told = t
      end
    end
  end)
  if not ok then
    pcall(save_progress, f, done)
    error(message, 0)
  end
end

--- latents.encode(vae, set, path, {dtype = 'f16', moments = false, batch = 16, on_bad = 'skip' or 'stop',
-- least_psnr = 15, quiet}): encode every picture of a set into a store at `path`, unless it is there already; then open
-- it. A run that was stopped goes on where it was. A store made with another VAE, range, size or set is refused.
function latents.encode(vae, set, path, options)
  local o = take('latents.encode', options, {dtype = 'f16', moments = false, batch = 16, on_bad = 'skip',
                                             least_psnr = 15, quiet = false})
  if o.on_bad ~= 'skip' and o.on_bad ~= 'stop' then
    core.fail(("latents: unknown on_bad '%s'; known: skip stop"):format(o.on_bad))
  end
  if o.dtype ~= 'f16' and o.dtype ~= 'f32' then
    core.fail(("latents: latents of dtype '%s'; known: f16 f32"):format(o.dtype))
  end
  if o.batch < 1 or o.batch % 1 ~= 0 then
    core.fail(('latents: a batch of %g; a whole number, at least 1, is needed'):format(o.batch))
  end
  if o.moments and not vae.net.moments then core.fail(('latents: %s has no log-variances'):format(vae.kind)) end
  if set.size % vae.factor ~= 0 then
    core.fail(('latents: pictures of size %d do not divide by the VAE\'s factor %d'):format(set.size, vae.factor))
  end
  local wanted = provenance(vae, set, o)
  if core.file_kind(path) then
    local f = core.h5_open(path)
    local wrong = difference(f, wanted)
    f:close()
    if wrong then core.fail(('latents: %s was made otherwise: %s; choose another file'):format(path, wrong)) end
    return latents.open(path)
  end
  local folder = path:match('^(.*)/[^/]*$')
  if folder then core.make_dirs(folder) end
  core.sweep_folder(folder or '.')
  check_round_trip(vae, set, o)
  local f, done = open_part(path, vae, set, wanted, o)
  if done > 0 and done < set.count then say(o, 'going on at picture %d of %d', done + 1, set.count) end
  local ok, message = pcall(function()
    encode_all(f, vae, set, done, o)
    finish(f, set, path, o)
  end)
  f:close()
  if not ok then error(message, 0) end
  core.rename_file(path .. '.part', path)
  return latents.open(path)
end

-- ---- using ----------------------------------------------------------------------------------------------------------

local Store = {}
Store.__index = Store
Store.__tostring = function(self)
  return ('%d latents (%s) of %s by %s'):format(self.count, table.concat(self.shape, ','), self.name, self.vae)
end

--- latents.open(path, {split = 'train' or 'valid', share = 0.1}): a store as a data set, resident in memory.
-- split divides by position without shuffling: the last `share` of the rows is 'valid' (fast.ai's rule); pictures in
-- class folders come class by class: divide those with shuffled_split.
function latents.open(path, options)
  local o = take('latents.open', options, {split = take.optional, share = 0.1})
  if o.split and o.split ~= 'train' and o.split ~= 'valid' then
    core.fail(("latents.open: unknown split '%s'; known: train valid"):format(tostring(o.split)))
  end
  local f = core.h5_open(path)
  if f:attribute('/', 'format') ~= FORMAT then
    f:close()
    core.fail(('latents: %s is no latent store'):format(path))
  end
  local self = setmetatable({path = path, vae = f:attribute('/', 'vae'), vae_hash = f:attribute('/', 'vae_hash'),
                             pixel_range = f:attribute('/', 'pixel_range'), name = f:attribute('/', 'source'),
                             classes = f:read_strings('/class_name')}, Store)
  self.mean, self.std = f:read('/statistics/mean'):tolist(), f:read('/statistics/std'):tolist()
  -- made here and not when they are first wanted, which may be while memory is planned and nothing is computed
  local c = #self.mean
  self.mean_tensor = core.keep(core.tensor(self.mean):reshape(1, c, 1, 1))
  self.inverse_std = core.keep(core.reciprocal(core.tensor(self.std)):reshape(1, c, 1, 1))
  self.x, self.labels = core.keep(f:read('/latents/mean')), core.keep(f:read('/label'):i64())
  local valid, rows = f:read('/valid'):tolist(), {}
  f:close()
  local last_train = math.floor(#valid * (1 - o.share))
  for i = 1, #valid do
    local use = not o.split or (o.split == 'train') == (i <= last_train)
    if valid[i] == 1 and use then rows[#rows + 1] = i end
  end
  self.rows, self.count = rows, #rows
  self.shape = {self.x.shape[2], self.x.shape[3], self.x.shape[4]}
  return self
end

--- get(indices): {x = (n,C,h,w) f32 raw latents, label = (n) i64}, on the default device.
function Store:get(indices)
  return core.scope(function()
    local list = {}
    for i, index in ipairs(indices) do list[i] = self.rows[index] - 1 end
    local at, here = core.tensor(list, {dtype = 'i64', device = self.x.device}), core.default_device()
    return {x = core.gather(self.x, at):to(here):f32(), label = core.gather(self.labels, at):to(here)}
  end)
end

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
  local function part(first, last)
    local rows = {}
    for i = first, last do rows[#rows + 1] = self.rows[core.shuffled(i, self.count, seed, 0)] end
    local copy = setmetatable({}, Store)
    for key, value in pairs(self) do copy[key] = value end
    copy.rows, copy.count = rows, #rows
    return copy
  end
  local cut = math.floor(self.count * (1 - share))
  return part(1, cut), part(cut + 1, self.count)
end

--- Two stores that serve together must come from one autoencoder and pixel range.
function Store:check_same(other)
  if other.vae_hash ~= self.vae_hash or other.pixel_range ~= self.pixel_range then
    core.fail(('latents: %s was made by %s (%s, pixel range %s), %s by %s (%s, pixel range %s)'):format(self.path,
      self.vae, self.vae_hash:sub(1, 12), self.pixel_range, other.path, other.vae, other.vae_hash:sub(1, 12),
      other.pixel_range))
  end
  if table.concat(self.shape, ' ') ~= table.concat(other.shape, ' ') then
    core.fail(('latents: those of %s are (%s), those of %s (%s)'):format(self.path, table.concat(self.shape, ','),
      other.path, table.concat(other.shape, ',')))
  end
end

--- The store must have been made by this autoencoder, with its pixel range.
function Store:check_vae(vae)
  if vae.hash ~= self.vae_hash or vae.pixel_range ~= self.pixel_range then
    core.fail(('latents: %s was made by %s (%s, pixel range %s), not by %s (%s, pixel range %s)'):format(self.path,
      self.vae, self.vae_hash:sub(1, 12), self.pixel_range, vae.name, vae.hash:sub(1, 12), vae.pixel_range))
  end
end

return latents
