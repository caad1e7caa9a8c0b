-- The Lua tests' harness.
--
--   local t = dofile 'tests/lua/harness.lua'
--   t.test('adds', function() t.eq(1 + 1, 2) end)
--   t.skip('adds on a GPU', 'no GPU here')
--   t.finish()                           -- the last line of the file: prints the counts and ends the program
--
-- t.get(path) gives a file's bytes, t.put(path, bytes) writes them. t.device is the default device; data that a test
-- gets on the CPU (files, pictures) it moves there.
-- A test ends at its first failed expectation or error. `ldlua tests/lua/test_x.lua WORD` runs only the tests whose
-- name contains WORD.
local t = {}

local passed, failed, skipped = 0, 0, 0
local here = debug.getinfo(1, 'S').short_src
local only = rawget(_G, 'arg') and arg[1]

-- Under another default device than the CPU (ldlua --device) messages name that one where a test's text has cpu.
local host = package.loaded['ld.host'] or {}
t.device = host.device or 'cpu'
local function as_on_cpu(text)
  return t.device == 'cpu' and text or (text:gsub(t.device:gsub('%p', '%%%0'), 'cpu'))
end

-- A value as one would write it, tables in full up to a few levels.
local function show(v, depth)
  depth = depth or 0
  if type(v) == 'string' then return string.format('%q', v) end
  if type(v) == 'number' then return string.format('%.17g', v) end
  if type(v) ~= 'table' then return tostring(v) end
  if depth > 3 then return '{...}' end
  local out = {}
  for i = 1, #v do out[#out + 1] = show(v[i], depth + 1) end
  for k, x in pairs(v) do
    if not (type(k) == 'number' and k >= 1 and k <= #v and k % 1 == 0) then
      out[#out + 1] = '[' .. show(k) .. '] = ' .. show(x, depth + 1)
    end
  end
  return '{' .. table.concat(out, ', ') .. '}'
end

local function shorten(text) return #text > 400 and text:sub(1, 400) .. ' ...' or text end

-- Where in the test file an expectation stood.
local function position()
  for level = 2, 20 do
    local info = debug.getinfo(level, 'Sl')
    if not info then break end
    if info.short_src ~= here and info.currentline > 0 then return info.short_src .. ':' .. info.currentline .. ': ' end
  end
  return ''
end

local function fail(fmt, ...) error({expectation = position() .. shorten(string.format(fmt, ...))}, 0) end

-- Tensors compare as nested tables of numbers.
local function plain(v)
  if type(v) == 'string' then return as_on_cpu(v) end
  if type(v) == 'userdata' then
    local ok, list = pcall(function() return v:tolist() end)
    if ok then return list end
  end
  return v
end

-- nil when a and b are the same under `same`, else where they differ and the two values.
local function differ(a, b, same, path)
  if type(a) ~= 'table' or type(b) ~= 'table' then
    if same(a, b) then return nil end
    return {path = path, a = a, b = b}
  end
  for k, v in pairs(a) do
    local d = differ(v, b[k], same, path .. '[' .. show(k) .. ']')
    if d then return d end
  end
  for k, v in pairs(b) do
    if a[k] == nil then return {path = path .. '[' .. show(k) .. ']', a = nil, b = v} end
  end
  return nil
end

local function equal(a, b) return a == b or (a ~= a and b ~= b) end

-- Equal, tables and tensors by content; a NaN equals a NaN. `what` is put before the message.
function t.eq(a, b, what)
  local d = differ(plain(a), plain(b), equal, '')
  if not d then return end
  local at = d.path == '' and '' or ' at ' .. d.path
  fail('%sexpected %s%s, got %s', what and what .. ': ' or '', show(d.b), at, show(d.a))
end

-- Numbers, or tables or tensors of numbers, at most `tol` apart (absolute). NaN is near nothing.
function t.near(a, b, tol, what)
  assert(type(tol) == 'number', 'near(a, b, tol): tol is a number')
  local function near(x, y)
    if type(x) ~= 'number' or type(y) ~= 'number' then return false end
    return x == y or math.abs(x - y) <= tol
  end
  local d = differ(plain(a), plain(b), near, '')
  if not d then return end
  local numbers = type(d.a) == 'number' and type(d.b) == 'number'
  local apart = numbers and string.format(', %.3g apart', math.abs(d.a - d.b)) or ''
  local at = d.path == '' and '' or ' at ' .. d.path
  fail('%sexpected %s within %g%s, got %s%s', what and what .. ': ' or '', show(d.b), tol, at, show(d.a), apart)
end

function t.ok(value, what)
  if not value then fail('%sexpected a true value, got %s', what and what .. ': ' or '', show(value)) end
end

-- fn(...) must raise an error whose message has `text` in it, as it stands or as a pattern. Returns the message.
function t.raises(fn, text, ...)
  local ok, err = pcall(fn, ...)
  if ok then fail('expected an error with %s, got none', show(text or '')) end
  local message = as_on_cpu(tostring(err))
  if text and not message:find(text, 1, true) then
    local valid, found = pcall(string.find, message, text)
    if not (valid and found) then fail('expected an error with %s, got %s', show(text), show(message)) end
  end
  return message
end

-- The bytes of a file.
function t.get(path)
  local f = assert(io.open(path, 'rb'))
  local bytes = f:read('*a')
  f:close()
  return bytes
end

-- Writes the bytes; returns the path.
function t.put(path, bytes)
  local f = assert(io.open(path, 'wb'))
  f:write(bytes)
  f:close()
  return path
end

local function report(kind, name, text) print(kind .. ' ' .. name .. ': ' .. text:gsub('\n', '\n     ')) end

-- A message for a failed expectation, a message with the stack for anything else.
local function explain(err)
  if type(err) == 'table' and err.expectation then return err.expectation end
  return debug.traceback(tostring(err), 2)
end

function t.test(name, fn)
  if only and not name:find(only, 1, true) then return end
  local ok, message = xpcall(fn, explain)
  if ok then
    passed = passed + 1
  else
    failed = failed + 1
    report('FAIL', name, message)
  end
end

function t.skip(name, why)
  if only and not name:find(only, 1, true) then return end
  assert(why, 'skip(name, why): say why')
  skipped = skipped + 1
  report('SKIP', name, why)
end

-- Prints the counts and ends the program; the state is closed first, so that finalisers run too.
function t.finish()
  io.stdout:flush()
  print(string.format('%d passed, %d failed, %d skipped', passed, failed, skipped))
  os.exit(failed == 0 and 0 or 1, true)
end

return t
