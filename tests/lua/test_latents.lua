-- Latent stores as data sets: rows, statistics, bad pictures, splits. tests/lua/test_encode.lua makes them.
local ld = require 'ld'
local t = dofile 'tests/lua/harness.lua'
local get, put = t.get, t.put

local tmp = os.getenv 'TEST_TMP' or '/tmp/ldlua-test-latents'
os.execute('mkdir -p ' .. tmp)
local tiny = dofile('tests/lua/tiny_store.lua')(tmp)
local small, faces, fresh, encode, content = tiny.small, tiny.faces, tiny.fresh, tiny.encode, tiny.content

-- Every latent of a store, the rows left out too, as it is stored.
local function rows_of(store) return tiny.read(store.path, '/latents/mean') end

t.test('statistics against direct computation', function()
  local store = encode(small, faces(), fresh(), {dtype = 'f32'})
  local raw = rows_of(store)
  local x = raw:f64()
  local mean = ld.mean(x, {1, 3, 4}, true)
  t.near(store.mean, ld.mean(x, {1, 3, 4}), 1e-12)
  t.near(store.std, ld.sqrt(ld.mean(ld.square(x - mean), {1, 3, 4})), 1e-9)
  local z = store:standardise(raw)
  t.near(ld.mean(z, {1, 3, 4}), {0, 0, 0, 0}, 1e-4)
  t.near(ld.mean(ld.square(z), {1, 3, 4}), {1, 1, 1, 1}, 1e-3)
  local scaling = store:scaling(0)
  local y = (raw:cpu() - ld.tensor(scaling.shift, {device = 'cpu'}):reshape(1, 4, 1, 1)) * scaling.scale
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

t.test('a store of another autoencoder, and what is none', function()
  local path = fresh()
  encode(small, faces(), path)
  local other, signed = ld.vae.load(tmp .. '/other.h5'), ld.vae.load(tmp .. '/small.h5', {range = 'signed'})
  local store = ld.latents.open(path)
  t.raises(function() store:check_vae(other) end, 'was made by tiny (' .. small.hash:sub(1, 12))
  t.raises(function() store:check_vae(signed) end, 'pixel range signed')
  store:check_vae(small)
  t.raises(function() ld.latents.open(tmp .. '/small.h5') end, 'is no latent store')
end)

-- A run's first step is planned, which computes nothing: what is made then and kept is zeros.
t.test('standardising for the first time while memory is planned', function()
  local path = fresh()
  encode(small, faces(), path, {dtype = 'f32'})
  local store = ld.latents.open(path)
  local x = rows_of(store)
  ld.memory.plan(function() return store:standardise(x) end)
  t.near(ld.mean(ld.square(store:standardise(x)), {1, 3, 4}), {1, 1, 1, 1}, 1e-3)
end)

-- ---- folders --------------------------------------------------------------------------------------------------------

local folder, names = tiny.folder(tmp .. '/pictures')
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
  -- the bad rows count nowhere
  local rows = {0, 1, 2, 3, 4, 6, 7, 9, 10, 11}
  local all = rows_of(store)
  local good = ld.gather(all, ld.tensor(rows, {dtype = 'i64', device = all.device})):f64()
  local mean = ld.mean(good, {1, 3, 4}, true)
  t.near(store.mean, mean:reshape(4), 1e-12)
  t.near(store.std, ld.sqrt(ld.mean(ld.square(good - mean), {1, 3, 4})), 1e-9)
  local seen = {}
  for batch in store:in_order(4) do
    for _, label in ipairs(batch.label:tolist()) do seen[#seen + 1] = label end
  end
  t.eq(seen, {0, 0, 0, 0, 1, 1, 1, 2, 2, 2})
  t.eq(store:get{6}.x, ld.gather(all, ld.tensor({6}, {dtype = 'i64', device = all.device})))
end)

t.test('options of sets that make no sense', function()
  for _, case in ipairs{{{size = 16.5}, 'images: size is 16.5'}, {{size = 0}, 'images: size is 0'},
                        {{size = 16, limit = 0}, 'images: limit is 0'}, {{limit = 2.5}, 'images: limit is 2.5'}} do
    t.raises(function() ld.images.open(tmp, case[1]) end, case[2])
  end
  t.raises(function() ld.images.synthetic_faces{n = -1} end, 'synthetic_faces: n is %-1')
end)

t.test('stores that serve together come from one autoencoder', function()
  local a, b = encode(small, faces(), fresh()), encode(ld.vae.load(tmp .. '/other.h5'), faces(), fresh())
  local c = encode(ld.vae.load(tmp .. '/small.h5', {range = 'signed'}), faces(), fresh())
  a:check_same(a)
  t.raises(function() a:check_same(b) end, 'was made by tiny %(%x+, pixel range unit%), .* by tiny')
  t.raises(function() a:check_same(c) end, 'pixel range signed')
end)

-- ---- splits ---------------------------------------------------------------------------------------------------------

-- Rows of the store behind every position.
local function list(store)
  local out = {}
  for i = 1, store.count do out[i] = store:row(i) end
  return out
end

t.test('splits', function()
  local path = fresh()
  encode(small, pictures(), path)
  local train, valid = ld.latents.open(path, {split = 'train', share = 0.25}),
                       ld.latents.open(path, {split = 'valid', share = 0.25})
  t.eq(list(train), {1, 2, 3, 4, 5, 7, 8})
  t.eq(list(valid), {10, 11, 12})
  t.raises(function() ld.latents.open(path, {split = 'test'}) end, "unknown split 'test'; known: train valid")
  local all = ld.latents.open(path)
  local a, b = all:shuffled_split(0.3, 5)
  t.eq(a.count, 7)
  t.eq(b.count, 3)
  local seen = {}
  for _, part in ipairs{a, b} do
    for _, row in ipairs(list(part)) do seen[#seen + 1] = row end
  end
  t.ok(table.concat(seen, ' ') ~= table.concat(list(all), ' '), 'shuffled')
  table.sort(seen)
  t.eq(seen, list(all))
  local c = all:shuffled_split(0.3, 5)
  t.eq(list(c), list(a))
  t.ok(table.concat(list((all:shuffled_split(0.3, 6))), ' ') ~= table.concat(list(a), ' '), 'another seed')
  local d, e = train:shuffled_split(0.5, 1) -- of a split, no row of the other
  for _, part in ipairs{d, e} do
    for _, row in ipairs(list(part)) do t.ok(row <= 8) end
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
