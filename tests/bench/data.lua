-- The driver of `make bench-data`: pictures to pixels beside a PyTorch DataLoader with Pillow, and pictures to latents
-- beside decoding and encoding alone.
--
--   make bench-data ARGS='--pictures FOLDER [--files 10000 --transform adm]'
--
-- The pictures of FOLDER are listed again and again, as symbolic links, until there are `files` of them. Both sides
-- first decode the first 64, which must agree within 1 of 255. Then they take turns on the same cores, in processes of
-- their own; the first batch, with which threads or worker processes start, counts on neither side. PyTorch is given as
-- many workers as there are cores, and one more; its better median counts.
local ld = require 'ld'
local machine = dofile 'tests/bench/machine.lua'
local process = dofile 'tests/bench/process.lua'
local report = dofile 'tests/bench/report.lua'
local Series = dofile 'tests/bench/series.lua'

local opt = ld.options{
  pictures = '', files = 10000, transform = 'adm', size = 256, batch = 16,
  rounds = 3, threads = 2, vae = 'data/vae-small.h5',
  encode_files = 1000,           -- of the way into latents, which is slower
  limit = 900,                   -- seconds a process may take
  write = false,                 -- into docs/results.md
}
if opt.pictures == '' then ld.fail('bench-data: --pictures FOLDER is needed') end

local ldlua, python = os.getenv('BENCH_LDLUA') or './ldlua', os.getenv('BENCH_PYTHON') or 'python3'
local no_torch = os.getenv('BENCH_NO_TORCH')
local scratch = os.getenv('BENCH_SCRATCH') or 'build/bench'
local cores = machine.cores(opt.threads)
local FIRST = 64

local function say(text, ...) print(text:format(...)) io.stdout:flush() end

local function quoted(word) return "'" .. word:gsub("'", "'\\''") .. "'" end

-- A folder of n links to the pictures in turn, and the list of them.
local function repeated(n, name)
  local folder, list = scratch .. '/' .. name, {}
  local root = machine.shell(("readlink -f '%s'"):format(opt.pictures))
  local set = ld.images.open(root, {size = opt.size})
  local script = {}
  for i = 0, n - 1 do
    local to = ('%s/%03d/%07d%s'):format(folder, math.floor(i / 1000), i, '.jpg')
    if i % 1000 == 0 then script[#script + 1] = ("mkdir -p '%s/%03d'"):format(folder, i / 1000) end
    script[#script + 1] = ("ln -s %s '%s'"):format(quoted(root .. '/' .. set:file_name(i % set.count + 1)), to)
    list[#list + 1] = to .. '\n'
  end
  ld.core.write_file(scratch .. '/links.sh', table.concat(script, '\n') .. '\n')
  ld.core.write_file(folder .. '.txt', table.concat(list))
  machine.shell(("sh '%s/links.sh'"):format(scratch))
  say('%d pictures of %s, listed %d times over in %s', set.count, opt.pictures, math.ceil(n / set.count), folder)
  return folder
end

local function side(what, folder, extra)
  local words = {ldlua, '--threads', opt.threads, 'tests/bench/data_side.lua', what, folder}
  if what == 'check' then words[#words + 1] = scratch .. '/own.raw' end
  for _, word in ipairs{'--size', opt.size, '--batch', opt.batch, '--transform', opt.transform} do
    words[#words + 1] = word
  end
  for _, word in ipairs(extra or {}) do words[#words + 1] = word end
  local out, why = process.run(words, {cores = cores, limit = opt.limit})
  if not out then ld.fail('bench-data: ldlua %s: %s', what, why) end
  return out
end

local function torch(what, folder, workers)
  local out, why = process.run({python, 'tests/bench/torch_data.py', what, folder .. '.txt', '--out',
                                scratch .. '/other.raw', '--transform', opt.transform, '--size', opt.size, '--batch',
                                opt.batch, '--workers', workers or 0, '--first', FIRST},
                               {cores = cores, limit = opt.limit})
  if not out then ld.fail('bench-data: PyTorch %s: %s', what, why) end
  return out
end

-- The first pictures of both sides: largest and mean difference.
local function compare(folder)
  side('check', folder, {'--first', FIRST})
  local versions = torch('check', folder).version
  local a, b = assert(io.open(scratch .. '/own.raw', 'rb')), assert(io.open(scratch .. '/other.raw', 'rb'))
  local x, y = a:read('*a'), b:read('*a')
  a:close()
  b:close()
  if #x ~= #y then ld.fail('bench-data: %d bytes of pixels here, %d there', #x, #y) end
  local largest, sum = 0, 0
  for i = 1, #x do
    local d = math.abs(x:byte(i) - y:byte(i))
    if d > largest then largest = d end
    sum = sum + d
  end
  say('the first %d pictures: differences of at most %d of 255, %.4f on average', FIRST, largest, sum / #x)
  if largest > 1 then ld.fail('bench-data: the two sides do not compute the same pictures; nothing is timed') end
  return versions, largest
end

local rates, others = {}, {}

local function note(label, out)
  rates[label] = rates[label] or {}
  table.insert(rates[label], out.rate[1][2])
  others[#others + 1] = out.others
  say('  %-22s %8.1f pictures/s, other programs %.0f %% of the cores', label, out.rate[1][2], out.others * 100)
end

local function median(label) return rates[label] and (Series.spread(rates[label])) end

local function row(label, text)
  local middle, least, most = Series.spread(rates[label])
  return middle and ('| %s | %.0f | %.0f | %.0f |\n'):format(text or label, middle, least, most) or ''
end

local function goal(what, value, least)
  return ('| %s | at least %.1f | %s | %s |\n'):format(what, least, value and ('%.2f'):format(value) or 'not measured',
    value and (value >= least and 'met' or 'missed') or '')
end

local versions, largest
local many, few = repeated(opt.files, 'many'), repeated(opt.encode_files, 'few')
if no_torch ~= '' then say('PyTorch and Pillow are not here (%s): ldlua is timed alone', no_torch)
else versions, largest = compare(many) end
for round = 1, opt.rounds do
  say('round %d', round)
  note('ldlua', side('decode', many))
  if no_torch == '' then
    for _, workers in ipairs{opt.threads, opt.threads + 1} do
      note(('DataLoader, %d workers'):format(workers), torch('time', many, workers))
    end
  end
  note('decode alone', side('decode', few))
  note('encode alone', side('encode', few, {'--vae', opt.vae}))
  note('pictures to latents', side('both', few, {'--vae', opt.vae, '--out', scratch .. '/store.h5'}))
end

local shares = {}
for _, entry in ipairs(side('load', few, {'--out', scratch .. '/random.h5'}).share) do
  shares[entry[1]] = entry[2]
  say('  %-22s %8.3f %% of a training step', entry[1], entry[2] * 100)
end

local best = math.max(median(('DataLoader, %d workers'):format(opt.threads)) or 0,
  median(('DataLoader, %d workers'):format(opt.threads + 1)) or 0)
local slower = math.min(median('decode alone'), median('encode alone'))
local busy = 0
for _, share in ipairs(others) do busy = busy + share / #others end
local text = ([[
    machine    %s
    commit     %s
    command    %s
    pictures   %d files and %d on the way to latents, transform %s to %d x %d%s
    versions   %s
    load       other programs took %.0f %% of the cores

| what, pictures a second | median | least | most |
| --- | ---: | ---: | ---: |
]]):format(machine.describe(cores), machine.commit(), os.getenv('BENCH_COMMAND') or 'tests/bench/data.lua', opt.files,
    opt.encode_files, opt.transform, opt.size, opt.size,
    largest and (', both sides within %d of 255'):format(largest) or '',
    versions and ('PyTorch %s, Pillow %s'):format(versions[1][2], versions[2][2]) or '(no PyTorch)', 100 * busy)
text = text .. row('ldlua', 'ldlua, decoded and transformed') ..
  row(('DataLoader, %d workers'):format(opt.threads),
      ('PyTorch DataLoader with Pillow, %d workers'):format(opt.threads)) ..
  row(('DataLoader, %d workers'):format(opt.threads + 1), ('the same, %d workers'):format(opt.threads + 1)) ..
  row('decode alone', 'ldlua, decode alone, the fewer files') ..
  row('encode alone', 'ldlua, encode alone, ' .. opt.vae) ..
  row('pictures to latents', 'ldlua, pictures to a store of latents') ..
  '\n| what | goal | measured | |\n| --- | --- | ---: | ---: |\n' ..
  goal('decode and transform over the DataLoader at its best', best > 0 and median('ldlua') / best, 1.3) ..
  goal('pictures to latents over the slower of decode and encode alone', median('pictures to latents') / slower, 0.9)
for _, name in ipairs{'resident', 'read ahead'} do
  text = text .. ('| latents for a U-Net step (40 M, batch 16), %s | at most 2 %% of it | %.3f %% | %s |\n'):format(
    name, shares[name] * 100, shares[name] <= 0.02 and 'met' or 'missed')
end
print('\n' .. text)
if opt.write then
  report.write('docs/results.md', text, 'bench-data')
  print('written to docs/results.md')
end
