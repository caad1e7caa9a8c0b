-- A run as its log tells it: log.jsonl, of a run that goes on as well, as series, events and facts.
local core = require 'ld.core'

local reading = {}

-- Events that say something of a process, not of the weights: what a resume takes back does not take them.
local of_process = {started = true, resumed = true, stopped = true, finished = true, data = true,
                    find_lr = true}

-- Fields of a log line that are no parts of the loss.
local no_part = {}
for key in ([[images loss gradient_norm lr images_per_second data_wait memory_live memory_peak memory_resident skipped
  outliers time gradient_cosine gradient_ratio gpu_use gpu_memory share event]]):gmatch('[%w_]+') do
  no_part[key] = true
end

local function lines(path)
  local f, why = io.open(path, 'rb')
  if not f then core.fail(('report: cannot read %s: %s'):format(path, why)) end
  local text = f:read('*a')
  f:close()
  if not text then core.fail(('report: cannot read %s'):format(path)) end
  return text:gmatch('([^\n]+)')
end

-- Takes back what lies beyond `images`: the run goes on from an older checkpoint.
local function cut(list, images)
  local kept = {}
  for _, e in ipairs(list) do
    if of_process[e.event] or e.images <= images then kept[#kept + 1] = e end
  end
  return kept
end

-- Seconds in which a process was at work.
local function working_time(spans)
  local sum = 0
  for _, s in ipairs(spans) do sum = sum + s[2] - s[1] end
  return sum
end

--- read(folder): {folder, name, steps (log lines), events, facts (the beginning of the last process that trained), data
-- (what it trained on), pictures = {name = list of events}, seconds (at work), last (time), state = 'finished',
-- 'stopped' or 'running', unread (lines that are no JSON)}. What a resume took back is left out.
function reading.read(folder)
  folder = folder:gsub('(.)/+$', '%1')
  local run = {folder = folder, name = folder:match('([^/]+)$') or folder, steps = {}, events = {}, pictures = {},
               unread = 0}
  local spans = {}
  for line in lines(folder .. '/log.jsonl') do
    local e = core.json_decode(line)
    if type(e) ~= 'table' or type(e.time) ~= 'number' then
      run.unread = run.unread + 1
    else
      e.images = type(e.images) == 'number' and e.images or 0
      if e.event == 'resumed' then
        run.steps, run.events = cut(run.steps, e.images), cut(run.events, e.images)
      end
      if e.event == 'started' or e.event == 'resumed' or not spans[1] then spans[#spans + 1] = {e.time, 0} end
      spans[#spans][2] = e.time
      table.insert(e.event and run.events or run.steps, e)
    end
  end
  run.seconds, run.last = working_time(spans), spans[1] and spans[#spans][2] or 0
  local final, begun
  for _, e in ipairs(run.events) do
    if e.event == 'started' or e.event == 'resumed' then begun = e end
    if e.event == 'data' then run.data, run.facts, final = e, begun, nil end -- before that, nothing is trained
    if e.event == 'stopped' or e.event == 'finished' then final = e.event end
    if e.event == 'image' and e.name then
      run.pictures[e.name] = run.pictures[e.name] or {}
      table.insert(run.pictures[e.name], e)
    end
  end
  run.state = final or 'running'
  run.facts, run.data = run.facts or begun or {}, run.data or {}
  return run
end

--- series(run, key): {x = images, y = values} of a field of the log lines, nil when there is none.
function reading.series(run, key)
  local x, y = {}, {}
  for _, e in ipairs(run.steps) do
    if type(e[key]) == 'number' then x[#x + 1], y[#y + 1] = e.images, e[key] end
  end
  return #x > 0 and {x = x, y = y, name = key} or nil
end

local function sorted(set)
  local out = {}
  for key in pairs(set) do out[#out + 1] = key end
  table.sort(out)
  return out
end

--- parts(run): names of the loss's parts; levels(run): of its losses by noise level.
function reading.parts(run)
  local parts, levels = {}, {}
  for _, e in ipairs(run.steps) do
    for key, value in pairs(e) do
      if type(value) == 'number' and not no_part[key] then
        if key:match('^loss_q%d+$') then levels[key] = true else parts[key] = true end
      end
    end
  end
  return sorted(parts), sorted(levels)
end

--- measured(run): what the recipe measured beside training, by name: {x, y, name} of every number in its own events.
function reading.measured(run)
  local own, out = {}, {}
  for _, e in ipairs(run.events) do
    if not of_process[e.event] and e.event ~= 'image' and e.event ~= 'skipped' and e.event ~= 'outlier' then
      for key, value in pairs(e) do
        if type(value) == 'number' and key ~= 'time' and key ~= 'images' and key ~= 'epoch' then
          own[key] = own[key] or {x = {}, y = {}, name = key, dots = true}
          table.insert(own[key].x, e.images)
          table.insert(own[key].y, value)
        end
      end
    end
  end
  for _, key in ipairs(sorted(own)) do out[#out + 1] = own[key] end
  return out
end

--- positions(run, event): images at which it happened.
function reading.positions(run, event)
  local out = {}
  for _, e in ipairs(run.events) do
    if e.event == event then out[#out + 1] = e.images end
  end
  return out
end

--- final(run, key): the mean of a field over the last tenth of the log lines, at least 5 of them, nil when absent.
function reading.final(run, key)
  local n, sum, count = #run.steps, 0, 0
  for i = math.max(1, n - math.max(5, math.floor(n / 10)) + 1), n do
    local v = run.steps[i][key]
    if type(v) == 'number' then sum, count = sum + v, count + 1 end
  end
  return count > 0 and sum / count or nil
end

return reading
