-- ldlua's process of a case: writes what the other side computes from and is compared with, or times.
--
--   ldlua tests/bench/side.lua seed CASE FILE [spoil]     spoil: one weight tensor in the file is not what was used
--   ldlua tests/bench/side.lua time CASE STEPS SECONDS
local ld = require 'ld'
local cases = dofile 'tests/bench/cases.lua'
local timing = dofile 'tests/bench/timing.lua'
local works = dofile 'tests/bench/works.lua'

local what, name = arg[1], arg[2]
local case = cases.by_name[name or ''] or ld.fail('side: no case %s', tostring(name))

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
  for key, x in pairs(work.check()) do tensors[key] = x end
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

if what == 'seed' then
  seed(arg[3])
elseif what == 'time' then
  time(tonumber(arg[3]), tonumber(arg[4]))
else
  ld.fail('side: seed or time, not %s', tostring(what))
end
