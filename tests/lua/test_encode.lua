-- From pictures to latents: what the rows hold, resuming, bad pictures, refusals, the pipeline, verifying.
local ld = require 'ld'
local t = dofile 'tests/lua/harness.lua'
local get, put = t.get, t.put

local tmp = os.getenv 'TEST_TMP' or '/tmp/ldlua-test-encode'
os.execute('mkdir -p ' .. tmp)
local tiny = dofile('tests/lua/tiny_store.lua')(tmp)
local small, faces, fresh, encode, content = tiny.small, tiny.faces, tiny.fresh, tiny.encode, tiny.content
local read = tiny.read

ld.safetensors_write(tmp .. '/kl.safetensors',
  ld.models.kl_autoencoder{block_out_channels = {8, 16}, layers_per_block = 1, norm_num_groups = 8}:state())
local kl = ld.vae.load(tmp .. '/kl.safetensors')

t.test('the drawn faces are those of the set', function()
  t.eq(faces():read{2, 3}, (ld.images.synthetic_faces{n = 22, size = 16, seed = 3}:read{2, 3}))
end)

-- How many rows of an unfinished store are done.
local function done(path)
  local n = 0
  for _, byte in ipairs(read(path .. '.part', '/done'):tolist()) do
    for bit = 0, 7 do n = n + math.floor(byte / 2 ^ bit) % 2 end
  end
  return n
end

-- A set that fails at its k-th reading.
local function failing(set, k)
  local reads, inner = 0, set.read
  function set.read(self, list)
    reads = reads + 1
    if reads == k then error('pulled the plug', 0) end
    return inner(self, list)
  end
  return set
end

-- ---- rows -----------------------------------------------------------------------------------------------------------

t.test('rows are what the autoencoder gives', function()
  local path = fresh()
  local store = encode(small, faces(), path, {dtype = 'f32'})
  t.eq(store.count, 22)
  t.eq(store.shape, {4, 2, 2})
  t.eq(store:get{3, 1}.x[2], read(path, '/latents/mean')[1])
  local list = {}
  for i = 1, 22 do list[i] = i end
  t.near(read(path, '/latents/mean'), small:encode_images((faces():read(list))), 1e-6)
  local c = content(path)
  t.eq(c['@format'], 'ldlua latents 2')
  t.eq(c['@vae'], 'tiny')
  t.eq(c['@vae_hash'], small.hash)
  t.eq(c['@vae_kind'], 'small_autoencoder')
  t.eq(c['@pixel_range'], 'unit')
  t.eq(c['@size'], 16)
  t.eq(c['@count'], 22)
  t.eq(c['@transform'], 'stretch')
  t.eq(c['@exif'], 0)
  t.eq(c['@mirrored'], 0)
  t.eq(c['@batch'], 4)
  t.eq(c.name[22], 'face-000022')
  t.eq(c.label[1], -1)
  t.eq(c.done, {255, 255, 63})
  t.eq(c.complete, {1})
  t.eq(ld.file_kind(path .. '.part'), nil)
  t.eq(ld.file_kind(path .. '.part.bad'), nil)
  t.eq(ld.file_kind(path .. '.bad.txt'), nil)
end)

t.test('f16 and bf16 rows are the f32 rows rounded', function()
  local full = fresh()
  encode(small, faces(), full, {dtype = 'f32'})
  for _, dtype in ipairs{'f16', 'bf16'} do
    local path = fresh()
    encode(small, faces(), path, {dtype = dtype})
    t.eq(read(path, '/latents/mean').dtype, dtype)
    t.eq(read(path, '/latents/mean'), read(full, '/latents/mean'):to(dtype))
  end
end)

t.test('deterministic: no ways are timed from there on', function()
  ld.tune(true)
  encode(small, faces(4), fresh(), {deterministic = true})
  t.eq(ld.tune().on, false)
end)

t.test('log-variances', function()
  local path = fresh()
  local store = encode(kl, faces(6), path, {dtype = 'f32', moments = true})
  t.eq(store.shape, {4, 8, 8})
  local mean, logvar = kl:encode_images((faces(6):read{1, 2, 3, 4, 5, 6}), true)
  t.near(read(path, '/latents/mean'), mean, 1e-5)
  t.near(read(path, '/latents/logvar'), logvar, 1e-5)
  t.raises(function() encode(small, faces(6), fresh(), {moments = true}) end, 'has no log-variances')
end)

t.test('latents of the mirrored pictures', function()
  local path = fresh()
  encode(kl, faces(6), path, {dtype = 'f32', moments = true, mirrored = true})
  local x = faces(6):read{1, 2, 3, 4, 5, 6}
  local pixels = x:permute(1, 3, 4, 2):contiguous():tolist() -- mirrored here by hand
  for _, picture in ipairs(pixels) do
    for _, row in ipairs(picture) do
      for i = 1, #row / 2 do row[i], row[#row + 1 - i] = row[#row + 1 - i], row[i] end
    end
  end
  local mirror = ld.tensor(pixels, {dtype = 'u8'}):permute(1, 4, 2, 3)
  local mean, logvar = kl:encode_images(mirror, true)
  t.near(read(path, '/mirrored/mean'), mean, 1e-5)
  t.near(read(path, '/mirrored/logvar'), logvar, 1e-5)
  t.near(read(path, '/latents/mean'), (kl:encode_images(x)), 1e-5)
  t.eq(content(path)['@mirrored'], 1)
end)

t.test('rows in shards are the rows of a single file', function()
  local one, many = fresh(), fresh()
  encode(small, faces(), one)
  encode(small, faces(), many, {shards = 3})
  t.eq(read(many, '/latents/mean'), read(one, '/latents/mean'))
  local shard = many:gsub('%.h5$', '-002.h5')
  t.eq(ld.file_kind(shard), 'file')
  t.eq(ld.file_kind(shard .. '.part'), nil)
end)

-- ---- resuming -------------------------------------------------------------------------------------------------------

t.test('an interrupted encoding ends in the same store', function()
  for _, case in ipairs{{vae = small, dtype = 'f16'}, {vae = kl, dtype = 'f32', moments = true, mirrored = true}} do
    local whole, cut = fresh(), fresh()
    local o = {dtype = case.dtype, moments = case.moments, mirrored = case.mirrored}
    encode(case.vae, faces(), whole, o)
    t.raises(function() encode(case.vae, failing(faces(), 4), cut, o) end, 'pulled the plug')
    t.eq(ld.file_kind(cut), nil, 'nothing at the final name')
    t.eq(done(cut), 8)
    t.raises(function() encode(case.vae, failing(faces(), 2), cut, o) end, 'pulled the plug')
    t.eq(done(cut), 12) -- went on, not again from the start
    encode(case.vae, faces(), cut, o)
    t.ok(get(cut) == get(whole), 'the same bytes')
  end
end)

t.test('what a kill leaves can be continued', function()
  local whole, cut = fresh(), fresh()
  encode(small, faces(), whole)
  for k = 2, 6 do
    local set, reads = faces(), 0
    local inner = set.read
    set.read = function(self, list)
      reads = reads + 1
      if reads == k then put(tmp .. '/snapshot', get(cut .. '.part')) end
      return inner(self, list)
    end
    encode(small, set, cut)
    os.remove(cut)
    put(cut .. '.part', get(tmp .. '/snapshot')) -- as it lay on the disk in the middle of things
    encode(small, faces(), cut)
    t.ok(get(cut) == get(whole), 'the same bytes')
    os.remove(cut)
  end
end)

t.test('a store that is there is opened, not made again', function()
  local path = fresh()
  encode(small, faces(), path)
  local before = get(path)
  local reads = 0
  local set = faces()
  set.read = function() reads = reads + 1 end
  t.eq(encode(small, set, path).count, 22)
  t.eq(encode(small, set, path, {batch = 7}).count, 22) -- how it was cut matters no more
  t.eq(reads, 0)
  t.ok(get(path) == before)
end)

-- ---- refusals -------------------------------------------------------------------------------------------------------

t.test('refusals', function()
  local path = fresh()
  encode(small, faces(), path)
  local before = get(path)
  local other, signed = ld.vae.load(tmp .. '/other.h5'), ld.vae.load(tmp .. '/small.h5', {range = 'signed'})
  local function refuse(text, ...)
    local message = t.raises(encode, text, ...)
    t.ok(message:find('tiny_store.lua:%d+: latents: ') and message:find(path, 1, true), message)
  end
  refuse('vae_hash is ' .. small.hash, other, faces(), path)
  refuse('pixel_range is unit, this run has signed', signed, faces(), path)
  refuse('size is 16, this run has 8', small, ld.images.synthetic_faces{n = 22, size = 8, seed = 3}, path)
  refuse('count is 22, this run has 21', small, faces(21), path)
  refuse('source_hash', small, ld.images.synthetic_faces{n = 22, size = 16, seed = 4}, path)
  refuse('dtype is f16, this run has f32', small, faces(), path, {dtype = 'f32'})
  refuse('mirrored is 0, this run has 1', small, faces(), path, {mirrored = true})
  t.ok(get(path) == before, 'the store is untouched')

  path = fresh()
  t.raises(function() encode(small, failing(faces(), 3), path) end, 'pulled the plug')
  before = get(path .. '.part')
  refuse('was begun otherwise: vae_hash', other, faces(), path)
  refuse('was begun otherwise: batch is 4, this run has 5', small, faces(), path, {batch = 5})
  t.ok(get(path .. '.part') == before, 'the unfinished store is untouched')
  put(path .. '.part', before:sub(1, 200))
  refuse('cannot be continued; delete it', small, faces(), path)

  t.raises(function() encode(small, faces(), fresh(), {on_bad = 'ask'}) end,
    "unknown on_bad 'ask'; known: skip zero stop")
  t.raises(function() encode(small, faces(), fresh(), {bach = 3}) end, "unknown option 'bach'")
  t.raises(function() encode(small, ld.images.synthetic_faces{n = 4, size = 20}, fresh()) end, 'do not divide')
  t.raises(function() encode(ld.vae.wrap(ld.models.small_autoencoder{width = 4, blocks = 1}, {}), faces(), fresh()) end,
    'no hash')
end)

t.test('the round trip guards against a wrong autoencoder', function()
  local path = fresh()
  local message = t.raises(function()
    ld.latents.encode(small, faces(), path, {quiet = true})
  end, 'below 15: wrong VAE or pixel range %(unit%)')
  local db = tonumber(message:match('pictures is (%-?[%d.]+) dB'))
  local list = {}
  for i = 1, 16 do list[i] = i end
  local x = (faces():read(list))
  local back = small:decode_images(small:encode_images(x))
  local mse = ld.mean(ld.square(back:cpu() - x:f32() * (1 / 255)), {2, 3, 4})
  local direct = 0
  for _, e in ipairs(mse:tolist()) do direct = direct - 10 * math.log(e) / math.log(10) / 16 end
  t.near(db, direct, 0.01)
  t.eq(ld.file_kind(path), nil)
  t.eq(ld.file_kind(path .. '.part'), nil)
  encode(small, faces(), path, {least_psnr = db - 0.1})
end)

t.test('options that make no sense are refused before anything is written', function()
  for _, case in ipairs{{{dtype = 'i32'}, "latents of dtype 'i32'; known: f16 bf16 f32"}, {{batch = 0}, 'batch is 0;'},
                        {{batch = 2.5}, 'batch is 2.5;'}, {{decoders = 0}, 'decoders is 0;'},
                        {{shards = -1}, '%-1 shards'}, {{moments = true}, 'small_autoencoder has no log%-variances'}} do
    local path = fresh()
    t.raises(function() encode(small, faces(), path, case[1]) end, case[2])
    t.eq(ld.file_kind(path .. '.part'), nil)
  end
end)

t.test('latents too large for f16 are refused', function()
  local net, path = ld.models.small_autoencoder{width = 8, blocks = 1}, fresh()
  ld.no_grad(function()
    for _, x in ipairs(net:parameters()) do x:mul_(30) end
  end)
  local huge = ld.vae.wrap(net, {name = 'huge', hash = ('0'):rep(64)})
  t.raises(function() encode(huge, faces(4), path, {least_psnr = -1e9}) end, 'too large for f16')
  t.eq(ld.file_kind(path), nil)
  t.eq(encode(huge, faces(4), fresh(), {least_psnr = -1e9, dtype = 'f32'}).count, 4)
end)

-- ---- stored pictures ------------------------------------------------------------------------------------------------

local folder, names, whole_bee = tiny.folder(tmp .. '/pictures')

local function pictures() return ld.images.open(folder, {size = 16}) end

-- CRC-32 bit by bit.
local function crc32(bytes)
  local bit = require 'bit'
  local c = bit.bnot(0)
  for i = 1, #bytes do
    c = bit.bxor(c, bytes:byte(i))
    for _ = 1, 8 do
      local low = bit.band(c, 1)
      c = bit.rshift(c, 1)
      if low == 1 then c = bit.bxor(c, 0xedb88320) end
    end
  end
  return bit.bnot(c) % 2 ^ 32
end

t.test('the pipeline gives what reading gives, in order', function()
  local set = pictures()
  local p = ld.core.pipeline(set.source, {size = 16, transform = 'adm', batch = 5, decoders = 3})
  local first, seen = 1, {}
  for b in function() return p:next() end do
    t.eq(b.first, first)
    t.eq(b.count, math.min(5, 13 - first))
    local list = {}
    for i = 1, b.count do list[i] = first + i - 1 end
    local x, bad = set:read(list)
    t.eq(b.x, x)
    t.eq(b.bad or {}, bad)
    for i = 1, b.count do
      t.eq(b.label:tolist()[i], set:label(first + i - 1))
      t.eq(b.valid:tolist()[i], bad[i] and 0 or 1)
      t.eq(b.crc32:tolist()[i], crc32(get(folder .. '/' .. names[first + i - 1])))
      seen[#seen + 1] = first + i - 1
    end
    first = first + b.count
  end
  t.eq(#seen, 12)
  t.eq(p:next(), nil)
  t.eq(p:next(0), nil)
  local s = p:stats()
  t.eq({s.read, s.decoded, s.bad, s.left, s.held, s.decoders}, {12, 10, 2, 0, 0, 3})
  p:close()
  p:close()
  t.raises(function() p:next() end, 'closed')
  p = ld.core.pipeline(set.source, {size = 16, batch = 4, count = 11, done = '\15\15'}) -- 1 .. 4 and 9 .. 11 are
  t.eq(p:next().first, 5)
  t.eq(p:next(), nil)
  p:close()
  t.raises(function() ld.core.pipeline(set.source, {done = '\15'}) end, 'done has 1 bytes; 12 pictures need 2')
  t.raises(function() ld.core.pipeline(set.source, {transform = 'shrink'}) end, "unknown transform 'shrink'")
  t.raises(function() ld.core.pipeline(set.source, {size = 0}) end, 'size is 0')
  t.raises(function() ld.core.pipeline(set.source, {count = 13}) end, '13 pictures of a source of 12')
end)

local function line(i) return ('%s\t[^\n]*%s[^\n]*\n'):format(names[i], names[i]) end

t.test('a folder with bad pictures: skipped, counted, named', function()
  local path = fresh()
  local set = pictures()
  local store = encode(small, set, path, {dtype = 'f32'})
  t.eq(store.count, 10)
  local c = content(path)
  t.eq(c.valid, {1, 1, 1, 1, 1, 0, 1, 1, 0, 1, 1, 1})
  t.eq(c.label, {0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2})
  t.eq(c.name, names)
  t.eq(c.class_name, {'ants', 'bees', 'cats'})
  local report = get(path .. '.bad.txt')
  t.eq(select(2, report:gsub('\n', '')), 2)
  t.ok(report:find('^' .. line(6) .. line(9) .. '$'), report)
  for i = 1, 12 do t.eq(c.crc32[i], crc32(get(folder .. '/' .. names[i]))) end -- the bad ones' too
  local x = read(path, '/latents/mean')
  t.near(x:slice(1, 5, 5), small:encode_images((set:read{5})), 1e-5)
  t.eq(x:slice(1, 6, 6):abs():max():item(), 0)
  -- the bad rows count nowhere
  local rows = {0, 1, 2, 3, 4, 6, 7, 9, 10, 11}
  local good = ld.gather(x, ld.tensor(rows, {dtype = 'i64', device = x.device})):f64()
  local mean = ld.mean(good, {1, 3, 4}, true)
  t.near(c['statistics/mean'], mean:reshape(4), 1e-12)
  t.near(c['statistics/std'], ld.sqrt(ld.mean(ld.square(good - mean), {1, 3, 4})), 1e-9)
end)

t.test('from archives the same rows come', function()
  local whole = fresh()
  encode(small, pictures(), whole, {dtype = 'f32'})
  os.execute(("cd '%s' && tar cf ../plain.tar --sort=name ants bees cats && gzip -k -f ../plain.tar"):format(folder))
  for _, name in ipairs{'plain.tar', 'plain.tar.gz'} do
    local set, path = ld.images.open(tmp .. '/' .. name, {size = 16}), fresh()
    t.eq(set.source:in_order(), name == 'plain.tar.gz')
    t.eq(encode(small, set, path, {dtype = 'f32'}).count, 10)
    for _, what in ipairs{'/latents/mean', '/label', '/valid', '/crc32'} do
      t.eq(read(path, what), read(whole, what))
    end
    t.eq(ld.latents.verify(path, small, set, {n = 5, quiet = true}).n, 5) -- with gaps between the rows
  end
end)

-- f while a folder of pictures is not there.
local function without_bees(f)
  os.execute(("mv '%s/bees' '%s.gone'"):format(folder, folder))
  local ok, message = pcall(f)
  os.execute(("mv '%s.gone' '%s/bees'"):format(folder, folder))
  if not ok then error(message, 0) end
end

t.test('a source that goes away makes no rows', function()
  local whole, path, set = fresh(), fresh(), pictures()
  encode(small, pictures(), whole)
  local before = set:fingerprint()
  function set.fingerprint() return before end -- the disk goes later than that
  t.raises(without_bees, 'latents: 4 pictures in a row could not be read, the last one: .*bees/4.*bad_in_a_row = 0',
    function() encode(small, set, path, {bad_in_a_row = 4}) end)
  t.eq(done(path), 4)
  t.eq(ld.file_kind(path .. '.part.bad'), nil)
  t.eq(encode(small, pictures(), path).count, 10)
  t.ok(get(path) == get(whole))
end)

t.test('any number of bad pictures, where that is asked for', function()
  local path, set = fresh(), pictures()
  without_bees(function() t.eq(encode(small, set, path, {bad_in_a_row = 0, mirrored = true}).count, 7) end)
  t.eq(content(path).valid, {1, 1, 1, 1, 0, 0, 0, 0, 0, 1, 1, 1})
  t.eq(read(path, '/mirrored/mean'):f32():slice(1, 5, 8):abs():max():item(), 0)
  t.eq(select(2, get(path .. '.bad.txt'):gsub('\n', '')), 5)
end)

t.test('batches of bad pictures wait only while there is a bound on them', function()
  for most, rows in pairs{[0] = 8, [256] = 0} do
    local set, path = failing(faces(), 4), fresh() -- the first reading is the round trip's
    local inner = set.read
    function set.read(self, list)
      local x, why = inner(self, list), {}
      for i = 1, #list do why[i] = 'gone' end
      return x, why
    end
    t.raises(function() encode(small, set, path, {bad_in_a_row = most}) end, 'pulled the plug')
    t.eq(done(path), rows)
  end
end)

t.test("on_bad = 'zero' keeps the rows, as zeros", function()
  local path = fresh()
  t.eq(encode(small, pictures(), path, {on_bad = 'zero', mirrored = true}).count, 12)
  local c = content(path)
  t.eq(c.valid, {1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1})
  for _, name in ipairs{'/latents/mean', '/mirrored/mean'} do
    local x = read(path, name):f32()
    t.eq(x:slice(1, 6, 6):abs():max():item(), 0)
    t.eq(x:slice(1, 9, 9):abs():max():item(), 0)
    t.ok(x:slice(1, 7, 7):abs():max():item() > 0)
  end
  t.ok(get(path .. '.bad.txt'):find('^' .. line(6) .. line(9) .. '$'))
end)

t.test("on_bad = 'stop' names the picture and keeps what was done", function()
  local whole, path = fresh(), fresh()
  encode(small, pictures(), whole)
  local message = t.raises(function() encode(small, pictures(), path, {on_bad = 'stop'}) end, 'bees/2.png')
  t.ok(message:find('tiny_store.lua:%d+: latents: '), message)
  t.eq(done(path), 4)
  t.eq(encode(small, pictures(), path).count, 10)
  t.ok(get(path) == get(whole))
  t.ok(get(path .. '.bad.txt') == get(whole .. '.bad.txt'))
  t.eq(ld.file_kind(path .. '.part.bad'), nil)
end)

t.test('bad pictures of an earlier run are in the report', function()
  local whole, path, calls = fresh(), fresh(), 0
  encode(small, pictures(), whole)
  local tired = setmetatable({encode_images = function(_, x, moments)
    calls = calls + 1
    if calls == 4 then error('pulled the plug', 0) end -- the round trip is the first call
    return small:encode_images(x, moments)
  end}, {__index = small})
  t.raises(function() encode(tired, pictures(), path) end, 'pulled the plug')
  t.eq(done(path), 8)
  t.ok(get(path .. '.part.bad'):find('6\tbees/2.png\t', 1, true))
  encode(small, pictures(), path)
  t.ok(get(path) == get(whole))
  t.ok(get(path .. '.bad.txt') == get(whole .. '.bad.txt'))
  t.eq(ld.file_kind(path .. '.part.bad'), nil)
end)

t.test('a folder of bad pictures only', function()
  os.execute('mkdir -p ' .. tmp .. '/bad')
  put(tmp .. '/bad/a.png', 'nothing')
  local path = fresh()
  t.raises(function() encode(small, ld.images.open(tmp .. '/bad', {size = 16}), path) end,
    'none of the pictures could be read')
  t.ok(get(path .. '.bad.txt'):find('^a.png\t'))
end)

t.test('what is said on the way', function()
  local told, stdout = '', io.stdout
  rawset(io, 'stdout', {write = function(_, ...) told = told .. table.concat{...} end, flush = function() end})
  local ok, message = pcall(encode, small, pictures(), fresh(), {quiet = false, readers = 1, decoders = 2, ahead = 3})
  rawset(io, 'stdout', stdout)
  t.ok(ok, message)
  t.ok(told:find('1 readers, 2 decoders; queues of at most %d+ MiB: %d+ MiB of files and pictures, %d+ MiB of latents'),
    told)
  t.ok(told:find('encoded 12 pictures in %d+ s, [%d.]+ a second; waited [%d.]+ s for pictures'), told)
  t.ok(told:find('2 pictures could not be read and are left out; reasons in [^\n]*%.bad%.txt'), told)
  local progress = require 'ld.encode_progress'
  t.eq(progress.duration(44.2), '45 s')
  t.eq(progress.duration(700), '12 min')
  t.eq(progress.duration(12000), '3 h 20 min')
  t.eq(progress.duration(1 / 0), 'unknown')
end)

-- ---- verifying ------------------------------------------------------------------------------------------------------

local function verify(path, vae, set, n)
  local result = ld.latents.verify(path, vae, set, {n = n or 64, quiet = true})
  return result
end

t.test('verifying: good stores pass', function()
  local path = fresh()
  encode(small, pictures(), path)
  t.eq(verify(path, small, pictures()), {n = 12, largest = 0})
  t.eq(verify(path, small, pictures(), 5).n, 5)
  path = fresh()
  encode(kl, faces(6), path, {moments = true, mirrored = true, dtype = 'bf16', shards = 2})
  t.eq(verify(path, kl, faces(6)), {n = 6, largest = 0})
  path = fresh()
  encode(small, pictures(), path, {on_bad = 'zero'})
  t.eq(verify(path, small, pictures()).n, 12)
  t.raises(function() verify(path, ld.vae.load(tmp .. '/other.h5'), pictures()) end, 'was made otherwise: vae_hash')
end)

t.test('verifying: what differs is named', function()
  local path = fresh()
  encode(small, pictures(), path, {dtype = 'f32', mirrored = true})
  local before = get(path)
  local function broken(name, row, value, text)
    local f = ld.h5_open(path, true)
    local shape = f:shape(name)
    shape[1] = 1
    f:write_rows(name, row, ld.full(shape, value, {dtype = f:read(name).dtype}))
    f:flush()
    f:close()
    local message = t.raises(verify, text, path, small, pictures())
    t.ok(message:find(('of 12 rows of %s that were encoded again these 1 differ'):format(path), 1, true), message)
    t.ok(message:find(('row %d, %s: '):format(row, names[row]), 1, true), message)
    put(path, before)
  end
  broken('/latents/mean', 3, 7, '/latents/mean differs by [%d.]+ standard deviations')
  broken('/mirrored/mean', 12, 7, '/mirrored/mean differs by')
  broken('/label', 4, 2, 'its class is 0, the store has 2')
  broken('/crc32', 5, 77, 'the picture has changed: CRC%-32 %x+, the store has 0000004d')
  broken('/valid', 7, 0, 'it can be read, the store says it could not')
end)

t.test('verifying: a picture that has changed is named', function()
  local path = fresh()
  encode(small, pictures(), path)
  local cat = get(folder .. '/cats/4.png')
  put(folder .. '/cats/4.png', whole_bee)
  local message = t.raises(verify, 'these 1 differ', path, small, pictures())
  t.ok(message:find('row 12, cats/4.png: the picture has changed', 1, true), message)
  put(folder .. '/cats/4.png', cat)
  verify(path, small, pictures())
end)

t.finish()
