-- The list of pictures that could not be read, kept beside a store while it is made.
local ld = require 'ld'
local t = dofile 'tests/lua/harness.lua'
local get, put = t.get, t.put

local tmp = os.getenv 'TEST_TMP' or '/tmp/ldlua-test-encode-bad'
os.execute('mkdir -p ' .. tmp)

t.test('the list of bad pictures outlives runs', function()
  local bad_list = require 'ld.encode_bad'
  local path = tmp .. '/listed.h5'
  local function name(i) return 'p' .. i end
  local list = bad_list.open(path)
  list:batch(1, 4, nil, name)
  t.eq(ld.file_kind(path .. '.part.bad'), nil)
  list:batch(5, 4, {[2] = 'torn', [4] = 'a\tb\nc'}, name)
  list:batch(9, 4, {[1] = 'gone'}, name)
  t.eq(list.count, 3)
  put(path .. '.part.bad', get(path .. '.part.bad') .. '13\tp13\tcut of') -- a kill in mid-line
  list = bad_list.open(path)
  t.eq(list.count, 3)
  list:batch(5, 4, {[2] = 'still torn'}, name) -- the batch once more: its last picture is good now
  list = bad_list.open(path)
  t.eq(list.count, 2)
  local n, report = list:report(path)
  t.eq(n, 2)
  t.eq(get(report), 'p6\tstill torn\np9\tgone\n')
  list:batch(9, 4, nil, name)
  t.eq(bad_list.open(path).count, 1)
  list:batch(17, 4, {'a\tb\nc'}, name)
  bad_list.open(path):report(path)
  t.eq(get(report), 'p6\tstill torn\np17\ta\\x09b\\x0ac\n')
  bad_list.forget(path)
  t.eq(ld.file_kind(report), nil)
  t.eq(ld.file_kind(path .. '.part.bad'), nil)
end)

t.finish()
