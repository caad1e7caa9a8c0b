-- Look at runs: one alone, or several side by side. Reads what is in their folders; runs may go on meanwhile.
--   ldlua recipes/report.lua runs/celeba                      writes runs/celeba/report.html
--   ldlua recipes/report.lua runs/a runs/b --out ab.html      a table here, and one page with all curves and pictures
local ld = require 'ld'

-- Folders stand without names, as many as there are; options after them.
local words, folders = rawget(_G, 'arg') or {}, {}
while words[1] and not words[1]:match('^%-') do folders[#folders + 1] = table.remove(words, 1) end
local opt = ld.options{
  out = '',         -- of the page; '' is report.html, in the run's folder where there is one run
  quiet = false,    -- no table
}

if #folders == 0 then ld.fail('name the folders of one or more runs, such as runs/celeba') end
if not opt.quiet then print(ld.report.table(folders)) end
if #folders == 1 then
  print(ld.report.write(folders[1], opt.out ~= '' and opt.out or nil))
else
  print(ld.report.compare(folders, opt.out ~= '' and opt.out or 'report.html'))
end
