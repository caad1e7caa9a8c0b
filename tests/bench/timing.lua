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

-- Seconds since this process began.
local function since_start()
  local f = assert(io.open('/proc/self/stat'))
  local words = {}
  for word in f:read('*a'):match('%)%s(.*)'):gmatch('%S+') do words[#words + 1] = word end
  f:close()
  f = assert(io.open('/proc/uptime'))
  local up = tonumber(f:read('*a'):match('%S+'))
  f:close()
  return up - tonumber(words[20]) / 100 -- the kernel counts in hundredths for everybody
end

-- Seconds a call: of n calls, or what the function counted itself.
local function window(f, n)
  local from, own = ld.clock(), 0
  for _ = 1, n do own = own + (f() or 0) end
  ld.synchronize()
  return (own > 0 and own or ld.clock() - from) / n
end

--- Windows of steps on a device, as torch_windows.py has them: warm-up until two windows in a row are within a
-- twentieth, then o.windows of o.steps steps, each ended by waiting for the device; fewer steps where they would take
-- longer than o.seconds. Before them the first step, from the start of the process; after them, memory and operations.
function timing.windows(label, f, o)
  f()
  ld.synchronize()
  emit('first', label, since_start())
  local step, spent = window(f, 1), 0
  for _ = 1, 20 do
    local n = math.max(1, math.min(5, math.floor(o.seconds / 20 / math.max(step, 1e-6))))
    local now = window(f, n)
    emit('warm', label, now)
    spent = spent + now * n
    local steady = math.abs(now - step) <= 0.05 * step
    step = now
    if steady or spent > o.seconds / 2 then break end
  end
  local n = math.max(2, math.min(o.steps, math.floor(o.seconds / o.windows / math.max(step, 1e-6))))
  ld.memory('reset')
  for _ = 1, o.windows do emit('time', label, window(f, n)) end
  emit('steps', label, n)
  local m = ld.memory()
  emit('live', label, m.peak)
  emit('held', label, m.live + m.cached)
  local ok, p = pcall(ld.profile, f)
  local calls = 0
  for _, entry in ipairs(ok and p.ops or {}) do calls = calls + entry.calls end
  if ok then emit('operations', label, calls) end
end

return timing
