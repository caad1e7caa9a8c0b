-- Checkpoints of a run over time: which are kept, damaged ones, full disks, failures at every point.
local ld = require 'ld'
local ffi = require 'ffi'
local t = dofile 'tests/lua/harness.lua'
local get, put = t.get, t.put

local tmp = os.getenv 'TEST_TMP' or '/tmp/ldlua-test-run-keep'
local ldlua = os.getenv 'LDLUA' or './ldlua'
os.execute('mkdir -p ' .. tmp)

local training = dofile 'tests/tools/run_training.lua'
local serial = 0
local function fresh()
  serial = serial + 1
  return ('%s/run-%d'):format(tmp, serial)
end

-- Names in a folder, hidden ones too.
local function names(folder)
  local pipe = io.popen('ls -A ' .. folder .. ' 2>/dev/null')
  local text = pipe:read('*a')
  pipe:close()
  return (text:gsub('%s+', ' '):gsub(' $', ''))
end

local function images_of(path)
  local c = ld.checkpoint.open(path)
  c.file:close()
  return c.record.images
end

-- What a run prints, without printing it.
local function told(run)
  local lines = {}
  function run.say(_, text, ...) lines[#lines + 1] = text:format(...) end
  return lines
end

-- ---- which are kept -------------------------------------------------------------------------------------------------

t.test('the newest ones stay, and one behind every so many images', function()
  local folder = fresh()
  local run = training.start(folder, {save_minutes = 0, keep = {last = 2, every = 50}})
  training.go(run, 4) -- 148 images, a checkpoint after each step
  t.eq(names(folder .. '/checkpoints'), '000000000053.h5 000000000106.h5 000000000143.h5 000000000148.h5')
  t.eq(images_of(folder .. '/last.h5'), 148)
  t.eq(images_of(folder .. '/checkpoints/000000000053.h5'), 53)
end)

t.test('every alone makes checkpoints when its images are reached', function()
  local folder = fresh()
  training.go(training.start(folder, {save_minutes = 60, keep = {last = 1, every = 40}}), 3)
  t.eq(names(folder .. '/checkpoints'), '000000000045.h5 000000000082.h5 000000000111.h5')
end)

t.test('best.h5 is the best of those that stay', function()
  local folder, values, n = fresh(), {1, 5, 2, 7, 9}, 0
  local run = training.start(folder, {keep = {best = 2}})
  training.go(run, 1, function() n = n + 1; run:best(values[n]) end)
  t.eq(names(folder .. '/checkpoints'), '000000000037.h5 best-000000000032.h5 best-000000000037.h5')
  t.eq(images_of(folder .. '/best.h5'), 37)
  local none = training.start(fresh(), {keep = {best = 0}})
  training.go(none, 1, function() t.eq(none:best(1), none.images == 0) end)
  t.eq(names(none.folder), 'checkpoints last.h5 log.jsonl report.html')
end)

t.test('keep refuses what makes no sense', function()
  for _, case in ipairs{{{last = 0}, 'keep.last is 0; a whole number, at least 1'}, {{last = 1.5}, 'keep.last is 1.5'},
                       {{best = -1}, 'keep.best is %-1'}, {{every = -5}, 'keep.every is %-5; a number, at least 0'},
                       {{newest = 1}, "run: keep: unknown option 'newest'"}} do
    t.raises(function() training.start(fresh(), {keep = case[1]}) end, case[2])
  end
end)

t.test('checkpoints beyond the clock are left alone', function()
  local folder = fresh()
  training.go(training.start(folder, {save_minutes = 0, keep = {last = 3}}), 2)
  t.eq(names(folder .. '/checkpoints'), '000000000061.h5 000000000069.h5 000000000074.h5')
  ld.core.link_file(folder .. '/checkpoints/000000000061.h5', folder .. '/last.h5') -- the user goes back
  local run = training.start(folder, {keep = {last = 1}})
  t.eq(run.images, 61)
  run:start(training.data, 8, 3)
  run:save()
  t.eq(names(folder .. '/checkpoints'), '000000000061.h5 000000000069.h5 000000000074.h5')
end)

-- ---- damage ---------------------------------------------------------------------------------------------------------

local function flip(path, at)
  local bytes = get(path)
  put(path .. '.new', bytes:sub(1, at) .. string.char((bytes:byte(at + 1) + 64) % 256) .. bytes:sub(at + 2))
  os.rename(path .. '.new', path) -- not in place: another name of the file keeps the good bytes
end

t.test('any flipped byte is found, wherever it is', function()
  local folder = fresh()
  training.go(training.start(folder), 1)
  local path, copy = folder .. '/last.h5', folder .. '/copy.h5'
  local bytes = get(path)
  ld.checkpoint.open(path).file:close()
  for at = 0, #bytes - 1, 911 do
    put(copy, bytes)
    flip(copy, at)
    t.raises(function() ld.checkpoint.open(copy) end, 'copy.h5 is damaged')
  end
  t.raises(function() ld.models.classifier.load(copy) end, 'test_run_keep.lua:%d+: hdf5: .*copy.h5 is damaged')
  for _, n in ipairs{0, 1, 12, 100, 4096, 5000, #bytes - 1} do
    put(copy, bytes:sub(1, n))
    t.raises(function() ld.checkpoint.open(copy) end, 'copy.h5 is damaged')
  end
  put(copy, bytes .. 'x')
  t.raises(function() ld.checkpoint.open(copy) end, ('it has %d bytes, %d were written'):format(#bytes + 1, #bytes))
end)

t.test('a damaged checkpoint is told, and the newest good one goes on to the same end', function()
  local whole, cut = fresh(), fresh()
  training.go(training.start(whole), 3)
  local stop = 0
  training.go(training.start(cut, {save_minutes = 0, keep = {last = 3}}), 3, function()
    stop = stop + 1
    return stop == 10 -- the ninth step's checkpoint is the last
  end)
  t.eq(names(cut .. '/checkpoints'), '000000000053.h5 000000000061.h5 000000000069.h5')
  for _, name in ipairs{'last.h5', 'checkpoints/000000000069.h5', 'checkpoints/000000000061.h5'} do
    flip(cut .. '/' .. name, 20000)
  end
  ld.core.unlock_folder(cut)
  local text = put(tmp .. '/back.lua', ([[
local training = dofile 'tests/tools/run_training.lua'
training.go(training.start('%s', {quiet = false}), 3)
]]):format(cut))
  local pipe = io.popen(ldlua .. ' ' .. text .. ' 2>&1')
  local lines = pipe:read('*a')
  pipe:close()
  t.ok(lines:find('hdf5: ' .. cut .. '/last.h5 is damaged', 1, true) == 1, lines)
  t.ok(lines:find('going back to ' .. cut .. '/checkpoints/000000000053.h5\n', 1, true), lines)
  t.ok(lines:find('resumed ' .. cut .. '/checkpoints/000000000053.h5 at 53 images', 1, true), lines)
  t.eq(training.content(cut .. '/last.h5'), training.content(whole .. '/last.h5'))
  t.eq(names(cut .. '/checkpoints'), '000000000053.h5 000000000061.h5.damaged 000000000069.h5.damaged 000000000111.h5')
end)

t.test('all damaged: an error, and nothing is touched', function()
  local folder = fresh()
  training.go(training.start(folder), 1)
  flip(folder .. '/last.h5', 5000)
  flip(folder .. '/checkpoints/000000000037.h5', 5000)
  t.raises(function() training.start(folder) end, 'last.h5 is damaged')
  t.eq(names(folder .. '/checkpoints'), '000000000037.h5')
end)

t.test('a last.h5 that is missing is found among the generations; a run folder of one file is good too', function()
  local folder, moved = fresh(), fresh()
  training.go(training.start(folder), 1)
  os.execute(('mkdir -p %s && cp %s/last.h5 %s/'):format(moved, folder, moved))
  os.remove(folder .. '/last.h5')
  t.eq(training.start(folder).images, 37)
  t.eq(images_of(folder .. '/last.h5'), 37)
  t.eq(training.start(moved).images, 37)
end)

t.test('a damaged best.h5 is told and replaced', function()
  local folder = fresh()
  local run = training.start(folder)
  training.go(run, 1, function() run:best(run.images) end)
  flip(folder .. '/best.h5', 9000)
  local again = training.start(folder)
  t.eq(again.best_value, nil)
end)

-- ---- the schedule ---------------------------------------------------------------------------------------------------

t.test('a learning rate is a function of images, whatever the batch is after a resume', function()
  for _, make in ipairs{function() return ld.schedule.one_cycle{max = 1} end,
                        function() return ld.schedule.cosine{max = 1, warmup = 30} end,
                        function() return ld.schedule.constant{max = 1, warmup = 30} end} do
    local rates = {}
    local function train(folder, batch, upto)
      local run = training.start(folder, {schedule = make()})
      for b in run:batches(training.data, batch, 4) do
        run:step(function(part) return training.loss(run, part or b) end)
        rates[#rates + 1] = {b.first, run.optim.lr}
        if b.first >= upto then run:save() break end
      end
    end
    train(fresh(), 8, 1e9)
    local at = {}
    for _, r in ipairs(rates) do at[r[1]] = r[2] end
    local folder = fresh()
    rates = {}
    train(folder, 8, 24)
    train(folder, 16, 1e9)
    local compared = 0
    for _, r in ipairs(rates) do
      if at[r[1]] then
        t.eq(r[2], at[r[1]], 'at ' .. r[1])
        compared = compared + 1
      end
    end
    t.ok(compared >= 10, compared)
    t.eq(rates[5][1], 32)
    t.eq(rates[6][1], 37)
    t.eq(rates[7][1], 53)
  end
end)

t.test('warm-up is in images', function()
  local f = ld.schedule.constant{max = 1, warmup = 64}
  t.near(f(0, 640, 16), 1 / 5, 1e-15)
  t.near(f(32, 640, 16), 3 / 5, 1e-15)
  t.eq(f(64, 640, 16), 1)
  t.eq(f(64, 640, 32), 1)
end)

t.test('micro-batches leave the schedule and the clock as they are', function()
  local seen = {}
  for _, micro in ipairs{0, 4} do
    local run, list = training.start(fresh(), {micro = micro}), {}
    for batch in run:batches(training.data, 8, 2) do
      run:step(function(part) return training.loss(run, part) end)
      list[#list + 1] = ('%d %.17g'):format(batch.first, run.optim.lr)
    end
    seen[#seen + 1] = table.concat(list, '\n')
  end
  t.eq(seen[1], seen[2])
end)

-- ---- room and failures ----------------------------------------------------------------------------------------------

t.test('without room training goes on; at the end it is an error', function()
  local folder = fresh()
  local run = training.start(folder, {save_minutes = 0})
  local lines, free, steps = told(run), ld.core.disk_free, 0
  local ok, message = pcall(training.go, run, 2, function()
    steps = steps + 1
    if steps == 3 then ld.core.disk_free = function() return 2 ^ 20 end end
  end)
  ld.core.disk_free = free
  t.eq(steps, 10)
  t.ok(not ok and message:find('a checkpoint takes about [%d.]+ MiB, and the disk of .* has 1 MiB left; the last good '
    .. 'checkpoint is ' .. folder:gsub('%p', '%%%0') .. '/last.h5'), message)
  t.ok(lines[#lines]:find('training goes on', 1, true), lines[#lines])
  t.eq(images_of(folder .. '/last.h5'), 16)
  t.eq(names(folder .. '/checkpoints'), '000000000008.h5 000000000016.h5')
  training.go(training.start(folder), 2)
  t.eq(images_of(folder .. '/last.h5'), 74)
end)

ffi.cdef[[
typedef struct { unsigned long now, most; } test_limit;
int getrlimit(int what, test_limit *l);
int setrlimit(int what, const test_limit *l);
int fcntl(int fd, int what, ...);
]]
local function with_file_size(n, f)
  local FSIZE, was, now = 1, ffi.new 'test_limit', ffi.new 'test_limit'
  assert(ffi.C.getrlimit(FSIZE, was) == 0)
  now.now, now.most = n, was.most
  assert(ffi.C.setrlimit(FSIZE, now) == 0)
  local results = {pcall(f)}
  assert(ffi.C.setrlimit(FSIZE, was) == 0)
  return unpack(results)
end

-- Live bytes and tensors when nothing is left to collect.
local function memory()
  collectgarbage()
  collectgarbage()
  local m = ld.memory()
  return {live = m.live, tensors = m.tensors}
end

-- No more is live than before; what earlier tests left may have gone meanwhile.
local function no_more(before, what)
  local m = memory()
  t.ok(m.live <= before.live and m.tensors <= before.tensors, ('%s: %d bytes in %d tensors, then %d in %d'):format(what,
    before.live, before.tensors, m.live, m.tensors))
  before.live, before.tensors = m.live, m.tensors
end

-- Descriptors that this process has open.
local function open_files()
  local GETFD, n = 1, 0
  for fd = 0, 255 do n = n + (ffi.C.fcntl(fd, GETFD) >= 0 and 1 or 0) end
  return n
end

-- A run after three steps with a checkpoint of the second.
local function run_with_checkpoint(folder)
  local run, steps = training.start(folder, {plan = false}), 0
  training.go(run, 3, function()
    steps = steps + 1
    if steps == 2 then run:save() end
    return steps == 3
  end)
  return run
end

-- After a save that failed: the checkpoint before is there and good, nothing is left of the new one, no memory is lost.
local function all_is_well(run, before, what)
  no_more(before.memory, what)
  t.eq(open_files(), before.files, what)
  t.eq(names(run.folder .. '/checkpoints'), '000000000016.h5', what)
  t.eq(images_of(run.folder .. '/last.h5'), 16, what)
end

t.test('a file that cannot grow, at every length of a checkpoint', function()
  local run = run_with_checkpoint(fresh())
  local _, size = ld.file_kind(run.last)
  local before, failures = {memory = memory(), files = open_files()}, 0
  for limit = 0, size - 1, math.ceil(size / 60) do
    local ok, message = with_file_size(limit, function() run:save() end)
    t.ok(not ok, limit)
    t.ok(message:find('File too large', 1, true) or message:find('hdf5: ', 1, true), message)
    failures = failures + 1
    all_is_well(run, before, limit .. ' bytes')
  end
  t.ok(failures >= 60)
  run:save()
  t.eq(images_of(run.last), 24)
end)

t.test('a log that cannot grow: training goes on, and its lines come when it can', function()
  local run, steps = training.start(fresh(), {log_every = 1, report_minutes = 0}), 0
  local lines, _, size = told(run), ld.file_kind(run.log_path)
  for batch in run:batches(training.data, 8, 3) do
    steps = steps + 1
    local function step() return run:step(function(part) return training.loss(run, part or batch) end) end
    if steps == 1 then _, size = ld.file_kind(run.log_path) end
    if steps > 3 and steps < 8 then
      local ok, message = with_file_size(size + 700, step) -- some lines, and part of one
      t.ok(ok, message)
    else
      step()
    end
  end
  t.ok(table.concat(lines, '\n'):find('warning: cannot write .*log.jsonl: File too large; its lines are kept'), lines)
  run:finish()
  local want = {}
  for line in io.lines(run.log_path) do
    local entry = ld.json_decode(line)
    t.eq(type(entry), 'table', line)
    if not entry.event then want[#want + 1] = entry.images end
  end
  t.eq(want, {8, 16, 24, 32, 37, 45, 53, 61, 69, 74, 82, 90, 98, 106, 111})
end)

t.test('every call that makes, writes, syncs or renames a file fails once', function()
  local run = run_with_checkpoint(fresh())
  local old, new = run.folder .. '/checkpoints/000000000016.h5', run.folder .. '/checkpoints/000000000024.h5'
  local before, failures = {memory = memory(), files = open_files()}, 0
  for k = 1, 30 do
    ld.core.file_fail_at(k)
    local ok, message = pcall(run.save, run)
    ld.core.file_fail_at(0)
    message = k .. ': ' .. tostring(message)
    no_more(before.memory, message)
    t.eq(open_files(), before.files, message)
    local images = images_of(run.last) -- the new one may have got its name before the failure
    t.ok(images == 24 or (images == 16 and not ok), message)
    if not ok then
      failures = failures + 1
      t.ok(message:find('Input/output error', 1, true), message)
    end
    local list = names(run.folder .. '/checkpoints')
    t.ok(list == '000000000016.h5' or list == '000000000016.h5 000000000024.h5', message)
    ld.core.link_file(old, run.last)
    os.remove(new)
  end
  -- make, flush, open, write and sync the sum, sync, rename, sync the folder; the second name: make, sync, rename, sync
  -- the folder, but not the link itself, in place of which a copy is made
  t.eq(failures, 12)
end)

-- A checkpoint is written from the host's memory, whatever the device.
t.test('memory that cannot be had, at every request of a checkpoint', function()
  local run = run_with_checkpoint(fresh())
  local before, failures = {memory = memory(), files = open_files()}, 0
  for k = 1, 1000 do
    ld.core.memory_fail_at(k, 'cpu')
    local ok, message = pcall(run.save, run)
    ld.core.memory_fail_at(0, 'cpu')
    if ok then break end
    failures = failures + 1
    t.ok(message:find('memory', 1, true), message)
    all_is_well(run, before, message)
  end
  t.ok(failures >= 1, failures .. ' failures')
  t.eq(images_of(run.last), 24)
end)

-- All numbers that a step changes.
local function numbers(run)
  local out, seed, draws = {}, ld.seed()
  for _, part in ipairs{run.model:state(), run.ema:state(), run.optim:state()} do
    for name, x in pairs(part) do out[#out + 1] = name .. ld.json_encode(x:tolist()) end
  end
  table.sort(out)
  out[#out + 1] = ('seed %s %s'):format(seed, draws)
  return ld.core.sha256(table.concat(out, '\n'))
end

t.test('memory that cannot be had, at every request of a step: nothing has changed, and the step comes out the same',
  function()
    for _, micro in ipairs{0, 4} do
      local run = training.start(fresh(), {plan = false, micro = micro, graph = false})
      local steps, failures = 0, 0
      local want = training.start(fresh(), {plan = false, micro = micro, graph = false})
      local function step(r, batch) return r:step(function(part) return training.loss(r, part or batch) end) end
      local after
      ld.seed(11)
      for batch in want:batches(training.data, 8, 1) do
        if steps == 1 then ld.seed(12) end
        step(want, batch)
        steps = steps + 1
        if steps == 2 then break end
      end
      after = numbers(want)
      ld.seed(11)
      steps = 0
      for batch in run:batches(training.data, 8, 1) do
        steps = steps + 1
        if steps == 2 then
          run:save()
          ld.seed(12)
          local before, memory_before = numbers(run), memory()
          for k = 1, 5000 do
            ld.core.memory_fail_at(k)
            local ok, message = pcall(step, run, batch)
            ld.core.memory_fail_at(0)
            if ok then break end
            failures = failures + 1
            t.ok(tostring(message):find('memory', 1, true), message)
            no_more(memory_before, k .. ': ' .. tostring(message))
            t.eq(numbers(run), before, k .. ': ' .. tostring(message))
          end
          break
        end
        step(run, batch)
      end
      t.ok(failures > 50, failures .. ' failures')
      t.eq(numbers(run), after)
      t.eq(images_of(run.last), 8)
    end
  end)

t.finish()
