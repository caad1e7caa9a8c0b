-- An archive of many tiny pictures, for what only large sets show: ldlua tests/tools/make_tiny_archive.lua N OUT.tar
--
-- Members are class-%03d/%07d.png, a thousand classes at most, 8 x 8 pixels, no two alike. PNG and tar are written here
-- byte by byte (deflate in stored blocks), since a million files on the way would take longer than all that is tried.
local bit = require 'bit'
local ffi = require 'ffi'

local count, path = tonumber(arg[1]), arg[2]
if not count or not path then
  io.stderr:write('usage: ldlua tests/tools/make_tiny_archive.lua N OUT.tar\n')
  os.exit(2)
end

local SIDE = 8
local table_of = ffi.new('uint32_t[256]')
for n = 0, 255 do
  local c = n
  for _ = 1, 8 do c = bit.band(c, 1) == 1 and bit.bxor(bit.rshift(c, 1), 0xedb88320) or bit.rshift(c, 1) end
  table_of[n] = c
end

local function crc32(text)
  local c = -1
  for i = 1, #text do c = bit.bxor(bit.rshift(c, 8), table_of[bit.band(bit.bxor(c, text:byte(i)), 255)]) end
  return bit.bnot(c)
end

local function big(v) -- 32 bits, most significant byte first
  local function byte(shift) return bit.band(bit.rshift(v, shift), 255) end
  return string.char(byte(24), byte(16), byte(8), byte(0))
end

local function chunk(kind, data)
  return big(#data) .. kind .. data .. big(crc32(kind .. data))
end

local function adler(text)
  local a, b = 1, 0
  for i = 1, #text do
    a = (a + text:byte(i)) % 65521
    b = (b + a) % 65521
  end
  return string.char(bit.rshift(b, 8), bit.band(b, 255), bit.rshift(a, 8), bit.band(a, 255))
end

local HEAD = '\137PNG\r\n\26\n' .. chunk('IHDR', big(SIDE) .. big(SIDE) .. '\8\2\0\0\0')
local TAIL = chunk('IEND', '')
local raw = ffi.new('uint8_t[?]', SIDE * (3 * SIDE + 1))

-- Two colours and a slope between them, drawn from the picture's number.
local function picture(i)
  local seed, at = bit.tobit(i * 40503 + 12345), 0
  local function draw()
    seed = bit.tobit(bit.bxor(seed, bit.lshift(seed, 13)))
    seed = bit.bxor(seed, bit.rshift(seed, 17))
    seed = bit.bxor(seed, bit.lshift(seed, 5))
    return bit.band(bit.rshift(seed, 8), 255)
  end
  local from, to, dx = {draw(), draw(), draw()}, {draw(), draw(), draw()}, draw()
  for y = 0, SIDE - 1 do
    raw[at] = 0
    at = at + 1
    for x = 0, SIDE - 1 do
      local t = (x * dx + y * (255 - dx)) / (255 * (SIDE - 1))
      for c = 1, 3 do
        raw[at] = from[c] + (to[c] - from[c]) * t
        at = at + 1
      end
    end
  end
  -- the number itself, so that no two are alike
  raw[1], raw[2], raw[3] = bit.band(i, 255), bit.band(bit.rshift(i, 8), 255), bit.band(bit.rshift(i, 16), 255)
  local text = ffi.string(raw, at)
  local size = string.char(bit.band(#text, 255), bit.rshift(#text, 8))
  local inverse = string.char(bit.band(bit.bnot(#text), 255), bit.band(bit.rshift(bit.bnot(#text), 8), 255))
  return HEAD .. chunk('IDAT', '\120\1\1' .. size .. inverse .. text .. adler(text)) .. TAIL
end

local function header(name, size)
  local block = name .. ('\0'):rep(100 - #name) .. '0000644\0000000000\0000000000\0' .. ('%011o\0'):format(size) ..
    '00000000000\0' .. '        ' .. '0' .. ('\0'):rep(100) .. 'ustar\00000' .. ('\0'):rep(247)
  local sum = 0
  for i = 1, 512 do sum = sum + block:byte(i) end
  return block:sub(1, 148) .. ('%06o\0 '):format(sum) .. block:sub(157)
end

local out = assert(io.open(path, 'wb'))
out:setvbuf('full', 2 ^ 20)
local classes = math.min(1000, math.max(1, math.floor(count / 2)))
for i = 0, count - 1 do
  local data = picture(i)
  out:write(header(('class-%03d/%07d.png'):format(math.floor(i * classes / count), i), #data), data,
    ('\0'):rep(-#data % 512))
end
out:write(('\0'):rep(1024))
assert(out:close())
