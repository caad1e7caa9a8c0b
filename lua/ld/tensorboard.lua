-- A run's log as event files that TensorBoard reads: <run>/tb, one file a process. The clock is images seen.
-- The files' format: csrc/io/event.h.
local core = require 'ld.core'

local Board = {}
Board.__index = Board

-- A name that sorts behind those that are there.
local function fresh_path(folder)
  for n = 0, 9999 do
    local path = ('%s/events.out.tfevents.%010d.ldlua.%04d'):format(folder, core.clock(), n)
    if not core.file_kind(path) then return path end
  end
end

--- board(folder, images): what earlier files have beyond `images` is forgotten by readers.
local function new(folder, images)
  core.make_dirs(folder)
  return setmetatable({file = core.event_file(fresh_path(folder), core.clock(), images + 1)}, Board)
end

local groups = {loss = 'loss', lr = 'training', gradient_norm = 'gradient', gradient_cosine = 'gradient',
                gradient_ratio = 'gradient', images_per_second = 'system', data_wait = 'system', memory_live = 'system',
                memory_peak = 'system', memory_resident = 'system', gpu_use = 'system', gpu_memory = 'system',
                skipped = 'health', outliers = 'health', share = 'gradient'}
local passed_over = {time = true, images = true, epoch = true}
local no_numbers = {started = true, resumed = true, data = true, image = true, stopped = true, finished = true,
                    find_lr = true}

local function tag_of(event, key)
  if event then return event:gsub('%s', '_') .. '/' .. key end
  return (groups[key] or 'loss') .. '/' .. key
end

--- board:log(entry): the numbers of one line of log.jsonl.
function Board:log(entry)
  if no_numbers[entry.event] then return end
  local keys = {}
  for key, value in pairs(entry) do
    if type(value) == 'number' and not passed_over[key] then keys[#keys + 1] = key end
  end
  table.sort(keys)
  for _, key in ipairs(keys) do
    self.file:scalar(entry.time, entry.images, tag_of(entry.event, key), entry[key])
  end
  self.file:flush()
end

--- board:image(entry, path): the PNG of an 'image' event.
function Board:image(entry, path)
  local f = assert(io.open(path, 'rb'))
  local bytes = f:read('*a')
  f:close()
  self.file:image(entry.time, entry.images, 'pictures/' .. entry.name, entry.width, entry.height, 3, bytes)
  self.file:flush()
end

return new
