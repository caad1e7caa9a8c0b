-- Latent stores as files and as data sets: writing, reading, the training loader, import, the recipes about them.
local ffi = require 'ffi'
local ld = require 'ld'
local core = require 'ld.core'
local t = dofile 'tests/lua/harness.lua'
local put = t.put

local tmp = os.getenv 'TEST_TMP' or '/tmp/ldlua-test-store'
local ldlua = os.getenv 'LDLUA' or './ldlua'
os.execute('mkdir -p ' .. tmp)

local function shell(command)
  local p = io.popen(command .. ' 2>&1')
  local text = p:read('*a')
  p:close()
  return text
end

local serial = 0
local function fresh()
  serial = serial + 1
  return ('%s/store-%d.h5'):format(tmp, serial)
end

local VAE_HASH = ('5'):rep(64)

-- Rows 5, 10, ... are not valid; row i is 1000 + i everywhere, mirrored 2000 + i, but for a half more in the last
-- number.
local function create(path, n, more)
  local o = {count = n, channels = 2, height = 3, width = 4, dtype = 'f32', batch = 8, classes = {'ant', 'bee', 'cat'},
             name = function(i) return ('%s/picture %d.png'):format(i % 2 == 1 and 'ant' or 'bee', i) end,
             attributes = {{'vae', 'tiny'}, {'vae_hash', VAE_HASH}, {'vae_kind', 'small_autoencoder'},
                           {'pixel_range', 'unit'}, {'size', 32}, {'transform', 'adm'}, {'source', 'pictures'},
                           {'source_hash', 'abc'}}}
  for key, value in pairs(more or {}) do o[key] = value end
  core.store_create(path .. '.part', o)
  return core.store_writer(path .. '.part')
end

local function rows(first, n, base)
  local x = ld.arange(first + base, first + base + n - 1):reshape(n, 1, 1, 1) + ld.zeros{n, 2, 3, 4}
  x:slice(2, 2, 2):slice(3, 3, 3):slice(4, 4, 4):add_(ld.full({n, 1, 1, 1}, 0.5))
  return x
end

local function fill(w, from, to, mirrored)
  for first = from, to, 8 do
    local n = math.min(8, to - first + 1)
    local label, valid, crc = {}, {}, {}
    for i = 1, n do
      local row = first + i - 1
      label[i], valid[i], crc[i] = (row - 1) % 2, row % 5 == 0 and 0 or 1, row == 7 and 3 or 4294967295 - row
      if row == 3 then crc[i] = 3 end
    end
    w:put(first, {mean = rows(first, n, 1000), mirrored_mean = mirrored and rows(first, n, 2000) or nil, label = label,
                  valid = valid, crc32 = ld.tensor(crc, {dtype = 'i64'})})
  end
end

local function make(n, more)
  local path = fresh()
  local w = create(path, n, more)
  fill(w, 1, n, more and more.mirrored)
  w:finish()
  w:close()
  return path
end

t.test('a store is what was put into it', function()
  local path = make(30, {mirrored = true})
  local f = ld.h5_open(path)
  t.eq(f:read('/latents/mean'), rows(1, 30, 1000))
  t.eq(f:read('/mirrored/mean'), rows(1, 30, 2000))
  t.eq(f:read('/crc32'):tolist()[3], 3)
  t.eq(f:read('/crc32'):tolist()[30], 4294967265)
  t.eq(f:read('/done'):tolist(), {255, 255, 255, 63})
  t.eq(f:read('/complete'):tolist(), {1})
  t.eq(f:read_strings('/name')[2], 'bee/picture 2.png')
  t.eq(f:attribute('/', 'format'), 'ldlua latents 2')
  t.eq(f:attribute('/', 'mirrored'), 1)
  f:close()
  local store = ld.latents.open(path)
  t.eq(store.count, 24)
  t.eq(store.shape, {2, 3, 4})
  t.eq(store.classes, {'ant', 'bee', 'cat'})
  t.eq(store.vae_hash, VAE_HASH)
  t.eq(store:row(5), 6)
  t.eq(store:file_name(5), 'bee/picture 6.png')
  local batch = store:get{5, 1, 24}
  t.eq(batch.label, {1, 0, 0})
  t.eq(batch.x[1][2][3][4]:item(), 1006.5)
  t.eq(batch.x[3][1][1][1]:item(), 1029)
  t.raises(function() store:get{25} end, 'position 25 of a set of 24')
  t.raises(function() store:get{0} end, 'position 0 of a set of 24')
end)

t.test('an unfinished store', function()
  local path = fresh()
  local w = create(path, 30)
  fill(w, 1, 16)
  w:flush()
  t.eq(w:done_count(), 16)
  t.eq(w:is_done(16), true)
  t.eq(w:is_done(17), false)
  t.eq(type(w:done()), 'userdata')
  t.eq(w:stats().waiting, 0)
  t.raises(function() w:finish() end, 'has 16 of 30 rows')
  t.raises(function() core.store_writer(path .. '.part') end, 'is being written by another process')
  t.raises(function() ld.latents.open(path .. '.part') end, 'is unfinished: 16 of 30 rows')
  local part = ld.latents.open(path .. '.part', {unfinished = true})
  t.eq(part.count, 13)
  w:close()
  w = core.store_writer(path .. '.part')
  t.eq(w:done_count(), 16)
  fill(w, 17, 30)
  w:finish()
  w:close()
  t.eq(ld.file_kind(path .. '.part'), nil)
  t.eq(ld.latents.open(path).count, 24)
end)

t.test('what cannot be is refused', function()
  t.raises(function() create(fresh(), 0) end, 'a store of 0 pictures')
  t.raises(function() create(fresh(), 3, {dtype = 'i64'}) end, "latents of dtype 'i64'")
  t.raises(function() create(fresh(), 3, {name = function(i) error('no ' .. i, 0) end}) end, 'picture 1: no 1')
  t.raises(function() create(fresh(), 3, {name = {'a', 'b'}}) end, 'name of picture 3 is nil')
  t.raises(function() create(fresh(), 3, {attributes = {{'vae', {}}}}) end, 'attribute 1 is no name with')
  t.raises(function() create(fresh(), 3e6, {height = 1024, width = 1024, name = function() return 'x' end}) end,
    'needs 25%d%d%d.%d%d GB for 3000000 pictures; [%d.]+ GB are free there')
  local w = create(fresh(), 9)
  t.raises(function() w:put(2, {mean = ld.zeros{9, 2, 3, 4}}) end, 'rows 2 to 10 of a store of 9')
  t.raises(function() w:put(1, {mean = ld.zeros{9, 2, 4, 3}}) end, '%(9,2,3,4%) is needed')
  t.raises(function() w:put(1, {mean = ld.zeros{2, 2, 3, 4}, label = {1}}) end, 'label must be a list or a tensor of 2')
  t.raises(function() w:put(1, {}) end, 'rows 1 to 0')
  for _, label in ipairs{1e20, -2, 0.5} do
    t.raises(function() w:put(1, {mean = ld.zeros{1, 2, 3, 4}, label = {label}}) end, 'a class from 0, or %-1 for none')
  end
  w:close()
  t.raises(function() w:flush() end, 'closed ld.store_writer')
  local f = core.h5_create(tmp .. '/old.h5')
  f:attribute('/', 'format', 'ldlua latents 1')
  f:commit()
  t.raises(function() ld.latents.open(tmp .. '/old.h5') end, 'is a store of an earlier version; delete it and make')
  t.raises(function() ld.latents.open(tmp .. '/absent.h5') end, 'absent.h5')
  for k, case in ipairs{{ld.zeros(2, 3), 8, 0, 'no usable /latents/mean'},
                        {ld.zeros(2, 4, 0, 3), 8, 0, 'no usable /latents/mean'},
                        {ld.zeros({2, 4, 3, 3}, {dtype = 'f64'}), 8, 0, 'no usable /latents/mean'},
                        {ld.zeros(2, 4, 3, 3), 0, 2, 'batches of 0 rows in 2 shards'}} do
    local path = ('%s/foreign-%d.h5'):format(tmp, k)
    local g = core.h5_create(path)
    g:attribute('/', 'format', 'ldlua latents 2')
    g:attribute('/', 'batch', case[2])
    g:attribute('/', 'shards', case[3])
    g:write('/latents/mean', case[1])
    g:commit()
    t.raises(function() ld.latents.open(path) end, case[4])
  end
  t.raises(function() ld.latents.open(make(9), {resident = 'yes'}) end, "resident is 'yes'; known: true false 'auto'")
end)

-- ---- the loader -----------------------------------------------------------------------------------------------------

local function sources(x) -- row numbers; mirrored ones 1000 more
  local out = {}
  for i, v in ipairs(x:select(2, 1):select(2, 1):select(2, 1):tolist()) do out[i] = v - 1000 end
  return out
end

t.test('the loader gives the order that runs always had', function()
  local store = ld.latents.open(make(100), {resident = false})
  local n, seed = store.count, 17
  for _, resident in ipairs{false, true} do
    local loader, images = store:loader{batch = 9, seed = seed, resident = resident}, 0
    for _ = 1, 25 do
      local count
      images, count = loader:next(images)
      local x = loader:batch(images, count)
      local want = {}
      for i = 1, count do
        want[i] = store:row(core.shuffled(images % n + i, n, seed, math.floor(images / n)))
      end
      t.eq(sources(x), want)
      images = images + count
    end
    t.eq(loader:stats().resident, resident)
    t.eq(loader:stats().batches, 25)
    loader:close()
  end
  t.raises(function() store:loader{batch = 9, rank = 3, ranks = 2} end, 'rank 2 of 2')
  t.raises(function() store:loader{} end, "option 'batch' is needed")
end)

t.test('mirrored latents half of the time, unless asked not to', function()
  local path = make(100, {mirrored = true})
  local function count_mirrored(options)
    local store, sum, total = ld.latents.open(path, options), 0, 0
    local loader = store:loader{batch = 80, seed = 1}
    for e = 0, 9 do
      for _, row in ipairs(sources((loader:batch(80 * e, 80)))) do
        sum, total = sum + (row > 1000 and 1 or 0), total + 1
      end
    end
    return sum / total
  end
  t.ok(math.abs(count_mirrored() - 0.5) < 0.09) -- five standard deviations of 800 coins
  t.eq(count_mirrored{mirror = false}, 0)
end)

t.test('a run takes its batches from the loader, and resumes in the middle of an epoch', function()
  local store = ld.latents.open(make(100), {resident = false})
  local function start(folder)
    ld.seed(3)
    local net = ld.models.unet{in_channels = 2, out_channels = 2, channels = {8}, layers = 1, norm = 'group'}
    return ld.run(folder, {model = net, optim = ld.optim.sgd(net:parameters(), {lr = 0}), quiet = true, seed = 5})
  end
  local function step(run, batch)
    run:step(function() return ld.mean(run.model(ld.zeros{batch.count, 2, 4, 4}, ld.zeros{batch.count})) end)
  end
  local all, folder = {}, tmp .. '/run'
  local run = start(folder .. '-whole')
  for batch in run:batches(store, 16, 2) do
    t.eq(#batch.indices, batch.count)
    local want = {}
    for i, index in ipairs(batch.indices) do want[i] = store:row(index) end
    t.eq(sources(batch.x), want)
    t.eq(batch.label:tolist()[1], (want[1] - 1) % 2)
    all[#all + 1] = table.concat(want, ' ')
    step(run, batch)
  end
  run:finish()
  t.eq(#all, 10)
  local again = {}
  run = start(folder)
  for batch in run:batches(store, 16, 2) do
    again[#again + 1] = table.concat(sources(batch.x), ' ')
    step(run, batch)
    if #again == 3 then run:save() break end
  end
  ld.unlock_folder(folder)
  run = start(folder)
  for batch in run:batches(store, 16, 2) do
    again[#again + 1] = table.concat(sources(batch.x), ' ')
    step(run, batch)
  end
  t.eq(again, all)
end)

-- ---- other readers --------------------------------------------------------------------------------------------------

local SCRIPT = [=[
import h5py, numpy, sys
for path, shards in ((sys.argv[1], 0), (sys.argv[2], 3)):
    f = h5py.File(path, 'r')
    assert f.attrs['format'] == b'ldlua latents 2' and f.attrs['shards'] == shards
    for name, base in (('latents/mean', 1000), ('mirrored/mean', 2000)):
        raw = f[name][:]
        if shards:
            assert f[name].is_virtual and f[name].attrs['dtype'] == b'bfloat16'
            raw = (raw.astype(numpy.uint32) << 16).view(numpy.float32)
        else:
            assert raw.dtype == numpy.float16 and f[name].chunks is None
        want = numpy.zeros((30, 2, 3, 4), numpy.float32) + (base + 1 + numpy.arange(30)).reshape(30, 1, 1, 1)
        want[:, 1, 2, 3] += 0.5
        assert abs(raw - want).max() <= (8 if shards else 0.5), abs(raw - want).max()
    assert f['label'].dtype == numpy.int32 and list(f['label'][:4]) == [0, 1, 0, 1]
    assert f['crc32'].dtype == numpy.int64 and f['crc32'][29] == 4294967265
    assert f['name'][1] == b'bee/picture 2.png' and list(f['class_name']) == [b'ant', b'bee', b'cat']
    assert numpy.isfinite(f['statistics/std'][:]).all() and f['complete'][0] == 1
print('good')]=]
if shell("python3 -c 'import h5py, numpy; print(1)'"):match('^1') then
  t.test('h5py reads stores, sharded ones too', function()
    local one = make(30, {mirrored = true, dtype = 'f16'})
    local parts = make(30, {mirrored = true, dtype = 'bf16', shards = 3})
    t.eq(shell(('cd / && python3 %s %s %s'):format(put(tmp .. '/read.py', SCRIPT), one, parts)), 'good\n')
    t.eq(shell(('cd %s && python3 read.py %s %s'):format(tmp, one, parts)), 'good\n')
  end)
else
  t.skip('h5py reads stores, sharded ones too', 'no python3 with h5py here')
end

-- ---- import ---------------------------------------------------------------------------------------------------------

local function floats(list)
  return ffi.string(ffi.new('float[?]', #list, list), 4 * #list)
end

local function npy(path, shape, bytes, descr)
  local header = ("{'descr': '%s', 'fortran_order': False, 'shape': (%s,), }"):format(descr or '<f4',
    table.concat(shape, ', '))
  header = header .. (' '):rep(64 - (10 + #header + 1) % 64) .. '\n'
  return put(path, '\147NUMPY\1\0' .. string.char(#header % 256, math.floor(#header / 256)) .. header .. bytes)
end

local values = {}
for i = 1, 600 * 2 * 2 * 2 do values[i] = (i * 7919 % 1024) / 256 - 2 end
local numbers = floats(values)
local vae_options = {vae = 'sd-vae-ft-ema', range = 'unit', store = 'f32', quiet = true}
local function with(more)
  local o = {}
  for key, value in pairs(vae_options) do o[key] = value end
  for key, value in pairs(more or {}) do o[key] = value end
  return o
end

t.test('an .npy file, and the same numbers without a header', function()
  local labels = {}
  for i = 1, 600 do labels[i] = tostring((i - 1) % 3) end
  local file = npy(tmp .. '/all.npy', {600, 2, 2, 2}, numbers)
  local text = put(tmp .. '/labels.txt', table.concat(labels, '\n') .. '\n')
  local a = ld.latents.import(file, fresh(), with{labels = text})
  local raw = put(tmp .. '/all.npmm', numbers)
  local b = ld.latents.import(raw, fresh(), with{shape = {600, 2, 2, 2}, scaled = 0.5})
  t.eq(a.count, 600)
  local x = a:get{1, 257, 600}.x:tolist()
  t.near(x[1][1][1][2], values[2], 0)
  t.near(x[2][2][2][2], values[257 * 8], 0)
  t.near(x[3][2][1][1], values[599 * 8 + 5], 0)
  t.near(b:get{257}.x:tolist()[1][2][2][2], 2 * values[257 * 8], 0)
  t.eq(a:get{2, 600}.label, {1, 2})
  t.eq(b:get{2}.label, {-1})
  t.eq(a.vae, 'sd-vae-ft-ema')
  t.eq(a.vae_hash, 'unknown')
  t.raises(function() ld.latents.import(raw, fresh(), with()) end, 'numbers without a header need shape')
  t.raises(function() ld.latents.import(raw, fresh(), with{shape = {601, 2, 2, 2}}) end, 'all.npmm')
  t.raises(function() ld.latents.import(file, fresh(), with{range = 'own'}) end, "range is 'own'")
  t.raises(function() ld.latents.import(file, a.path, with()) end, 'there is a .* already')
  t.raises(function()
    ld.latents.import(file, fresh(), with{labels = text, classes = put(tmp .. '/two.txt', 'ant\nbee\n')})
  end, 'latent 3 has the class 2; those with a name are 0 to 1')
  put(text, t.get(text) .. '0\n')
  t.raises(function() ld.latents.import(file, fresh(), with{labels = text}) end, 'has more labels than 600 latents')
  put(text, '0\n1\n')
  t.raises(function() ld.latents.import(file, fresh(), with{labels = text}) end, 'line 3 of .* is missing')
  local flat = npy(tmp .. '/flat.npy', {8}, numbers)
  t.raises(function() ld.latents.import(flat, fresh(), with()) end, 'is %(8%); %(N,C,h,w%)')
end)

t.test('a folder of .npy files', function()
  local names = {}
  for _, class in ipairs{'n02', 'n01', 'n10'} do
    os.execute(('mkdir -p %s/npy/train/%s'):format(tmp, class))
    for i = 1, 3 do
      local k = #names
      npy(('%s/npy/train/%s/%d.npy'):format(tmp, class, i), {2, 2, 2}, numbers:sub(32 * k + 1, 32 * k + 32))
      names[k + 1] = class .. i
    end
  end
  put(tmp .. '/npy/readme.txt', 'no latents')
  local store = ld.latents.import(tmp .. '/npy', fresh(), with())
  t.eq(store.count, 9)
  t.eq(store.classes, {'n01', 'n02', 'n10'})
  t.eq(store:get{1, 4, 9}.label, {0, 1, 2})
  t.near(store:get{4}.x:tolist()[1][1][1][1], values[1], 0) -- n02/1 was made first
  t.eq(store:file_name(1), 'train/n01/1.npy')
  npy(tmp .. '/npy/train/n10/9.npy', {2, 2, 1}, numbers:sub(1, 16))
  t.raises(function() ld.latents.import(tmp .. '/npy', fresh(), with()) end,
    "9.npy' is %(2,2,1%) f32, the first file %(2,2,2%)")
end)

t.test('imported latents are trusted as far as their autoencoder is known', function()
  local file = npy(tmp .. '/four.npy', {64, 4, 2, 2}, numbers:sub(1, 64 * 64))
  local stranger = ld.latents.import(file, fresh(), with())
  local own = ld.latents.import(file, fresh(), with{vae = 'data/vae-small.h5'})
  local vae = ld.vae.load('data/vae-small.h5', {range = 'unit'})
  local told, stderr = '', io.stderr
  rawset(io, 'stderr', {write = function(_, text) told = told .. text end})
  local ok, message = pcall(function()
    own:check_vae(vae)
    own:check_same(own)
    stranger:check_same(stranger)
    t.eq(told, '')
    stranger:check_vae(vae)
    t.ok(told:find('does not know the weights of sd-vae-ft-ema that made it; this one', 1, true), told)
    told = ''
    own:check_same(stranger)
    t.ok(told:find('does not know the weights', 1, true), told)
  end)
  rawset(io, 'stderr', stderr)
  t.ok(ok, message and tostring(message.expectation or message))
  t.eq(own.vae_hash, vae.hash)
  local signed = ld.vae.load('data/vae-small.h5', {range = 'signed'})
  t.raises(function() stranger:check_vae(signed) end, 'pixel range signed')
  t.raises(function() ld.latents.import(tmp .. '/all.npy', fresh(), with{vae = 'data/vae-small.h5'}) end,
    'latents of 2 channels; vae%-small makes 4')
end)

t.test('an import that was stopped goes on', function()
  local path, file = fresh(), npy(tmp .. '/all.npy', {600, 2, 2, 2}, numbers)
  put(tmp .. '/short.txt', ('1\n'):rep(300))
  t.raises(function() ld.latents.import(file, path, with{labels = tmp .. '/short.txt'}) end, 'line 301')
  local part = ld.latents.open(path .. '.part', {unfinished = true})
  t.eq(part.count, 256)
  t.raises(function() ld.latents.import(file, path, with{vae = 'another'}) end,
    'was begun otherwise: vae is sd%-vae%-ft%-ema')
  put(tmp .. '/short.txt', ('1\n'):rep(600))
  local whole = ld.latents.import(file, path, with{labels = tmp .. '/short.txt'})
  t.eq(whole.count, 600)
  t.eq(whole:get{256, 257}.label, {1, 1})
end)

-- ---- recipes --------------------------------------------------------------------------------------------------------

t.test('store_info', function()
  local text = shell(("'%s' recipes/store_info.lua %s"):format(ldlua, make(30, {mirrored = true})))
  for _, want in ipairs{'complete', 'tiny %(small_autoencoder%), fed unit', '%(2,3,4%) f32, with those of the mirrored',
                        '30, 30 done, 24 valid, 6 bad', 'ant/picture 5.png',
                        '1 pictures have the checksum of an earlier one, e.g. ant/picture 3.png and ant/picture 7.png',
                        '3 with 0 to 12 pictures, 1 empty, 0 pictures of none', '1001.000 to 1029.000',
                        'decoding needs the weights of tiny %(555555555555...%)'} do
    t.ok(text:find(want), want .. '\n' .. text)
  end
  local path = fresh()
  local w = create(path, 30)
  fill(w, 1, 16)
  w:flush()
  text = shell(("'%s' recipes/store_info.lua %s"):format(ldlua, path)) -- beside a writer that is at work
  t.ok(text:find('unfinished: 16 of 30 rows') and text:find('30, 16 done, 13 valid, 3 bad'), text)
  w:close()
  local file = npy(tmp .. '/four.npy', {64, 4, 2, 2}, numbers:sub(1, 64 * 64))
  text = shell(("'%s' recipes/import_latents.lua %s --out %s --vae data/vae-small.h5 --range unit"):format(ldlua, file,
    tmp .. '/imported.h5'))
  t.ok(text:find('64 latents %(4,2,2%)'), text)
  text = shell(("'%s' recipes/store_info.lua %s --samples 4 --out %s"):format(ldlua, tmp .. '/imported.h5',
    tmp .. '/look'))
  t.ok(text:find('4 decoded into ' .. tmp .. '/look/samples.png', 1, true), text)
  t.eq(ld.load_image(tmp .. '/look/samples.png').shape, {3, 2 * 16 + 2, 2 * 16 + 2})
  t.ok(shell(("'%s' recipes/store_info.lua"):format(ldlua)):find('which store?', 1, true))
end)

t.finish()
