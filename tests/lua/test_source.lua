-- Sources of pictures as recipes see them: core.source, ld.images, options by position, recipes/data_info.lua.
local ld = require 'ld'
local core = require 'ld.core'
local t = dofile 'tests/lua/harness.lua'
local get = t.get

local tmp = os.getenv 'TEST_TMP' or '/tmp/ldlua-test-source'
local program = os.getenv 'LDLUA' or './ldlua'
os.execute('mkdir -p ' .. tmp)

local function put(name, bytes)
  local path = tmp .. '/' .. name
  ld.make_dirs(path:match('^(.*)/'))
  return t.put(path, bytes)
end

local function png(v)
  ld.save_image(ld.full({3, 8, 8}, v, {dtype = 'u8'}), tmp .. '/made.png')
  return get(tmp .. '/made.png')
end

-- A tar of {name, bytes} pairs.
local function tar(members)
  local out = {}
  for _, m in ipairs(members) do
    local name, bytes = m[1], m[2]
    local function head(sum)
      return name .. ('\0'):rep(100 - #name) .. '0000644\0' .. '0000000\0' .. '0000000\0' .. ('%011o\0'):format(#bytes)
        .. '00000000000\0' .. sum .. '0' .. ('\0'):rep(100) .. 'ustar\00000' .. ('\0'):rep(247)
    end
    local sum, plain = 0, head('        ')
    for i = 1, 512 do sum = sum + plain:byte(i) end
    out[#out + 1] = head(('%06o\0 '):format(sum)) .. bytes .. ('\0'):rep(-#bytes % 512)
  end
  return table.concat(out) .. ('\0'):rep(1024)
end

local members = {{'ants/1.png', png(10)}, {'bees/1.png', png(20)}, {'bees/2.png', 'no picture at all, though named so'},
                 {'ants/2.png', png(40)}}
local path = put('set.tar', tar(members))
for _, m in ipairs(members) do put('set/' .. m[1], m[2]) end

t.test('a source: what it tells', function()
  local s = core.source(path)
  t.eq({s:count(), s:kind(), s:in_order(), s:classes(), s:notes()}, {4, 'tar', false, {'ants', 'bees'}, {}})
  t.eq({s:name(3), s:label(3), s:bytes(3)}, {'bees/2.png', 1, #members[3][2]})
  t.eq({s:class_counts()}, {{2, 2}, 0})
  t.ok(s:memory() > 4 * 24)
  t.eq(#s:fingerprint(), 64)
  t.ok(s:fingerprint(2) ~= s:fingerprint() and s:fingerprint(2) == core.source(path):fingerprint(2))
  t.raises(function() s:name(0) end, 'picture 0; there are 4')
  t.raises(function() s:label(5) end, 'picture 5; there are 4')
  t.raises(function() s:read({1, 5}) end, 'picture 5; there are 4')
  t.raises(function() core.source() end, 'the path must be a string')
  t.raises(function() core.source(path, {lables = 'x'}) end, "unknown option 'lables'")
  t.raises(function() core.source(path, {partial = 3}) end, 'partial')
  t.raises(function() core.source(tmp .. '/absent') end, 'absent: No such file')
end)

t.test('a source: pictures, and why some are none', function()
  local s = core.source(path)
  local x, why = s:read({4, 3, 1, 2}, {size = 4})
  t.eq(x.shape, {4, 3, 4, 4})
  t.eq(x:f64():mean({2, 3, 4}):tolist(), {40, 0, 10, 20})
  t.eq({why[1], why[3], why[4]}, {})
  t.ok(why[2]:find('set.tar/bees/2.png', 1, true), why[2])
  t.raises(function() s:read({1}, {size = 0}) end, 'a size of 0')
  t.raises(function() s:read({1}, {transform = 'squash'}) end, "unknown transform 'squash'; known: adm")
  t.eq(s:read({}, {size = 4}).shape, {0, 3, 4, 4})
  t.eq(s:inspect(1), {format = 'png', bytes = #members[1][2], width = 8, height = 8, channels = 3})
  local info, reason = s:inspect(3)
  t.eq(info, {bytes = #members[3][2]})
  t.ok(reason:find('bees/2.png', 1, true), reason)
end)

t.test('a set holds nothing by picture, and its list of an archive is kept', function()
  local set = ld.images.open(path, {size = 8, limit = 3})
  t.eq({set.count, set.classes, set:file_name(2), set:label(2)}, {3, {'ants', 'bees'}, 'bees/1.png', 1})
  for key, value in pairs(set) do
    if type(value) == 'table' then t.ok(key == 'classes', key) end
  end
  t.eq(set:fingerprint(), set.source:fingerprint(3))
  t.eq((set:read{1, 2}), (ld.images.open(path, {size = 8}):read{1, 2}))
  local folder = core.cache_folder 'index'
  if os.getenv 'XDG_CACHE_HOME' then
    t.eq(folder, os.getenv 'XDG_CACHE_HOME' .. '/ldlua/index')
    t.eq(core.file_kind(folder), 'folder')
  end
end)

t.test('labels from a file', function()
  local rows = put('rows.csv', 'id,label\nants/1,x\nants/2,y\nbees/1,z\nbees/2,x\n')
  local set = ld.images.open(path, {labels = rows})
  t.eq(set.classes, {'x', 'y', 'z'})
  t.eq({set:label(1), set:label(2), set:label(3), set:label(4)}, {0, 2, 0, 1})
  t.raises(function() ld.images.open(path, {labels = put('few.txt', '1\n2\n')}) end, 'has 2 labels, .* has 4 pictures')
  t.raises(function() ld.images.open(path, {labels = tmp .. '/absent.txt'}) end, 'absent.txt')
  -- the devkit's truth needs the wnids that ship
  local val = {}
  for i = 1, 3 do val[i] = {('ILSVRC2012_val_%08d.JPEG'):format(i), png(i)} end
  set = ld.images.open(put('val.tar', tar(val)), {labels = put('truth.txt', '490\n361\n171\n')})
  t.eq(#set.classes, 1000)
  t.eq({set.classes[set:label(1) + 1], set.classes[set:label(2) + 1], set.classes[set:label(3) + 1]},
    {'n01751748', 'n09193705', 'n02105855'})
end)

t.test('whether there are pictures to open', function()
  for _, yes in ipairs{'', '/', '/set', '/set.tar', '/set.tar/ants', '/set.tar/ants/', '/set/bees/1.png', '/cut/x/y'} do
    put('cut.zip', 'x')
    t.eq({yes, ld.images.exists(tmp .. yes)}, {yes, true})
  end
  for _, no in ipairs{'/absent', '/absent/set.tar', '/set/absent', '/set/ants/3.png', '/cu/x'} do
    t.eq({no, ld.images.exists(tmp .. no)}, {no, false})
  end
  t.eq(ld.images.exists('absent'), false)
  t.eq(ld.images.exists(''), false)
end)

t.test('a damaged archive: refused, or taken in part', function()
  local cut = put('cut.tar', tar(members):sub(1, 1600))
  t.raises(function() ld.images.open(cut) end, 'ends early')
  local set = ld.images.open(cut, {partial = true})
  t.eq(set.count, 1)
  t.ok(set.source:notes()[1]:find('what lies before the damage is taken'))
end)

-- ---- recipes --------------------------------------------------------------------------------------------------------

-- What `ldlua FILE WORDS` prints.
local function run(words)
  local f = io.popen(("'%s' %s 2>&1"):format(program, words))
  local text = f:read('*a')
  f:close()
  return text
end

t.test('options by position', function()
  local script = put('place.lua', "local o = require('ld').options{'path', 'n', path = '', n = 3, size = 8}\n" ..
                                  "print('got', o.path, o.n, o.size, #o)")
  t.ok(run(script .. ' a'):find('got\ta\t3\t8\t0'))
  t.ok(run(script .. ' a 5 --size 9'):find('got\ta\t5\t9\t0'))
  t.ok(run(script .. ' --size 9 a --n=4'):find('got\ta\t4\t9\t0'))
  t.ok(run(script .. ' --path b'):find('got\tb\t3\t8\t0'))
  t.ok(run(script .. ' a 5 6'):find("'6' is no option", 1, true))
  t.ok(run(script .. ' a 0'):find('option --n must be a whole number, at least 1', 1, true))
  t.ok(run(script .. ' a --dry-run'):find('path +a +%(command line%)'))
end)

t.test('data_info', function()
  local text = run('recipes/data_info.lua ' .. path)
  t.ok(text:find('pictures  4 in .*set.tar %(tar%)'), text)
  t.ok(text:find('classes   2'), text)
  t.ok(text:find('first: ants 2, bees 2'), text)
  t.ok(text:find('3 png'), text)
  t.ok(text:find('1 cannot be read or decoded:.*bees/2.png'), text)
  t.ok(text:find('latents   4 x 32 x 32 in f16 %(8 times down, at 256%): 32.8 kB'), text)
  text = run('recipes/data_info.lua ' .. tmp .. '/set --size 512 --sample 2')
  t.ok(text:find('%(folder%)') and text:find('sample    2 pictures') and text:find('4 x 64 x 64'), text)
  t.ok(run('recipes/data_info.lua'):find('which pictures?', 1, true))
  t.ok(run('recipes/data_info.lua ' .. tmp .. '/absent'):find('absent: No such file', 1, true))
  text = run('recipes/data_info.lua ' .. put('none.tar', tar{{'bees/1.png', 'x'}, {'ants/1.png', 'y'}}))
  t.ok(text:find('none could be decoded') and text:find('smallest: ants 1; largest: bees 1'), text)
end)

t.finish()
