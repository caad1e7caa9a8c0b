-- Data sets that lie in the memory of the device that trains, and what happens to their rows on the way out. On the CPU
-- "resident" is the host's memory; what needs a device with memory of its own is skipped there.
local ld = require 'ld'
local core = require 'ld.core'
local t = dofile 'tests/lua/harness.lua'

local tmp = os.getenv 'TEST_TMP' or '/tmp/ldlua-test-resident'
os.execute('mkdir -p ' .. tmp)
local on_device = t.device ~= 'cpu'
-- What erasing draws differs by a few units in the last place on a card (tests/sim/test_sim_augment.c).
local tolerance = t.device:match '^cuda' and 1e-5 or 0

local serial = 0
local function fresh(name)
  serial = serial + 1
  return ('%s/%s-%d'):format(tmp, name, serial)
end

-- A store of n latents of noise; every fifth picture is not valid. Row i has class i % 3.
local function make(n, more)
  local path = fresh 'store' .. '.h5'
  local o = {count = n, channels = 3, height = 6, width = 5, dtype = 'f16', batch = 8, classes = {'a', 'b', 'c'},
             mirrored = true, name = function(i) return ('%d.png'):format(i) end,
             attributes = {{'vae', 'tiny'}, {'vae_hash', ('5'):rep(64)}, {'vae_kind', 'small_autoencoder'},
                           {'pixel_range', 'unit'}, {'size', 32}, {'transform', 'adm'}, {'source', 'pictures'},
                           {'source_hash', 'abc'}}}
  for key, value in pairs(more or {}) do o[key] = value end
  core.store_create(path .. '.part', o)
  local w = core.store_writer(path .. '.part')
  ld.seed(n)
  local label, valid = {}, {}
  for i = 1, n do label[i], valid[i] = i % 3, i % 5 == 0 and 0 or 1 end
  local shape = {n, o.channels, o.height, o.width}
  w:put(1, {mean = ld.randn(shape) * 3 + 1, mirrored_mean = o.mirrored and ld.randn(shape) or nil, label = label,
            valid = valid})
  w:finish()
  w:close()
  return path
end

local function same(a, b, what)
  t.ok((a:f64() - b:f64()):abs():max():item() <= tolerance, what)
end

local CHANGES = {standardise = true, pad = 2, erase = 0.4, max = 3, flip = 0.5}

-- ---- batches --------------------------------------------------------------------------------------------------------

t.test('batches are the same wherever the latents are', function()
  for _, more in ipairs{{}, {dtype = 'f32', mirrored = false}, {dtype = 'bf16', shards = 3}} do
    local path = make(53, more)
    for _, changes in ipairs{false, CHANGES, {flip = 0.5}} do
      local store = ld.latents.open(path)
      if changes then store = store:augmented(changes) end
      local mixed = store:shuffled_split(0.3, 4)
      for _, set in ipairs{store, mixed} do
        local function loader(resident, rank, ranks)
          return set:loader{batch = 8, seed = 9, resident = resident, rank = rank, ranks = ranks, micro = 3}
        end
        local ahead, there, half = loader(false, 1, 1), loader(true, 1, 1), loader(true, 2, 2)
        t.eq(there:stats().device, t.device)
        t.eq(there:stats().resident, true)
        t.eq(ahead:stats().device, 'cpu')
        local images = 0
        while images < 2 * set.count do
          local count
          images, count = ahead:next(images)
          local x, label = ahead:batch(images, count)
          local y, its = there:batch(images, count)
          local z = half:batch(images, count)
          t.eq(y.device, t.device)
          t.eq(y.shape, x.shape)
          same(x:to(t.device), y, 'x')
          t.eq(its:tolist(), label:tolist())
          local before = count - z.shape[1] -- the first rank's share
          t.eq(before % 3, 0)
          if z.shape[1] > 0 then same(y:slice(1, before + 1, count), z, "a rank's part") end
          images = images + count
        end
        for _, l in ipairs{ahead, there, half} do l:close() end
      end
    end
  end
end)

t.test('a batch is what the operations do one by one', function()
  local store = ld.latents.open(make(40, {mirrored = false}))
  local loader = store:augmented(CHANGES):loader{batch = 16, seed = 7}
  local images = 16 + store.count
  local list = {}
  for i = 1, 16 do list[i] = core.shuffled(16 + i, store.count, 7, 1) end
  local x = store:standardise(store:get(list).x)
  local key = {seed = 7, first = images}
  ld.augment.pad_crop(x, {pad = 2, seed = key.seed, first = key.first})
  ld.augment.rand_erase(x, {pct = 0.4, max = 3, seed = key.seed, first = key.first})
  ld.augment.random_flip(x, {p = 0.5, seed = key.seed, first = key.first})
  local got = loader:batch(images, 16):to(t.device)
  same(got, x, 'loader')
  same(store:augmented(CHANGES):get(list, images, 7).x, x, 'get')
  t.eq(store:augmented(CHANGES):get(list).x:tolist(), store:get(list).x:tolist(), 'without `first` as they are')
  t.ok((got - store:standardise(store:get(list).x)):abs():max():item() > 0.5, 'it does something')
end)

t.test('what cannot be is refused', function()
  local store = ld.latents.open(make(9))
  t.raises(function() ld.latents.open(store.path, {resident = 1}) end, "resident is '1'; known: true false 'auto'")
  t.raises(function() ld.pixels({}, {resident = 'no'}) end, "pixels: resident is 'no'; known: true false 'auto'")
  t.raises(function() store:augmented{pads = 1} end, "unknown option 'pads'; known: erase flip max pad standardise")
  t.raises(function() store:augmented{erase = 1}:loader{batch = 3} end, 'loader: rectangles of 1 of a side')
  t.raises(function() store:augmented{flip = 2}:loader{batch = 3} end, 'loader: probability 2; it must be 0 .. 1')
  t.raises(function() store:augmented{max = 65}:loader{batch = 3} end, 'and 0 to 64 are possible')
  local x = ld.zeros{4, 3, 5, 5}
  t.raises(function() ld.augment.gather(x, {1, 5}) end, 'augment.gather: row 5; x has 4')
  t.raises(function() ld.augment.gather(x, {1}, {shift = ld.zeros(3)}) end, 'shift and scale come together')
  t.raises(function() ld.augment.gather(x, {1}, {shift = ld.zeros(2), scale = ld.zeros(2)}) end, '%(3%) f32 is needed')
  t.raises(function() ld.augment.gather(x:i64()) end, 'floats or u8 are needed')
end)

-- ---- pictures -------------------------------------------------------------------------------------------------------

t.test('pictures in the memory of the device', function()
  local set = ld.images.synthetic_faces{n = 7, size = 16}
  local here = ld.pixels(set, {flip = true, seed = 3})
  local there = ld.pixels(set, {flip = true, seed = 3})
  t.eq(there:resident_bytes(), 7 * 3 * 16 * 16)
  t.ok(there:place(t.device))
  t.eq(there:get({1}).x.device, t.device)
  for k = 0, 20, 5 do
    local a, b = here:get({7, 1, 3}, k), there:get({7, 1, 3}, k)
    t.eq(a.x.device, 'cpu')
    t.eq(b.x:tolist(), a.x:tolist())
    t.eq(b.label:tolist(), a.label:tolist())
  end
  local want = ld.gather(here.x, ld.tensor({6, 0}, {dtype = 'i64', device = 'cpu'})):f32():affine(2 / 255, -1)
  local x = ld.pixels(set):get({7, 1}).x
  t.ok((x - want):abs():max():item() < 2e-7 and x:max():item() <= 1 and x:min():item() >= -1)
end)

-- ---- runs -----------------------------------------------------------------------------------------------------------

local function new_run(folder, more)
  ld.seed(3)
  local net = ld.nn.sequential{ld.nn.conv2d{in_channels = 3, out_channels = 4, kernel = 3, padding = 1}, ld.nn.silu(),
                               ld.nn.conv2d{in_channels = 4, out_channels = 3, kernel = 3, padding = 1}}
  local o = {model = net, optim = ld.optim.adamw(net:parameters(), {lr = 1e-2}), quiet = true, seed = 5,
             report_minutes = 0, attach = false, micro = 4}
  for key, value in pairs(more or {}) do o[key] = value end
  local run, said = ld.run(folder, o), {}
  function run.say(_, text, ...) said[#said + 1] = text:format(...) end
  return run, said
end

-- Trains; stops behind `last` steps, when that is given. Returns where each batch was made, and the weights.
local function train(run, data, last)
  local places = {}
  for batch in run:batches(data, 8, 2) do
    local loader = run.loader
    places[#places + 1] = loader and loader:stats().device or batch.x.device
    run:step(function(part) return ld.mse(run.model(part.x), part.x:abs()) end)
    if #places == last then
      run:save()
      run:close_data()
      ld.unlock_folder(run.folder)
      return places
    end
  end
  local state = {}
  for i, p in ipairs(run.parameters) do state[i] = p:tolist() end
  local memory = run.memory
  run:finish()
  return places, state, memory
end

t.test('a run goes on with the same batches elsewhere', function()
  local path = make(40)
  local function data(resident) return ld.latents.open(path, {resident = resident}):augmented(CHANGES) end
  local _, whole = train(new_run(fresh 'run'), data(false))
  for _, order in ipairs{{false, true}, {true, false}, {'auto', 'auto'}} do
    local folder = fresh 'run'
    local first = train(new_run(folder), data(order[1]), 5)
    local second, state = train(new_run(folder), data(order[2]))
    t.eq(#first + #second, 8)
    t.eq(first[5], order[1] and t.device or 'cpu')
    t.eq(second[3], order[2] and t.device or 'cpu')
    if tolerance == 0 then t.eq(state, whole) end
  end
end)

t.test('pictures of a run', function()
  local set = ld.images.synthetic_faces{n = 12, size = 16}
  local _, a = train(new_run(fresh 'run'), ld.pixels(set, {flip = true, resident = false}))
  local pictures = ld.pixels(set, {flip = true})
  local _, b = train(new_run(fresh 'run', {micro = 0}), pictures)
  local _, c = train(new_run(fresh 'run'), ld.pixels(set, {flip = true, resident = true}))
  t.eq(c, a)
  t.ok(#b == #a)
  t.eq(pictures.x.device, t.device)
end)

t.test('a learning rate is searched on augmented latents', function()
  local store = ld.latents.open(make(40)):augmented{standardise = true, pad = 1}
  local seen, firsts = {}, {}
  local run = new_run(fresh 'run')
  run:find_lr(store, 8, function(batch)
    seen[#seen + 1], firsts[#firsts + 1] = batch.x:sum():item(), batch.first
    return ld.mse(run.model(batch.x), batch.x:abs())
  end, {steps = 10})
  local loader = store:loader{batch = 8, seed = 5, mirror = false}
  for k = 1, 10 do
    local first = math.floor((k - 1) / 4) * 32 + (k - 1) % 4 * 8
    t.eq(firsts[k], first)
    t.near(seen[k], loader:batch(first, 8):sum():item(), 1e-3)
  end
  run:finish()
end)

if not on_device then
  t.skip('memory of the device', 'the default device has the host\'s')
  t.finish()
end

t.test('the plan counts the set, which goes with the run', function()
  local path = make(400)
  local bytes = ld.latents.open(path):resident_bytes()
  t.eq(bytes, 2 * 400 * 3 * 6 * 5 * 2)
  collectgarbage()
  local plain = select(3, train(new_run(fresh 'run'), ld.latents.open(path, {resident = false})))
  for _, resident in ipairs{'auto', true} do
    collectgarbage()
    local before = ld.memory().live
    local run, said = new_run(fresh 'run')
    local places, _, memory = train(run, ld.latents.open(path, {resident = resident}))
    t.eq(places[1], resident == true and t.device or 'cpu')
    t.eq(places[2], t.device)
    t.eq(memory.data, bytes)
    for _, key in ipairs{'peak', 'before'} do
      t.ok(math.abs(memory[key] - plain[key] - bytes) < 4096, ('%s: %d and %d'):format(key, memory[key], plain[key]))
    end
    t.ok(table.concat(said, '\n'):find('held between steps, 141 KiB of it the data set, ', 1, true), said[2])
    collectgarbage()
    collectgarbage()
    t.ok(ld.memory().live - before < bytes / 2 and run.finished, 'the set is gone, the run is not')
  end
end)

t.test('runs share a set', function()
  local store = ld.latents.open(make(400), {resident = true})
  local before = ld.memory().live
  local a = store:loader{batch = 8}
  local one = ld.memory().live - before
  local b = store:part(1, 20):loader{batch = 4}
  t.ok(one >= store:resident_bytes() and ld.memory().live - before < one + 4096)
  a:close()
  t.ok(ld.memory().live - before >= store:resident_bytes())
  t.eq(b:batch(0, 4):describe():match '^%S+', '(4,3,6,5)')
  b:close()
  t.ok(ld.memory().live - before < 4096)
end)

-- The device has so many bytes more than what is live now, and what is kept for reuse (by default).
local function within(bytes, f, no_cache)
  collectgarbage()
  collectgarbage()
  local m = ld.memory()
  ld.memory_limit(m.live + (no_cache and 0 or m.cached) + bytes)
  local ok, message = pcall(f)
  ld.memory_limit(0)
  if not ok then error(message, 0) end
end

t.test('without room the batches come from the host, which is said once', function()
  local path = make(4000)
  local bytes = ld.latents.open(path):resident_bytes()
  local _, want = train(new_run(fresh 'run'), ld.latents.open(path, {resident = false}), nil)
  within(1.5 * bytes, function()
    local run, said = new_run(fresh 'run')
    local places, state, memory = train(run, ld.latents.open(path))
    t.eq(places[#places], 'cpu')
    t.eq(memory.data, nil)
    t.eq(state, want)
    local all, times = table.concat(said, '\n'), 0
    for _ in all:gmatch 'data: [%d.]+ MiB of pictures beside a step are too much for ' do times = times + 1 end
    t.eq(times, 1, all)
  end)
  within(4 * bytes, function()
    local places = train(new_run(fresh 'run'), ld.latents.open(path))
    t.eq(places[#places], t.device)
  end)
  within(3 * bytes, function() -- without a plan: at most a quarter
    local places = train(new_run(fresh 'run', {plan = false}), ld.latents.open(path))
    t.eq(places[#places], 'cpu')
  end)
end)

t.test('resident = true is an error where there is no room', function()
  local path = make(4000)
  local store = ld.latents.open(path, {resident = true})
  local bytes = store:resident_bytes()
  within(bytes / 2, function()
    t.raises(function() train(new_run(fresh 'run'), store) end,
      "resident = true needs 1.37 MiB in the memory of cpu; 'auto' does without: latents: out of memory")
    t.raises(function() train(new_run(fresh 'run'), ld.pixels(ld.images.synthetic_faces{n = 1200, size = 32},
      {resident = true})) end, "run: resident = true needs 3.52 MiB in the memory of ")
  end, true)
  within(bytes + 1.5 * 2 ^ 20, function()
    t.raises(function()
      local run = new_run(fresh 'run', {micro = 0})
      for batch in run:batches(store, 2000, 1) do
        run:step(function() return ld.mse(run.model(batch.x), batch.x) end)
      end
    end, 'a step needs [%d.]+ MiB with it, [%d.]+ MiB are here')
  end)
end)

t.finish()
