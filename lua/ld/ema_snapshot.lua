-- Snapshots of a run's averages, and averages of any width made from them afterwards. In <run>/ema lie files
-- <images seen>.h5, each with all averages of that moment in f32, and list.json, which says what they are. A snapshot
-- is whole before the list names it. Source of the method: Karras et al. 2024, arXiv:2312.02696, section 3.2.
local core = require 'ld.core'
local checkpoint = require 'ld.checkpoint'
local profile = require 'ld.ema_profile'
local ranks = require 'ld.ranks'
local take = require 'ld.take'

local snapshot = {}

local function list_path(folder) return folder .. '/ema/list.json' end
local function file_path(folder, images) return ('%s/ema/%012d.h5'):format(folder, images) end

-- {sigma_rel = widths, snapshots = images in rising order}, or nil.
local function read_list(folder)
  local f = io.open(list_path(folder), 'rb')
  if not f then return nil end
  local text = f:read('*a')
  f:close()
  local list = text and core.json_decode(text)
  if type(list) ~= 'table' or type(list.snapshots) ~= 'table' or type(list.sigma_rel) ~= 'table' then
    core.fail(('ema: %s is damaged'):format(list_path(folder)))
  end
  return list
end

local function write_list(folder, widths, snapshots)
  core.write_file(list_path(folder), core.json_encode{sigma_rel = widths, snapshots = snapshots} .. '\n')
end

--- open(average, folder): what a run that begins or resumes does. Snapshots from beyond its clock, of steps that a kill
-- has undone, are forgotten: the run makes them again.
function snapshot.open(average, folder)
  average.snapshots = {}
  if not core.file_kind(folder .. '/ema') then return end
  if ranks.rank() == 0 then core.sweep_folder(folder .. '/ema') end
  local list = read_list(folder)
  if not list then return end
  for _, images in ipairs(list.snapshots) do
    if images <= average.at then average.snapshots[#average.snapshots + 1] = images end
  end
  if #average.snapshots < #list.snapshots and ranks.rank() == 0 then
    write_list(folder, average.widths, average.snapshots)
  end
end

--- write(average, folder): a snapshot of the moment; of several ranks the first writes it.
function snapshot.write(average, folder)
  if ranks.rank() > 0 then return end
  core.make_dirs(folder .. '/ema')
  core.scope(function()
    checkpoint.write(file_path(folder, average.at), {tensors = average:groups(),
                                                     record = {averages = average:record()}})
  end)
  local list = average.snapshots
  if list[#list] ~= average.at then list[#list + 1] = average.at end
  write_list(folder, average.widths, list)
end

--- bytes(average): of one snapshot's tensors.
function snapshot.bytes(average)
  local sum = 0
  for _, x in ipairs(average.net:parameters()) do sum = sum + x:numel() * #average.widths end
  return sum * 4
end

-- ---- averages of other widths ---------------------------------------------------------------------------------------

-- What is to be added up: {{images, group, gamma, t}, ...} of the snapshots up to `at`.
local function sources(list, at)
  local out = {}
  for _, images in ipairs(list.snapshots) do
    for i, width in ipairs(list.sigma_rel) do
      if images <= at then
        out[#out + 1] = {images = images, group = i == 1 and 'ema' or 'ema_' .. i, gamma = profile.gamma(width),
                         t = images, width = width}
      end
    end
  end
  return out
end

local CHUNK = 2 ^ 25 -- elements summed up at a time, in f64

-- The paths of the tensors in lists of about CHUNK elements.
local function chunks(folder, source)
  local c = checkpoint.open(file_path(folder, source.images))
  local out, size = {{}}, 0
  for _, path in ipairs(c.file:list(source.group)) do
    local n = 1
    for _, d in ipairs(c.file:shape(source.group .. '/' .. path)) do n = n * d end
    if size > 0 and size + n > CHUNK then out[#out + 1], size = {}, 0 end
    table.insert(out[#out], path)
    size = size + n
  end
  c.file:close()
  return out
end

-- Adds x times the tensors of one source to sums.
local function add(sums, folder, source, x, paths)
  local c = checkpoint.open(file_path(folder, source.images))
  local ok, message = pcall(core.scope, function()
    for _, path in ipairs(paths) do
      local name = source.group .. '/' .. path
      if not c.file:exists(name) then core.fail(('ema: %s lacks %s'):format(c.path, name)) end
      sums[path]:axpby_(c.file:read(name):to('cpu'):to('f64'), x, 1)
    end
  end)
  c.file:close()
  if not ok then error(message, 0) end
end

local function combine(folder, list, x)
  local out = {}
  for _, paths in ipairs(chunks(folder, list[1])) do
    core.scope(function()
      local sums = {}
      local c = checkpoint.open(file_path(folder, list[1].images))
      for _, path in ipairs(paths) do
        sums[path] = core.zeros(c.file:shape(list[1].group .. '/' .. path), {dtype = 'f64', device = 'cpu'})
      end
      c.file:close()
      for i, source in ipairs(list) do
        if x[i] ~= 0 then add(sums, folder, source, x[i], paths) end
      end
      for path, sum in pairs(sums) do out[path] = core.keep(sum:to('f32')) end
    end)
  end
  return out
end

--- rebuild(folder, sigma_rel, {at = images}): the average of that width at a snapshot's time (the last one's), as
-- tensors by parameter path (f32, on the CPU), from the snapshots of a run in its folder: the sum of kept averages
-- whose profile comes nearest in squares; a kept width is read as it is. Second result: {error, the norm of what is
-- left of the profile divided by the profile's; at; count, of averages added up; gain, the root of the sum of the
-- coefficients' squares}.
function snapshot.rebuild(folder, sigma_rel, options)
  local o = take('ema.rebuild', options, {at = take.optional})
  local list = read_list(folder)
  if not list or #list.snapshots == 0 then
    core.fail(("ema.rebuild: %s has no snapshots; a run writes them that has ema = {sigma_rel = {0.05, 0.10}}"):format(
      folder))
  end
  local gamma, at = profile.gamma(sigma_rel), o.at or list.snapshots[#list.snapshots]
  local all, there, own = sources(list, at), false, nil
  for i, source in ipairs(all) do
    there = there or source.images == at
    if source.images == at and source.width == sigma_rel then own = i end
  end
  if not there then
    core.fail(('ema.rebuild: there is no snapshot at %s images; there are: %s'):format(tostring(at),
      table.concat(list.snapshots, ' ')))
  end
  if own then all = {all[own]} end
  local x, left = {1}, 0
  if not own then x, left = profile.fit(all, {gamma = gamma, t = at}) end
  local squares = 0
  for _, v in ipairs(x) do squares = squares + v * v end
  return core.no_grad(function() return combine(folder, all, x) end),
    {error = left, at = at, count = #all, gain = math.sqrt(squares)}
end

return snapshot
