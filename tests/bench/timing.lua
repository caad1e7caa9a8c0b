-- Times and memory of one process of ldlua. Lines for the driver: kind, label, value, separated by tabs.
local ld = require 'ld'

local timing = {}

local function emit(kind, label, value)
  io.write(kind, '\t', label, '\t', type(value) == 'number' and ('%.9g'):format(value) or value, '\n')
end
timing.emit = emit

-- A field of /proc/self/status in bytes; nil where there is none.
local function status(field)
  local f = io.open('/proc/self/status')
  if not f then return nil end
  local text = f:read('*a')
  f:close()
  local kb = text:match(field .. ':%s*(%d+) kB')
  return kb and tonumber(kb) * 1024
end

--- Resident memory now.
function timing.resident() return status('VmRSS') or 0 end

-- The kernel forgets the peak of the resident set and counts anew.
local function reset_peak()
  local f = io.open('/proc/self/clear_refs', 'w')
  if f then
    f:write('5')
    f:close()
  end
  ld.memory('reset')
end

-- Seconds of one call; a function that counts for itself returns them.
local function seconds(f)
  local from = ld.clock()
  local own = f()
  return own or ld.clock() - from
end

-- Until two calls in a row are within a twentieth, at least 2 calls, at most 8 or `limit` seconds.
local function warm_up(label, f, limit)
  local before, spent = nil, 0
  for _ = 1, 8 do
    local t = seconds(f)
    emit('warm', label, t)
    spent = spent + t
    if before and (math.abs(t - before) <= 0.05 * before or spent > limit) then break end
    before = t
  end
end

--- Warm-up, then at most o.steps calls of f, at least 2, while they take less than o.seconds; then the peaks of those
-- calls. `base` is the resident set before anything of the case was built.
function timing.series(label, f, o, base)
  warm_up(label, f, o.seconds)
  reset_peak()
  local spent = 0
  for n = 1, o.steps do
    local t = seconds(f)
    emit('time', label, t)
    spent = spent + t
    if n >= 2 and spent > o.seconds then break end
  end
  local peak = status('VmHWM')
  if peak then
    emit('peak', label, peak)
    emit('above', label, peak - base)
  end
  emit('live', label, ld.memory().peak)
end

return timing
