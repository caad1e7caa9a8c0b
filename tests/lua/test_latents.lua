-- Latent stores: encoding, resuming, refusals, statistics, splits.
local ld = require 'ld'
local t = dofile 'tests/lua/harness.lua'

local tmp = os.getenv 'TEST_TMP' or '/tmp/ldlua-test-latents'
os.execute('mkdir -p ' .. tmp)

local function get(path)
  local f = assert(io.open(path, 'rb'))
  local bytes = f:read('*a')
  f:close()
  return bytes
end

local function put(path, bytes)
  local f = assert(io.open(path, 'wb'))
  f:write(bytes)
  f:close()
end

-- Autoencoders with weights of chance, whose round trip is no better than chance either.
ld.seed(11)
ld.checkpoint.write(tmp .. '/small.h5', {model = ld.models.small_autoencoder{width = 8, blocks = 1},
                                         record = {name = 'tiny'}})
ld.checkpoint.write(tmp .. '/other.h5', {model = ld.models.small_autoencoder{width = 8, blocks = 1},
                                         record = {name = 'tiny'}})
ld.safetensors_write(tmp .. '/kl.safetensors',
  ld.models.kl_autoencoder{block_out_channels = {8, 16}, layers_per_block = 1, norm_num_groups = 8}:state())
local small = ld.vae.load(tmp .. '/small.h5')
local kl = ld.vae.load(tmp .. '/kl.safetensors')

-- Synthetic faces, drawn once: drawing takes longer than all the rest here.
local drawn = ld.faces(22, {size = 16, seed = 3})
local function faces(n)
  local set = ld.images.synthetic_faces{n = n or 22, size = 16, seed = 3}
  function set.read(_, list)
    local at = {}
    for i, k in ipairs(list) do at[i] = k - 1 end
    return ld.gather(drawn, ld.tensor(at, {dtype = 'i64', device = 'cpu'})), {}
  end
  return set
end

t.test('the drawn faces are those of the set', function()
  t.eq(faces():read{2, 3}, (ld.images.synthetic_faces{n = 22, size = 16, seed = 3}:read{2, 3}))
end)

local serial = 0
local function fresh()
  serial = serial + 1
  return ('%s/new/store-%d.h5'):format(tmp, serial)
end

local function encode(vae, set, path, more)
  local o = {least_psnr = -1000, quiet = true, batch = 4}
  for key, value in pairs(more or {}) do o[key] = value end
  local store = ld.latents.encode(vae, set, path, o) -- no tail call, so that errors have this line
  return store
end

-- Everything in an HDF5 file: data sets, strings and attributes of the root.
local function content(path)
  local f, out = ld.h5_open(path), {}
  for _, name in ipairs(f:list()) do
    out[name] = f:shape(name) and f:read(name):tolist() or f:read_strings(name)
  end
  for _, key in ipairs(f:attributes()) do out['@' .. key] = f:attribute('/', key) end
  f:close()
  return out
end

-- A set that fails at its k-th reading.
local function failing(set, k)
  local reads = 0
  return setmetatable({read = function(_, list)
    reads = reads + 1
    if reads == k then error('pulled the plug', 0) end
    return set:read(list)
  end}, {__index = function(_, key)
    local value = set[key]
    if type(value) ~= 'function' then return value end
    return function(_, ...) return value(set, ...) end
  end})
end

t.test('rows are what the autoencoder gives', function()
  local path = fresh()
  local store = encode(small, faces(), path, {dtype = 'f32'})
  t.eq(store.count, 22)
  t.eq(store.shape, {4, 2, 2})
  t.eq(store.x.dtype, 'f32')
  local list = {}
  for i = 1, 22 do list[i] = i end
  local direct = small:encode_images((faces():read(list)))
  t.near(store.x, direct, 1e-6)
  local c = content(path)
  t.eq(c['@vae'], 'tiny')
  t.eq(c['@vae_hash'], small.hash)
  t.eq(c['@pixel_range'], 'unit')
  t.eq(c['@size'], 16)
  t.eq(c['@count'], 22)
  t.eq(c.name[22], 'face-000022')
  t.eq(c.label[1], -1)
  t.eq(c['done'], {22})
  t.eq(ld.file_kind(path .. '.part'), nil)
  t.eq(ld.file_kind(path .. '.bad.txt'), nil)
end)

t.test('f16 rows are the f32 rows rounded', function()
  local one, half = encode(small, faces(), fresh(), {dtype = 'f32'}), encode(small, faces(), fresh())
  t.eq(half.x.dtype, 'f16')
  t.eq(half.x, one.x:to('f16'))
  t.eq(half:get{3}.x.dtype, 'f32')
end)

t.test('statistics against direct computation', function()
  local store = encode(small, faces(), fresh(), {dtype = 'f32'})
  local x = store.x:f64()
  local mean = ld.mean(x, {1, 3, 4}, true)
  t.near(store.mean, ld.mean(x, {1, 3, 4}), 1e-12)
  t.near(store.std, ld.sqrt(ld.mean(ld.square(x - mean), {1, 3, 4})), 1e-9)
  local z = store:standardise(store.x)
  t.near(ld.mean(z, {1, 3, 4}), {0, 0, 0, 0}, 1e-4)
  t.near(ld.mean(ld.square(z), {1, 3, 4}), {1, 1, 1, 1}, 1e-3)
  local scaling = store:scaling(0)
  local y = (store.x - ld.tensor(scaling.shift, {device = 'cpu'}):reshape(1, 4, 1, 1)) * scaling.scale
  t.near(ld.mean(ld.square(y)):item(), 1, 1e-3)
  local told, stderr = '', io.stderr
  rawset(io, 'stderr', {write = function(_, text) told = told .. text end})
  local ok, message = pcall(function()
    t.eq(store:scaling(1.1 * scaling.scale), {scale = 1.1 * scaling.scale})
    t.eq(told, '')
    store:scaling(0.01 * scaling.scale)
  end)
  rawset(io, 'stderr', stderr)
  t.ok(ok, message)
  t.ok(told:find('standard deviation of 0.01 where about 1 is needed', 1, true), told)
end)

t.test('log-variances', function()
  local path = fresh()
  local store = encode(kl, faces(6), path, {dtype = 'f32', moments = true})
  t.eq(store.shape, {4, 8, 8})
  local mean, logvar = kl:encode_images((faces(6):read{1, 2, 3, 4, 5, 6}), true)
  local f = ld.h5_open(path)
  t.near(f:read('/latents/mean'), mean, 1e-5)
  t.near(f:read('/latents/logvar'), logvar, 1e-5)
  f:close()
  t.raises(function() encode(small, faces(6), fresh(), {moments = true}) end, 'has no log-variances')
end)

t.test('an interrupted encoding ends in the same store', function()
  for _, case in ipairs{{vae = small, dtype = 'f16'}, {vae = kl, dtype = 'f32', moments = true}} do
    local whole, cut = fresh(), fresh()
    local o = {dtype = case.dtype, moments = case.moments}
    encode(case.vae, faces(), whole, o)
    t.raises(function() encode(case.vae, failing(faces(), 4), cut, o) end, 'pulled the plug')
    t.eq(ld.file_kind(cut), nil, 'nothing at the final name')
    local f = ld.h5_open(cut .. '.part')
    t.eq(f:read('/done'), {8})
    f:close()
    t.raises(function() encode(case.vae, failing(faces(), 3), cut, o) end, 'pulled the plug')
    t.eq(content(cut .. '.part').done, {12}) -- went on, not again from the start
    encode(case.vae, faces(), cut, o)
    t.eq(content(cut), content(whole))
  end
end)

t.test('what a kill leaves can be continued', function()
  local whole, cut = fresh(), fresh()
  encode(small, faces(), whole)
  for k = 2, 6 do
    local set, reads = faces(), 0
    local read = set.read
    set.read = function(self, list)
      reads = reads + 1
      if reads == k then put(tmp .. '/snapshot', get(cut .. '.part')) end
      return read(self, list)
    end
    encode(small, set, cut)
    os.remove(cut)
    put(cut .. '.part', get(tmp .. '/snapshot')) -- as it lay on the disk in the middle of things
    encode(small, faces(), cut)
    t.eq(content(cut), content(whole))
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
  t.eq(reads, 0)
  t.ok(get(path) == before)
end)

t.test('refusals', function()
  local path = fresh()
  encode(small, faces(), path)
  local before = get(path)
  local other, unit = ld.vae.load(tmp .. '/other.h5'), ld.vae.load(tmp .. '/small.h5', {range = 'signed'})
  local function refuse(text, ...)
    local message = t.raises(encode, text, ...)
    t.ok(message:find('test_latents.lua:%d+: latents: ') and message:find(path, 1, true), message)
  end
  refuse('vae_hash is ' .. small.hash, other, faces(), path)
  refuse('pixel_range is unit, this run has signed', unit, faces(), path)
  refuse('size is 16, this run has 8', small, ld.images.synthetic_faces{n = 22, size = 8, seed = 3}, path)
  refuse('count is 22, this run has 21', small, faces(21), path)
  refuse('source_hash', small, ld.images.synthetic_faces{n = 22, size = 16, seed = 4}, path)
  refuse('dtype is f16, this run has f32', small, faces(), path, {dtype = 'f32'})
  t.ok(get(path) == before, 'the store is untouched')
  local store = ld.latents.open(path)
  t.raises(function() store:check_vae(other) end, 'was made by tiny (' .. small.hash:sub(1, 12))
  t.raises(function() store:check_vae(unit) end, 'pixel range signed')
  store:check_vae(small)

  path = fresh()
  t.raises(function() encode(small, failing(faces(), 3), path) end, 'pulled the plug')
  before = get(path .. '.part')
  refuse('was begun otherwise: vae_hash', other, faces(), path)
  t.ok(get(path .. '.part') == before, 'the unfinished store is untouched')
  put(path .. '.part', before:sub(1, 200))
  refuse('cannot be continued; delete it', small, faces(), path)

  t.raises(function() encode(small, faces(), fresh(), {on_bad = 'ask'}) end, "unknown on_bad 'ask'; known: skip stop")
  t.raises(function() encode(small, faces(), fresh(), {bach = 3}) end, "unknown option 'bach'")
  t.raises(function() encode(small, ld.images.synthetic_faces{n = 4, size = 20}, fresh()) end, 'do not divide')
  t.raises(function() ld.latents.open(tmp .. '/small.h5') end, 'is no latent store')
  t.raises(function() encode(ld.vae.wrap(ld.models.small_autoencoder{width = 4, blocks = 1}, {}), faces(), fresh()) end,
    'no hash')
end)

-- A run's first step is planned, which computes nothing: what is made then and kept is zeros.
t.test('standardising for the first time while memory is planned', function()
  local store = encode(small, faces(), fresh(), {dtype = 'f32'})
  ld.memory.plan(function() return store:standardise(store.x) end)
  t.near(ld.mean(ld.square(store:standardise(store.x)), {1, 3, 4}), {1, 1, 1, 1}, 1e-3)
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

-- ---- folders --------------------------------------------------------------------------------------------------------

local folder = tmp .. '/pictures'
local names = {}
for _, class in ipairs{'ants', 'bees', 'cats'} do
  os.execute('mkdir -p ' .. folder .. '/' .. class)
  for i = 1, 4 do
    local name = ('%s/%d.png'):format(class, i)
    names[#names + 1] = name
    ld.save_image(ld.faces(1, {size = 24, seed = 7, first = #names})[1], folder .. '/' .. name)
  end
end
put(folder .. '/bees/2.png', get(folder .. '/bees/2.png'):sub(1, 300)) -- number 6
put(folder .. '/cats/1.png', 'no picture at all')                      -- number 9
put(folder .. '/notes.txt', 'this is not counted')

local function pictures() return ld.images.open(folder, {size = 16}) end

t.test('a folder with bad pictures: skipped, counted, named', function()
  local path = fresh()
  local set = pictures()
  t.eq(set.count, 12)
  t.eq(set.classes, {'ants', 'bees', 'cats'})
  local store = encode(small, set, path, {dtype = 'f32'})
  t.eq(store.count, 10)
  local c = content(path)
  t.eq(c.valid, {1, 1, 1, 1, 1, 0, 1, 1, 0, 1, 1, 1})
  t.eq(c.label, {0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2})
  t.eq(c.name, names)
  t.eq(c.class_name, {'ants', 'bees', 'cats'})
  local report = get(path .. '.bad.txt')
  t.eq(select(2, report:gsub('\n', '')), 2)
  t.ok(report:find('bees/2.png\t[^\n]*bees/2.png') and report:find('cats/1.png\t[^\n]*cats/1.png'), report)
  -- every file's checksum, the bad ones too, as another program computes it
  local f = ld.h5_open(path)
  local checksums = f:read('/checksum'):tolist()
  f:close()
  for i = 1, 12 do
    local hex = {}
    for k = 1, 8 do hex[k] = ('%02x'):format(checksums[i][k]) end
    local pipe = io.popen(("sha256sum '%s/%s'"):format(folder, names[i]))
    t.eq(table.concat(hex), pipe:read('*a'):sub(1, 16))
    pipe:close()
  end
  -- the bad rows count nowhere
  local rows = {0, 1, 2, 3, 4, 6, 7, 9, 10, 11}
  local good = ld.gather(store.x, ld.tensor(rows, {dtype = 'i64', device = 'cpu'})):f64()
  local mean = ld.mean(good, {1, 3, 4}, true)
  t.near(store.mean, mean:reshape(4), 1e-12)
  t.near(store.std, ld.sqrt(ld.mean(ld.square(good - mean), {1, 3, 4})), 1e-9)
  local seen = {}
  for batch in store:in_order(4) do
    for _, label in ipairs(batch.label:tolist()) do seen[#seen + 1] = label end
  end
  t.eq(seen, {0, 0, 0, 0, 1, 1, 1, 2, 2, 2})
  t.eq(store:get{6}.x, ld.gather(store.x, ld.tensor({6}, {dtype = 'i64', device = 'cpu'})))
end)

t.test('bad pictures of an earlier session are in the report', function()
  local whole, cut = fresh(), fresh()
  encode(small, pictures(), whole)
  t.raises(function() encode(small, failing(pictures(), 4), cut) end, 'pulled the plug') -- 8 rows are done
  encode(small, pictures(), cut)
  t.eq(get(cut .. '.bad.txt'), get(whole .. '.bad.txt'))
  t.eq(content(cut), content(whole))
end)

t.test("on_bad = 'stop' names the picture and keeps what was done", function()
  local path = fresh()
  local message = t.raises(function() encode(small, pictures(), path, {on_bad = 'stop'}) end, 'bees/2.png')
  t.ok(message:find('test_latents.lua:%d+: latents: '), message)
  t.eq(content(path .. '.part').done, {4})
  t.eq(encode(small, pictures(), path).count, 10) -- and skipping, it goes on
end)

t.test('a folder of bad pictures only', function()
  os.execute('mkdir -p ' .. tmp .. '/bad')
  put(tmp .. '/bad/a.png', 'nothing')
  t.raises(function() encode(small, ld.images.open(tmp .. '/bad', {size = 16}), fresh()) end,
    'none of the pictures could be read')
end)

t.test('options that make no sense are refused before anything is written', function()
  for _, case in ipairs{{{dtype = 'i32'}, "latents of dtype 'i32'; known: f16 f32"}, {{batch = 0}, 'a batch of 0'},
                        {{batch = 2.5}, 'a batch of 2.5'},
                        {{moments = true}, 'small_autoencoder has no log%-variances'}} do
    local path = fresh()
    t.raises(function() encode(small, faces(), path, case[1]) end, case[2])
    t.eq(ld.file_kind(path .. '.part'), nil)
  end
  for _, case in ipairs{{{size = 16.5}, 'images: size is 16.5'}, {{size = 0}, 'images: size is 0'},
                        {{size = 16, limit = 0}, 'images: limit is 0'}, {{limit = 2.5}, 'images: limit is 2.5'}} do
    t.raises(function() ld.images.open(tmp, case[1]) end, case[2])
  end
  t.raises(function() ld.images.synthetic_faces{n = -1} end, 'synthetic_faces: n is %-1')
end)

t.test('latents too large for f16 are refused, and what is done stays', function()
  local net, path = ld.models.small_autoencoder{width = 8, blocks = 1}, fresh()
  ld.no_grad(function()
    for _, x in ipairs(net:parameters()) do x:mul_(30) end
  end)
  local huge = ld.vae.wrap(net, {name = 'huge', hash = ('0'):rep(64)})
  t.raises(function() encode(huge, faces(4), path, {least_psnr = -1e9}) end, 'too large for f16')
  t.eq(ld.file_kind(path), nil)
  t.eq(encode(huge, faces(4), fresh(), {least_psnr = -1e9, dtype = 'f32'}).count, 4)
end)

t.test('stores that serve together come from one autoencoder', function()
  local a, b = encode(small, faces(), fresh()), encode(ld.vae.load(tmp .. '/other.h5'), faces(), fresh())
  local c = encode(ld.vae.load(tmp .. '/small.h5', {range = 'signed'}), faces(), fresh())
  a:check_same(a)
  t.raises(function() a:check_same(b) end, 'was made by tiny %(%x+, pixel range unit%), .* by tiny')
  t.raises(function() a:check_same(c) end, 'pixel range signed')
end)

-- ---- splits ---------------------------------------------------------------------------------------------------------

t.test('splits', function()
  local path = fresh()
  encode(small, pictures(), path)
  local train, valid = ld.latents.open(path, {split = 'train', share = 0.25}),
                       ld.latents.open(path, {split = 'valid', share = 0.25})
  t.eq(train.rows, {1, 2, 3, 4, 5, 7, 8})
  t.eq(valid.rows, {10, 11, 12})
  t.raises(function() ld.latents.open(path, {split = 'test'}) end, "unknown split 'test'; known: train valid")
  local all = ld.latents.open(path)
  local a, b = all:shuffled_split(0.3, 5)
  t.eq(a.count, 7)
  t.eq(b.count, 3)
  local seen = {}
  for _, part in ipairs{a, b} do
    for _, row in ipairs(part.rows) do seen[#seen + 1] = row end
  end
  t.ok(table.concat(seen, ' ') ~= table.concat(all.rows, ' '), 'shuffled')
  table.sort(seen)
  t.eq(seen, all.rows)
  local c = all:shuffled_split(0.3, 5)
  t.eq(c.rows, a.rows)
  t.ok(table.concat(all:shuffled_split(0.3, 6).rows, ' ') ~= table.concat(a.rows, ' '), 'another seed')
  local d, e = train:shuffled_split(0.5, 1) -- of a split, no row of the other
  for _, part in ipairs{d, e} do
    for _, row in ipairs(part.rows) do t.ok(row <= 8) end
  end
end)

t.test('random batches go through all rows', function()
  local path = fresh()
  encode(small, pictures(), path, {dtype = 'f32'})
  local store, seen = ld.latents.open(path), {}
  for k = 1, 5 do
    local batch = store:random_batch(2, k)
    for i = 1, 2 do seen[#seen + 1] = batch.x[i]:sum():item() end
  end
  local want = {}
  for i = 1, 10 do want[i] = store:get{i}.x:sum():item() end
  table.sort(seen)
  table.sort(want)
  t.near(seen, want, 1e-5)
end)

t.finish()
