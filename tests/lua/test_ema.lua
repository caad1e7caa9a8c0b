-- Averages of a width: profiles and their fit, averages of several widths in a run, snapshots, averages rebuilt.
-- Numbers marked numpy were computed with it from the definitions, in f64.
local ld = require 'ld'
local nn = ld.nn
local t = dofile 'tests/lua/harness.lua'
local profile = require 'ld.ema_profile'

local tmp = os.getenv 'TEST_TMP' or '/tmp/ldlua-test-ema'
os.execute('mkdir -p ' .. tmp)
local serial = 0
local function fresh()
  serial = serial + 1
  return ('%s/run-%d'):format(tmp, serial)
end

-- ---- profiles -------------------------------------------------------------------------------------------------------

t.test('the exponent of a width is the root of the cubic', function()
  -- numpy: the largest root of gamma^3 + 7 gamma^2 + (16 - w^-2) gamma + 12 - w^-2
  local known = {[0.02] = 46.9895821575666, [0.05] = 16.9721986023034, [0.10] = 6.93720393760181,
                 [0.15] = 3.55786877489947, [0.25] = 0.71982395800071, [0.2886] = 0.00156042881475354}
  for width, gamma in pairs(known) do
    t.near(profile.gamma(width), gamma, 1e-12 * (1 + gamma), 'width ' .. width)
    t.near(profile.sigma_rel(gamma), width, 1e-14)
  end
  for _, bad in ipairs{0, -0.1, 0.2887, 0 / 0, 'wide'} do
    t.raises(function() profile.gamma(bad) end, 'above 0 and below 0.2887 is needed')
  end
end)

t.test('products of profiles, and the fit of one by others', function()
  local list = {}
  for _, at in ipairs{100, 250, 300} do
    for _, width in ipairs{0.05, 0.10} do list[#list + 1] = {gamma = profile.gamma(width), t = at} end
  end
  -- numpy; the first agrees with quadrature to 1e-5
  t.near(profile.product(list[1], list[2]), 0.0572671324754, 1e-12)
  t.near(profile.product(list[2], list[5]), 1.524008854e-10, 1e-19)
  t.near(profile.product(list[5], list[4]), profile.product(list[4], list[5]), 0)
  local known = {
    [0.07] = {{6.49654692953e-07, -4.25031747774e-05, 0.0332194812329, -0.0914644163535, 0.410630827879,
               0.654201578266}, 0.0215190958628},
    [0.15] = {{-0.00200909475534, 0.00733915670953, -0.123149665253, 0.267898950945, -0.203057381359,
               0.988988293648}, 0.096215154031},
    [0.25] = {{-0.0482085521118, 0.121051697506, -0.226098805324, 0.453130415949, -0.175204652238, 0.567546270203},
              0.461341732004},
  }
  for width, want in pairs(known) do
    local x, left = profile.fit(list, {gamma = profile.gamma(width), t = 300})
    t.near(x, want[1], 1e-10, 'width ' .. width)
    t.near(left, want[2], 1e-10)
  end
  -- one that is in the list is fitted by itself
  local x, left = profile.fit(list, {gamma = profile.gamma(0.10), t = 300})
  t.near(x, {0, 0, 0, 0, 0, 1}, 1e-12)
  t.near(left, 0, 1e-7)
  -- and twice the same does not matter
  list[7] = {gamma = list[3].gamma, t = list[3].t}
  local _, again = profile.fit(list, {gamma = profile.gamma(0.15), t = 300})
  t.near(again, 0.096215154031, 1e-10)
end)

-- What an average of a width is, from the weights after every update: {{t, weights (list of numbers)}, ...}.
local function direct(path, width, at)
  local k, before, sum = profile.gamma(width) + 1, 0, {}
  for _, step in ipairs(path) do
    if step[1] > at then break end
    local share = (step[1] / at) ^ k - (before / at) ^ k
    for i, v in ipairs(step[2]) do sum[i] = (sum[i] or 0) + share * v end
    before = step[1]
  end
  return sum
end

-- All numbers of tensors by path, in the order of paths.
local function flat(tensors)
  local names, out = {}, {}
  for name in pairs(tensors) do names[#names + 1] = name end
  table.sort(names)
  for _, name in ipairs(names) do
    local x = tensors[name]
    for _, v in ipairs(x:reshape(x:numel()):tolist()) do out[#out + 1] = v end
  end
  return out
end

local function weights(net)
  local out = {}
  for _, entry in ipairs(net:named_parameters()) do out[entry[1]] = entry[2]:detach() end
  return flat(out)
end

-- |a - b| / |b|
local function apart(a, b)
  local d, s = 0, 0
  for i, v in ipairs(b) do d, s = d + (a[i] - v) ^ 2, s + v * v end
  return math.sqrt(d / s)
end

t.test('updates at any times give the average of the profile', function()
  local net = nn.linear{in_features = 3, out_features = 2}
  local e = ld.ema.of(net, {sigma_rel = {0.05, 0.10, 0.25}})
  local path, at = {}, 0
  for i = 1, 60 do
    ld.no_grad(function()
      for _, x in ipairs(net:parameters()) do x:copy_(ld.sin(ld.noise(x.shape, {seed = i}) + i / 20)) end
    end)
    at = at + ({1, 128, 7, 300})[i % 4 + 1] * (i > 40 and 10 or 1)
    e:update(at)
    path[i] = {at, weights(net)}
  end
  for k, width in ipairs{0.05, 0.10, 0.25} do
    t.near(flat(e:state(k)), direct(path, width, at), 1e-6, 'width ' .. width)
  end
  t.ok(apart(flat(e:state(1)), flat(e:state(3))) > 0.05)
  t.raises(function() e:update(at) end, 'it must come later')
  t.raises(function() e:update() end, 'an update at nil images')
  -- each width can be used
  local seen = {}
  for k, width in ipairs{0.05, 0.10, 0.25} do
    seen[k] = e:use(function() return weights(net) end, nil, nil, width)
    t.eq(seen[k], flat(e:state(k)))
  end
  t.eq(e:use(function() return weights(net) end), seen[1])
  t.eq(weights(net), path[60][2])
  t.raises(function() e:use(print, nil, nil, 0.2) end, 'no average of width 0.2; there are: 0.05 0.1 0.25')
end)

t.test('what an average can be', function()
  local net = nn.linear{in_features = 3, out_features = 2}
  t.raises(function() ld.ema.of(net, {sigma_rel = {0.05, 0.4}}) end, 'a width sigma_rel of 0.4')
  t.raises(function() ld.ema.of(net, {sigma_rel = {}}) end, 'sigma_rel is empty')
  t.raises(function() ld.ema.of(net, {sigma_rel = {0.1}, decay = 0.9}) end, 'not both')
  t.raises(function() ld.ema.of(net, {decay = 0.9, every = 3}) end, 'every is a number of images')
  t.raises(function() ld.ema.of(net, {sigma_rel = {0.1}, every = -1}) end, 'every is a number of images')
  t.raises(function() ld.ema.of(net, {width = 0.1}) end, "unknown option 'width'")
  t.eq(ld.ema.for_run(net, 0), nil)
  t.eq(ld.ema.for_run(net, 0.5).decay, 0.5)
  t.eq(ld.ema.of(net, {sigma_rel = 0.1}).widths, {0.1})
end)

-- ---- in a run -------------------------------------------------------------------------------------------------------

local data = {count = 43, name = 'noise', get = function(_, indices)
  local x, labels = {}, {}
  for i, index in ipairs(indices) do
    labels[i] = index % 3
    x[i] = ld.noise({1, 2, 8, 8}, {seed = 9, first = index}) + labels[i] / 2
  end
  return {x = ld.concat(x, 1), label = ld.tensor(labels, {dtype = 'i64'})}
end}

local function start(folder, o)
  o = o or {}
  ld.seed(4)
  local net = ld.models.classifier{in_channels = 2, channels = {4, 6}, blocks = {1}, classes = 3, dropout = 0.2}
  return ld.run(folder, {model = net, optim = ld.optim.adamw(net:parameters(), {lr = 1e-2}), quiet = true, seed = 6,
                         schedule = ld.schedule.one_cycle{max = 1e-2}, plan = o.plan, log_every = 3,
                         ema = o.ema or {sigma_rel = {0.05, 0.10}, every = o.every}})
end

-- each(run, batch) may say true to break out
local function go(run, epochs, batch, each)
  for b in run:batches(data, batch or 8, epochs) do
    run:step(function() return ld.cross_entropy(run.model(b.x), b.label) end)
    if each and each(run, b) then return run end
  end
  run:finish()
  return run
end

local function list(folder) return ld.json_decode(t.get(folder .. '/ema/list.json')) end

local folder, path, trained = fresh(), {}, nil
t.test('a run writes 32 snapshots of its averages, of the moments they are named for', function()
  trained = go(start(folder), 24, nil, function(run) path[#path + 1] = {run:seen(), weights(run.model)} end)
  local l = list(folder)
  t.eq(l.sigma_rel, {0.05, 0.10})
  t.eq(#l.snapshots, 32)
  t.eq(l.snapshots[32], 24 * 43)
  for _, k in ipairs{1, 9, 32} do
    local c = ld.checkpoint.open(('%s/ema/%012d.h5'):format(folder, l.snapshots[k]))
    for i, width in ipairs{0.05, 0.10} do
      local kept = flat(ld.checkpoint.read_group(c, i == 1 and 'ema' or 'ema_2'))
      t.near(kept, direct(path, width, l.snapshots[k]), 1e-5, ('snapshot %d, width %g'):format(k, width))
    end
    c.file:close()
  end
end)

-- The difference is the integral of weights times what is left of the profile, so its norm is at most the product
-- of both norms; what f32 rounds away comes on top.
t.test('rebuilt averages are those that were not kept', function()
  for _, case in ipairs{{0.03, 3e-4}, {0.07, 3e-5}, {0.08, 3e-5}, {0.15, 2e-4}, {0.20, 2e-3}} do
    local width, at_most = case[1], case[2]
    local want = direct(path, width, 24 * 43)
    local tensors, info = ld.ema.rebuild(folder, width)
    t.eq(info.at, 24 * 43)
    t.eq(info.count, 64)
    local got, before, square, size = flat(tensors), 0, 0, 0
    for _, step in ipairs(path) do
      for _, v in ipairs(step[2]) do square = square + v * v * (step[1] - before) end
      before = step[1]
    end
    for _, v in ipairs(want) do size = size + v * v end
    local gamma = profile.gamma(width)
    local own = profile.product({gamma = gamma, t = info.at}, {gamma = gamma, t = info.at})
    local bound, off = info.error * math.sqrt(own * square / size), apart(got, want)
    t.ok(off <= bound + info.gain * 3e-7, ('width %g: off by %g, at most %g'):format(width, off, bound))
    t.ok(off < at_most, ('width %g: off by %g'):format(width, off))
    for k = 1, 2 do -- and no kept average is near it
      local kept = apart(flat(trained.ema:state(k)), want)
      t.ok(off < kept / 8, ('width %g: off by %g, average %d by %g'):format(width, off, k, kept))
    end
  end
end)

t.test('rebuilt at an earlier snapshot', function()
  local at = list(folder).snapshots[20]
  local tensors, info = ld.ema.rebuild(folder, 0.08, {at = at})
  t.eq({info.at, info.count}, {at, 40})
  t.ok(apart(flat(tensors), direct(path, 0.08, at)) < 1e-4)
  t.raises(function() ld.ema.rebuild(folder, 0.08, {at = at + 1}) end, 'no snapshot at ' .. at + 1 .. ' images')
end)

t.test('a kept width is read, exactly', function()
  for k, width in ipairs{0.05, 0.10} do
    local tensors, info = ld.ema.rebuild(folder, width)
    t.eq({info.error, info.count, info.gain}, {0, 1, 1})
    t.eq(flat(tensors), flat(trained.ema:state(k)))
    t.eq(flat(ld.ema.read(folder .. '/last.h5', width)), flat(tensors))
  end
  t.eq(flat(ld.checkpoint.read_averages(folder .. '/last.h5')), flat(trained.ema:state(1)))
  t.raises(function() ld.ema.read(folder .. '/last.h5', 0.2) end, 'no averaged weights of width 0.2')
end)

t.test('the log tells how far weights and averages are apart', function()
  local last
  for line in io.lines(folder .. '/log.jsonl') do
    local entry = ld.json_decode(line)
    last = entry.loss and entry or last
  end
  for k, name in ipairs{'ema_drift_0.05', 'ema_drift_0.1'} do
    local now, d, s = path[#path][2], 0, 0
    for i, v in ipairs(flat(trained.ema:state(k))) do d, s = d + (v - now[i]) ^ 2, s + now[i] ^ 2 end
    t.near(last[name], math.sqrt(d / s), 1e-5 * math.sqrt(d / s), name)
    t.ok(last[name] > 0, name .. ' is 0: the average has not moved apart from the weights')
  end
  local plain = go(start(fresh(), {ema = 0.9}), 1)
  t.ok(plain.mean.ema_drift > 0)
end)

-- Tensors and records of everything a run has kept.
local function content(where)
  local out = {}
  local function file(name)
    local c = ld.checkpoint.open(where .. name)
    for _, x in ipairs(c.file:list()) do out[name .. ' ' .. x] = c.file:read(x):tolist() end
    c.file:close()
    c.record.mean = nil
    out[name] = c.record
  end
  file('/last.h5')
  local l = list(where)
  for _, images in ipairs(l.snapshots) do file(('/ema/%012d.h5'):format(images)) end
  out.list = l
  return out
end

t.test('a run that resumes ends in the same averages and snapshots; those of undone steps are made again', function()
  local whole, cut = fresh(), fresh()
  go(start(whole), 4)
  local want, steps = content(whole), 0
  t.eq(#want.list.snapshots, 24) -- the run has fewer steps than 32
  go(start(cut), 4, nil, function(run)
    steps = steps + 1
    if steps == 7 then run:save() end
    return steps == 11
  end)
  t.eq(#list(cut).snapshots, 11)
  t.put(cut .. '/ema/.000000000001.h5.999999999-0.tmp', 'of a killed process')
  local again = start(cut)
  t.eq(#again.ema.snapshots, 7)
  t.eq(#list(cut).snapshots, 7)
  t.eq(ld.file_kind(cut .. '/ema/.000000000001.h5.999999999-0.tmp'), nil)
  go(again, 4)
  t.eq(content(cut), want)
end)

t.test('another size of batch keeps the widths', function()
  local where, steps = fresh(), {}
  local function note(run) steps[#steps + 1] = {run:seen(), weights(run.model)} end
  go(start(where), 2, 4, note)
  local run = go(start(where), 5, 16, note)
  t.eq(steps[#steps][1], 5 * 43)
  for k, width in ipairs{0.05, 0.10} do
    t.near(flat(run.ema:state(k)), direct(steps, width, 5 * 43), 1e-5, 'width ' .. width)
  end
end)

t.test('a step that is skipped counts for the next one', function()
  local run, steps, n = start(fresh()), {}, 0
  for b in run:batches(data, 8, 3) do
    n = n + 1
    local ok = run:step(function()
      return ld.cross_entropy(run.model(b.x), b.label) * ((n == 13 or n == 14) and 0 / 0 or 1)
    end)
    t.eq(ok, n ~= 13 and n ~= 14)
    if ok then steps[#steps + 1] = {run:seen(), weights(run.model)} end
  end
  t.eq(run.skipped, 2)
  for k, width in ipairs{0.05, 0.10} do
    t.near(flat(run.ema:state(k)), direct(steps, width, 3 * 43), 1e-5, 'width ' .. width)
  end
  run:finish()
end)

t.test('planning the memory leaves the averages as they are', function()
  local a, b = fresh(), fresh()
  go(start(a, {plan = true}), 1)
  go(start(b, {plan = false}), 1)
  t.eq(content(a), content(b))
end)

t.test('the averages of a run stay', function()
  local where = fresh()
  go(start(where), 1)
  ld.core.unlock_folder(where)
  local function again(ema) return function() start(where, {ema = ema}) end end
  t.raises(again{sigma_rel = {0.05, 0.20}}, 'widths 0.05 0.1; asked for: widths 0.05 0.2')
  t.raises(again(0.9), 'asked for: none of a width')
  local plain = fresh()
  go(start(plain, {ema = 0.9}), 1)
  t.raises(function() start(plain) end, 'none of a width; asked for: widths 0.05 0.1')
  t.raises(function() ld.ema.rebuild(plain, 0.1) end, 'has no snapshots')
  t.put(where .. '/ema/list.json', '{"snapshots": [43')
  t.raises(function() ld.ema.rebuild(where, 0.1) end, 'list.json is damaged')
end)

t.finish()
