-- JSON: what is written is read again, and equal tables give equal text.
local t = dofile 'tests/lua/harness.lua'
local ld = require 'ld'
local encode, decode = ld.json_encode, ld.json_decode

t.test('plain values', function()
  t.eq(encode(1), '1')
  t.eq(encode(-0.5), '-0.5')
  t.eq(encode(true), 'true')
  t.eq(encode('a "b" \\ \n\t\1'), [["a \"b\" \\ \n\t\u0001"]])
  t.eq(encode(nil), 'null')
  t.eq(decode 'null', nil)
  t.eq(decode ' 12 ', 12)
  t.eq(decode 'false', false)
  t.eq(decode [["\u00e9\ud83d\ude00\/"]], 'é😀/')
end)

t.test('numbers come back as they were', function()
  for _, v in ipairs{0, 1e-300, 1e300, 0.1, 1 / 3, 0.1 + 0.2, 2 ^ 53, -2 ^ 53, 123456789012, 5e-324, math.pi} do
    t.eq(decode(encode(v)), v)
  end
end)

t.test('what JSON has no number for is written as a string', function()
  t.eq(encode{a = 0 / 0, b = 1 / 0, c = -1 / 0}, '{"a":"nan","b":"inf","c":"-inf"}')
end)

t.test('tables come back as they were', function()
  local value = {name = 'run', list = {1, 2, {3, {}}}, deep = {a = {b = {c = {true, false}}}}, empty = {},
                 [''] = 'no name', ['é'] = 'ü'}
  t.eq(decode(encode(value)), value)
  t.eq(decode(encode(value, true)), value)
  t.eq(decode(encode({{}, {}})), {{}, {}})
end)

t.test('names stand in order, numbers as names too', function()
  t.eq(encode{b = 1, a = 2, c = {y = 1, x = 2}}, '{"a":2,"b":1,"c":{"x":2,"y":1}}')
  t.eq(encode{[10] = 'ten', [2.5] = 'half'}, '{"10":"ten","2.5":"half"}')
  t.eq(encode({a = {1, 2}}, true), '{\n\t"a":\t[1, 2]\n}')
  t.eq(encode{}, '{}')
end)

t.test('null in a list leaves a hole, in a table nothing', function()
  local list = decode '[1, null, 3]'
  t.eq({list[1], list[2], list[3]}, {1, nil, 3})
  t.eq(decode '{"a": null, "b": 1}', {b = 1})
end)

t.test('what is no JSON gives nil and the reason', function()
  for _, text in ipairs{'', ' ', '{', '[1, 2', '{"a" 1}', 'nope', '1 2', '{} x', '[1,]', "{'a': 1}", '"open', '\0'} do
    local value, why = decode(text)
    t.eq(value, nil, text)
    t.ok(why and why:find('json: the text is no JSON at byte %d+ of %d+'), text .. ': ' .. tostring(why))
  end
  t.raises(function() decode(nil) end, 'json_decode: a string was expected, not nil')
end)

t.test('what has no place in JSON is refused', function()
  t.raises(function() encode{f = print} end, 'json_encode: a function under f has no place in JSON')
  t.raises(function() encode{x = ld.zeros(1)} end, 'json_encode: a userdata under x has no place in JSON')
  t.raises(function() encode{1, 2, a = 3} end, 'a table has 2 values from position 1 on and 1 others')
  t.raises(function() encode{[true] = 1} end, 'a key is a boolean; strings and numbers are possible')
  t.raises(function() encode 'a\0b' end, 'a string with a zero byte at position 2')
  local round = {}
  round.again = round
  t.raises(function() encode(round) end, 'json: values are nested deeper than 1000')
end)

t.test('nesting up to the limit', function()
  local function nested(n) return ('['):rep(n) .. (']'):rep(n) end
  t.eq(type(decode(nested(1000))), 'table')
  t.eq(decode(nested(1001)), nil)
  t.eq(encode(decode(nested(500))), ('['):rep(499) .. '{}' .. (']'):rep(499))
end)

t.test('a long list', function()
  local list = {}
  for i = 1, 20000 do list[i] = {i = i, s = 'text ' .. i} end
  local back = decode(encode(list))
  t.eq(#back, 20000)
  t.eq(back[20000], {i = 20000, s = 'text 20000'})
end)

t.finish()
