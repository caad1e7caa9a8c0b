-- Which file may include which: the floors of the house.
--
-- A file includes its own folder or lower floors; folders on one floor do not see each other, except where `also` says
-- so. Headers of other people's libraries belong to certain folders. Recipes require 'ld' and nothing else.
-- Run from the repository's root: luajit tests/tools/floors.lua
package.path = 'tests/tools/?.lua;' .. package.path
local source = require 'source'
local report = source.report('floors')

local floor = {
  base = 0, comm = 0,
  backend = 1, kernels = 1,
  tensor = 2, io = 2,
  grad = 3,
  op = 4,
  layer = 5, optim = 5,
  diffusion = 6, data = 6,
  lua = 7, host = 7,
}
local also = {
  ['comm>base'] = true,                                -- ranks fail like everything else
  ['kernels>backend'] = true, ['backend>kernels'] = true,
  ['io>tensor'] = true,                                -- files hold tensors
  ['host>lua'] = true,
}

-- Start of a header's name, and the folders that may include it.
local foreign = {
  {'lua.h', 'lua host'}, {'lauxlib.h', 'lua host'}, {'lualib.h', 'lua host'}, {'luajit.h', 'lua host'},
  {'histedit.h', 'host'}, {'editline/', 'host'},
  {'dnnl', 'backend'}, {'oneapi/', 'backend'}, {'omp.h', 'backend'},
  {'cuda', 'backend kernels'}, {'cudnn', 'backend kernels'}, {'cublas', 'backend kernels'}, {'nv', 'backend kernels'},
  {'nccl', 'comm'}, {'mpi.h', 'comm'},
  {'hdf5', 'io'}, {'H5', 'io'}, {'png.h', 'io'}, {'jpeglib.h', 'io'}, {'jerror.h', 'io'}, {'webp/', 'io'},
  {'cJSON.h', 'io'}, {'cjson/', 'io'}, {'zlib.h', 'io'}, {'archive', 'io'}, {'lmdb.h', 'io'},
  {'chafa', 'io'}, {'glib', 'io'},
}

local function exists(path)
  local f = io.open(path)
  if f then f:close() end
  return f ~= nil
end

local function check_own(path, line, folder, name)
  local target = name:match('^([%w_]+)/')
  if not target then return report.complain(path, line, 'write "%s" from csrc/, as "folder/%s"', name, name) end
  local file = target == 'kernels' and name or 'csrc/' .. name
  if not exists(file) then return report.complain(path, line, 'no %s', file) end
  if not floor[target] then return report.complain(path, line, 'csrc/%s is on no floor', target) end
  if target == folder or also[folder .. '>' .. target] then return end
  if floor[target] >= floor[folder] then
    report.complain(path, line, '%s (floor %d) must not include "%s" (floor %d)', folder, floor[folder], name,
                    floor[target])
  end
end

local function check_foreign(path, line, folder, name)
  for _, rule in ipairs(foreign) do
    if name:sub(1, #rule[1]) == rule[1] and not (' ' .. rule[2] .. ' '):find(' ' .. folder .. ' ', 1, true) then
      report.complain(path, line, '<%s> belongs in %s only', name, (rule[2]:gsub(' ', ' and ')))
    end
  end
end

local function check_file(path)
  local folder = path:match('^csrc/([%w_]+)/') or path:match('^(kernels)/')
  if not floor[folder or ''] then return report.complain(path, 1, 'this folder is on no floor') end
  for line, text in source.lines(source.read(path)) do
    local open, name = text:match('^%s*#%s*include%s*([<"])([^>"]+)[>"]')
    if open == '"' then
      check_own(path, line, folder, name)
    elseif open then
      check_foreign(path, line, folder, name)
    end
  end
end

local function check_recipe(path)
  for line, text in source.lines(source.read(path)) do
    for name in text:gsub('%-%-.*', ''):gmatch('require%s*%(?%s*[\'"]([^\'"]+)[\'"]') do
      if name ~= 'ld' then report.complain(path, line, "a recipe requires 'ld' only, not '%s'", name) end
    end
  end
end

local files = source.list('csrc', '.c', '.h', '.cu', '.cuh')
for _, path in ipairs(source.list('kernels', '.c', '.h', '.cu', '.cuh')) do files[#files + 1] = path end
for _, path in ipairs(files) do check_file(path) end
for _, path in ipairs(source.list('recipes', '.lua')) do check_recipe(path) end
report.finish(#files .. ' files')
