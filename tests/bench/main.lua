-- The driver of `make bench`, started by tests/bench/run. For each case: ldlua writes a seed file with weights, inputs
-- and its own results; PyTorch computes from it, and where a number differs the case is not timed; then both are timed
-- in fresh processes in turn, on the same cores. Prints tables. Where the parts are:
--
--   cases.lua        what is measured, nominal FLOPs, goals
--   works.lua        ldlua's networks and steps          torch_works.py, torch_nets.py   PyTorch's
--   side.lua         a process of ldlua                  torch_side.py                   one of PyTorch, the comparison
--   timing.lua       warm-up, times, memory of ldlua     process.lua, machine.lua        children, cores, load
--   series.lua       medians and ranges                  report.lua                      tables, docs/results.md
--
-- How to read the figures. Times are of whole calls, least and most over all processes. Peak MB is the largest resident
-- set of the process while it was timed, libraries and all; above start MB is that less the resident set after the
-- libraries were loaded and before anything of the case was built: the same measure on both sides, from the kernel. It
-- counts what an allocator keeps for later, ldlua's pool as well as PyTorch's; `live` is what ldlua's tensors and
-- workspace alone took. Every process warms up until two calls in a row are within a twentieth. `other programs` is
-- what everybody else took of the cores meanwhile: above a few percent, run it again. PyTorch's OpenMP threads spin
-- while they wait and those of an ldlua script sleep, by default; spinning loses a lot where other programs run.
-- OMP_WAIT_POLICY, when set, holds for both.
local ld = require 'ld'
local cases = dofile 'tests/bench/cases.lua'
local machine = dofile 'tests/bench/machine.lua'
local process = dofile 'tests/bench/process.lua'
local report = dofile 'tests/bench/report.lua'
local Series = dofile 'tests/bench/series.lua'

local opt = ld.options{
  only = '',                     -- names of cases or their beginnings, with commas; startup is one as well
  quick = false,                 -- 2 rounds of 3 calls instead of 4 of 5
  rounds = 0, steps = 0,         -- 0: as --quick says
  seconds = 8,                   -- a process's calls of one case, beyond the second
  threads = 2,                   -- and cores
  modes = 'eager,bf16,compile',  -- of PyTorch
  limit = 600,                   -- seconds a process may take
  spoil = false,                 -- change one weight in the seed file: every comparison has to refuse
  write = false,                 -- into docs/results.md
}
local rounds = opt.rounds > 0 and opt.rounds or opt.quick and 2 or 4
local steps = opt.steps > 0 and opt.steps or opt.quick and 3 or 5
local ldlua, python = os.getenv('BENCH_LDLUA') or './ldlua', os.getenv('BENCH_PYTHON') or 'python3'
local no_torch = os.getenv('BENCH_NO_TORCH')
if no_torch == '' then no_torch = nil end
local cores = machine.cores(opt.threads)
local seed = (os.getenv('BENCH_SCRATCH') or 'build/bench') .. '/seed.safetensors'
local torch_version

local function say(text, ...) print(text:format(...)) io.stdout:flush() end

local function of_ldlua(words)
  return process.run({ldlua, '--threads', opt.threads, 'tests/bench/side.lua', unpack(words)},
                     {cores = cores, limit = opt.limit})
end

local function of_torch(what, mode)
  return process.run({python, 'tests/bench/torch_side.py', what, seed, '--mode', mode, '--threads', opt.threads,
                      '--steps', steps, '--seconds', opt.seconds}, {cores = cores, limit = opt.limit})
end

local function errors_of(out)
  local words = {}
  for _, entry in ipairs(out and out.error or {}) do words[#words + 1] = ('%s %.1e'):format(entry[1], entry[2]) end
  return table.concat(words, ', ')
end

-- The modes of PyTorch that this case is timed in, after the f32 comparison; nil when that failed.
local function compared(case, run)
  if no_torch then return {} end
  local words = {'seed', case.name, seed}
  if opt.spoil then words[4] = 'spoil' end
  local ok, why = of_ldlua(words)
  if not ok then
    say('  NOT TIMED: ldlua failed: %s', why)
    run.failures.ldlua = why
    return nil
  end
  local out, refusal, partial = of_torch('check', 'eager')
  say('  relative L2 against PyTorch f32: %s', errors_of(out or partial))
  if not out then
    say('  NOT TIMED: %s', refusal)
    run.failures.check = refusal
    return nil
  end
  torch_version = out.version and out.version[1][2]
  local modes = {}
  for mode in opt.modes:gmatch('[^,]+') do
    if not report.names[mode] or mode == 'ldlua' then ld.fail("no mode '%s'; known: eager bf16 compile", mode) end
    modes[#modes + 1] = mode
  end
  return modes
end

local function one_process(case, run, side, round)
  local out, why, partial
  if side == 'ldlua' then
    out, why = of_ldlua{'time', case.name, steps, opt.seconds}
  else
    out, why, partial = of_torch('time', side)
  end
  if out then
    run.sides[side] = run.sides[side] or Series.new()
    run.sides[side]:add(out)
    local label = case.series[1][1]
    say('  round %d  %-16s %9.1f ms   %d s in all, other programs %.0f %% of the cores%s', round, report.names[side],
        (Series.spread(run.sides[side].times[label])) * 1e3, out.seconds, out.others * 100,
        out.error and side ~= 'eager' and round == 1 and ';  ' .. errors_of(out) or '')
  else
    say('  round %d  %-16s %s %s', round, report.names[side], why, errors_of(partial))
    run.failures[side] = why
  end
end

local function measure(case)
  say('%s', case.title)
  local run = {case = case, sides = {}, failures = {}}
  local modes = compared(case, run)
  if modes then
    table.insert(modes, 1, 'ldlua')
    for round = 1, rounds do
      for _, side in ipairs(modes) do
        -- compiling takes long: in a quick run once
        if not run.failures[side] and not (side == 'compile' and opt.quick and round > 1) then
          one_process(case, run, side, round)
        end
      end
    end
  end
  os.remove(seed)
  return run
end

local function startup()
  local out, best = {}, math.huge
  local pipe = io.popen("tests/bench/startup.sh '" .. ldlua .. "' build/libld.a")
  for line in pipe:lines() do
    local kind, a, b = line:match('^(%l+)\t(%S+)\t(%S+)$')
    if kind == 'start' then best = math.min(best, tonumber(b) - tonumber(a)) end
    if kind == 'bytes' then out[a] = tonumber(b) end
  end
  pipe:close()
  out.seconds = best
  return best < math.huge and out or nil
end

-- The machine's line and what the measurement was made with, as in docs/results.md.
local function heading(runs)
  local policy, others, n, libraries = {}, 0, 0, machine.libraries()
  for _, run in ipairs(runs) do
    for side, series in pairs(run.sides) do
      policy[side == 'ldlua' and 'ldlua' or 'PyTorch'] = series.policy
      for _, share in ipairs(series.others) do others, n = others + share, n + 1 end
    end
  end
  return ([[
    machine    %s
    commit     %s
    command    %s
    versions   %sPyTorch %s
    waiting    OMP_WAIT_POLICY of ldlua %s, of PyTorch %s
    load       other programs took %s of the cores
]]):format(machine.describe(cores), machine.commit(), os.getenv('BENCH_COMMAND') or 'tests/bench/run',
    libraries and libraries .. ', ' or '', torch_version or '(none)', policy.ldlua or '(not run)',
    policy.PyTorch or '(not run)', n > 0 and ('%.0f %%'):format(100 * others / n) or '(unknown)')
end

local names, with_startup = {}, opt.only == ''
for word in opt.only:gmatch('[^,%s]+') do
  if word == 'startup' then with_startup = true else names[#names + 1] = word end
end
local chosen, unknown = cases.choose(table.concat(names, ','))
if not chosen then ld.fail("no case '%s'; known: startup and the names in tests/bench/cases.lua", unknown) end
if #names == 0 and opt.only ~= '' then chosen = {} end

ld.make_dirs('build/bench')
if no_torch then
  say([[
PyTorch is not here (%s), so that ldlua is timed alone, unchecked. To compare:
    python3 -m venv .venv && .venv/bin/pip install torch safetensors numpy]], no_torch)
end
local runs, bad = {}, false
for i, case in ipairs(chosen) do
  runs[i] = measure(case)
  bad = bad or runs[i].failures.ldlua or runs[i].failures.check
end
local parts = {heading(runs), report.times(runs) or false, report.convolutions(runs) or false,
               report.goals(runs, with_startup and startup()) or false}
local text = {}
for _, part in ipairs(parts) do
  if part then text[#text + 1] = part end
end
text = table.concat(text, '\n')
print('\n' .. text)
if opt.write then
  report.write('docs/results.md', text)
  print('written to docs/results.md')
end
os.exit(bad and 1 or 0, true)
