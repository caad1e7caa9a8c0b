-- What --help prints of options: every one of every recipe explained; a script's own comments and order.
local ld = require 'ld'
local help = require 'ld.option_help'
local t = dofile 'tests/lua/harness.lua'
local program = os.getenv 'LDLUA' or './ldlua'
local tmp = os.getenv 'TEST_TMP' or '/tmp/ldlua-test-option-help'
ld.make_dirs(tmp)

local function said(script)
  local p = io.popen(('%s %s --help 2>&1'):format(program, script))
  local text = p:read '*a'
  p:close()
  return text
end

local list = io.popen('ls recipes/*.lua')
for path in list:lines() do
  t.test(path .. ': each option has words, in the order of the script', function()
    local order = help.read(path)
    t.ok(#order > 0, 'no option was found')
    local text, at = said(path), 0
    for _, name in ipairs(order) do
      local flag = '  --' .. name:gsub('_', '-') .. ' '
      local from, to = text:find(flag, at, true)
      t.ok(from, flag .. 'is missing, or out of order')
      -- the option's own line, or the next where the value is long
      local words, next_line = text:sub(from):match('^([^\n]*)\n?([^\n]*)')
      t.ok(#words > 44 or next_line:match('^' .. (' '):rep(44) .. '%S'), flag .. 'has no words')
      for line in (words .. '\n' .. next_line):gmatch '[^\n]+' do t.ok(#line <= 120, 'a line is too long: ' .. line) end
      at = to
    end
  end)
end
list:close()

t.test('a comment is its option\'s where that has the line alone; braces and quotes are no end of it', function()
  local path = t.put(tmp .. '/mine.lua', [[
-- A recipe.
local ld = require 'ld'
local opt = ld.options{'path',
  path = 'a -- b}',        -- where {it} lies
  zebra = {1, 2}, seed = 3,  -- of two
  epochs = 5,
  own = 'x',               -- a rather long explanation that goes on and on, until it fits no line that it began on
} local other = {later = 1}
print(opt.path)
]])
  local order, words = help.read(path)
  t.eq(table.concat(order, ' '), 'path zebra seed epochs own')
  t.eq(words.path, 'where {it} lies')
  t.eq(words.zebra, nil)
  local text = said(path)
  t.ok(text:find('  %-%-path +a %-%- b} +where {it} lies\n'), text)
  t.ok(text:find('  %-%-zebra +{1,2}\n'), text)
  t.ok(text:find('  %-%-epochs +5 +times through the data\n'), text)
  t.ok(text:find('a rather long explanation [^\n]*\n' .. (' '):rep(44) .. '[^\n]*began on\n'), text)
  t.ok(text:find('^A recipe%.\n'), text)
end)

t.test('a script that cannot be read has its options in order of names', function()
  local order, words = help.read(tmp .. '/none.lua')
  t.eq(#order, 0)
  t.eq(next(words), nil)
end)

t.finish()
