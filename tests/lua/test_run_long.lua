-- A long run: memory, open files and folder stay as they are, and the log has every line. STEPS=10000 for that many
-- (make test-long).
local ld = require 'ld'
local ffi = require 'ffi'
local t = dofile 'tests/lua/harness.lua'
local training = dofile 'tests/tools/run_training.lua'

local tmp = os.getenv 'TEST_TMP' or '/tmp/ldlua-test-run-long'
local steps = tonumber(os.getenv 'STEPS' or 500)
local EVERY, PER_EPOCH = 20, 5 -- lines of the log; steps of 37 pictures by 8
os.execute('mkdir -p ' .. tmp)
ffi.cdef 'int fcntl(int fd, int what, ...);'

local function open_files()
  local GETFD, n = 1, 0
  for fd = 0, 255 do n = n + (ffi.C.fcntl(fd, GETFD) >= 0 and 1 or 0) end
  return n
end

local function resident()
  local f = assert(io.open('/proc/self/statm'))
  local pages = select(2, f:read('*n', '*n'))
  f:close()
  return pages * 4096
end

local function images_after(step)
  return math.floor(step / PER_EPOCH) * 37 + step % PER_EPOCH * 8
end

t.test(steps .. ' steps', function()
  local folder = tmp .. '/run'
  local run = training.start(folder, {save_minutes = 0.5 / 60, log_every = EVERY})
  -- the largest figures of the first fifth, after ten steps, and of the last
  local early, late, step = {}, {}, 0
  training.go(run, steps / PER_EPOCH, function()
    step = step + 1
    local at = step > 10 and step <= steps / 5 and early or step > steps * 4 / 5 and late
    if not at then return end
    local m = ld.memory()
    local lua = 0
    if step % 100 == 0 then
      collectgarbage()
      lua = collectgarbage 'count' * 1024
    end
    for key, value in pairs{live = m.live, tensors = m.tensors, files = open_files(), resident = resident(),
                            lua = lua} do
      at[key] = math.max(at[key] or 0, value)
    end
  end)
  print(('  first fifth: %d bytes live, %d tensors, %d files, %.1f MiB resident, %.0f KiB of Lua'):format(early.live,
    early.tensors, early.files, early.resident / 2 ^ 20, early.lua / 1024))
  print(('  last fifth:  %d bytes live, %d tensors, %d files, %.1f MiB resident, %.0f KiB of Lua'):format(late.live,
    late.tensors, late.files, late.resident / 2 ^ 20, late.lua / 1024))
  t.eq(step, steps)
  t.ok(late.live <= early.live, ('%d bytes live, then %d'):format(early.live, late.live))
  t.ok(late.tensors <= early.tensors, ('%d tensors, then %d'):format(early.tensors, late.tensors))
  t.eq(late.files, early.files)
  -- the pool and the C library hold a little more or less from time to time
  t.ok(late.resident <= early.resident + 4 * 2 ^ 20, ('%d bytes resident, then %d'):format(early.resident,
    late.resident))
  if steps >= 5000 then -- windows of past steps are full then, and the compiler has seen what there is
    t.ok(late.lua <= early.lua + 2 ^ 18, ('%d bytes of Lua, then %d'):format(early.lua, late.lua))
  end

  local want, events = EVERY, 0
  for line in io.lines(folder .. '/log.jsonl') do
    local entry = ld.json_decode(line)
    t.eq(type(entry), 'table', line)
    if entry.event then
      events = events + 1
    else
      t.eq(entry.images, images_after(want))
      want = want + EVERY
    end
  end
  t.eq(want, steps + EVERY)
  t.ok(events >= 1, events)
  local kept = #ld.core.list_files(folder .. '/checkpoints') -- those of a short run may all fall into one moment
  t.ok(kept >= 1 and kept <= 2, kept)
end)

t.finish()
