-- The documents: every Lua block runs, and every file of the tree that they name exists.
--
-- The ```lua blocks of one file, in order, are one program. It keeps the file's line numbers and runs in a fresh ldlua,
-- in a folder that holds nothing but data/, so that what it writes goes away with the test.
local ld = require 'ld'
local t = dofile 'tests/lua/harness.lua'

local tmp = assert(os.getenv('TEST_TMP'), 'TEST_TMP must name an empty folder')
local ldlua = assert(os.getenv('LDLUA'), 'LDLUA must name the ldlua under test')
local WEIGHTS = 'data/vae-small.h5'

local function read(path)
  local f = assert(io.open(path))
  local text = f:read('*a')
  f:close()
  return text
end

local function lines_of(command)
  local p, list = assert(io.popen(command)), {}
  for line in p:lines() do list[#list + 1] = line end
  p:close()
  return list
end

local function quoted(s) return "'" .. s:gsub("'", "'\\''") .. "'" end

-- The Lua blocks of a document; other lines become empty. Also the number of blocks.
local function program(text)
  local out, inside, blocks = {}, nil, 0
  for line in text:gmatch('([^\n]*)\n') do
    local fence = line:match('^```(.*)$')
    if fence and not inside then
      inside, blocks = fence, blocks + (fence == 'lua' and 1 or 0)
    elseif fence then
      inside = nil
    end
    out[#out + 1] = not fence and inside == 'lua' and line or ''
  end
  return table.concat(out, '\n') .. '\n', blocks
end

-- Run a document's program; whether it ended well, and the end of what it printed.
local function run(name, code)
  local folder = tmp .. '/' .. name
  ld.make_dirs(folder)
  ld.write_file(folder .. '/' .. name, code)
  local here = lines_of('pwd')[1]
  local status = os.execute(('cd %s && ln -sfn %s data && %s %s >log 2>&1'):format(quoted(folder),
    quoted(here .. '/data'), quoted(ldlua), quoted(name)))
  return status == 0 or status == true, read(folder .. '/log'):sub(-1500)
end

local documents = lines_of('ls README.md data/README.md docs/*.md')

t.test('the documents are there', function()
  local found, blocks = {}, 0
  for _, path in ipairs(documents) do
    found[path] = true
    blocks = blocks + select(2, program(read(path)))
  end
  for _, path in ipairs{'README.md', 'data/README.md', 'docs/data.md', 'docs/tutorial.md', 'docs/recipes.md',
                      'docs/adding_a_layer.md'} do
    t.ok(found[path], path)
  end
  t.ok(blocks >= 15, 'Lua blocks in all: ' .. blocks)
end)

for _, path in ipairs(documents) do
  local code, blocks = program(read(path))
  local name = ('the %d Lua blocks of %s run'):format(blocks, path)
  if blocks > 0 and code:find(WEIGHTS, 1, true) and not ld.file_kind(WEIGHTS) then
    t.skip(name, 'no ' .. WEIGHTS)
  elseif blocks > 0 then
    t.test(name, function()
      local ok, log = run(path:match('[^/]+$'), code)
      t.ok(ok, log)
    end)
  end
end

t.test('the recipe of docs/recipes.md takes no more lines than the page says', function()
  local text = read 'docs/recipes.md'
  local most = tonumber(text:match('table of pictures to generated ones, in (%d+) lines: sections 1 to 6'))
  local code, blocks = program((text:match('^(.-)\n## 7')))
  local _, lines = code:gsub('[^\n]*%S[^\n]*', '')
  t.ok(blocks >= 6, 'blocks: ' .. blocks)
  t.ok(lines <= most, ('%d lines'):format(lines))
end)

t.test('a block that fails is noticed', function()
  local text = 'Text.\n```lua\nlocal a = 1\n```\nmore\n```c\nint x;\n```\n```lua\nerror("block " .. a + 1)\n```\n'
  local code, blocks = program(text)
  t.eq(blocks, 2)
  t.eq(code, '\n\nlocal a = 1\n\n\n\n\n\n\nerror("block " .. a + 1)\n\n')
  local ok, log = run('failing.md', code)
  t.ok(not ok, 'it failed')
  t.ok(log:find('failing.md:10: block 2', 1, true), log)
end)

-- Paths of the tree are written `csrc/...`, `lua/...` and so on; patterns and file names alone are left aside.
t.test('the files they name exist', function()
  local checked = 0
  for _, path in ipairs(documents) do
    for word in read(path):gmatch('`([%w_%-%./]+)`') do
      local top = word:match('^(%w+)/')
      if top == 'csrc' or top == 'lua' or top == 'recipes' or top == 'tests' or top == 'docs' then
        t.ok(ld.file_kind(word), ('%s names %s'):format(path, word))
        checked = checked + 1
      end
    end
  end
  t.ok(checked > 50, 'names checked: ' .. checked)
end)

t.finish()
