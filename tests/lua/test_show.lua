-- ld.show: what is written to a terminal is decoded again here and compared with the picture.
local ld = require 'ld'
local t = dofile 'tests/lua/harness.lua'

local tmp = os.getenv 'TEST_TMP' or '/tmp/ldlua-test-show'
local ldlua = os.getenv 'LDLUA' or './ldlua'
os.execute('mkdir -p ' .. tmp)

if not ld.terminal_mode() then
  t.skip('shows in a terminal', 'libchafa cannot be loaded')
  t.finish()
end

-- ---- decoders: text -> rows of {r, g, b}, 0 .. 255 ------------------------------------------------------------------

-- Cells of ' ', full, upper and lower half blocks; two rows of pixels a line.
local function half_blocks(text)
  local rows, fg, bg, inverse = {}, nil, nil, false
  for line in text:gmatch('([^\n]*)\n') do
    local up, down, at = {}, {}, 1
    while at <= #line do
      local codes = line:match('^\27%[([%d;]*)m', at)
      if codes then
        at = at + #codes + 3
        local list = {}
        for n in (codes == '' and '0' or codes):gmatch('%d+') do list[#list + 1] = tonumber(n) end
        local i = 1
        while i <= #list do
          if (list[i] == 38 or list[i] == 48) and list[i + 1] == 2 then
            local color = {list[i + 2], list[i + 3], list[i + 4]}
            if list[i] == 38 then fg = color else bg = color end
            i = i + 5
          elseif list[i] == 0 then
            fg, bg, inverse, i = nil, nil, false, i + 1
          elseif list[i] == 7 then
            inverse, i = true, i + 1
          else
            error('unknown attribute ' .. list[i])
          end
        end
      else
        local char = line:match('^[%z\1-\127\192-\255][\128-\191]*', at)
        at = at + #char
        local front, back = inverse and bg or fg, inverse and fg or bg
        local top = {[' '] = back, ['█'] = front, ['▀'] = front, ['▄'] = back}
        local low = {[' '] = back, ['█'] = front, ['▀'] = back, ['▄'] = front}
        assert(top[char] and low[char], 'unknown character ' .. char)
        up[#up + 1], down[#down + 1] = top[char], low[char]
      end
    end
    if #up > 0 then rows[#rows + 1], rows[#rows + 2] = up, down end
  end
  return rows
end

local function sixel(text)
  local body = assert(text:match('\27P[%d;]*q(.-)\27\\'), 'no sixels')
  local colors, now, x, y, rows, at = {}, nil, 1, 0, {}, 1
  body = body:gsub('^"[%d;]*', '')
  while at <= #body do
    local char = body:sub(at, at)
    if char == '#' then
      local n, more = body:match('^#(%d+)([%d;]*)', at)
      at, now = at + 1 + #n + #more, tonumber(n)
      local r, g, b = more:match('^;2;(%d+);(%d+);(%d+)')
      if r then colors[now] = {r * 2.55, g * 2.55, b * 2.55} end
    elseif char == '$' then
      x, at = 1, at + 1
    elseif char == '-' then
      x, y, at = 1, y + 6, at + 1
    else
      local count, bits = body:match('^!(%d+)(.)', at)
      at = at + (count and #count + 2 or 1)
      local set = (bits or char):byte() - 63
      assert(set >= 0 and set < 64, 'unknown sixel ' .. char)
      for _ = 1, tonumber(count or 1) do
        for k = 0, 5 do
          if math.floor(set / 2 ^ k) % 2 == 1 then
            rows[y + k + 1] = rows[y + k + 1] or {}
            rows[y + k + 1][x] = colors[now]
          end
        end
        x = x + 1
      end
    end
  end
  return rows
end

local function base64(text)
  local digits, out = {}, {}
  for i = 1, 64 do
    digits[('ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/'):sub(i, i)] = i - 1
  end
  for a, b, c, d in text:gmatch('(.)(.)(.)(.)') do
    local n = ((digits[a] * 64 + digits[b]) * 64 + (digits[c] or 0)) * 64 + (digits[d] or 0)
    local bytes = string.char(math.floor(n / 65536), math.floor(n / 256) % 256, n % 256)
    out[#out + 1] = bytes:sub(1, c == '=' and 1 or d == '=' and 2 or 3)
  end
  return table.concat(out)
end

-- Rows as a picture (3,H,W) u8, also to a file that can be looked at.
local function as_picture(rows, name)
  local planes = {{}, {}, {}}
  for i, row in ipairs(rows) do
    for c = 1, 3 do
      planes[c][i] = {}
      for j, color in ipairs(row) do planes[c][i][j] = math.floor(color[c] + 0.5) end
    end
  end
  local x = ld.tensor(planes, {dtype = 'u8', device = 'cpu'})
  ld.save_image(x, ('%s/%s.png'):format(tmp, name))
  return x
end

-- What `code` writes, in a process of its own with a terminal of all colours.
local function output(code, env)
  local path = t.put(tmp .. '/code.lua', "local ld = require 'ld'\n" .. code)
  local f = io.popen(('%s %q %q 2>&1'):format(env or 'TERM=xterm-256color COLORTERM=truecolor', ldlua, path))
  local text = f:read('*a')
  f:close()
  return text
end

-- Orange above blue, 24 wide and 16 high.
local two = [[
local x = ld.zeros(3, 16, 24)
x[{{1}, {1, 8}}] = 1
x[{{2}, {1, 8}}] = 0.5
x[{{3}, {9, 16}}] = 1
]]
local ORANGE, BLUE = {255, 128, 0}, {0, 0, 255}

-- Rows of pixels of that size, the upper `middle` orange, the others blue.
local function is_two(rows, width, height, middle, tolerance)
  t.eq({#rows, #rows[1]}, {height, width})
  for i, row in ipairs(rows) do
    for j = 1, width do t.near(row[j], i <= middle and ORANGE or BLUE, tolerance, ('row %d, %d'):format(i, j)) end
  end
end

t.test('half blocks are the picture', function()
  local text = output(two .. "ld.show(x, {mode = 'half'})")
  t.ok(text:find('\27[38;2;', 1, true) or text:find('\27[48;2;', 1, true), 'true colours')
  is_two(half_blocks(text), 24, 16, 8, 1)
end)

t.test('half blocks keep single pixels', function()
  local rows = half_blocks(output([[
local x = ld.zeros({3, 8, 8}, {dtype = 'u8'})
for i = 1, 8 do x[{{1}, {i}, {i}}] = 200 end
ld.show(x, {mode = 'half'})]]))
  t.eq({#rows, #rows[1]}, {8, 8})
  for i = 1, 8 do
    for j = 1, 8 do t.near(rows[i][j], {i == j and 200 or 0, 0, 0}, 1, ('row %d, %d'):format(i, j)) end
  end
end)

t.test('sixels are the picture', function()
  local text = output(two .. "ld.show(x, {mode = 'sixel', columns = 12})")
  t.ok(text:find('\27P', 1, true) and text:find('\27\\', 1, true), 'begin and end')
  -- 12 x 4 cells of 10 x 20, squeezed to whole bands of six rows; colours are told in percent
  is_two(sixel(text), 120, 78, 39, 4)
end)

t.test('pictures of any width stand upright', function()
  for _, width in ipairs{29, 30, 31} do -- rows of 87, 90 and 93 bytes
    local code = ([[
local x = ld.zeros(3, 16, %d)
x[{{1}, {}, {1, 12}}] = 1
x[{{3}, {}, {13, %d}}] = 1
ld.show(x, ]]):format(width, width)
    for i, row in ipairs(half_blocks(output(code .. "{mode = 'half'})"))) do
      for j = 1, width do t.near(row[j], j <= 12 and {255, 0, 0} or BLUE, 4, ('half, row %d, %d'):format(i, j)) end
    end
    for i, row in ipairs(sixel(output(code .. ("{mode = 'sixel', columns = %d})"):format(width)))) do
      for _, j in ipairs{1, 100, 115, 126, width * 10} do
        t.near(row[j], j <= 120 and {255, 0, 0} or BLUE, 4, ('sixel, row %d, %d of %d'):format(i, j, width))
      end
    end
  end
end)

t.test('kitty and iTerm2 get their sequences', function()
  local text = output(two .. "ld.show(x, {mode = 'kitty', columns = 6})")
  local w, h = text:match('\27_Ga=T,f=32,s=(%d+),v=(%d+),c=6,r=2')
  t.eq({w, h}, {'60', '40'})
  local bytes = {}
  for chunk in text:gmatch('\27_Gm=%d;([^\27]*)\27\\') do bytes[#bytes + 1] = base64(chunk) end
  local first, last = table.concat(bytes):sub(1, 3), table.concat(bytes):sub(60 * 39 * 4 + 1, 60 * 39 * 4 + 3)
  t.near({first:byte(1, 3)}, ORANGE, 1)
  t.near({last:byte(1, 3)}, BLUE, 1)
  text = output(two .. "ld.show(x, {mode = 'iterm', columns = 6})")
  t.ok(text:find('\27]1337;File=inline=1;width=6;height=2', 1, true))
end)

t.test('the environment chooses', function()
  local ask = 'print(ld.terminal_mode())'
  t.eq(output(ask, 'TERM=xterm-kitty'), 'kitty\n')
  t.eq(output(ask, 'TERM=xterm-256color TERM_PROGRAM=iTerm.app LC_TERMINAL=iTerm2'), 'iterm\n')
  t.eq(output(ask, 'TERM=mlterm'), 'sixel\n')
  t.eq(output(ask, 'TERM=xterm-256color'), 'half\n')
end)

t.test('photographs come back about as they were', function()
  local code = "local x = ld.faces(4, {size = 48, seed = 3})\nld.save_image(ld.grid(x), '" .. tmp .. "/faces.png')\n"
  for mode, decode in pairs{half = half_blocks, sixel = sixel} do
    local got = as_picture(decode(output(code .. ("ld.show(x, {mode = '%s', columns = 98})"):format(mode))), mode)
    local want = ld.load_image(tmp .. '/faces.png')
    if mode == 'half' then
      t.eq(got.shape, want.shape)
      local off = ld.mean(ld.abs(got:to('f32') - want:to('f32'))):item()
      t.ok(off < 2, ('mean difference %g of 255'):format(off))
    else
      t.eq(got.shape, {3, 978, 980})
      -- nearest neighbours of the centres of pixels; 256 colours
      local sum = 0
      local a, b = got:tolist(), want:tolist()
      for c = 1, 3 do
        for i = 1, 97 do
          for j = 1, 98 do sum = sum + math.abs(a[c][i * 10 - 4][j * 10 - 4] - b[c][i][j]) end
        end
      end
      t.ok(sum / (3 * 97 * 98) < 8, ('mean difference %g of 255'):format(sum / (3 * 97 * 98)))
    end
  end
end)

t.test('latents: previews, or decoded', function()
  local rows = half_blocks(output([[
local z = ld.zeros(1, 4, 8, 8)
z[{{}, {1}, {}, {1, 4}}] = 5
ld.show(z, {mode = 'half'})]]))
  t.near(rows[1][1], {0.7 * 255, 127.5, 127.5}, 2) -- a standard deviation above the mean: 0.5 + 1 / 5
  t.near(rows[1][8], {0.3 * 255, 127.5, 127.5}, 2)
  local path = ld.show(ld.zeros(2, 4, 8, 8), {vae = {decode_images = function(_, z)
    return ld.full({z.shape[1], 3, 16, 16}, 0.25)
  end}, path = tmp .. '/decoded.png'})
  local x = ld.load_image(path)
  t.eq(x.shape, {3, 16, 34})
  t.eq(x[{{}, {1}, {1}}]:reshape(3):tolist(), {64, 64, 64})
end)

t.test('curves of lists and logs', function()
  local log = t.put(tmp .. '/log.jsonl', '{"event":"started","images":0}\n{"images":100,"loss":4,"lr":0.1}\n'
    .. '{"images":200,"loss":1,"lr":0.2}\n{"images":300,"loss":')
  local text = output(("ld.show(%q, {mode = 'half', columns = 40})"):format(log))
  t.ok(text:find('loss 1 .. 4 over images 100 .. 200, last 1\n', 1, true), text:sub(1, 80))
  local rows = half_blocks(text:gsub('^[^\n]*\n', ''))
  t.eq({#rows, #rows[1]}, {16, 40})
  t.ok(rows[1][1][3] > 200 and rows[16][40][3] > 200, 'from the upper left to the lower right')
  t.ok(rows[1][40][3] < 100 and rows[16][1][3] < 100, 'and nowhere else')
  local steep = half_blocks(output("ld.show({0, 9, 0}, {mode = 'half', columns = 9})"):gsub('^[^\n]*\n', ''))
  for i, row in ipairs(steep) do
    local lit = 0
    for _, color in ipairs(row) do lit = lit + (color[3] > 200 and 1 or 0) end
    t.ok(lit > 0, 'a steep line has no gap at row ' .. i)
  end
  text = output(("ld.show(%q, {mode = 'half', key = 'lr'})"):format(tmp))
  t.ok(text:find('lr 0.1 .. 0.2', 1, true), "a run's folder")
  t.raises(function() ld.show(log, {key = 'los'}) end, "has no 'los'; it has: images loss lr")
  local svg = t.get(ld.show({3, 0 / 0, 1}, {path = tmp .. '/curve.svg'}))
  t.ok(svg:find('class="line c1" d="M[%d.]+ [%d.]+L[%d.]+ [%d.]+"'), 'two points: one that is not finite is left out')
  t.raises(function() ld.show{0 / 0} end, 'at least one finite number')
  t.raises(function() ld.show{1, 'a'} end, 'entry 2 of the list is a string')
end)

t.test('histograms', function()
  local x = ld.tensor({0, 0, 0, 1, 1 / 0})
  local svg = t.get(ld.show(x, {bins = 2, path = tmp .. '/histogram.svg'}))
  t.ok(svg:find('count 0 .. 3 over value 0 .. 1, 1 not finite', 1, true), svg)
  t.ok(output("ld.show(ld.randn(5, 40), {mode = 'half'})"):find('count 0 .. ', 1, true))
  t.eq(ld.load_image(ld.show(ld.zeros(3, 4, 4), {as = 'histogram', path = tmp .. '/h.png'})).shape, {3, 320, 640})
end)

t.test('without a terminal it says where', function()
  os.execute('mkdir -p ' .. tmp .. '/empty')
  local f = io.popen(('cd %q && %q -e %q'):format(tmp .. '/empty', ldlua, 'ld.show(ld.zeros(3, 4, 4)) ld.show{1, 2}'))
  t.eq(f:read('*a'), 'runs/show/0001.png (standard output is no terminal)\n'
    .. 'runs/show/0001.svg (standard output is no terminal)\n')
  f:close()
  t.eq(ld.load_image(tmp .. '/empty/runs/show/0001.png').shape, {3, 4, 4})
end)

t.test('without libchafa it says why', function()
  os.execute('mkdir -p ' .. tmp .. '/broken ' .. tmp .. '/else')
  t.put(tmp .. '/broken/libchafa.so.0', 'no library')
  local f = io.popen(('cd %q && LD_LIBRARY_PATH=%q %q -e %q'):format(tmp .. '/else', tmp .. '/broken', ldlua,
    "ld.show(ld.zeros(3, 4, 4), {mode = 'half'})"))
  local text = f:read('*a')
  f:close()
  t.ok(text:find('runs/show/0001.png (show: cannot load the library: ', 1, true), text)
end)

t.test('a wrong call says what to do', function()
  t.raises(function() ld.show(ld.zeros(3, 4, 4), {mod = 'half'}) end, "unknown option 'mod'")
  t.raises(function() ld.show(ld.zeros(3, 4, 4), {mode = 'ascii'}) end, "unknown mode 'ascii'; known: half sixel")
  t.raises(function() ld.show(ld.zeros(3, 4, 4), {columns = 0}) end, 'a whole number from 1 to 1000 is needed')
  t.raises(function() ld.show(12) end, 'a number; a tensor, a list of numbers')
  t.raises(function() ld.show(tmp .. '/absent.png') end, 'there is no')
  t.raises(function() ld.show(ld.zeros(0, 3, 4, 4)) end, 'has nothing to show')
  t.raises(function() ld.show(ld.zeros(4), {as = 'picture'}) end, 'is no picture')
end)

t.finish()
