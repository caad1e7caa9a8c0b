-- Evaluations of generated latents by a classifier: what stands in a record, what may be compared, what is warned of.
local ld = require 'ld'
local t = dofile 'tests/lua/harness.lua'

local metrics = ld.metrics
local tmp = os.getenv 'TEST_TMP' or '/tmp/ldlua-test-metrics-record'
os.execute('mkdir -p ' .. tmp)
local tiny = dofile('tests/lua/tiny_store.lua')(tmp)
local store = tiny.encode(tiny.small, tiny.faces(22), tmp .. '/store.h5')

local function make_judge(name, seed, more)
  ld.seed(seed)
  local net = ld.models.classifier{in_channels = store.shape[1], channels = {4, 6}, blocks = {1}, classes = 3}
  net(ld.randn(16, store.shape[1], 4, 4)) -- running statistics of its own
  local record = {mean = store.mean, std = store.std, vae_hash = store.vae_hash, pixel_range = store.pixel_range}
  for key, value in pairs(more or {}) do record[key] = value end
  ld.checkpoint.write(tmp .. '/' .. name, {model = net, record = record})
  return tmp .. '/' .. name
end
local path = make_judge('judge.h5', 1)
local judge = metrics.judge(path)

local function noise(n) return ld.noise({n, store.shape[1], store.shape[2], store.shape[3]}, {seed = 3}) end
local function evaluate(o)
  local all = {judge = judge, store = store, n = 11, draw = noise, sampler = {name = 'ddim', steps = 3, eta = 0.1},
               loss_judge = false, run = 'a', seed = 1, images = 64, weights = 'ema'}
  for key, value in pairs(o or {}) do all[key] = value end
  return metrics.evaluate(all)
end

t.test('the hash of weights is that of names and values', function()
  local again = ld.models.classifier.load(path)
  t.eq(metrics.weights_hash(again), judge.hash)
  t.eq(#judge.hash, 64)
  ld.no_grad(function()
    local x = again:parameters()[1]
    x:copy_(x * (1 + 2 ^ -20))
  end)
  t.ok(metrics.weights_hash(again) ~= judge.hash)
  t.ok(metrics.judge(make_judge('second.h5', 2)).hash ~= judge.hash)
end)

t.test('features: pooled, of standardised latents, in eval mode, in any batches', function()
  local z = noise(7)
  local want = ld.no_grad(function()
    local net = ld.models.classifier.load(path):eval()
    return (net:features()(store:standardise(z)))
  end)
  t.eq(judge:features(z), want)
  t.near(judge:features(z, 3), want, 1e-6)
  t.raises(function() judge:features(ld.zeros(2, 7, 4, 4)) end, 'latents of 7 channels')
end)

-- The rows of the store in the order in which they serve.
local function rows(first, n)
  local list = {}
  for i = 1, n do list[i] = ld.shuffled(first + i, 22, 98, 0) end
  return store:get(list).x
end

t.test('values are of generated against real, the floor of real against other real', function()
  local r = evaluate()
  local real, other, made = judge:features(rows(0, 11)), judge:features(rows(11, 11)), judge:features(noise(11))
  for _, case in ipairs{{r.values, made}, {r.floor, other}} do
    local v, x = case[1], case[2]
    t.near(v.frechet, metrics.frechet(real, x), 1e-9)
    t.near(v.kid, metrics.mmd2(real, x), 1e-12)
    t.near(v.kid_error, select(2, metrics.kid(real, x, {blocks = 5})), 1e-12)
    t.near({v.precision, v.recall}, {metrics.precision_recall(real, x)}, 0)
  end
  t.ok(r.values.frechet > r.floor.frechet)
  -- the real latents themselves are at no distance
  local same = evaluate{draw = function(n) return rows(0, n) end}.values
  t.near(same.frechet, 0, 1e-6)
  t.eq({same.precision, same.recall}, {1, 1})
  -- all different rows: none serves twice
  local seen = {}
  for i = 1, 22 do seen[ld.shuffled(i, 22, 98, 0)] = true end
  t.eq(#seen, 22)
end)

t.test('a record says what its numbers depend on, and is the same after it was written and read', function()
  local r = evaluate()
  t.eq({r.n, r.k, r.features.hash, r.features.d}, {11, 3, judge.hash, 6})
  t.eq(r.data.source_hash, store.attributes.source_hash)
  t.eq(r.data.vae_hash, store.vae_hash)
  metrics.write_record(tmp .. '/new/folder/r.json', r)
  local back = metrics.read_record(tmp .. '/new/folder/r.json')
  t.eq(back, r)
  metrics.check_comparable{r, back}
  t.put(tmp .. '/no.json', '{"n": 3}')
  t.raises(function() metrics.read_record(tmp .. '/no.json') end, 'no record of an evaluation')
  t.raises(function() metrics.read_record(tmp .. '/absent.json') end, 'cannot read')
end)

t.test('records that differ in what numbers depend on are not compared', function()
  local r = evaluate()
  local other = metrics.judge(tmp .. '/second.h5')
  local shifted = tiny.encode(ld.vae.load(tmp .. '/small.h5'), tiny.faces(20), tmp .. '/twenty.h5')
  local function refused(o, text)
    local message = t.raises(function() metrics.summary{r, evaluate(o)} end,
      'cannot be compared, they differ in ' .. text)
    t.ok(not message:find(' and k', 1, true), message)
  end
  refused({n = 10}, 'N (11; 10)')
  refused({judge = other}, 'features (6 of classifier ' .. judge.hash:sub(1, 12))
  refused({sampler = {name = 'ddim', steps = 4, eta = 0.1}}, 'sampler (eta 0.1, name ddim, steps 3; eta 0.1, ')
  refused({sampler = {name = 'ddim', steps = 3}}, 'sampler')
  refused({k = 2}, 'k (3; 2)')
  refused({store = shifted, n = 10}, 'N (11; 10) and data (')
  metrics.check_comparable{r, evaluate{seed = 2, images = 128, run = 'b', weights = 'live'}, evaluate{run = 'c'}}
end)

t.test('the classifier of the loss is no judge', function()
  t.eq(evaluate{loss_judge = judge.hash}.judge_of_loss, 'the same')
  t.eq(evaluate{loss_judge = 'abc'}.judge_of_loss, 'another')
  t.eq(evaluate().judge_of_loss, 'none')
  local unknown = metrics.evaluate{judge = judge, store = store, n = 11, draw = noise, sampler = {name = 'x'}}
  t.eq(unknown.judge_of_loss, 'unknown')
  t.ok(metrics.summary{evaluate{loss_judge = judge.hash}}:find('warning: the loss was computed by the very', 1, true))
  t.ok(metrics.summary{unknown}:find('does not say by which classifier', 1, true))
  for _, loss in ipairs{false, 'abc'} do
    local text = metrics.summary{evaluate{loss_judge = loss}}
    t.ok(not text:find('classifier its', 1, true) and not text:find('the very', 1, true), text)
  end
end)

t.test('the table has N, the features and the floor', function()
  local text = metrics.summary{evaluate(), evaluate{run = 'b'}}
  t.ok(text:find('N = 11 generated against 11 real', 1, true), text)
  t.ok(text:find('6 features pooled by the latent classifier ' .. judge.hash:sub(1, 12), 1, true), text)
  t.ok(text:find('\nreal against other real +[-%d.]'), text)
  t.ok(text:find('\na ema +64 '), text)
  t.ok(text:find('\nb ema +64 '), text)
  t.ok(not text:find('N is not above', 1, true))
  local r = evaluate()
  r.features.d = 11
  t.ok(metrics.summary{r}:find('N is not above the 11 features', 1, true))
end)

t.test('what an evaluation refuses', function()
  t.raises(function() evaluate{n = 12} end, 'n = 12; a whole number from 10 to 11 is needed: half of the 22 latents')
  t.raises(function() evaluate{n = 9} end, 'n = 9')
  t.raises(function() evaluate{draw = function(n) return noise(n - 1) end} end, 'draw(11) made 10 latents')
  t.raises(function() evaluate{judge = metrics.judge(make_judge('far.h5', 3, {vae_hash = 'x'}))} end,
    'latents of another autoencoder')
  t.raises(function() evaluate{draw = function(n) return noise(n) * (0 / 0) end} end, 'not finite')
  t.raises(function() return metrics.fid end, "ld.metrics has no 'fid'")
  ld.checkpoint.write(tmp .. '/bare.h5', {model = judge.net})
  t.raises(function() metrics.judge(tmp .. '/bare.h5') end, 'does not say what its latents are standardised with')
end)

t.finish()
