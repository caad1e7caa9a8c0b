-- Help: every public name has an entry, every entry names something that is there, its options are those the code
-- takes, and its example runs and calls what it is an example of.
local ld = require 'ld'
local t = dofile 'tests/lua/harness.lua'
local ffi = require 'ffi'
local names, unnamed = require 'ld.help.names'()
local help = ld.help

ffi.cdef 'int chdir(const char *path); int symlink(const char *to, const char *path);'
local tmp = assert(os.getenv('TEST_TMP'), 'TEST_TMP must name an empty folder')
local here = io.popen('pwd'):read('*l')

-- What there is of an entry's signature: the record of the walk, nil for fields.
local function target(name)
  return names[name] or (name:match('^x:') and names['ld.' .. name:sub(3)]) or nil
end

t.test('every public name has an entry', function()
  local missing = {}
  for name in pairs(names) do
    if not help.entry(name) and not help.internal[name] then missing[#missing + 1] = name end
  end
  table.sort(missing)
  if #missing > 0 then
    error(('%s: no entry. Write one in lua/ld/help/<subject>.lua, as lua/ld/help/init.lua says, then `make docs`; ' ..
      'a name that is no part of the interface goes into that file\'s `internal`'):format(
      table.concat(missing, ', ')), 0)
  end
  t.eq(#unnamed, 0, 'a class does not say what entries call it: set its __name')
  local n = 0
  for _ in pairs(names) do n = n + 1 end
  t.ok(n > 400, 'the walk finds what is there: ' .. n)
end)

t.test('every entry names something that is there', function()
  local x = ld.ones(1)
  for _, part in ipairs(help.all()) do
    for _, e in ipairs(part.entries) do
      t.ok(#e.signatures > 0, part.name .. ': an entry without a signature: ' .. e.summary)
      for _, s in ipairs(e.signatures) do
        local field = not s.callable and s.name:match('^x%.(.*)$')
        if field then t.ok(pcall(function() return x[field] end), s.name)
        else t.ok(target(s.name), part.name .. ': ' .. s.name .. ' does not exist') end
      end
    end
  end
  for name in pairs(help.internal) do
    t.ok(names[name] or name == 'x.released' or ld[name:match('^ld%.(.*)$') or ''] ~= nil, 'internal: ' .. name)
  end
end)

t.test('no name has two entries', function()
  local seen = {}
  for _, part in ipairs(help.all()) do
    for _, e in ipairs(part.entries) do
      for _, s in ipairs(e.signatures) do
        t.ok(not seen[s.name], s.name .. ' in ' .. part.name .. ' and ' .. tostring(seen[s.name]))
        seen[s.name] = part.name
      end
    end
  end
end)

t.test('every entry is whole', function()
  for _, part in ipairs(help.all()) do
    for _, e in ipairs(part.entries) do
      local name, lines = e.signatures[1].name, {}
      for _, item in ipairs(e.lines) do lines[item[1]] = true end
      t.ok(#e.summary > 5, name .. ': no summary')
      t.ok(e.example, name .. ': no example')
      for _, s in ipairs(e.signatures) do
        t.ok(e.returns or not s.callable, s.name .. ': what it returns is not said')
        for _, a in ipairs(s.arguments) do t.ok(lines[a], s.name .. ': nothing is said of ' .. a) end
        for _, o in ipairs(s.options or {}) do t.ok(lines[o[1]], s.name .. ': nothing is said of option ' .. o[1]) end
      end
      for see in (e.see and e.see[2] or ''):gmatch('%S+') do
        t.ok(help.entry(see), name .. ': see ' .. see .. ' has no entry')
      end
    end
  end
end)

-- What the code says it takes, from its refusal of an option that is none. `arguments` are those of the example's call;
-- the options stand where the example has them, else behind the arguments, else where the signature has them.
local function known_options(f, arguments, offset, s)
  local message
  local places = {#arguments, #arguments + 1, offset + #s.arguments + 1}
  if type(arguments[#arguments]) ~= 'table' or arguments[#arguments][1] then table.remove(places, 1) end
  for _, at in ipairs(places) do
    local copy = {}
    for i = 1, at do copy[i] = arguments[i] end
    copy[at] = {no_such_option = 1}
    local ok, text = pcall(f, unpack(copy, 1, at))
    local list = not ok and tostring(text):match("unknown option 'no_such_option'; known: ([^;\n]*)$")
    if list then
      local set = {}
      for word in list:gmatch('%S+') do set[word] = word ~= 'none' or nil end
      return set
    end
    message = tostring(text)
  end
  return nil, message
end

-- Every place from which the entry's signature may be called.
local function places(name)
  local list = {}
  local function all(at)
    while at do
      list[#list + 1] = at
      at = at.also
    end
  end
  all(names[name])
  if name:match('^x:') then all(names['ld.' .. name:sub(3)]) end
  if name:match('^ld%.[%w_]+$') then all(names['x:' .. name:sub(4)]) end
  return list
end

-- Runs f while every place of the entry's signatures notes calls; the first call of each signature goes to `note`.
local function watch(e, note, f)
  local put_back, called = {}, {}
  for _, s in ipairs(e.signatures) do
    called[s.name] = not s.callable
    for _, at in ipairs(s.callable and places(s.name) or {}) do
      local real, offset = rawget(at.owner, at.key), (s.name:find(':', 1, true) or at.called) and 1 or 0
      rawset(at.owner, at.key, function(...)
        if not called[s.name] then
          called[s.name] = true
          note(s, real, {...}, offset)
        end
        return real(...)
      end)
      put_back[#put_back + 1] = {at, real}
    end
  end
  local ok, message = pcall(f)
  for _, b in ipairs(put_back) do rawset(b[1].owner, b[1].key, b[2]) end
  return ok, message, called
end

-- These read fields and refuse no others, or any name is good.
local lenient = {['ld.grid'] = true, ['run:image'] = true, ['run:every'] = true, ['ld.ema.of'] = true,
                 ['perceptual:term'] = true, ['run:find_lr'] = true}

local function check_options(s, real, arguments, offset)
  if not s.options or #s.options == 0 or lenient[s.name] then return end
  local known, message = known_options(real, arguments, offset, s)
  if not known then error(s.name .. ': the code does not say which options it knows: ' .. message, 0) end
  for _, o in ipairs(s.options) do
    if not known[o[1]] then error(("%s: the code knows no option '%s'"):format(s.name, o[1]), 0) end
    known[o[1]] = nil
  end
  if next(known) then error(("%s: the entry lacks the option '%s'"):format(s.name, next(known)), 0) end
end

local function run_example(e)
  local name = e.signatures[1].name
  local code, why = loadstring(e.example[2], '=example of ' .. name)
  if not code then error(name .. ': ' .. why, 0) end
  local env = setmetatable({ld = ld, nn = ld.nn, print = function(...)
    for i = 1, select('#', ...) do tostring((select(i, ...))) end
  end}, {__index = _G})
  setfenv(code, env)
  local wrong
  local ok, message, calls = watch(e, function(...)
    local good, text = pcall(check_options, ...)
    if not good then wrong = wrong or text end
  end, code)
  if not ok then error(name .. ': the example fails: ' .. tostring(message), 0) end
  if wrong then error(wrong, 0) end
  for called_name, yes in pairs(calls) do
    if not yes then error(called_name .. ': the example does not call it', 0) end
  end
end

ffi.C.symlink(here .. '/data', tmp .. '/data')
assert(ffi.C.chdir(tmp) == 0)
local printed = print
for _, part in ipairs(help.all()) do
  t.test('examples of ' .. part.name, function()
    local bad = {}
    rawset(_G, 'print', function() end)
    for _, e in ipairs(part.entries) do
      local seed, draws = ld.seed()
      if e.example[2]:find('runs/example', 1, true) then os.execute('rm -rf runs/example') end
      local ok, message = pcall(run_example, e)
      ld.seed(seed, draws)
      if not ok then bad[#bad + 1] = message end
    end
    rawset(_G, 'print', printed)
    if #bad > 0 then error(table.concat(bad, '\n     '), 0) end
  end)
end
assert(ffi.C.chdir(here) == 0)

t.test('help is as wide as the terminal', function()
  local fit = require 'ld.help.fit'
  t.eq(fit('  name   one two three four five', 24), '  name   one two three\n         four five')
  t.eq(fit('  example\n    ' .. ('x '):rep(30), 20), '  example\n    ' .. ('x '):rep(30), 'examples stay')
  t.eq(fit('a long line', nil), 'a long line')
  for _, width in ipairs{20, 40, 80} do
    local example = false
    for line in (fit(help.show('ld.run'), width) .. '\n'):gmatch('([^\n]*)\n') do
      example = example or line:match('^  example') ~= nil
      t.ok(example or #line < width or not line:match('^%s*%S+%s+%S'), line)
    end
  end
end)

t.test('help finds what is meant', function()
  t.ok(help.show('ld.conv2d'):find('(N,C,H,W)', 1, true))
  t.eq(help.show('conv2d'), help.show('ld.conv2d'))
  t.eq(help.show(ld.conv2d), help.show('ld.conv2d'))
  t.ok(help.show(ld.ones(1)):find('x.shape', 1, true))
  t.ok(help.show(ld.nn.relu()):find('net:parameters', 1, true))
  t.ok(help.show(ld.ema.of(ld.nn.linear{in_features = 1, out_features = 1})):find('ema:use', 1, true))
  t.ok(help.show('ld.con2vd'):find('did you mean ld.conv2d', 1, true), help.show('ld.con2vd'))
  t.ok(help.show('sampler'):find('ld.sampler.ddim', 1, true))
  t.ok(help.found('transposed'):find('ld.conv_transpose2d', 1, true))
  t.ok(help.show('nn'):find('nn.conv2d.*nn.linear'), 'a class or library is a list')
  t.eq(help.show('ld'), help.show())
  t.ok(help.show('.profile'):find('.profile statement', 1, true))
  t.ok(help.show('conv'):find('did you mean ld.conv2d', 1, true), help.show('conv'))
  t.ok(help.show('1+1'):find("'1+1' is no name", 1, true))
  t.ok(help.found('perceptual loss'):find('ld.perceptual', 1, true))
  t.ok(help.found('perceptual zxqv'):find('nothing has the word', 1, true))
  t.ok(help.found('zxqv'):find('nothing has the word', 1, true))
  t.eq(help.options('ld.avg_pool2d'), {'stride', 'ceil'})
  t.raises(function() ld.help(nil) end)
end)

t.test('docs/api is up to date', function()
  for _, part in ipairs(help.all()) do
    t.ok(t.get('docs/api/' .. part.name .. '.md') == help.markdown(part), 'docs/api/' .. part.name ..
      '.md differs from the entries: run make docs')
  end
end)

t.finish()
