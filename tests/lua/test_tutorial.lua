-- docs/tutorial.md: typed at one prompt as it stands, it is answered as it says.
local ld = require 'ld'
local t = dofile 'tests/lua/harness.lua'
local tutorial = dofile 'tests/tools/tutorial.lua'
local ldlua = assert(os.getenv('LDLUA'), 'LDLUA must name the ldlua under test')
local tmp = assert(os.getenv('TEST_TMP'), 'TEST_TMP must name an empty folder')

t.test('a page is taken apart', function()
  local list = tutorial.parse('Text\n```console\n> x = 1\n> for i = 1, 2 do\n>> print(i)\n>> end\n1\n2\n```\n> no\n')
  t.eq(#list, 2)
  t.eq(list[2].typed, 'for i = 1, 2 do\nprint(i)\nend')
  t.eq(list[2].answer, {'1', '2'})
  t.eq({list[1].first, list[1].last, list[2].first, list[2].last}, {4, 3, 7, 8})
  t.raises(function() tutorial.parse('```console\n1\n```\n') end, 'line 2')
end)

t.test('answers are compared', function()
  local same = tutorial.same
  t.ok(same({'a 1.50', '...', 'end'}, {'a   1.51', 'b', 'c', 'end'}))
  t.ok(same({'took ... s'}, {'took 12 s'}))
  t.ok(not same({'a 1.50'}, {'a 1.60'}))
  t.ok(not same({'3 x'}, {'4 x'}))
  t.ok(not same({'a'}, {'a', 'b'}))
  t.ok(not same({'a', 'b'}, {'a'}))
  t.ok(not same({'...', 'end'}, {'a', 'b'}))
end)

t.test('answers that do not hold are renewed, others stay', function()
  local page = '# P\n```console\n> 1 + 1\n3\n> x = 1\n> 5\n...\n```\nend\n'
  local list = tutorial.parse(page)
  t.eq(tutorial.renewed(page, list, {{'2'}, {}, {'5'}}), (page:gsub('\n3\n', '\n2\n')))
end)

if t.device ~= 'cpu' then
  t.skip('docs/tutorial.md', 'its answers are those of the CPU')
  t.finish()
end

t.test('docs/tutorial.md holds', function()
  os.execute(("ln -sfn '%s/data' '%s/data'"):format(io.popen('pwd'):read('*l'), tmp))
  local list = tutorial.parse(t.get 'docs/tutorial.md')
  local answers = tutorial.answers(ldlua, tmp, list)
  t.ok(#list > 40, 'statements: ' .. #list)
  for i, s in ipairs(list) do
    t.ok(tutorial.same(s.answer, answers[i]), ('docs/tutorial.md:%d: `%s` was answered\n%s\nwhere the page has\n%s')
      :format(s.first, s.typed, table.concat(answers[i], '\n'), table.concat(s.answer, '\n')))
  end
  for _, path in ipairs{'runs/first/report.html', 'runs/first/log.jsonl', 'runs/first/last.h5', 'faces.png'} do
    t.eq(ld.file_kind(tmp .. '/' .. path), 'file', path)
  end
end)

t.finish()
