-- Files: HDF5, safetensors, pictures, checkpoints; round trips, and what is said about files that are not what they
-- should be.
local ld = require 'ld'
local t = dofile 'tests/lua/harness.lua'
local get = t.get

local tmp = os.getenv 'TEST_TMP' or '/tmp/ldlua-test-files'
os.execute('mkdir -p ' .. tmp)
local fixtures = 'tests/fixtures/images'

local function put(name, bytes) return t.put(tmp .. '/' .. name, bytes) end

-- What a shell command prints.
local function shell(command)
  local f = io.popen(command .. ' 2>&1')
  local text = f:read('*a')
  f:close()
  return text
end

local function listing(folder) return shell('ls -A ' .. folder) end

-- ---- HDF5 -----------------------------------------------------------------------------------------------------------

local dtypes = {'f32', 'f64', 'f16', 'bf16', 'i64', 'i32', 'u8'}

-- The library sorts names, and keeps strings of any length, in ways that end the process when a file is damaged there.
t.test('damaged hdf5 files are errors, wherever the damage is', function()
  local tensors, names = {}, {}
  for i = 1, 40 do
    tensors['part.' .. i] = ld.zeros(2)
    names[i] = ('picture %d'):format(i)
  end
  local whole = tmp .. '/whole.h5'
  local f = ld.h5_create(whole)
  for name, x in pairs(tensors) do f:write('model/' .. name, x) end
  f:write_strings('/name', names)
  f:attribute('/', 'record', ('{"text":"%s"}'):format(('x'):rep(300)))
  f:commit()
  local bytes, refused = get(whole), 0
  local state = 1
  local function random(n) -- the same in every run
    state = (state * 16807) % 2147483647
    return state % n + 1
  end
  for _ = 1, 300 do
    local at, length = random(#bytes - 16), random(12)
    local path = put('damaged.h5', bytes:sub(1, at - 1) .. ('\255'):rep(length) .. bytes:sub(at + length))
    local ok = pcall(function()
      local g = ld.h5_open(path)
      local good, why = pcall(function()
        for _, name in ipairs(g:list()) do
          if name ~= 'name' then g:read(name) end
        end
        g:read_strings('/name')
        g:attribute('/', 'record')
      end)
      g:close()
      if not good then error(why, 0) end
    end)
    if not ok then refused = refused + 1 end
  end
  t.ok(refused > 50, refused .. ' of 300 were refused')
end)

t.test('hdf5 keeps every dtype', function()
  local path = tmp .. '/dtypes.h5'
  local f, wrote = ld.h5_create(path), {}
  for _, dtype in ipairs(dtypes) do
    wrote[dtype] = ld.tensor({{0, 1, 2}, {3, 5, 250}}):to(dtype)
    f:write('a/' .. dtype, wrote[dtype])
  end
  f:commit()
  f = ld.h5_open(path)
  for _, dtype in ipairs(dtypes) do
    local x = f:read('a/' .. dtype)
    t.eq(x.dtype, dtype)
    t.eq(x, wrote[dtype], dtype)
    local shape, as = f:shape('a/' .. dtype)
    t.eq(shape, {2, 3})
    t.eq(as, dtype)
  end
  t.eq(f:shape('a/none'), nil)
  t.eq(#f:list('a'), #dtypes)
  t.ok(f:exists('a/f16') and not f:exists('a/f8'))
  f:close()
end)

t.test('hdf5 keeps the extremes of each dtype', function()
  local path = tmp .. '/extremes.h5'
  local values = {f16 = {65504, -65504, 2 ^ -24, 0.1}, bf16 = {3.3895313892515355e38, -1, 2 ^ -133, 0.1},
                  f32 = {3.4028234663852886e38, 2 ^ -149, -0.1, 1e-3},
                  f64 = {1.7976931348623157e308, 2 ^ -1074, -0.1, 1},
                  i64 = {2 ^ 53, -2 ^ 53, 0, -1}, i32 = {2 ^ 31 - 1, -2 ^ 31, 0, -1}, u8 = {0, 1, 254, 255}}
  local f, wrote = ld.h5_create(path), {}
  for dtype, list in pairs(values) do
    wrote[dtype] = ld.tensor(list, {dtype = dtype})
    f:write(dtype, wrote[dtype])
  end
  f:commit()
  f = ld.h5_open(path)
  for dtype in pairs(values) do t.eq(f:read(dtype), wrote[dtype], dtype) end
  f:close()
end)

t.test('hdf5 writes strided tensors by their elements', function()
  local path = tmp .. '/strided.h5'
  local x = ld.arange(0, 2 * 3 * 4 * 5 - 1):reshape(2, 3, 4, 5)
  local views = {plain = x, permuted = x:permute(4, 2, 1, 3), part = x[{{}, {2, 3}, {1, 4}, {2, 4}}],
                 scalar = ld.tensor(7), empty = ld.zeros{0, 3}}
  local f = ld.h5_create(path)
  for name, view in pairs(views) do f:write(name, view) end
  f:commit()
  f = ld.h5_open(path)
  for name, view in pairs(views) do
    local back = f:read(name)
    t.eq(back.shape, view.shape, name)
    t.eq(back, view, name)
  end
  f:close()
end)

t.test('hdf5 attributes and strings', function()
  local path = tmp .. '/attributes.h5'
  local f = ld.h5_create(path)
  f:attribute('/', 'name', 'Größe')
  f:attribute('/', 'number', 0.1)
  f:attribute('/made/on the way', 'empty', '')
  f:attribute('/', 'number', 0.2)
  f:write_strings('/names', {'a', '', 'ß', ('x'):rep(1000)})
  f:write_strings('/none', {})
  t.raises(function() f:attribute('/', 'bad', {}) end, 'must be a number or a string')
  f:commit()
  f = ld.h5_open(path)
  t.eq(f:attribute('/', 'name'), 'Größe')
  t.eq(f:attribute('/', 'number'), 0.2)
  t.eq(f:attribute('/', 'absent'), nil)
  t.eq(f:attribute('/absent', 'absent'), nil)
  t.eq(f:attribute('/made/on the way', 'empty'), '')
  local keys = f:attributes('/')
  table.sort(keys)
  t.eq(keys, {'name', 'number'})
  t.eq(f:read_strings('/names'), {'a', '', 'ß', ('x'):rep(1000)})
  t.eq(f:read_strings('/none'), {})
  t.raises(function() f:read('/names') end, "'/names' does not hold numbers")
  t.raises(function() f:read_strings('/absent') end, "has no '/absent'")
  f:close()
  t.raises(function() f:read('/names') end, 'closed')
end)

t.test('hdf5 rows', function()
  local path = tmp .. '/rows.h5'
  local f = ld.h5_create(path)
  f:make('x', {5, 2}, 'f16')
  f:write_rows('x', 2, ld.tensor{{1, 2}, {3, 4}}:to('f16'))
  f:write_rows('x', 5, ld.tensor{{9, 8}}:to('f16'))
  t.raises(function() f:write_rows('x', 5, ld.tensor{{1, 2}, {3, 4}}:to('f16')) end, 'do not fit')
  t.raises(function() f:write_rows('x', 0, ld.tensor{{1, 2}}:to('f16')) end, 'do not fit')
  t.raises(function() f:write_rows('x', 1, ld.tensor{{1, 2, 3}}:to('f16')) end, 'do not fit')
  t.raises(function() f:write_rows('x', 1, ld.tensor{{1, 2}}) end, 'do not fit')
  t.raises(function() f:write_rows('y', 1, ld.tensor{{1, 2}}) end, "has no 'y'")
  f:commit()
  f = ld.h5_open(path)
  t.eq(f:read('x'), {{0, 0}, {1, 2}, {3, 4}, {0, 0}, {9, 8}})
  t.eq(f:read_rows('x', 3, 2), {{3, 4}, {0, 0}})
  t.eq(f:read_rows('x', 1, 0).shape, {0, 2})
  t.raises(function() f:read_rows('x', 5, 2) end, 'rows')
  t.raises(function() f:read_rows('x', 0, 1) end, 'rows')
  f:close()
  f = ld.h5_open(path, true)
  f:write_rows('x', 1, ld.tensor{{7, 7}}:to('f16'))
  f:close()
  t.eq(ld.h5_open(path):read_rows('x', 1, 1), {{7, 7}})
  t.raises(function() ld.h5_open(path):write_rows('x', 1, ld.tensor{{7, 7}}:to('f16')) end, path)
end)

t.test('hdf5 commit leaves no temporary file; close keeps the old one', function()
  local folder = tmp .. '/commit'
  os.execute('mkdir -p ' .. folder)
  local path = folder .. '/a.h5'
  local f = ld.h5_create(path)
  f:write('x', ld.tensor{1})
  t.ok(not ld.file_kind(path), 'nothing at the final name before commit')
  f:commit()
  t.eq(listing(folder), 'a.h5\n')
  local before = get(path)
  f = ld.h5_create(path)
  f:write('x', ld.tensor{2})
  f:close()
  t.eq(listing(folder), 'a.h5\n')
  t.ok(get(path) == before, 'the old bytes')
  f = ld.h5_create(path)
  f:write('x', ld.tensor{3})
  t.raises(function() f:write('x', ld.tensor{3}) end, 'cannot create x')
  f:commit()
  t.eq(ld.h5_open(path):read('x'), {3})
  t.eq(listing(folder), 'a.h5\n')
end)

t.test('hdf5 refuses other files', function()
  t.raises(function() ld.h5_open(tmp .. '/absent.h5') end, 'absent.h5\': No such file')
  t.raises(function() ld.h5_open(tmp) end, 'not a regular file')
  t.raises(function() ld.h5_open(put('text.h5', 'no HDF5')) end, 'text.h5: cannot open it as HDF5')
  t.raises(function() ld.h5_open(put('empty.h5', '')) end, 'empty.h5: cannot open it as HDF5')
  local f = ld.h5_create(tmp .. '/whole.h5')
  f:write('x', ld.zeros{10000})
  f:commit()
  local whole = get(tmp .. '/whole.h5')
  t.raises(function() ld.h5_open(put('cut.h5', whole:sub(1, #whole / 2))) end, 'cut.h5: cannot open it as HDF5')
  t.raises(function() ld.h5_create(tmp .. '/no/folder.h5') end, 'No such file')
  t.raises(function() ld.h5_create(tmp .. '/') end, "is a folder's name")
end)

local python = shell("python3 -c 'import h5py, numpy; print(1)'"):match('^1')
if python then
  t.test('h5py reads what is written here, and the other way round', function()
    local net = ld.models.small_autoencoder{width = 4, blocks = 1}
    ld.checkpoint.write(tmp .. '/net.h5', {model = net, record = {step = 3}})
    local f = ld.h5_create(tmp .. '/here.h5')
    f:write('half', ld.tensor({1, 2.5, -3}, {dtype = 'f16'}))
    f:write('brain', ld.tensor({1, -2}, {dtype = 'bf16'}))
    f:write('bytes', ld.tensor({0, 255}, {dtype = 'u8'}))
    f:write_strings('names', {'a', 'ß'})
    f:attribute('/', 'lr', 0.25)
    f:commit()
    local script = put('check.py', [=[
import h5py, json, numpy, sys
f = h5py.File(sys.argv[1] + '/here.h5', 'r')
assert f['half'].dtype == numpy.float16 and list(f['half'][:]) == [1, 2.5, -3]
assert f['bytes'].dtype == numpy.uint8 and list(f['bytes'][:]) == [0, 255]
bits = f['brain'][:].astype(numpy.uint32) << 16
assert f['brain'].attrs['dtype'] == b'bfloat16' and list(bits.view(numpy.float32)) == [1, -2]
assert [s.decode() for s in f['names'][:]] == ['a', '\u00df']
assert f.attrs['lr'] == 0.25
c = h5py.File(sys.argv[1] + '/net.h5', 'r')
assert c.attrs['format'] == b'ldlua checkpoint 1' and json.loads(c.attrs['record']) == {'step': 3}
assert c['model'].attrs['name'].decode() == 'small_autoencoder'
assert c['model/encoder.0.weight'].shape == (4, 3, 3, 3)
with h5py.File(sys.argv[1] + '/there.h5', 'w') as g:
    g['a/b'] = numpy.arange(6, dtype='>f4').reshape(2, 3)
    g['half'] = numpy.array([0.5, 2], dtype=numpy.float16)
    g['short'] = numpy.array([-5, 7], dtype=numpy.int16)
    g.create_dataset('packed', data=numpy.arange(1000.), compression='gzip', chunks=(10,))
    g.attrs['text'] = 'fixed'
    g.attrs['list'] = [1, 2]
    g['complex'] = numpy.array([1j])
print('good')]=])
    t.eq(shell(('python3 %s %s'):format(script, tmp)), 'good\n')
    f = ld.h5_open(tmp .. '/there.h5')
    t.eq(f:read('a/b'), {{0, 1, 2}, {3, 4, 5}})
    t.eq(f:read('half').dtype, 'f16')
    t.eq(f:read('half'), {0.5, 2})
    t.eq(f:read('short'), {-5, 7})
    t.eq(f:read('packed'):sum():item(), 499500)
    t.eq(f:attribute('/', 'text'), 'fixed')
    t.raises(function() f:attribute('/', 'list') end, 'no single value')
    t.raises(function() f:read('complex') end, 'does not hold numbers')
    f:close()
  end)
else
  t.skip('h5py reads what is written here, and the other way round', 'no python3 with h5py here')
end

-- ---- safetensors ----------------------------------------------------------------------------------------------------

-- A file with this header text and data; length: what it says of the header.
local function safe(name, header, data, length)
  length = length or #header
  local bytes = {}
  for i = 1, 8 do
    bytes[i] = string.char(length % 256)
    length = math.floor(length / 256)
  end
  return put(name, table.concat(bytes) .. header .. (data or ''))
end

t.test('safetensors round trip', function()
  local path, wrote = tmp .. '/all.safetensors', {}
  local x = ld.arange(0, 23):reshape(2, 3, 4)
  for _, dtype in ipairs(dtypes) do wrote['x.' .. dtype] = x:to(dtype) end
  wrote.permuted, wrote.scalar, wrote.empty = x:permute(3, 1, 2), ld.tensor(5), ld.zeros{0, 2}
  ld.safetensors_write(path, wrote, {made = 'by a test'})
  local f = ld.safetensors_open(path)
  local n = 0
  for name, w in pairs(wrote) do
    n = n + 1
    local shape, dtype = f:shape(name)
    t.eq(shape, w.shape, name)
    t.eq(dtype, w.dtype, name)
    t.eq(f:read(name), w, name)
  end
  t.eq(#f:names(), n)
  t.eq(f:metadata(), {made = 'by a test'})
  t.eq(f:shape('absent'), nil)
  t.raises(function() f:read('absent') end, "no tensor 'absent'")
  f:close()
  t.raises(function() f:names() end, 'closed')
  t.raises(function() ld.safetensors_write(path, {x = 1}) end, 'a table of tensors by name')
  t.raises(function() ld.safetensors_write(tmp .. '/no/x.safetensors', {x = x}) end, 'No such file')
  t.eq(#ld.safetensors_open(path):names(), n, 'the old file')
end)

local function hostile(what, text, header, data, length)
  t.test('safetensors: ' .. what, function()
    local name = 'hostile-' .. what:gsub('%W', '-') .. '.safetensors'
    local path = safe(name, header, data, length)
    local message = t.raises(function() ld.safetensors_open(path) end, text)
    t.ok(message:find(path, 1, true), 'names the file: ' .. message)
    t.ok(message:find('test_files.lua:%d+: safetensors'), 'has the line: ' .. message)
  end)
end

local function one(dtype, shape, offsets)
  return ('{"x":{"dtype":"%s","shape":%s,"data_offsets":%s}}'):format(dtype, shape, offsets)
end
local bytes16 = ('\0'):rep(16)
hostile('header longer than the file', 'says its header has 100 bytes', '{}', '', 100)
hostile('header length of 2^63', 'says its header has', '{}', '', 2 ^ 63)
hostile('not JSON', 'no JSON object', 'hello there')
hostile('an array', 'no JSON object', '[]')
hostile('cut JSON', 'no JSON object', '{"x":{"dtype":"F32"')
hostile('deep nesting', 'no JSON object', ('['):rep(100000))
hostile('deep nesting of objects', 'no JSON object', ('{"a":'):rep(50000))
hostile('unknown dtype', "tensor 'x' has a dtype", one('F8_E4M3', '[16]', '[0,16]'), bytes16)
hostile('negative offset', "tensor 'x'", one('F32', '[4]', '[-16,0]'), bytes16)
hostile('offsets turned round', "tensor 'x'", one('F32', '[4]', '[16,0]'), bytes16)
hostile('one offset', "tensor 'x'", one('F32', '[4]', '[16]'), bytes16)
hostile('offsets of text', "tensor 'x'", one('F32', '[4]', '["0","16"]'), bytes16)
hostile('fractional offsets', "tensor 'x'", one('F32', '[4]', '[0.5,16.5]'), bytes16)
hostile('huge offsets', "tensor 'x'", one('F32', '[4]', '[1e300,1e301]'), bytes16)
hostile('too many bytes for the shape', 'as many bytes as its shape', one('F32', '[3]', '[0,16]'), bytes16)
hostile('too few bytes for the shape', 'as many bytes as its shape', one('F64', '[4]', '[0,16]'), bytes16)
hostile('truncated data', 'lies outside the file', one('F32', '[4]', '[0,16]'), '1234')
hostile('negative size', "tensor 'x' has a shape", one('F32', '[-4]', '[0,16]'), bytes16)
hostile('sizes whose product overflows', "tensor 'x' has a shape",
  one('F32', '[4294967296,4294967296,4294967296]', '[0,0]'), bytes16)
hostile('nine dimensions', "tensor 'x' has a shape", one('U8', '[1,1,1,1,1,1,1,1,16]', '[0,16]'), bytes16)
hostile('no shape', "tensor 'x' lacks", '{"x":{"dtype":"F32","data_offsets":[0,16]}}', bytes16)
hostile('an entry of text', "tensor 'x' lacks", '{"x":"y"}', bytes16)
hostile('duplicate names', "tensor 'x' stands twice",
  '{"x":{"dtype":"U8","shape":[8],"data_offsets":[0,8]},"x":{"dtype":"U8","shape":[8],"data_offsets":[8,16]}}', bytes16)
hostile('overlapping tensors', "overlap",
  '{"x":{"dtype":"U8","shape":[8],"data_offsets":[0,8]},"y":{"dtype":"U8","shape":[8],"data_offsets":[4,12]}}', bytes16)

t.test('safetensors: empty, short and absent files', function()
  t.raises(function() ld.safetensors_open(put('empty.safetensors', '')) end, 'empty.safetensors has 0 bytes')
  t.raises(function() ld.safetensors_open(put('short.safetensors', '1234567')) end, 'too few for a header')
  t.raises(function() ld.safetensors_open(tmp .. '/absent.safetensors') end, 'No such file')
  t.raises(function() ld.safetensors_open(tmp) end, 'not a regular file')
  t.raises(function() ld.safetensors_open(nil) end, 'must be a string')
end)

t.test('safetensors: metadata that is no object or no text does no harm', function()
  t.eq(ld.safetensors_open(safe('m1.safetensors', '{"__metadata__":{"a":1,"b":"c"}}')):metadata(), {a = '', b = 'c'})
  t.eq(ld.safetensors_open(safe('m2.safetensors', '{"__metadata__":"text"}')):metadata(), {})
end)

-- ---- pictures -------------------------------------------------------------------------------------------------------

t.test('pictures: PNG round trip and text', function()
  local x = ld.faces(1, {size = 32, seed = 5})[1]
  ld.save_image(x, tmp .. '/face.png', {seed = '5'})
  t.eq(ld.load_image(tmp .. '/face.png'), x)
  t.ok(get(tmp .. '/face.png'):find('seed\0', 1, true), 'text is stored')
  ld.save_image(x:f32() * (1 / 255), tmp .. '/float.png')
  t.eq(ld.load_image(tmp .. '/float.png'), x)
  t.eq(ld.load_image(tmp .. '/face.png', 1).shape, {1, 32, 32})
end)

t.test('pictures: errors name the file', function()
  for _, name in ipairs{'truncated.png', 'truncated.jpg', 'truncated.webp', 'garbage.png', 'garbage.jpg', 'empty.jpg',
                        'bomb.png', 'huge.png'} do
    local message = t.raises(function() ld.load_image(fixtures .. '/' .. name) end, name)
    t.ok(message:find('test_files.lua:%d+: '), message)
  end
  t.raises(function() ld.load_image(tmp .. '/absent.png') end, 'No such file')
  t.raises(function() ld.load_image(put('text.png', 'not a picture')) end, 'text.png')
  t.raises(function() ld.load_image(tmp) end, 'Is a directory')
  t.raises(function() ld.save_image(ld.zeros{2, 8, 8}, tmp .. '/two.png') end, 'cannot be a picture')
  t.raises(function() ld.save_image(ld.zeros{3, 8, 8}, tmp .. '/no/x.png') end, 'No such file')
end)

t.test('pictures: the type is told by the content', function()
  local as_jpeg = put('really-a-png.jpg', get(fixtures .. '/rgb.png'))
  t.eq(ld.load_image(as_jpeg), ld.load_image(fixtures .. '/rgb.png'))
end)

t.test('picture sets: errors', function()
  os.execute('mkdir -p ' .. tmp .. '/no-pictures')
  t.raises(function() ld.images.open(tmp .. '/no-pictures') end, 'no PNG, JPEG or WebP pictures')
  t.raises(function() ld.images.open(tmp .. '/absent') end, 'No such file')
  t.raises(function() ld.images.open(put('a-file', 'x')) end, 'a-file')
  t.raises(function() ld.images.open(tmp, {sise = 3}) end,
    "unknown option 'sise'; known: exif labels limit partial size transform")
end)

-- ---- checkpoints ----------------------------------------------------------------------------------------------------

t.test('checkpoints: model, groups and record come back', function()
  ld.seed(3)
  local net = ld.models.classifier{in_channels = 2, channels = {4, 8}, blocks = {1}, classes = 3}
  net(ld.noise({4, 2, 8, 8}, {seed = 1})) -- running statistics of their own
  ld.checkpoint.write(tmp .. '/c.h5', {model = net, tensors = {more = {['a.b'] = ld.tensor{1, 2}}},
                                       record = {list = {1, 2}, text = 'x', deep = {flag = true}}})
  local back, record = ld.models.classifier.load(tmp .. '/c.h5')
  t.eq(record, {list = {1, 2}, text = 'x', deep = {flag = true}})
  local state = back:state()
  for name, x in pairs(net:state()) do t.eq(state[name], x, name) end
  local c = ld.checkpoint.open(tmp .. '/c.h5')
  t.eq(ld.checkpoint.read_group(c, 'more')['a.b'], {1, 2})
  t.eq(ld.checkpoint.read_group(c, 'none'), {})
  c.file:close()
end)

t.test('checkpoints: other files are refused', function()
  local f = ld.h5_create(tmp .. '/other.h5')
  f:write('x', ld.tensor{1})
  f:commit()
  t.raises(function() ld.checkpoint.open(tmp .. '/other.h5') end, 'other.h5 is an HDF5 file, but no checkpoint')
  t.raises(function() ld.checkpoint.open(put('text2.h5', 'text')) end, 'damaged or no HDF5 file')
  t.raises(function() ld.checkpoint.open(tmp .. '/absent.h5') end, 'No such file')
  t.raises(function() ld.models.unet.load(tmp .. '/c.h5') end, "holds a 'classifier', a 'unet' was needed")
  t.raises(function() ld.checkpoint.read_averages(tmp .. '/c.h5') end, 'has no averaged weights')
end)

t.test('checkpoints: a failed write leaves the old one', function()
  os.execute('mkdir -p ' .. tmp .. '/failed')
  local path = tmp .. '/failed/c.h5'
  ld.checkpoint.write(path, {record = {a = 1}})
  local before = get(path)
  t.raises(function() ld.checkpoint.write(path, {record = {f = print}}) end, 'has no place in JSON')
  t.raises(function() ld.checkpoint.write(path, {tensors = {g = {x = ld.tensor{1}, ['x/y'] = ld.tensor{1}}}}) end,
    'test_files.lua')
  t.ok(get(path) == before, 'the old bytes')
  t.eq(listing(tmp .. '/failed'), 'c.h5\n')
end)

-- Order in a table differs from process to process.
t.test('files made of tables have the same bytes in every process', function()
  local program, sums = os.getenv 'LDLUA' or './ldlua', {}
  local code = ([[ld.save_image(ld.zeros({3, 4, 4}, {dtype = 'u8', device = 'cpu'}), '%s/order.png',
                    {seed = '1', run = '2', eta = '3', steps = '4', sampler = '5'})
                  ld.safetensors_write('%s/order.safetensors', {w = ld.ones(2), b = ld.ones(3), c = ld.ones(1),
                    d = ld.ones(4)}, {x = '1', y = '2', z = '3'})]]):format(tmp, tmp)
  for i = 1, 6 do
    t.eq(shell(("%s -e \"%s\""):format(program, code)), '')
    sums[i] = ld.sha256(get(tmp .. '/order.png') .. get(tmp .. '/order.safetensors'))
    t.eq(sums[i], sums[1])
  end
end)

t.finish()
