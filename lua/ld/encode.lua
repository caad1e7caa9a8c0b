-- From a set of pictures to a store of latents: read -> decode -> encode -> write, on queues that are bounded, in
-- batches that are always the same ones, so that a run may be stopped anywhere and the store comes out byte for byte
-- the same.
--
-- Batch k holds rows k * batch + 1 on, whatever was done before. Rows reach the disk before their bits of /done;
-- choices between ways of convolution that were timed, and the reasons of bad pictures, are on the disk before both.
local core = require 'ld.core'
local images = require 'ld.images'
local take = require 'ld.take'
local batches_of = require 'ld.encode_batches'
local bad_list = require 'ld.encode_bad'
local progress = require 'ld.encode_progress'

local host = package.loaded['ld.host'] or {}

local encode = {}

local FORMAT = 'ldlua latents 2'
-- What a store is made of. vae and source are names, which may change; how the rows are cut into batches and files
-- matters while they are made, and no more once they are there.
local KEYS = {'vae', 'vae_hash', 'vae_kind', 'pixel_range', 'size', 'transform', 'exif', 'source', 'count',
              'source_hash', 'dtype', 'moments', 'mirrored', 'batch', 'shards'}
local NAMES = {vae = true, source = true}
local MAKING = {batch = true, shards = true}
-- What the store writes by itself.
local LAYOUT = {count = true, dtype = true, moments = true, mirrored = true, batch = true, shards = true}

local function say(o, text, ...)
  if not o.quiet then
    io.stdout:write(text:format(...), '\n')
    io.stdout:flush()
  end
end

local function provenance(vae, set, o)
  if not vae.hash then core.fail('latents: the autoencoder has no hash of its weights; load it with ld.vae.load') end
  return {vae = vae.name, vae_hash = vae.hash, vae_kind = vae.kind, pixel_range = vae.pixel_range, size = set.size,
          transform = set.transform, exif = set.exif and 1 or 0, source = set.path, source_hash = set:fingerprint(),
          count = set.count, dtype = o.dtype, moments = o.moments and 1 or 0, mirrored = o.mirrored and 1 or 0,
          batch = o.batch, shards = o.shards}
end

-- difference(path, wanted, passed_by): what of the wanted provenance the store at `path` does not have: a sentence, or
-- nil.
local function difference(path, wanted, passed_by)
  local f, wrong = core.h5_open(path), nil
  if f:attribute('/', 'format') ~= FORMAT then
    f:close()
    return 'it is no latent store of this kind (' .. FORMAT .. ')'
  end
  for _, key in ipairs(KEYS) do
    local is = f:attribute('/', key)
    if is ~= wanted[key] and not NAMES[key] and not passed_by[key] then
      wrong = wrong or ('%s is %s, this run has %s'):format(key, tostring(is), tostring(wanted[key]))
    end
  end
  f:close()
  return wrong
end

-- ---- beginning ------------------------------------------------------------------------------------------------------

local function create(part, vae, set, wanted, o)
  local attributes = {}
  for _, key in ipairs(KEYS) do
    if not LAYOUT[key] then attributes[#attributes + 1] = {key, wanted[key]} end
  end
  local side = set.size / vae.factor
  core.store_create(part, {count = set.count, channels = vae.latent_channels, height = side, width = side,
                           dtype = o.dtype, moments = o.moments, mirrored = o.mirrored, shards = o.shards,
                           batch = o.batch, classes = set.classes, attributes = attributes,
                           name = set.source or function(i) return set:file_name(i) end})
end

-- A message without its position.
local function bare(message) return (tostring(message):gsub('^[^:]*:%d+: ', '')) end

-- Round trip of the first pictures: a VAE fed with the wrong range shows here.
local function check_round_trip(vae, set, o)
  core.scope(function()
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
  end)
end

-- The writer of the unfinished store beside `path`: an old one that fits, or a new one; and how many rows it has.
local function open_part(path, vae, set, wanted, o)
  local part = path .. '.part'
  if not core.file_kind(part) then
    check_round_trip(vae, set, o)
    bad_list.forget(path)
    create(part, vae, set, wanted, o)
    return core.store_writer(part), 0
  end
  local ok, wrong = pcall(difference, part, wanted, {})
  if ok and wrong then
    core.fail(('latents: %s was begun otherwise: %s; choose another file or delete it'):format(part, wrong))
  end
  local opened, writer
  if ok then opened, writer = pcall(core.store_writer, part) end
  if not opened then
    local message = bare(ok and writer or wrong)
    if message:find('another process', 1, true) then core.fail(message) end -- there is nothing wrong with it
    core.fail(('latents: %s cannot be continued; delete it to start again (%s)'):format(part, message))
  end
  local done = writer:done_count()
  if done == 0 then check_round_trip(vae, set, o) end
  return writer, done
end

-- ---- the loop -------------------------------------------------------------------------------------------------------

local Job = {}
Job.__index = Job

-- Rows of pictures that could not be read are zeros; on_bad says whether they count as valid.
function Job:note_bad(b, rows)
  for at, why in pairs(b.bad) do
    if self.o.on_bad == 'stop' then core.fail('latents: ' .. why) end
    for _, z in pairs(rows) do z[at]:fill_(0) end
    if self.o.on_bad == 'zero' then b.valid:slice(1, at, at):fill_(1) end
  end
end

-- The latents of a batch; where no picture could be read there is nothing to compute.
function Job:rows_of(b, all_bad)
  local function encoded(x)
    if not all_bad then return self.vae:encode_images(x, self.o.moments) end
    local side = self.set.size / self.vae.factor
    local zeros = core.zeros(b.count, self.vae.latent_channels, side, side)
    return zeros, self.o.moments and zeros:clone() or nil
  end
  local rows = {}
  rows.mean, rows.logvar = encoded(b.x)
  if self.o.mirrored then
    rows.mirrored_mean, rows.mirrored_logvar = encoded(all_bad and b.x or b.x:flip(4))
  end
  if b.bad then self:note_bad(b, rows) end
  rows.label, rows.valid, rows.crc32 = b.label, b.valid, b.crc32
  return rows
end

-- Hands rows to the writer; why pictures of theirs are bad is on the disk before that.
function Job:put(b, rows)
  self.bad:batch(b.first, b.count, b.bad, function(i) return self.set:file_name(i) end)
  if host.save_tuning then host.save_tuning() end -- does nothing unless something was timed since
  self.writer:put(b.first, rows)
  self.progress:count(b.count)
end

-- A batch in which no picture could be read waits for one that can be: a disk that is gone makes no rows of the store.
-- With bad_in_a_row 0 none waits, since there is no bound on how many would.
function Job:hold(b, rows)
  for _, x in pairs(rows) do core.keep(x) end
  self.held[#self.held + 1] = {{first = b.first, count = b.count, bad = b.bad}, rows}
  self.in_a_row = self.in_a_row + b.count
  if self.in_a_row >= self.o.bad_in_a_row then
    core.fail(('latents: %d pictures in a row could not be read, the last one: %s; what was done before is kept. '
      .. 'Pass bad_in_a_row = 0 to go on all the same'):format(self.in_a_row, b.bad[b.count]))
  end
end

function Job:put_held()
  for _, entry in ipairs(self.held) do
    self:put(entry[1], entry[2])
    for _, x in pairs(entry[2]) do x:release() end
  end
  self.held, self.in_a_row = {}, 0
end

-- The next batch: false when none came within a moment, nil at the end, else true.
function Job:step()
  return core.scope(function()
    local b = self.batches:next(0.2)
    if b == nil then self:put_held() end
    if not b then return b end
    local bad = 0
    for _ in pairs(b.bad or {}) do bad = bad + 1 end
    local rows = self:rows_of(b, bad == b.count)
    if bad == b.count and self.o.bad_in_a_row > 0 then
      self:hold(b, rows)
    else
      self:put_held()
      self:put(b, rows)
    end
    return true
  end)
end

function Job:stop_requested()
  local why = host.stop_requested and host.stop_requested()
  if not why then return end
  self.writer:flush()
  self.progress:clear()
  say(self.o, '%s: stopped with %d of %d pictures encoded. Run the same command again to go on.', why,
    self.writer:done_count(), self.set.count)
  self:close()
  if host.interactive then error('stopped', 0) end
  os.exit(0, true)
end

-- What is encoded reaches the disk every ten seconds or so by itself; more often where save_seconds asks for it.
function Job:save()
  if core.clock() - self.saved < self.o.save_seconds then return end
  self.writer:flush()
  self.saved = core.clock()
end

function Job:run()
  self.saved = core.clock()
  local handled = host.on_stop and host.on_stop(true)
  local ok, message = pcall(function()
    while true do
      local got = self:step()
      if got == nil then break end
      if got then self:save() end
      self.progress:tell()
      self:stop_requested()
    end
  end)
  if host.on_stop then host.on_stop(handled) end
  if not ok then error(message, 0) end -- what was put is kept: closing the writer flushes
end

function Job:close()
  if self.batches then self.batches:close() end
  pcall(self.writer.close, self.writer)
end

local function make(vae, set, path, wanted, o)
  local writer, done = open_part(path, vae, set, wanted, o)
  local self = setmetatable({vae = vae, set = set, o = o, writer = writer, held = {}, in_a_row = 0}, Job)
  local ok, message = pcall(function()
    if done > 0 and done < set.count then
      say(o, 'going on: %d of %d pictures are there already', done, set.count)
    end
    self.bad = bad_list.open(path)
    self.batches = batches_of(set, {batch = o.batch, done = writer:done(), readers = o.readers, decoders = o.decoders,
                                    ahead = o.ahead})
    self.progress = progress.new{total = set.count, done = done, bad = self.bad, batches = self.batches,
                                 writer = writer, say = function(...) say(o, ...) end, quiet = o.quiet}
    if done < set.count then self:run() end
    writer:flush()
    self.progress:finish()
    local n, report = self.bad:report(path)
    if n > 0 then
      say(o, '%d pictures could not be read and are %s; reasons in %s', n,
        o.on_bad == 'zero' and 'zeros' or 'left out', report)
    end
    writer:finish()
    self.bad:remove()
  end)
  self:close()
  if not ok then error(message, 0) end
end

-- ---- asked for ------------------------------------------------------------------------------------------------------

local known = {dtype = 'f16', moments = false, mirrored = false, batch = 16, on_bad = 'skip', shards = 0,
               bad_in_a_row = 256, least_psnr = 15, quiet = false, deterministic = false, save_seconds = 10,
               readers = take.optional, decoders = take.optional, ahead = take.optional}

local function check(vae, set, o)
  if o.on_bad ~= 'skip' and o.on_bad ~= 'stop' and o.on_bad ~= 'zero' then
    core.fail(("latents: unknown on_bad '%s'; known: skip zero stop"):format(o.on_bad))
  end
  if o.dtype ~= 'f16' and o.dtype ~= 'bf16' and o.dtype ~= 'f32' then
    core.fail(("latents: latents of dtype '%s'; known: f16 bf16 f32"):format(o.dtype))
  end
  for _, name in ipairs{'batch', 'readers', 'decoders', 'ahead'} do
    local v = o[name]
    if v and (type(v) ~= 'number' or v < 1 or v % 1 ~= 0) then
      local text = type(v) == 'number' and ('%g'):format(v) or tostring(v)
      core.fail(('latents: %s is %s; a whole number, at least 1, is needed'):format(name, text))
    end
  end
  if o.shards < 0 or o.shards % 1 ~= 0 then
    core.fail(('latents: %g shards; a whole number, 0 for none, is needed'):format(o.shards))
  end
  if o.moments and not vae.net.moments then core.fail(('latents: %s has no log-variances'):format(vae.kind)) end
  if set.size % vae.factor ~= 0 then
    core.fail(('latents: pictures of size %d do not divide by the VAE\'s factor %d'):format(set.size, vae.factor))
  end
end

--- encode(vae, set, path, {dtype = 'f16', 'bf16' or 'f32', moments = false, mirrored = false, batch = 16, on_bad =
-- 'skip', 'zero' or 'stop', bad_in_a_row = 256, shards = 0, least_psnr = 15, deterministic = false, save_seconds = 10,
-- quiet, readers, decoders, ahead}): encode every picture of a set into a store at `path`, unless it is there already;
-- then open it. A run that was stopped, in whatever way, goes on where it was. A store made with another VAE, range,
-- size, transform or set is refused. Bad pictures: skip leaves the row out (/valid is 0), zero keeps it with a latent
-- of zeros, stop ends with the reason; the rows of both hold zeros and PATH.bad.txt lists them. Where bad_in_a_row (0:
-- any number) pictures one after the other are bad, the source is taken to be gone, and the run ends with what it had
-- before them. moments: log-variances too; mirrored: latents of the mirrored pictures too. shards: files of rows beside
-- the store, 0: none. least_psnr: dB that the first pictures must reach, encoded and decoded. save_seconds: how much
-- work a kill may cost. deterministic: no ways of computing are timed from here on, ld.tune(false). readers and
-- decoders (threads) and ahead (batches kept ready) follow the machine where they are not given.
function encode.encode(vae, set, path, options)
  local o = take('latents.encode', options, known)
  check(vae, set, o)
  local wanted = provenance(vae, set, o)
  if core.file_kind(path) then
    local wrong = difference(path, wanted, MAKING)
    if wrong then core.fail(('latents: %s was made otherwise: %s; choose another file'):format(path, wrong)) end
    bad_list.open(path):remove() -- left there by a kill behind the last step
    return require('ld.latents').open(path)
  end
  if o.deterministic then core.tune(false) end
  local folder = path:match('^(.*)/[^/]*$')
  if folder then core.make_dirs(folder) end
  core.sweep_folder(folder or '.')
  make(vae, set, path, wanted, o)
  return require('ld.latents').open(path)
end

encode.provenance, encode.difference = provenance, difference

return encode
