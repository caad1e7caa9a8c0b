-- What a run tells and how it is watched: health, learning-rate search, event files, plots, reports.
local ld = require 'ld'
local t = dofile 'tests/lua/harness.lua'
local core = require 'ld.core'
local get, put = t.get, t.put

local tmp = os.getenv 'TEST_TMP' or '/tmp/ldlua-test-tell'
os.execute('mkdir -p ' .. tmp)

local serial = 0
local function fresh()
  serial = serial + 1
  return ('%s/run-%d'):format(tmp, serial)
end

local function log(folder)
  local out = {}
  for line in io.lines(folder .. '/log.jsonl') do out[#out + 1] = assert(core.json_decode(line)) end
  return out
end

local function events(folder, name)
  local out = {}
  for _, e in ipairs(log(folder)) do
    if e.event == name then out[#out + 1] = e end
  end
  return out
end

-- ---- well-formedness ------------------------------------------------------------------------------------------------

-- Raises unless text is an element of XML with others inside: tags that match, quoted attributes, known entities.
local function check_xml(text)
  local open, names = {}, {}
  text = text:gsub('^<!DOCTYPE html>%s*', '')
  for word in text:gmatch('&([^;]*);?') do
    assert(({amp = 1, lt = 1, gt = 1, quot = 1, ['#39'] = 1})[word], 'entity ' .. word:sub(1, 20))
  end
  local at = 1
  while true do
    local i, j, slash, name, attributes, closed = text:find('<(/?)([%w]+)(.-)(/?)>', at)
    assert(not text:sub(at, (i or 0) - 1):find('<', 1, true), 'a bare < near ' .. text:sub(at, at + 60))
    if not i then break end
    if slash == '/' then
      assert(table.remove(open) == name, 'closed ' .. name)
    else
      local rest = attributes:gsub('%s+[%w:-]+="[^"<]*"', '')
      assert(not rest:find('%S'), ('attributes of %s: %s'):format(name, attributes:sub(1, 80)))
      if closed == '' then open[#open + 1] = name end
      names[name] = (names[name] or 0) + 1
    end
    at = j + 1
  end
  assert(#open == 0, 'left open: ' .. table.concat(open, ' '))
  return names
end

t.test('the check of XML finds what is wrong', function()
  check_xml('<a b="c"><d/>x &amp; y</a>')
  for _, bad in ipairs{'<a><b></a></b>', '<a>', '<a b=c></a>', '<a b="<"></a>', '<a>&nbsp;</a>', '<a>1 < 2</a>'} do
    t.ok(not pcall(check_xml, bad), bad)
  end
end)

-- ---- health ---------------------------------------------------------------------------------------------------------

t.test('losses by noise level', function()
  local levels = ld.health.levels()
  levels:add(ld.tensor{0, 0.1, 0.2499, 0.25, 0.7}, ld.tensor{1, 2, 6, 4, 9})
  levels:add(ld.tensor{0.5, 0.74, 0.6}, ld.tensor{1, 0 / 0, math.huge})
  t.eq(levels:read(), {3, 4, 5, false})
  t.eq(levels:read(), {false, false, false, false}) -- from anew
end)

t.test('a diffusion model notes losses by noise level when it trains, and not else', function()
  ld.seed(3)
  local unet = ld.models.unet{in_channels = 2, out_channels = 2, channels = {8, 16}, layers = 1, norm = 'group'}
  local model = ld.diffusion.cosine(unet, {scale = 1})
  local z, time = ld.randn(6, 2, 8, 8), ld.tensor{0.1, 0.3, 0.4, 0.6, 0.9, 0.95}
  local eps = ld.randn(6, 2, 8, 8)
  local levels = rawget(unet, 'levels')
  ld.no_grad(function() model:loss(z, {t = time, eps = eps}) end)
  t.eq(levels:read(), {false, false, false, false})
  local loss = model:loss(z, {t = time, eps = eps}):item()
  local want = ld.no_grad(function()
    local x_t = ld.diffusion.noised(z, time, eps)
    return ld.square(unet(x_t, time) - eps):mean({2, 3, 4}):tolist()
  end)
  local got = levels:read()
  t.near(got, {want[1], (want[2] + want[3]) / 2, want[4], (want[5] + want[6]) / 2}, 1e-5)
  t.near((got[1] + 2 * got[2] + got[3] + 2 * got[4]) / 6, loss, 1e-5)
end)

t.test('the cosine between two gradients, and nothing left behind', function()
  local p = ld.tensor({1, 1, 1}, {requires_grad = true})
  local optim = ld.optim.sgd({p}, {lr = 0})
  local x = p * 1
  local a, b = ld.sum(x * ld.tensor{3, 0, 4}), ld.sum(x * ld.tensor{0, 0, 2})
  local cosine, ratio = ld.health.compare(a, b, {p}, optim)
  t.near(cosine, 4 / 5, 1e-6)
  t.near(ratio, 2 / 5, 1e-6)
  t.eq(p.grad, nil)
  ld.add(a, b):backward() -- the tape is as it was
  t.eq(p.grad, ld.tensor{3, 0, 6})
  local far = ld.health.compare(ld.sum(p * ld.tensor{1, 0, 0}), ld.sum(p * ld.tensor{-2, 0, 0}), {p}, optim)
  t.near(far, -1, 1e-6)
end)

t.test('outliers stand out, noise and a falling loss do not', function()
  local o, flagged = ld.health.outliers(8), 0
  local draws = ld.randn(2, 400):tolist()
  for i = 1, 400 do
    local found = o:see(2 * math.exp(-i / 2000) * math.exp(0.1 * draws[1][i]), math.exp(0.3 * draws[2][i]))
    if found then flagged = flagged + 1 end
  end
  t.eq(flagged, 0)
  local found = o:see(2 * math.exp(-0.2) * 3, 1)
  t.ok(found and found.loss > 8 and found.norm < 8, ld.repr(found))
  found = o:see(2 * math.exp(-0.2), 50)
  t.ok(found and found.norm > 8 and found.loss < 8, ld.repr(found))
  t.eq(o:see(0, 1), nil)
end)

-- A small run; f(k) is what step k's loss is multiplied by.
local function small_run(folder, o, factor)
  ld.seed(5)
  local net = ld.nn.sequential{ld.nn.linear{in_features = 4, out_features = 8}, ld.nn.batch_norm{channels = 8},
                               ld.nn.linear{in_features = 8, out_features = 1}}
  local options = {model = net, optim = ld.optim.adamw(net:parameters(), {lr = 1e-3}), quiet = true, seed = 2,
                   log_every = 10}
  for key, value in pairs(o or {}) do options[key] = value end
  local run, k = ld.run(folder, options), 0
  local data = {count = 64, name = 'noise', get = function(_, indices)
    local x = {}
    for i, index in ipairs(indices) do x[i] = ld.noise({1, 4}, {seed = 9, first = index}) end
    return {x = ld.concat(x, 1)}
  end}
  local function loss(batch)
    return ld.mean(ld.square(net(batch.x) - batch.x:slice(2, 1, 1)))
  end
  local function go(epochs, each)
    for batch in run:batches(data, 8, epochs) do
      k = k + 1
      run:step(function() return loss(batch) * (factor and factor(k) or 1) end)
      if each then each(k) end
    end
    run:finish()
    return run
  end
  return run, go, data, loss
end

t.test('a spike in a run is flagged once, where it is', function()
  local folder = fresh()
  local _, go = small_run(folder, nil, function(k) return k == 90 and 1000 or 1 end)
  go(15)
  local found = events(folder, 'outlier')
  t.eq(#found, 1)
  t.eq(found[1].images, 89 * 8)
  t.ok(found[1].loss_deviations > 8 and found[1].norm_deviations > 8)
  t.eq(events(folder, nil)[12].outliers, 1)
  local quiet = fresh()
  local _, other = small_run(quiet, {outlier = 0}, function(k) return k == 90 and 1000 or 1 end)
  other(15)
  t.eq(#events(quiet, 'outlier'), 0)
end)

t.test('what a run will take is told before and while it begins', function()
  local said = {}
  local run, go = small_run(fresh(), {quiet = false, ema = 0.9})
  function run.say(_, text, ...) said[#said + 1] = text:format(...) end
  local free = core.disk_free
  rawset(core, 'disk_free', function() -- for what is told; there is room when a checkpoint is written
    rawset(core, 'disk_free', free)
    return 100
  end)
  local ok, message = pcall(go, 10)
  rawset(core, 'disk_free', free)
  t.ok(ok, message)
  local all = table.concat(said, '\n')
  t.ok(all:find('disk: a checkpoint takes'), all)
  t.ok(all:find('warning: that is .* more than the disk'), all)
  t.ok(all:find('time: %d+ s for the %d+ images left, at [%d.e+]+ images/s over %d+ steps'), all)
  local f = ld.checkpoint.open(run.last)
  local bytes = 0
  for _, name in ipairs(f.file:list()) do
    local x = f.file:read(name)
    if not name:match('steps?$') then bytes = bytes + x:numel() * (x.dtype == 'i64' and 8 or 4) end
  end
  f.file:close()
  t.eq(run.disk.checkpoint, bytes)
end)

t.test('overfit = 1: the first batch again and again, in a folder beside', function()
  local folder, seen = fresh(), {}
  local run, go, data = small_run(folder, {overfit = 1})
  local read = data.get
  function data.get(self, indices)
    for _, i in ipairs(indices) do seen[i] = (seen[i] or 0) + 1 end
    return read(self, indices)
  end
  go(5)
  t.eq(run.folder, folder .. '/overfit')
  t.eq(ld.file_kind(folder .. '/last.h5'), nil)
  t.eq(seen, {5, 5, 5, 5, 5, 5, 5, 5})
  t.eq(events(run.folder, 'data')[1].overfit, 1)
end)

t.test('a card\'s use, by a library that stands in for the driver\'s', function()
  local source = put(tmp .. '/nvml.c', [[
#include <string.h>
int nvmlInit_v2(void) { return 0; }
int nvmlDeviceGetHandleByIndex_v2(unsigned i, void **d) { static int x; *d = &x; return i ? 2 : 0; }
int nvmlDeviceGetHandleByUUID(const char *u, void **d) { (void)u; (void)d; return 2; }
int nvmlDeviceGetUtilizationRates(void *d, unsigned *use) { (void)d; use[0] = 75; use[1] = 5; return 0; }
int nvmlDeviceGetMemoryInfo(void *d, unsigned long long *m) { (void)d; m[0] = 80; m[1] = 50; m[2] = 30; return 0; }
int nvmlDeviceGetName(void *d, char *name, unsigned n) { (void)d; strncpy(name, "Stand-in", n); return 0; }
]])
  if os.execute(('cc -shared -fPIC -o %s/libnvml.so %s 2>/dev/null'):format(tmp, source)) ~= 0 then
    return t.skip('a card\'s use', 'no C compiler here')
  end
  local nvml = require 'ld.nvml'
  local card = nvml.open(0, tmp .. '/libnvml.so')
  t.eq(card.name, 'Stand-in')
  t.eq(card.read(), {use = 0.75, memory = 30, total = 80})
  t.eq(nvml.open(1, tmp .. '/libnvml.so'), nil)
  t.eq(nvml.open(0, tmp .. '/absent.so'), nil)
end)

-- ---- the learning-rate search ---------------------------------------------------------------------------------------

-- Everything a checkpoint of the run now would hold, as text.
local function state_of(run)
  local path, out = tmp .. '/state.h5', {}
  run:save(path)
  local c = ld.checkpoint.open(path)
  for _, name in ipairs(c.file:list()) do out[name] = c.file:read(name):tolist() end
  c.file:close()
  out.record = c.record
  return core.json_encode(out)
end

t.test('find_lr trains, suggests, and leaves everything as it was, to the byte', function()
  for _, epochs in ipairs{0, 2} do
    local folder = fresh()
    local run, go, data, loss = small_run(folder, {ema = 0.9, clip = 1})
    if epochs > 0 then go(epochs) end
    local before, seen = state_of(run), {}
    local found = run:find_lr(data, 8, function(batch)
      seen[#seen + 1] = run.parameters[1]:tolist()[1][1]
      ld.randn{3} -- numbers of the program's generator
      return loss(batch)
    end)
    t.ok(state_of(run) == before, 'the run is another than before')
    t.ok(seen[1] ~= seen[#seen], 'weights did not move')
    t.ok(found.suggestion and found.suggestion > 1e-6 and found.suggestion < 10, tostring(found.suggestion))
    t.ok(#found.rates > 20 and #found.rates == #found.losses)
    t.near(found.rates[1], 1e-7, 1e-12)
    check_xml(get(folder .. '/find_lr.svg'))
    for _, p in ipairs(run.parameters) do t.eq(p.grad, nil) end
  end
end)

t.test('find_lr puts back after an error and a loss that is not finite', function()
  local run, _, data, loss = small_run(fresh())
  local before = state_of(run)
  local k = 0
  t.raises(function()
    run:find_lr(data, 8, function(batch)
      k = k + 1
      if k == 5 then error('in the middle') end
      return loss(batch)
    end)
  end, 'in the middle')
  t.ok(state_of(run) == before)
  k = 0
  local found = run:find_lr(data, 8, function(batch)
    k = k + 1
    return loss(batch) * (k == 30 and 0 / 0 or 1)
  end, {path = tmp .. '/x.svg'})
  t.eq(#found.rates, 29)
  t.ok(state_of(run) == before)
  t.raises(function() ld.find_lr{model = run.model, optim = run.optim, loss = loss, from = 1, to = 1} end, 'find_lr')
end)

t.test('the valley is where the loss falls', function()
  local rates, losses = {}, {}
  for i = 1, 100 do
    rates[i] = 10 ^ (i / 10 - 7)
    losses[i] = i < 40 and 1 + 0.01 * (i % 2) or i < 80 and 1 - (i - 40) / 50 or 0.2 + (i - 80) ^ 2
  end
  local at = math.log10(ld.find_lr.valley(rates, losses))
  t.near(at, -1, 0.11) -- step 60, after a flat stretch of 40
  for i = 1, 100 do losses[i] = i end
  t.eq(ld.find_lr.valley(rates, losses), nil)
end)

-- ---- telling does not change training -------------------------------------------------------------------------------

local function latent_run(folder, o)
  ld.seed(7)
  local unet = ld.models.unet{in_channels = 2, out_channels = 2, channels = {8, 16}, layers = 1}
  local model = ld.diffusion.cosine(unet, {scale = 1})
  local judge = ld.models.classifier{in_channels = 2, channels = {4, 8}, blocks = {1}, classes = 3}
  local perceptual = ld.perceptual{net = judge, mean = {0, 0}, std = {1, 1}, weight = 0.5}
  local options = {model = unet, optim = ld.optim.adamw(unet:parameters(), {lr = 1e-3}), ema = 0.9, seed = 2,
                   quiet = true, log_every = 2, deterministic = true}
  for key, value in pairs(o or {}) do options[key] = value end
  local run = ld.run(folder, options)
  local data = {count = 24, name = 'noise', get = function(_, indices)
    local x = {}
    for i, index in ipairs(indices) do x[i] = ld.noise({1, 2, 8, 8}, {seed = 9, first = index}) end
    return {x = ld.concat(x, 1)}
  end}
  local function loss(batch) return model:loss(batch.x, {seed = 2, first = batch.first, perceptual = perceptual}) end
  local function go(epochs, each)
    for batch in run:batches(data, 8, epochs) do
      run:step(function() return loss(batch) end)
      if run:epoch_end() then run:image('samples', ld.sigmoid(ld.noise({4, 3, 8, 8}, {seed = run:seen()}))) end
      if each and each() then return run end
    end
    run:finish()
    return run
  end
  return run, go, data, loss
end

local function weights(run)
  local out = {}
  for name, x in pairs(run.model:state()) do out[name] = x:tolist() end
  for name, x in pairs(run.ema:state()) do out['ema ' .. name] = x:tolist() end
  for name, x in pairs(run.optim:state()) do out['optim ' .. name] = x:tolist() end
  return out
end

local all_on = {tensorboard = true, report_minutes = 1e-9, compare_every = 1, outlier = 0.1}
local full = fresh()

t.test('with everything told and nothing told: the same weights, to the bit', function()
  local run, go, data, loss = latent_run(full, all_on)
  run:find_lr(data, 8, loss, {steps = 10})
  go(4)
  local none, start = latent_run(fresh(), {report_minutes = 0, compare_every = 0, outlier = 0})
  start(4)
  t.eq(weights(run), weights(none))
  t.eq(ld.file_kind(none.folder .. '/report.html'), nil)
  t.eq(ld.file_kind(none.folder .. '/tb'), nil)
  local compared, levels = 0, 0
  for _, e in ipairs(events(full, nil)) do
    if e.gradient_cosine then
      compared = compared + 1
      t.ok(math.abs(e.gradient_cosine) <= 1 and e.gradient_ratio > 0)
    end
    for k = 1, 4 do levels = levels + (e['loss_q' .. k] and 1 or 0) end
  end
  t.ok(compared >= 5, compared .. ' comparisons')
  t.ok(levels > 12, levels .. ' levels')
end)

t.test('telling that fails is said once and ends nothing', function()
  local folder, said = fresh(), {}
  ld.make_dirs(folder .. '/report.html')
  put(folder .. '/tb', 'in the way')
  local run, go = latent_run(folder, all_on)
  function run.say(_, text, ...) said[#said + 1] = text:format(...) end
  run.quiet, run.tensorboard = false, true
  go(2)
  local all = table.concat(said, '\n')
  t.eq(select(2, all:gsub('warning: no report from here on', '')), 1, all)
  t.eq(run:seen(), 48)
end)

-- ---- plots ----------------------------------------------------------------------------------------------------------

t.test('text is escaped, and made of whole characters', function()
  local escape = ld.plot.escape
  t.eq(escape('<a href="x">\'&</a>'), '&lt;a href=&quot;x&quot;&gt;&#39;&amp;&lt;/a&gt;')
  t.eq(escape('gr\195\188n \240\159\142\168'), 'gr\195\188n \240\159\142\168')
  t.eq(escape('a\1b\0c\255d\195'), 'a\239\191\189b\239\191\189c\239\191\189d\239\191\189')
  t.eq(escape('\237\160\128\192\175'), ('\239\191\189'):rep(5)) -- a surrogate, an overlong slash
end)

t.test('plots of odd numbers', function()
  local x, y = {}, {}
  for i = 1, 5000 do x[i], y[i] = i, i % 7 == 0 and 0 / 0 or i % 11 == 0 and -1 or math.exp(-i / 500) end
  local svg = ld.plot({{x = x, y = y, name = 'a<b'}}, {log_y = true, smooth = 0.04, x_label = '<x>', title = '&'})
  local names = check_xml(svg)
  t.eq(names.path > 6, true)
  t.ok(not svg:find('nan') and not svg:find('inf'), 'a number that is none')
  t.ok(#svg < 30000, #svg .. ' bytes for 5000 points')
  t.eq(ld.plot({}), nil)
  t.eq(ld.plot({{x = {1, 2}, y = {0 / 0, math.huge}}}), nil)
  t.eq(ld.plot({{x = {1, 2}, y = {-1, 0}}}, {log_y = true}), nil)
  for _, case in ipairs{{{5}, {3}}, {{0}, {0}}, {{1, 2}, {4, 4}}, {{1, 2}, {1e-30, 1e30}}, {{1, 2}, {-5, -4}}} do
    for _, log_y in ipairs{false, true} do
      local one = ld.plot({{x = case[1], y = case[2]}}, {log_y = log_y})
      if one then check_xml(one) end
      t.ok((one ~= nil) == not (log_y and case[2][1] <= 0), ld.repr(case))
    end
  end
  t.raises(function() ld.plot({}, {widht = 3}) end, "unknown option 'widht'")
end)

t.test('smoothing keeps lines straight and means where they are', function()
  local y = {}
  for i = 1, 100 do y[i] = 3 * i end
  t.near(ld.plot.smooth(y, 0.2), y, 1e-9)
  for i = 1, 100 do y[i] = i % 2 end
  t.near(ld.plot.smooth(y, 0.2)[50], 0.5, 0.05)
end)

t.test('base64', function() -- the vectors of RFC 4648
  local base64 = require('ld.report_picture').base64
  for text, want in pairs{[''] = '', f = 'Zg==', fo = 'Zm8=', foo = 'Zm9v', foob = 'Zm9vYg==', fooba = 'Zm9vYmE=',
                          foobar = 'Zm9vYmFy', ['\255\0\254'] = '/wD+'} do
    t.eq(base64(text), want)
  end
end)

-- ---- reports --------------------------------------------------------------------------------------------------------

t.test('the report of a run: one well-formed file that fetches nothing and runs nothing', function()
  local text = get(full .. '/report.html')
  local names = check_xml(text)
  t.eq(names.img, 4)
  t.ok(names.svg >= 10, names.svg .. ' plots')
  t.eq(names.script, nil)
  t.eq(text:gsub('http://www.w3.org/%d+/%w+', ''):match('https?:[^"]*'), nil)
  t.eq(text:match('url%([^)]*'), nil)
  for src in text:gmatch('src="([^"]*)') do t.ok(src:match('^data:image/png;base64,'), src:sub(1, 40)) end
  for _, word in ipairs{'finished', 'Loss by noise level', 'Gradient norm', 'Learning rate', 'Perceptual term',
                        'Throughput', 'Environment', 'processor', '96 images seen'} do
    t.ok(text:find(word, 1, true), word)
  end
end)

t.test('names that would break a page do not', function()
  local folder = fresh()
  local bad = '"><script>alert(1)</script>&\1\255\''
  local run, go = small_run(folder, {opt = {name = bad, list = {bad, 2}, [bad] = 1}})
  run:image(bad:gsub('/', '-'), ld.rand(2, 3, 8, 8))
  run:log{event = bad, [bad] = 3}
  go(3)
  local text = get(folder .. '/report.html')
  t.eq(check_xml(text).script, nil)
  t.ok(text:find('&lt;script&gt;alert(1)&lt;/script&gt;', 1, true))
  local both = tmp .. '/both.html'
  ld.report.compare({folder, full}, both)
  t.eq(check_xml(get(both)).script, nil)
  t.ok(not ld.report.table{folder, full}:find('%c+[%z\1-\9]'))
end)

t.test('what a resume took back is not told twice', function()
  local folder, steps = fresh(), 0
  local run, go = latent_run(folder, {log_every = 1})
  go(3, function()
    steps = steps + 1
    if steps == 4 then run:save() end
    return steps == 6
  end)
  local again, more = latent_run(folder, {log_every = 1})
  t.ok(again.resumed)
  more(3)
  t.eq(#events(folder, nil), 6 + 5)
  local images = {}
  for _, e in ipairs(ld.report.read(folder).steps) do images[#images + 1] = e.images end
  t.eq(images, {8, 16, 24, 32, 40, 48, 56, 64, 72})
  t.eq(#ld.report.read(folder).pictures.samples, 3)
end)

t.test('a run that goes on, with half a line written, is read', function()
  local folder = fresh()
  ld.make_dirs(folder)
  local from = get(full .. '/log.jsonl')
  put(folder .. '/log.jsonl', from:sub(1, #from - 30))
  local run = ld.report.read(folder)
  t.eq(run.unread, 1)
  t.eq(run.state, 'running')
  local text = ld.report.page(folder) -- the pictures are not there
  check_xml(text)
  put(folder .. '/log.jsonl', '')
  check_xml(ld.report.page(folder))
  t.raises(function() ld.report.page(tmp .. '/absent') end, 'absent/log.jsonl')
end)

t.test('a search for a learning rate in a finished run leaves it finished', function()
  local folder = fresh()
  local _, go = small_run(folder, {opt = {a = 1}})
  go(2)
  local run, _, data, loss = small_run(folder, {opt = {a = 2}})
  run:find_lr(data, 8, loss)
  local read = ld.report.read(folder)
  t.eq(read.state, 'finished')
  t.eq(read.facts.options.a, 1)
  t.eq(#ld.report.read(folder).steps, 2)
  t.ok(ld.report.page(folder):find('learning rate searched', 1, true))
end)

t.test('large pictures are made small', function()
  local picture = require 'ld.report_picture'
  local path = tmp .. '/large.png'
  ld.save_image(ld.rand(3, 400, 700), path)
  local source = picture.source(path, 700, 400, 300)
  t.ok(#source < 4 / 3 * 1.1 * 3 * 234 * 134, #source .. ' bytes')
  t.eq(picture.source(tmp .. '/absent.png', 10, 10, 300), nil)
end)

t.test('runs side by side: a table, a page, the options that differ', function()
  local a, b = fresh(), fresh()
  local _, go = small_run(a, {opt = {lr = 1e-3, same = 'x'}})
  go(3)
  local run, other = small_run(b, {opt = {lr = 2e-3, same = 'x'}})
  run:log{event = 'epoch', valid_loss = 0.5}
  other(2)
  local text = ld.report.table{a, b .. '/'}
  t.ok(text:find('images seen +192 +128'), text)
  t.ok(text:find('%-%-lr +0.001 +0.002'), text)
  t.ok(not text:find('same'), text)
  t.ok(text:find('valid_loss, last %(lowest, highest%) +%- +0.5 %(0.5, 0.5%)'), text)
  check_xml(get(ld.report.compare({a, b}, tmp .. '/ab.html')))
  t.raises(function() ld.report.table{tmp .. '/absent'} end, 'there is no run in')
end)

-- ---- TensorBoard ----------------------------------------------------------------------------------------------------

local CHECK = [[
import sys
from tensorboard.backend.event_processing import event_accumulator
a = event_accumulator.EventAccumulator(sys.argv[1], size_guidance={'scalars': 0, 'images': 0})
a.Reload()
print(' '.join(str(e.step) for e in a.Scalars('loss/loss')))
print(' '.join(str(e.step) for e in a.Images('pictures/samples')))
print(a.Images('pictures/samples')[0].width, a.Images('pictures/samples')[0].encoded_image_string[1:4].decode())
print(' '.join(sorted(set(t.split('/')[0] for t in a.Tags()['scalars']))))
]]

local function python_with_tensorboard()
  for _, python in ipairs{os.getenv 'PYTHON' or 'python3', '.venv/bin/python'} do
    local pipe = io.popen(("%s -c 'import tensorboard; print(1)' 2>/dev/null"):format(python))
    local found = pipe:read('*l')
    pipe:close()
    if found == '1' then return python end
  end
end

local python = python_with_tensorboard()
if python then
  t.test('TensorBoard opens the event files, and shows every step of a resumed run once', function()
    local folder, steps = fresh(), 0
    local run, go = latent_run(folder, {log_every = 1, tensorboard = true})
    go(3, function()
      steps = steps + 1
      if steps == 4 then run:save() end
      return steps == 6
    end)
    local _, more = latent_run(folder, {log_every = 1, tensorboard = true})
    more(3)
    local pipe = io.popen(('%s %s %s/tb 2>/dev/null'):format(python, put(tmp .. '/check.py', CHECK), folder))
    local text = pipe:read('*a')
    pipe:close()
    t.eq(text, '8 16 24 32 40 48 56 64 72\n24 48 72\n18 PNG\ngradient health loss system training\n')
  end)
else
  t.skip('TensorBoard opens the event files', 'no python with tensorboard here')
end

t.finish()
