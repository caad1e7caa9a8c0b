-- The driver of `make bench-cuda`, started by tests/bench/run: ldlua beside PyTorch on the same card, in one go.
--
-- For each case (cuda_cases.lua) ldlua writes a seed file with weights, inputs and its own results, in f32 and in the
-- precision that is timed; PyTorch, strictly in f32 on the same card, holds its own against both: relative L2 of the
-- loss and of every gradient below 1e-3 in f32, of loss and gradient below 2e-2 in bf16. Then both are timed in fresh
-- processes in turn. PyTorch's ways, all under autocast to bf16, channels last, cudnn.benchmark, fused AdamW:
--
--   P1 eager     P2 torch.compile     P3 torch.compile(mode = 'max-autotune')     P4 the whole step as one CUDA graph
--
-- A process is timed in windows of `window` steps, ended by waiting for the device, after a warm-up that is timed
-- apart; the data are random. A case `curve` is not timed: both train from the same weights, batches, times and noise,
-- and the mean losses of stretches are held against each other in the same way (below 1e-3 in f32, 5e-3 in bf16),
-- PyTorch's own bf16 beside. Where a case says so, one more process of ldlua starts with no file of choices or plans:
-- the time to a first step, cold. Everything that a process says is appended to a file of JSON lines at once, so that a
-- call that is stopped leaves what it had. Cases come in the order of their worth until the minutes are used up; P3
-- comes last. Without PyTorch ldlua is timed alone; where ldlua fails, PyTorch is.
local ld = require 'ld'
local cases = dofile 'tests/bench/cases.lua'
local machine = dofile 'tests/bench/machine.lua'
local process = dofile 'tests/bench/process.lua'
local report = dofile 'tests/bench/cuda_report.lua'
local Series = dofile 'tests/bench/series.lua'

local opt = ld.options{
  device = 'cuda:0',     -- of both; where it is no card (cpu, fake:0), PyTorch runs on the CPU
  only = '',             -- names of cases or their beginnings, with commas
  dtype = 'bf16',        -- what ldlua is timed in: bf16 or f32 (`precision` would be this process's own)
  minutes = 9,           -- for everything
  rounds = 2,            -- of ldlua and of eager PyTorch, in turn; the other ways run once
  windows = 5, window = 50,
  seconds = 15,          -- a process's windows at most
  threads = 8,           -- and cores
  limit = 240,           -- seconds a process may take
  anyway = false,        -- time what fails the comparison too; it is marked
  spoil = false,         -- change one weight in the seed file: every comparison has to refuse
  write = false,         -- into docs/results.md
  out = '',              -- a folder for bench-cuda.jsonl and .md; '': $OUT, else build
}
local ldlua, python = os.getenv('BENCH_LDLUA') or './ldlua', os.getenv('BENCH_PYTHON') or 'python3'
local no_torch = os.getenv('BENCH_NO_TORCH')
if no_torch == '' then no_torch = nil end
local cores = machine.cores(opt.threads)
local scratch = os.getenv('BENCH_SCRATCH') or 'build/bench'
local folder = opt.out ~= '' and opt.out or os.getenv('OUT') or 'build'
local deadline = ld.clock() + opt.minutes * 60
local CARD = 'nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv,noheader'
local on_card = opt.device:match('^cuda') ~= nil
ld.make_dirs(folder)
local lines = assert(io.open(folder .. '/bench-cuda.jsonl', 'w'))

local function say(text, ...) print(text:format(...)) io.stdout:flush() end
local function left() return deadline - ld.clock() end

-- One line of the file: what was run and what it said.
local function note(entry)
  entry.at = opt.minutes * 60 - left()
  lines:write(ld.core.json_encode(entry), '\n')
  lines:flush()
end

-- Some seconds for what comes after; nil and why when the time is up.
local function run(words, entry, environment)
  local most = math.min(opt.limit, math.floor(left() - 5))
  if most < 5 then return nil, 'the minutes were used up' end
  local line = {'env', 'BENCH_SCRATCH=' .. scratch}
  for _, word in ipairs(environment or {}) do line[#line + 1] = word end
  for _, word in ipairs(words) do line[#line + 1] = word end
  local out, why, partial = process.run(line, {cores = cores, limit = most})
  entry.said, entry.failed = out or partial, why
  note(entry)
  return out, why, partial
end

local function of_ldlua(words, entry)
  local line = {ldlua, '--threads', #cores, '--device', opt.device, 'tests/bench/side.lua'}
  for _, word in ipairs(words) do line[#line + 1] = word end
  return run(line, entry, {'BENCH_PRECISION=' .. opt.dtype})
end

local function of_torch(what, mode, seed, entry)
  local line = {python, 'tests/bench/torch_side.py', what, seed, '--mode', mode, '--threads', #cores, '--device',
                on_card and opt.device or 'cpu', '--windows', opt.windows, '--steps', opt.window,
                '--seconds', opt.seconds}
  if opt.anyway then line[#line + 1] = '--anyway' end
  return run(line, entry)
end

local function errors_of(out)
  local words = {}
  for _, entry in ipairs(out and out.error or {}) do words[#words + 1] = ('%s %.1e'):format(entry[1], entry[2]) end
  return table.concat(words, ', ')
end

-- The seed file, made and compared. r.timed is false where ldlua is not to be timed.
local function prepare(r)
  local name = r.case.name
  local words = {'seed', name, r.seed}
  if opt.spoil then words[4] = 'spoil' end
  local ok, why = of_ldlua(words, {case = name, what = 'seed'})
  if not ok then
    say('  ldlua failed: %s', why)
    r.failures.ldlua = why
    if no_torch then return end
    -- inputs and weights alone, by ldlua on the CPU, so that PyTorch can be timed
    ok, why = run({ldlua, '--threads', #cores, 'tests/bench/side.lua', 'given', name, r.seed},
                  {case = name, what = 'given'})
    if not ok then r.failures.bf16 = why end
    return
  end
  if no_torch then return end
  local out, refusal, partial = of_torch('check', 'eager', r.seed, {case = name, what = 'check'})
  local said = out or partial
  r.errors = errors_of(said)
  say('  relative L2 against PyTorch f32: %s', r.errors)
  r.versions = said and said.version
  r.apart = said and said.error
  if out and not out.refused then return end
  r.marked = refusal or 'refused: ' .. out.refused[1][2]
  say('  %s: %s', opt.anyway and 'TIMED ANYWAY' or 'NOT TIMED', r.marked)
  if not opt.anyway then r.failures.ldlua = r.marked end
end

-- PyTorch's autocast to bf16 against ldlua's f32, which equals PyTorch's: how far bf16 alone takes a curve.
local function own_curve(r)
  if no_torch or r.failures.ldlua then return end
  local line = {python, 'tests/bench/torch_side.py', 'check', r.seed, '--mode', 'bf16', '--threads', #cores, '--device',
                on_card and opt.device or 'cpu', '--anyway'}
  local out, why, partial = run(line, {case = r.case.name, what = 'own curve'})
  local said = out or partial
  r.own = said and said.error and said.error[1][2]
  say('  PyTorch in bf16: %s', r.own and errors_of(said) or why)
end

-- The first step of a process for which nothing was kept.
local function cold(r)
  if not r.case.cold or r.failures.ldlua then return end
  local kept = scratch .. '/cold'
  local out, why = run({ldlua, '--threads', #cores, '--device', opt.device, 'tests/bench/side.lua', 'window',
                        r.case.name, 1, 1, 1}, {case = r.case.name, what = 'cold', precision = opt.dtype},
                       {'BENCH_PRECISION=' .. opt.dtype, 'XDG_CACHE_HOME=' .. kept, 'CUDA_CACHE_PATH=' .. kept})
  r.cold = out and out.first and out.first[1][2]
  say('  first step, cold: %s', r.cold and ('%.1f s'):format(r.cold) or why)
end

local function one_process(r, side, round)
  if r.failures[side] then return end
  local entry = {case = r.case.name, what = 'time', side = side, round = round, precision = opt.dtype}
  local out, why, partial
  if side == 'ldlua' then
    out, why, partial = of_ldlua({'window', r.case.name, opt.window, opt.seconds, opt.windows}, entry)
  else
    out, why, partial = of_torch('window', side, r.seed, entry)
  end
  if not out then
    say('  %-28s %s %s', report.names[side], why, errors_of(partial))
    r.failures[side] = why
    return
  end
  r.sides[side] = r.sides[side] or Series.new()
  r.sides[side]:add(out)
  r.said[side] = r.said[side] or out
  r.device = r.device or out.device and side ~= 'ldlua' and out.device[1][2] or r.device
  local label = r.case.series[1][1]
  local middle = Series.spread(r.sides[side].times[label])
  say('  %-28s %9.2f ms   %d s in all%s', report.names[side], middle * 1e3, out.seconds,
      out.refused and ';  check: ' .. errors_of(out) or '')
end

local function measure(case)
  say('%s', case.title)
  local r = {case = case, sides = {}, failures = {}, said = {}, seed = ('%s/%s.safetensors'):format(scratch, case.name)}
  prepare(r)
  if case.kind == 'curve' then
    own_curve(r)
    return r
  end
  local peers = no_torch and {} or case.peers
  for round = 1, opt.rounds do
    one_process(r, 'ldlua', round)
    for i, peer in ipairs(peers) do
      if i == 1 or round == 1 then one_process(r, peer, round) end
    end
    if round == 1 then cold(r) end
  end
  return r
end

local chosen, unknown = cases.choose(opt.only ~= '' and opt.only or 'cuda_')
if not chosen then ld.fail("no case '%s'; known: the names in tests/bench/cuda_cases.lua", unknown) end
if #chosen == 0 then
  for _, case in ipairs(cases.list) do
    if case.cuda and not case.small then chosen[#chosen + 1] = case end
  end
end
if no_torch then say('PyTorch is not here (%s), so that ldlua is timed alone, unchecked.', no_torch) end
local about = {what = 'bench-cuda', device = opt.device, precision = opt.dtype, commit = machine.commit(),
               machine = machine.describe(cores), command = os.getenv('BENCH_COMMAND'),
               card = on_card and machine.shell(CARD) or opt.device}
note(about)

local results, bad = {}, false
local function finish()
  local text = report.text(results, about, opt)
  local f = assert(io.open(folder .. '/bench-cuda.md', 'w'))
  f:write(text)
  f:close()
  return text
end

for _, case in ipairs(chosen) do
  if left() < 20 then
    say('%s: the minutes are used up', case.title)
    results[#results + 1] = {case = case, sides = {}, said = {}, late = true,
                             failures = {ldlua = 'the minutes were used up'}}
  else
    local r = measure(case)
    results[#results + 1] = r
    if not case.peers[3] then os.remove(r.seed) end -- gigabytes; what compiles long is timed from it in the end
    finish()
  end
end
-- What takes minutes to compile, for the first U-Net alone.
for _, r in ipairs(results) do
  if not no_torch and r.case.peers[3] and left() > 20 then
    say('%s', r.case.title)
    one_process(r, 'bf16_max', 1)
    break
  end
end
for _, r in ipairs(results) do
  bad = bad or r.failures.ldlua ~= nil and not r.late or r.marked ~= nil
  os.remove(r.seed or '')
end
local text = finish()
lines:close()
print('\n' .. text)
say('%s/bench-cuda.jsonl and .md', folder)
if opt.write then
  dofile('tests/bench/report.lua').write('docs/results.md', text, 'bench-cuda')
  print('written to docs/results.md')
end
os.exit(bad and 1 or 0, true)
