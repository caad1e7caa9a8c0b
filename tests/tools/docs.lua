-- `make docs`: writes docs/api/*.md from the entries of lua/ld/help. tests/lua/test_help.lua compares.
local ld = require 'ld'
local list = {'# The interface', '', 'Every public name, by subject. At the prompt, `? name` shows an entry and ' ..
  '`??word` searches.', ''}
ld.make_dirs 'docs/api'
for _, part in ipairs(ld.help.all()) do
  ld.write_file('docs/api/' .. part.name .. '.md', ld.help.markdown(part))
  local names = {}
  for _, e in ipairs(part.entries) do names[#names + 1] = e.signatures[1].name end
  list[#list + 1] = ('- [%s](%s.md): %s'):format(part.title, part.name, table.concat(names, ', '))
end
ld.write_file('docs/api/README.md', table.concat(list, '\n') .. '\n')

-- docs/errors.md: what the prompt answers to wrong calls.
local errors = dofile 'tests/tools/errors.lua'
local folder = os.tmpname()
os.remove(folder)
ld.make_dirs(folder)
ld.write_file('docs/errors.md', errors.markdown((errors.run('./ldlua', folder))))
os.remove(folder .. '/typed')

-- docs/tutorial.md: answers that no longer hold.
local tutorial = dofile 'tests/tools/tutorial.lua'
local here = io.popen('pwd'):read('*l')
local f = assert(io.open 'docs/tutorial.md')
local page = f:read('*a')
f:close()
os.execute(("ln -sfn '%s/data' '%s/data'"):format(here, folder))
local typed = tutorial.parse(page)
ld.write_file('docs/tutorial.md', tutorial.renewed(page, typed, tutorial.answers(here .. '/ldlua', folder, typed)))
os.execute(("rm -r '%s'"):format(folder))
