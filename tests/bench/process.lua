-- Child processes of the bench: the same cores and environment, a time limit; what they print as lists of numbers.
local ld = require 'ld'
local machine = dofile 'tests/bench/machine.lua'

local process = {}

local function quote(word) return "'" .. tostring(word):gsub("'", "'\\''") .. "'" end

-- The user's waiting policy for both sides; where there is none, each side's own default. This driver is a script of
-- ldlua, so its own environment has another.
local function environment()
  local policy = os.getenv('BENCH_WAIT_POLICY') or ''
  local words = {'env', '-u', 'OMP_WAIT_POLICY', '-u', 'GOMP_SPINCOUNT', '-u', 'OMP_NUM_THREADS',
                 '-u', 'MAKEFLAGS', '-u', 'MAKELEVEL'}
  if policy ~= '' then words[#words + 1] = 'OMP_WAIT_POLICY=' .. policy end
  words[#words + 1] = 'TORCHINDUCTOR_CACHE_DIR=' .. ld.root .. '/build/bench/inductor'
  return words
end

local has_taskset
local function command_line(words, o)
  local line = environment()
  if has_taskset == nil then has_taskset = machine.shell('command -v taskset') ~= '' end
  if has_taskset then
    for _, word in ipairs{'taskset', '-c', table.concat(o.cores, ',')} do line[#line + 1] = word end
  end
  if o.limit then
    for _, word in ipairs{'timeout', '-k', '10', o.limit} do line[#line + 1] = word end
  end
  for _, word in ipairs(words) do line[#line + 1] = word end
  for i, word in ipairs(line) do line[i] = quote(word) end
  return table.concat(line, ' ')
end

-- Output lines `kind, label, value` as out[kind] = {{label, value}, ...}; others as text.
local function parse(pipe)
  local out, text = {}, {}
  for line in pipe:lines() do
    local kind, label, value = line:match('^(%l+)\t([^\t]*)\t(.*)$')
    if kind then
      out[kind] = out[kind] or {}
      table.insert(out[kind], {label, tonumber(value) or value})
    elseif line:match('%S') then
      text[#text + 1] = line
    end
  end
  return out, text
end

--- run(words, {cores, limit}): what it printed by kind; nil and why when it failed, with what it had printed.
-- `others` is the share of the cores that other programs used meanwhile, 0 .. 1.
function process.run(words, o)
  local from, busy, own = ld.clock(), machine.busy(o.cores), machine.children()
  local pipe = io.popen(command_line(words, o) .. ' 2>&1; echo "status\t\t$?"')
  local out, text = parse(pipe)
  pipe:close()
  local status = out.status and out.status[#out.status][2] or 1
  local seconds = ld.clock() - from
  busy, own = machine.busy(o.cores) - busy, machine.children() - own
  out.others = math.max(0, busy - own) / (machine.ticks_per_second() * seconds * #o.cores)
  out.seconds = seconds
  if status == 0 then return out end
  local why = text[#text] or ('exit status ' .. status)
  if out.refused then why = 'refused: ' .. out.refused[1][2] end
  if status == 124 or status == 137 then why = ('ended after %d s, the limit'):format(o.limit or seconds) end
  return nil, why, out
end

return process
