-- ldlua's process of a case: writes what the other side computes from and is compared with, or times.
--
--   ldlua tests/bench/side.lua seed CASE FILE [spoil]     spoil: one weight tensor in the file is not what was used
--   ldlua tests/bench/side.lua time CASE STEPS SECONDS
--   ldlua --device cuda:0 tests/bench/side.lua window CASE STEPS SECONDS WINDOWS
--   ldlua tests/bench/side.lua given CASE FILE            what the other side starts from, without results
--
-- BENCH_PRECISION, f32 or bf16, is what a case of `make bench-cuda` is timed in; a seed then holds results in it as
-- well, as half.*. A precision that this ldlua or the device does not have ends the process with the line `refused`.
local ld = require 'ld'
local cases = dofile 'tests/bench/cases.lua'
local timing = dofile 'tests/bench/timing.lua'
local works = dofile 'tests/bench/works.lua'

local what, name = arg[1], arg[2]
local case = cases.by_name[name or ''] or ld.fail('side: no case %s', tostring(name))

local precision = os.getenv 'BENCH_PRECISION' or 'f32'

local function refuse(why)
  timing.emit('refused', '', why)
  os.exit(3, true)
end

-- f in the case's precision.
local function in_precision(f)
  if not case.cuda or precision == 'f32' then return f() end
  local ok, of = pcall(function() return ld.precision end)
  if not ok then refuse(('precision %s is not available in this ldlua'):format(precision)) end
  local known, why = pcall(of, precision, function() end)
  if not known then refuse(('precision %s is not available: %s'):format(precision, tostring(why))) end
  return of(precision, f)
end

-- The first weight by name, a tenth larger.
local function spoil(tensors)
  local names = {}
  for key, x in pairs(tensors) do
    if key:match('^param%..*weight$') and x.ndim == 4 or key:match('^input%.w') then names[#names + 1] = key end
  end
  table.sort(names)
  tensors[names[1]] = tensors[names[1]]:detach() * 1.1
end

local function seed(path)
  local work, tensors = works(case), {}
  for key, x in pairs(work.given) do tensors[key] = x:clone() end -- a forward pass changes running statistics
  for key, x in pairs(work.check()) do tensors[key] = x:clone() end
  for key, x in pairs(work.given) do tensors[key] = tensors[key] or x end -- what was drawn on the way
  if case.cuda and precision ~= 'f32' then
    case.precision = precision
    local half = (case.kind == 'conv' or case.kind == 'curve') and works(case) or work
    local found = in_precision(function() return half.check(precision) end)
    for key, x in pairs(found) do tensors['half.' .. key] = x:f32():clone() end
  end
  if arg[4] == 'spoil' then spoil(tensors) end
  ld.core.safetensors_write(path, tensors, work.meta)
end

local function time(steps, limit)
  local base = timing.resident()
  local work = works(case)
  timing.emit('threads', '', ld.threads())
  timing.emit('policy', '', os.getenv('OMP_WAIT_POLICY') or 'default')
  for _, entry in ipairs(case.series) do
    timing.series(entry[1], work.run[entry[1]], {steps = steps, seconds = limit / #case.series}, base)
  end
end

local function windows(steps, limit, count)
  case.precision = precision
  in_precision(function()
    local work = works(case)
    timing.emit('threads', '', ld.threads())
    timing.emit('policy', '', os.getenv('OMP_WAIT_POLICY') or 'default')
    local x = ld.ones(1)
    timing.emit('device', '', x.device)
    for _, entry in ipairs(case.series) do
      timing.windows(entry[1], work.run[entry[1]], {steps = steps, seconds = limit / #case.series, windows = count})
    end
  end)
end

if what == 'seed' then
  seed(arg[3])
elseif what == 'given' then
  local work = works(case)
  ld.core.safetensors_write(arg[3], work.given, work.meta)
elseif what == 'window' then
  windows(tonumber(arg[3]), tonumber(arg[4]), tonumber(arg[5]))
elseif what == 'time' then
  time(tonumber(arg[3]), tonumber(arg[4]))
else
  ld.fail('side: seed, given, time or window, not %s', tostring(what))
end
