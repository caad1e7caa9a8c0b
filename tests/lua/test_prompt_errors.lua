-- docs/errors.md: its wrong calls, typed at one prompt, are answered as it says, and the prompt lives on.
local ld = require 'ld'
local t = dofile 'tests/lua/harness.lua'
local errors = dofile 'tests/tools/errors.lua'
local ldlua = assert(os.getenv('LDLUA'), 'LDLUA must name the ldlua under test')

if t.device ~= 'cpu' then
  t.skip('wrong calls at the prompt', 'the answers in docs/errors.md are those of the CPU')
  t.finish()
end

local answers, alive = errors.run(ldlua, assert(os.getenv('TEST_TMP')))

t.test('the prompt lives to the end', function() t.ok(alive) end)

t.test('thirty wrong calls and more are answered', function()
  local wrong = 0
  for _, g in ipairs(answers) do
    for i = 2, #g do
      local line, answer, varies, refused = unpack(g[i], 1, 4)
      if refused then wrong = wrong + 1 end
      if varies then
        t.ok(refused, line .. ' is refused')
        t.ok(answer:find(varies, 1, true), line .. ': ' .. answer)
      end
      t.ok(#answer < 500, line .. ': a long answer')
    end
  end
  t.ok(wrong >= 30, wrong)
end)

t.test('docs/errors.md is up to date', function()
  t.eq(errors.markdown(answers), t.get 'docs/errors.md', 'run make docs')
  t.ok(#ld.version > 0)
end)

t.finish()
