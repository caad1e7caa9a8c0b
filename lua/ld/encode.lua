-- Making latent stores: every picture of a set through the encoder of an autoencoder, into a file
-- (csrc/data/latent_store.h), called <path>.part until it is whole.
local core = require 'ld.core'
local images = require 'ld.images'
local take = require 'ld.take'

local KEYS = {'vae_hash', 'vae_kind', 'pixel_range', 'size', 'transform', 'count', 'source_hash', 'dtype', 'moments'}

local function say(o, text, ...)
  if not o.quiet then
    io.stdout:write(text:format(...), '\n')
    io.stdout:flush()
  end
end

-- What the file will say of itself.
local function provenance(vae, set, o)
  if not vae.hash then core.fail('latents: the autoencoder has no hash of its weights; load it with ld.vae.load') end
  return {vae = vae.name, vae_hash = vae.hash, vae_kind = vae.kind, pixel_range = vae.pixel_range, size = set.size,
          transform = set.transform or set.fit, source = set.path, source_hash = set:fingerprint(), count = set.count,
          dtype = o.dtype, moments = o.moments and 1 or 0}
end

local ORDER = {'vae', 'vae_hash', 'vae_kind', 'pixel_range', 'size', 'transform', 'source', 'source_hash'}

-- What of the wanted provenance a file does not have: a sentence, or nil.
local function difference(path, wanted)
  local f = core.h5_open(path)
  for _, key in ipairs(KEYS) do
    local is = f:attribute('/', key)
    if is ~= wanted[key] then
      f:close()
      return ('%s is %s, this run has %s'):format(key, tostring(is), tostring(wanted[key]))
    end
  end
  f:close()
end

local function create(part, vae, set, wanted, o)
  local side, attributes = set.size / vae.factor, {}
  for i, key in ipairs(ORDER) do attributes[i] = {key, wanted[key]} end
  core.store_create(part, {count = set.count, channels = vae.latent_channels, height = side, width = side,
                           dtype = o.dtype, moments = o.moments, batch = o.batch, classes = set.classes,
                           name = function(i) return (set:file_name(i)) end, attributes = attributes})
end

-- A message without its position.
local function bare(message) return (tostring(message):gsub('^[^:]*:%d+: ', '')) end

-- A writer to the unfinished store beside `path`: an old one that fits, or a new one.
local function open_part(path, vae, set, wanted, o)
  local part = path .. '.part'
  if core.file_kind(part) then
    local ok, wrong = pcall(difference, part, wanted)
    if not ok then
      core.fail(('latents: %s cannot be continued; delete it to start again (%s)'):format(part, bare(wrong)))
    elseif wrong then
      core.fail(('latents: %s was begun otherwise: %s; choose another file or delete it'):format(part, wrong))
    end
  else
    create(part, vae, set, wanted, o)
  end
  return core.store_writer(part)
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

local function encode_rows(w, vae, set, first, count, o)
  core.scope(function()
    local list, labels, valid = {}, {}, {}
    for i = 1, count do list[i], labels[i], valid[i] = first + i - 1, set:label(first + i - 1), 1 end
    local x, wrong = set:read(list)
    for i, why in pairs(wrong) do
      if o.on_bad == 'stop' then core.fail(('latents: %s'):format(why)) end
      valid[i] = 0
    end
    local mean, logvar = vae:encode_images(x, o.moments)
    w:put(first, {mean = mean, logvar = o.moments and logvar or nil, label = labels, valid = valid})
  end)
end

-- Pictures left out, those of earlier sessions too, with the reasons: each is read once more.
local function report_bad(set, path, o)
  local data, lines = core.store_open(path, true), {}
  for _, i in ipairs(data:bad(math.huge)) do
    local _, why = set:read({i})
    lines[#lines + 1] = set:file_name(i) .. '\t' .. (why[1] or 'could be read afterwards') .. '\n'
  end
  data:close()
  if #lines == 0 then return end
  local report = path:gsub('%.part$', '') .. '.bad.txt'
  core.write_file(report, table.concat(lines))
  say(o, '%d pictures could not be read and are left out; reasons in %s', #lines, report)
end

-- Every batch of which a row is missing.
local function encode_all(w, vae, set, o)
  local started, told, begun = core.clock(), core.clock(), w:done_count()
  local done = begun
  for first = 1, set.count, o.batch do
    local n = math.min(o.batch, set.count - first + 1)
    local missing = 0
    for i = first, first + n - 1 do missing = missing + (w:is_done(i) and 0 or 1) end
    if missing > 0 then encode_rows(w, vae, set, first, n, o) end
    done = done + missing
    local t = core.clock()
    if t - told > 10 or done == set.count then
      local speed = (done - begun) / math.max(t - started, 1e-3)
      say(o, 'encoded %d of %d pictures, %.1f a second, %d s left', done, set.count, speed, (set.count - done) / speed)
      told = t
    end
  end
end

--- latents.encode(vae, set, path, {dtype = 'f16', moments = false, batch = 16, on_bad = 'skip' or 'stop',
-- least_psnr = 15, quiet}): encode every picture of a set into a store at `path`, unless it is there already; then open
-- it. A run that was stopped goes on where it was. A store made with another VAE, range, size or set is refused.
local function encode(vae, set, path, options)
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
    core.store_open(path):close()
    local wrong = difference(path, wanted)
    if wrong then core.fail(('latents: %s was made otherwise: %s; choose another file'):format(path, wrong)) end
    return require('ld.latents').open(path)
  end
  local folder = path:match('^(.*)/[^/]*$')
  if folder then core.make_dirs(folder) end
  core.sweep_folder(folder or '.')
  check_round_trip(vae, set, o)
  local w = open_part(path, vae, set, wanted, o)
  local done = w:done_count()
  if done > 0 and done < set.count then say(o, 'going on: %d of %d pictures are done', done, set.count) end
  local ok, message = pcall(function()
    encode_all(w, vae, set, o)
    w:flush()
    report_bad(set, path .. '.part', o)
    w:finish()
  end)
  local closed, why = pcall(w.close, w)
  if not ok or not closed then error(ok and why or message, 0) end
  return require('ld.latents').open(path)
end

return {encode = encode}
