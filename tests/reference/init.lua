-- Everything that a folder of recorded numbers holds, compared: run(folder, say) -> report.
local ld = require 'ld'
local Report = dofile 'tests/reference/report.lua'
local Source = dofile 'tests/reference/source.lua'

local kinds = {}
for i, name in ipairs{'unet', 'classifier', 'sampling', 'optim', 'metrics', 'vae'} do
  kinds[i] = dofile('tests/reference/' .. name .. '.lua')
end

local function quote(path) return "'" .. path:gsub("'", "'\\''") .. "'" end

local function list(folder)
  local names, pipe = {}, assert(io.popen('ls ' .. quote(folder)))
  for name in pipe:lines() do
    if name:match('%.safetensors$') then names[#names + 1] = name end
  end
  pipe:close()
  return names
end

-- A folder for files made on the way: in $TEST_TMP, else one of its own that is removed at the end.
local function scratch()
  local base, own = os.getenv('TEST_TMP'), nil
  if not base then
    own = os.tmpname()
    os.remove(own)
    base = own
  end
  local function make(name)
    local path = base .. '/' .. name
    ld.make_dirs(path)
    return path
  end
  return make, function() if own then os.execute('rm -rf ' .. quote(own)) end end
end

-- One kind on one file; an error in it is a failure of that file and the rest goes on.
local function attempt(report, kind, source, folder)
  local ok, message = xpcall(function() ld.scope(kind.check, report, source, folder) end, debug.traceback)
  if not ok then report:expect(source.name .. ' (' .. kind.title .. ')', false, tostring(message)) end
end

--- Compares all files of a folder. The report has failed and skipped (lists of lines), groups and tensors (counts) and
-- unused (names of tensors that nothing was compared with).
local function run(path, say)
  local report = Report.new(say)
  local temporary, clean = scratch()
  local folder = {path = path, sources = {}, temporary = temporary}
  for _, name in ipairs(list(path)) do
    local ok, source = pcall(Source.open, path .. '/' .. name)
    if ok then folder.sources[#folder.sources + 1] = source else report:expect(name, false, tostring(source)) end
  end
  for _, kind in ipairs(kinds) do
    local found = false
    for _, source in ipairs(folder.sources) do
      if kind.recognise(source) then
        found = true
        attempt(report, kind, source, folder)
      end
    end
    if not found then report:skip(kind.title, 'no such file in ' .. path) end
  end
  clean()
  report.unused = {}
  for _, source in ipairs(folder.sources) do
    for _, name in ipairs(source:unused()) do report.unused[#report.unused + 1] = source.name .. ' ' .. name end
  end
  return report
end

return {run = run}
