-- Training runs: resuming, steps that are not finite, stopping, the clock, logs, memory.
local ld = require 'ld'
local t = dofile 'tests/lua/harness.lua'
local get, put = t.get, t.put

local tmp = os.getenv 'TEST_TMP' or '/tmp/ldlua-test-run'
local ldlua = os.getenv 'LDLUA' or './ldlua'
os.execute('mkdir -p ' .. tmp)

-- The same text serves in child processes.
local training = put(tmp .. '/training.lua', get 'tests/tools/run_training.lua')
training = dofile(training)

local serial = 0
local function fresh()
  serial = serial + 1
  return ('%s/run-%d'):format(tmp, serial)
end

local content = training.content

local function log(folder)
  local out = {}
  for line in io.lines(folder .. '/log.jsonl') do
    local entry = ld.json_decode(line)
    t.eq(type(entry), 'table', 'log line ' .. line)
    out[#out + 1] = entry
  end
  return out
end

-- ---- resuming -------------------------------------------------------------------------------------------------------

t.test('a run resumed in the middle ends as an uninterrupted one, byte for byte', function()
  local whole = fresh()
  training.go(training.start(whole), 4)
  local want = content(whole .. '/last.h5')
  t.eq(want.record.images, 4 * 37)
  local n = 0
  for name in pairs(want) do
    if name:match('^model/') or name:match('^optimizer/') or name:match('^ema/') then n = n + 1 end
  end
  t.ok(n > 40, n .. ' tensors')
  for _, at in ipairs{1, 4, 5, 13, 19} do -- in an epoch, at its end (5 steps each), in the last one
    local cut, steps = fresh(), 0
    training.go(training.start(cut), 4, function(_, run)
      steps = steps + 1
      if steps == at then run:save() end
      return steps == at + (at == 13 and 2 or 0) -- two steps behind the checkpoint are lost
    end)
    ld.seed(1000 + at) -- whatever the process did meanwhile
    ld.randn{3}
    local run = training.start(cut)
    t.ok(run.resumed)
    training.go(run, 4)
    t.eq(content(cut .. '/last.h5'), want, 'stopped after step ' .. at)
  end
end)

t.test('best.h5 does not put off last.h5', function()
  local folder = fresh()
  local run = training.start(folder, {save_minutes = 5})
  local saved = 0
  local save = run.save
  function run.save(self, path)
    if not path then saved = saved + 1 end
    return save(self, path)
  end
  local value = 0
  for batch in run:batches(training.data, 8, 1000) do
    run:step(function() return training.loss(run, batch) end)
    value = value + 1
    run:best(value) -- every step is better than the one before
    run.saved_at = run.saved_at - 100 -- 100 seconds go by
    if value == 20 then break end
  end
  t.ok(saved >= 6, ('last.h5 was written %d times in 2000 seconds'):format(saved)) -- more where steps take their time
end)

t.test('what a killed process left of a file it was writing is removed, what others are writing is not', function()
  local folder = fresh()
  ld.make_dirs(folder)
  local pipe = io.popen('echo $$')
  local gone = pipe:read('*n')
  pipe:close() -- and it is gone
  local function name(pid) return ('%s/.last.h5.%d-0.tmp'):format(folder, pid) end
  put(name(gone), 'half')
  put(name(1), 'of a process that lives')
  put(folder .. '/.notes.tmp', 'of a user')
  put(folder .. '/.a.12-b.tmp', 'of a user')
  training.start(folder)
  t.eq(ld.file_kind(name(gone)), nil)
  t.eq(ld.file_kind(name(1)), 'file')
  t.eq(ld.file_kind(folder .. '/.notes.tmp'), 'file')
  t.eq(ld.file_kind(folder .. '/.a.12-b.tmp'), 'file')
end)

t.test('averaged uses the averages, or the live weights where there are none', function()
  local folder = fresh()
  local run = training.go(training.start(folder), 1)
  local function first() return run.model:parameters()[1]:tolist() end
  local live = first()
  local batches = function() run.model(ld.randn(4, 2, 8, 8)) end
  t.ok(ld.json_encode(run:averaged(first, batches)) ~= ld.json_encode(live))
  run.ema = nil
  run.model:train()
  t.eq(run:averaged(first), live)
  t.eq({run:averaged(function() return run.model.training, nil, 3 end)}, {false, nil, 3})
  t.eq(run.model.training, true)
end)

t.test('two processes do not train into one folder', function()
  local folder = fresh()
  local other = put(tmp .. '/other.lua', ([[
dofile('%s/training.lua').start('%s')
print 'started'
]]):format(tmp, folder))
  local function try()
    local pipe = io.popen(('%s %s 2>&1'):format(ldlua, other))
    local text = pipe:read('*a')
    pipe:close()
    return text
  end
  local run = training.start(folder)
  training.start(folder) -- the same process may
  local said = try()
  t.ok(said:find('is in use: another process is training there', 1, true), said)
  training.go(run, 1)
  said = try()
  t.ok(said:find('started', 1, true), said)
end)

t.test('a log that cannot be read is told', function()
  local folder = fresh()
  ld.make_dirs(folder .. '/log.jsonl')
  t.raises(function() training.start(folder) end, 'log.jsonl: Is a directory')
end)

t.test('batches and epochs that make no sense are refused', function()
  local run = training.start(fresh())
  for _, case in ipairs{{2.5, 1, 'a batch of 2.5'}, {8, 0, '0 epochs'}, {8, -1, '-1 epochs'},
                       {8, 0 / 0, 'nan epochs'}} do
    t.raises(function() run:batches(training.data, case[1], case[2]) end, case[3])
  end
  run:start(training.data, 8, 1)
  t.raises(function() run:every{epochs = 0} end, 'run:every: images or epochs')
  t.raises(function() run:every{steps = 3} end, 'run:every: images or epochs')
end)

t.test('several kills with signal 9 and restarts end in the same weights', function()
  local whole, cut = fresh(), fresh()
  training.go(training.start(whole), 40)
  local child = put(tmp .. '/child.lua', ([[
local training = dofile '%s/training.lua'
training.go(training.start('%s', {save_minutes = 0, quiet = false}), 40)
]]):format(tmp, cut))
  local output = tmp .. '/child.txt'
  math.randomseed(os.time())
  local kills, moments = 0, {}
  for _ = 1, 4 do
    local seconds = 0.3 * math.random() -- from its start, the first time from its first checkpoint
    moments[#moments + 1] = ('%.3f'):format(seconds)
    local status = io.popen(([[{ %s %s >%s 2>&1 & pid=$!; while [ ! -e %s/last.h5 ]; do sleep 0.02; done
      sleep %.3f; kill -9 $pid; wait $pid; echo $?; } 2>/dev/null]]):format(ldlua, child, output, cut, seconds))
      :read('*a')
    if status:match('137') then kills = kills + 1 end
  end
  t.ok(kills > 0, 'no process was killed in time')
  t.eq(os.execute(('%s %s >%s 2>&1'):format(ldlua, child, output)), 0, get(output))
  t.eq(content(cut .. '/last.h5'), content(whole .. '/last.h5'), 'killed after s: ' .. table.concat(moments, ' '))
  local entries, resumed = log(cut), 0 -- whole lines of JSON, whatever the kill cut
  for _, entry in ipairs(entries) do resumed = resumed + (entry.event == 'resumed' and 1 or 0) end
  t.ok(resumed > 0 and resumed <= 4, resumed .. ' resumed')
end)

t.test('half a line at the end of the log is cut off', function()
  local folder = fresh()
  training.go(training.start(folder), 1)
  local before = get(folder .. '/log.jsonl')
  put(folder .. '/log.jsonl', before .. '{"images": 1')
  training.start(folder)
  t.eq(get(folder .. '/log.jsonl'):sub(1, #before), before)
  t.eq(log(folder)[#log(folder)].event, 'resumed')
end)

t.test('SIGTERM saves, says so and exits 0; the next run goes on', function()
  local whole, cut = fresh(), fresh()
  training.go(training.start(whole), 60)
  local child = put(tmp .. '/term.lua', ([[
local training = dofile '%s/training.lua'
local run = training.start('%s', {quiet = false})
training.go(run, 60, function() io.open('%s/started', 'w'):close() end)
]]):format(tmp, cut, tmp))
  local output = tmp .. '/term.txt'
  local status = io.popen(([[%s %s >%s 2>&1 & pid=$!; while [ ! -e %s/started ]; do sleep 0.02; done
    kill -TERM $pid; wait $pid; echo $?]]):format(ldlua, child, output, tmp)):read('*a')
  t.eq(status, '0\n', get(output))
  local images = tonumber(get(output):match('SIGTERM: stopped at (%d+) images'))
  t.ok(images and images > 0 and images < 60 * 37, get(output))
  t.eq(content(cut .. '/last.h5').record.images, images)
  t.eq(os.execute(('%s %s >%s 2>&1'):format(ldlua, child, output)), 0, get(output))
  t.ok(get(output):find(('resumed %s/last.h5 at %d images'):format(cut, images), 1, true), get(output))
  t.eq(content(cut .. '/last.h5'), content(whole .. '/last.h5'))
end)

t.test('changed options are told at resume', function()
  local folder = fresh()
  training.go(training.start(folder, {opt = {lr = 1e-2, channels = {4, 6}, same = 'x'}}), 1)
  local child = put(tmp .. '/changed.lua', ([[
local training = dofile '%s/training.lua'
training.start('%s', {quiet = false, opt = {lr = 2e-2, channels = {4, 8}, same = 'x', more = true}})
]]):format(tmp, folder))
  local said = io.popen(('%s %s 2>&1'):format(ldlua, child)):read('*a')
  t.ok(said:find('options changed: channels [4,6] -> [4,8], lr 0.01 -> 0.02, more null -> true\n', 1, true), said)
  t.ok(not said:find('same', 1, true), said)
end)

t.test('a finished run stays what it is', function()
  local folder = fresh()
  training.go(training.start(folder), 2)
  local want = content(folder .. '/last.h5')
  local run = training.start(folder)
  t.eq(run.images, 2 * 37)
  t.ok(run.mean.loss > 0)
  training.go(run, 2, function() error('no step was expected') end)
  t.eq(content(folder .. '/last.h5'), want)
  training.go(training.start(folder), 3) -- and goes on when asked for more
  t.eq(content(folder .. '/last.h5').record.images, 3 * 37)
end)

t.test('checkpoints of something else are refused and left alone', function()
  local folder = fresh()
  training.go(training.start(folder), 1)
  local before = get(folder .. '/last.h5')
  local small = ld.models.small_autoencoder{width = 4, blocks = 1}
  local function start(net, optim)
    local run = ld.run(folder, {model = net, optim = ld.optim[optim](net:parameters(), {lr = 1}), quiet = true})
    return run
  end
  local function classifier(channels)
    return ld.models.classifier{in_channels = 2, channels = channels, blocks = {1}, classes = 3}
  end
  t.raises(function() start(small, 'adamw') end, "was trained with 'classifier', this recipe has 'small_autoencoder'")
  t.raises(function() start(classifier{4, 6}, 'sgd') end, "was trained with 'adamw', this recipe has 'sgd'")
  t.raises(function() start(classifier{4, 8}, 'adamw') end, 'misshapen')
  put(folder .. '/last.h5', before:sub(1, 1000))
  t.raises(function() training.start(folder) end, 'last.h5 is damaged: it has 1000 bytes, %d+ were written')
  t.eq(#get(folder .. '/last.h5'), 1000)
end)

t.test('averages asked for later begin at the weights', function()
  local folder = fresh()
  local function start(decay)
    ld.seed(1)
    local net = ld.models.small_autoencoder{width = 2, blocks = 1}
    return ld.run(folder, {model = net, optim = ld.optim.sgd(net:parameters(), {lr = 0.1}), ema = decay, quiet = true})
  end
  local run = start(0)
  ld.no_grad(function() run.parameters[1]:copy_(run.parameters[1] + 1) end)
  run:save()
  local again = start(0.9)
  t.eq(again.ema:state()['encoder.0.weight'], run.parameters[1])
end)

-- ---- the clock ------------------------------------------------------------------------------------------------------

t.test('every picture once an epoch, in another order each; batches keyed by the clock', function()
  local run, seen, firsts = training.start(fresh()), {}, {}
  training.go(run, 2, function(batch)
    firsts[#firsts + 1] = batch.first
    for _, i in ipairs(batch.indices) do
      seen[batch.epoch] = seen[batch.epoch] or {}
      table.insert(seen[batch.epoch], i)
    end
  end)
  t.eq(firsts, {0, 8, 16, 24, 32, 37, 45, 53, 61, 69})
  t.ok(table.concat(seen[1], ' ') ~= table.concat(seen[2], ' '))
  for epoch = 1, 2 do
    table.sort(seen[epoch])
    for i = 1, 37 do t.eq(seen[epoch][i], i) end
  end
end)

t.test('the learning rate follows the schedule, across a resume too', function()
  local folder, rates, momenta = fresh(), {}, {}
  local function each(_, run)
    rates[#rates + 1], momenta[#momenta + 1] = run.optim.lr, run.optim.beta1
    if #rates == 7 then run:save() end
    return #rates == 7
  end
  training.go(training.start(folder), 3, each)
  training.go(training.start(folder), 3, each)
  t.eq(#rates, 15)
  for step = 0, 14 do
    local images = math.floor(step / 5) * 37 + step % 5 * 8
    local lr, beta1 = ld.core.schedule.one_cycle(images / 8, 3 * 37 / 8, {max = 1e-2})
    t.eq(rates[step + 1], lr, 'step ' .. step)
    t.eq(momenta[step + 1], beta1, 'step ' .. step)
  end
end)

local function clock(n, size, epochs, each)
  local net = ld.models.small_autoencoder{width = 2, blocks = 1}
  local run = ld.run(fresh(), {model = net, optim = ld.optim.sgd(net:parameters(), {lr = 0}), quiet = true,
                               schedule = ld.schedule.one_cycle{max = 1}})
  for batch in run:batches({count = n}, size, epochs) do
    run:step(function() return ld.sum(run.parameters[1]) end)
    each(batch, run)
  end
  run:finish()
  return run
end

t.test('a single picture left over is passed over, and the epoch still ends', function()
  local ends, counts, lrs = {}, {}, {}
  local run = clock(9, 4, 3, function(batch, r)
    counts[#counts + 1], lrs[#lrs + 1] = batch.count, r.optim.lr
    if r:epoch_end() then ends[#ends + 1] = batch.epoch end
  end)
  t.eq(counts, {4, 4, 4, 4, 4, 4})
  t.eq(ends, {1, 2, 3})
  t.eq(run.images, 27)
  for step, images in ipairs{0, 4, 9, 13, 18, 22} do
    t.eq(lrs[step], (ld.core.schedule.one_cycle(images / 4, 27 / 4, {max = 1})))
  end
end)

t.test('every{images} and every{epochs}', function()
  local images, epochs, two = {}, {}, {}
  clock(10, 4, 5, function(batch, r)
    local seen = batch.first + batch.count
    if r:every{images = 12} then images[#images + 1] = seen end
    if r:every{epochs = 1} then epochs[#epochs + 1] = seen end
    if r:every{epochs = 2} then two[#two + 1] = seen end
  end)
  t.eq(images, {14, 24, 38, 48, 50})
  t.eq(epochs, {10, 20, 30, 40, 50})
  t.eq(two, {20, 40, 50})
end)

t.test('best keeps the highest value, and not a nan', function()
  local folder, told = fresh(), {}
  local values = {0.3, 0.2, 0 / 0, 0.5, 0.4}
  local run = training.start(folder)
  training.go(run, 1, function() told[#told + 1] = run:best(values[#told + 1]) end)
  t.eq(told, {true, false, false, true, false})
  local c = ld.checkpoint.open(folder .. '/best.h5')
  t.eq(c.record.best, 0.5)
  t.eq(c.record.images, 32) -- after the fourth step
  c.file:close()
  os.execute(('cp %s/best.h5 %s/kept'):format(folder, folder))
  local again = training.start(folder)
  t.ok(not again:best(0.45))
  t.ok(get(folder .. '/best.h5') == get(folder .. '/kept'))
end)

t.test('best.h5 survives a resume from an older last.h5', function()
  local folder, steps = fresh(), 0
  training.go(training.start(folder), 2, function(_, run)
    steps = steps + 1
    if steps == 2 then run:save() end
    if steps == 4 then run:best(0.9) end
    return steps == 4
  end)
  t.ok(not training.start(folder):best(0.8))
end)

-- ---- steps that are not finite --------------------------------------------------------------------------------------

local function poison(x) return x * (0 / 0) end

t.test('a step with a loss or gradient that is not finite changes nothing and is counted', function()
  local run, steps = training.start(fresh(), {graph = false}), 0 -- the function chooses by the number of the step
  local function state()
    local out = {model = {}, ema = {}, optim = {}}
    for name, x in pairs(run.model:state()) do out.model[name] = x:tolist() end
    for name, x in pairs(run.ema:state()) do out.ema[name] = x:tolist() end
    for name, x in pairs(run.optim:state()) do out.optim[name] = x:tolist() end
    return out
  end
  for batch in run:batches(training.data, 8, 2) do
    steps = steps + 1
    local before = state()
    local ok = run:step(function()
      local loss = training.loss(run, batch)
      if steps == 3 then return poison(loss) end
      if steps == 5 then return loss + ld.sum(ld.sqrt(run.parameters[1] * 0)) end -- finite; its gradient is not
      if steps == 6 then return loss * math.huge end
      return loss
    end)
    local bad = steps == 3 or steps == 5 or steps == 6
    t.eq(ok, not bad, 'step ' .. steps)
    if bad then t.eq(state(), before, 'step ' .. steps) end
    if not bad then
      local statistic = '1.0.convs.0.0.running_mean'
      t.ok(state().model[statistic][1] ~= before.model[statistic][1])
    end
  end
  run:finish()
  t.eq(run.skipped, 3)
  t.eq(run.images, 74)
  local skipped = {}
  for _, entry in ipairs(log(run.folder)) do
    if entry.event == 'skipped' then skipped[#skipped + 1] = entry.images end
  end
  t.eq(skipped, {16, 32, 37})
  t.eq(content(run.folder .. '/last.h5').record.skipped, 3)
end)

t.test('ten in a row stop the run; the last good checkpoint is intact', function()
  local folder = fresh()
  local run, steps = training.start(folder, {save_minutes = 0}), 0
  local good
  local message = t.raises(function()
    for batch in run:batches(training.data, 8, 9) do
      steps = steps + 1
      if steps == 4 then -- the weights themselves are spoiled from here on
        good = get(folder .. '/last.h5')
        ld.no_grad(function() run.parameters[1]:copy_(poison(run.parameters[1])) end)
      end
      run:step(function() return training.loss(run, batch) end)
    end
  end, 'not finite in 10 steps in a row')
  t.ok(message:find('test_run.lua:%d+: run: ') and message:find(folder .. '/last.h5', 1, true), message)
  t.eq(steps, 13)
  t.ok(get(folder .. '/last.h5') == good, 'last.h5 is that of step 3')
  t.eq(content(folder .. '/last.h5').record.images, 24)
  training.go(training.start(folder), 1)
end)

t.test('nine in a row and a good one do not', function()
  local run, steps = training.start(fresh()), 0
  training.loss, run.real = function(r, batch)
    steps = steps + 1
    local loss = r.real(r, batch)
    return steps % 10 == 0 and loss or poison(loss)
  end, training.loss
  local ok, message = pcall(training.go, run, 4)
  training.loss = run.real
  t.ok(ok, message)
  t.eq(run.skipped, 18)
end)

-- ---- logs and memory ------------------------------------------------------------------------------------------------

t.test('log.jsonl', function()
  local folder = fresh()
  training.go(training.start(folder), 2)
  local entries = log(folder)
  t.eq(entries[1].event, 'started')
  local images = {}
  for i, e in ipairs(entries) do
    t.ok(e.time > 1e9)
    if not e.event then
      images[#images + 1] = e.images
      t.near(e.half, e.loss / 2, 1e-6)
      t.ok(e.lr > 0 and e.gradient_norm > 0 and e.images_per_second > 0 and e.memory_live > 0, 'entry ' .. i)
      t.ok(e.data_wait >= 0 and e.data_wait < 1 and e.memory_peak >= e.memory_live and e.memory_resident > 0)
    end
  end
  t.eq(entries[2].event, 'data')
  t.eq(entries[#entries].event, 'finished')
  t.eq(images, {24, 45, 69, 74})
end)

t.test('memory stays flat over 500 steps', function()
  local run, step, early, late = training.start(fresh(), {log_every = 20}), 0, {live = 0, tensors = 0},
                                 {live = 0, tensors = 0}
  training.go(run, 100, function()
    step = step + 1
    local m, at = ld.memory(), step <= 100 and early or step > 400 and late
    if at then at.live, at.tensors = math.max(at.live, m.live), math.max(at.tensors, m.tensors) end
  end)
  t.eq(step, 500)
  t.ok(late.live <= early.live, ('%d bytes live, then %d'):format(early.live, late.live))
  t.ok(late.tensors <= early.tensors, ('%d tensors, then %d'):format(early.tensors, late.tensors))
end)

-- ---- misuse ---------------------------------------------------------------------------------------------------------

t.test('misuse is told at the caller\'s line', function()
  local run = training.start(fresh())
  local function refuse(text, f)
    local message = t.raises(f, text)
    t.ok(message:find('test_run.lua:%d+: '), message)
  end
  refuse('call it inside', function() run:step(function() return ld.tensor(1) end) end)
  refuse('too few to train on', function() run:batches({count = 1}, 8, 1) end)
  refuse('at least 2 pictures', function() run:batches({count = 10}, 1, 1) end)
  refuse('returned nil; the loss', function()
    for _ in run:batches(training.data, 8, 1) do run:step(function() end) end
  end)
  refuse("unknown option 'modle'", function() ld.run(fresh(), {modle = 1}) end)
  refuse("option 'model' is needed", function() ld.run(fresh(), {optim = 1}) end)
  put(tmp .. '/a-file', '')
  refuse('a-file', function() training.start(tmp .. '/a-file') end)
  refuse('a-file', function() training.start(tmp .. '/a-file/below') end)
end)

t.finish()
