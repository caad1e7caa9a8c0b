-- The diffusion objects in Lua: loss, perceptual latent loss, sampling, averages with batch norm.
local ld = require 'ld'
local t = dofile 'tests/lua/harness.lua'

t.test('a schedule without an end is refused', function()
  for _, max in ipairs{-1, 1 / 0, 0 / 0} do
    for _, name in ipairs{'one_cycle', 'cosine', 'constant'} do
      t.raises(function() ld.schedule[name]{max = max} end, 'schedule.' .. name .. ': max is')
    end
  end
end)

local function make_unet(options)
  local o = {in_channels = 4, out_channels = 4, channels = {8, 16}, layers = 1, attention_from = 2, attention_width = 8}
  for key, value in pairs(options or {}) do o[key] = value end
  ld.seed(3)
  local net = ld.models.unet(o)
  for _, entry in ipairs(net:named_parameters()) do -- no zeros, which would hide things
    ld.no_grad(function() entry[2]:copy_(entry[2] + ld.noise(entry[2].shape, {seed = #entry[1]}) * 0.05) end)
  end
  return net
end

local function make_judge(o)
  o = o or {}
  ld.seed(8)
  local net = ld.models.classifier{in_channels = 4, channels = {6, 8, 10}, blocks = {1, 1}, classes = 3, dropout = 0.5}
  for k = 1, 5 do net(ld.noise({8, 4, 8, 8}, {seed = k})) end -- running statistics of their own
  local p = {net = net, mean = {0.5, -1, 0, 2}, std = {3, 4, 2, 5}}
  for key, value in pairs(o) do p[key] = value end
  return p, net
end

local z = ld.noise({5, 4, 8, 8}, {seed = 21}) * 4 + 0.7

local function copies(list)
  local out = {}
  for i, entry in ipairs(list) do out[entry[1] or i] = entry[2]:tolist() end
  return out
end

-- ---- the loss -------------------------------------------------------------------------------------------------------

-- x_t = cos(pi t/2) x0 + sin(pi t/2) eps, sample by sample, with numbers of Lua.
local function noised(x0, times, eps)
  local a, b = x0:tolist(), eps:tolist()
  local function mix(u, v, alpha, sigma)
    if type(u) == 'number' then return alpha * u + sigma * v end
    local out = {}
    for i = 1, #u do out[i] = mix(u[i], v[i], alpha, sigma) end
    return out
  end
  local out = {}
  for i, time in ipairs(times) do
    out[i] = mix(a[i], b[i], math.cos(math.pi * time / 2), math.sin(math.pi * time / 2))
  end
  return ld.tensor(out)
end

t.test('the loss against a hand computation', function()
  local net = make_unet{norm = 'group', groups = 4}
  local shift = {0.3, -0.2, 0.1, 0}
  local model = ld.diffusion.cosine(net, {scale = 0.25, shift = shift})
  local times = {0.05, 0.3, 0.5, 0.8, 0.99}
  local time, eps = ld.tensor(times), ld.noise(z.shape, {seed = 5})
  local loss, parts = model:loss(z, {t = time, eps = eps})
  local x0 = (z - ld.tensor(shift):reshape(1, 4, 1, 1)) * 0.25
  local eps_hat = net(noised(x0, times, eps), time)
  local sum, n = 0, 0
  local function walk(u, v)
    for i = 1, #u do
      if type(u[i]) == 'table' then
        walk(u[i], v[i])
      else
        sum, n = sum + (u[i] - v[i]) ^ 2, n + 1
      end
    end
  end
  walk(eps_hat:tolist(), eps:tolist())
  t.near(loss:item(), sum / n, 1e-5)
  t.eq(parts.mse:item(), loss:item())
  t.eq(parts.perceptual, nil)
  t.near(model:denormalise(model:normalise(z)), z, 1e-5)
end)

t.test('times and noise belong to the sample, not to the batch', function()
  local net = make_unet{norm = 'group', groups = 4}
  local model = ld.diffusion.cosine(net)
  local all = model:loss(z, {seed = 3, first = 10}):item()
  local a, b = model:loss(z:slice(1, 1, 2), {seed = 3, first = 10}):item(),
               model:loss(z:slice(1, 3, 5), {seed = 3, first = 12}):item()
  t.near(all, (2 * a + 3 * b) / 5, 1e-5)
  t.ok(math.abs(model:loss(z, {seed = 3, first = 11}):item() - all) > 1e-4)
  t.ok(math.abs(model:loss(z, {seed = 4, first = 10}):item() - all) > 1e-4)
  t.raises(function() model:loss(z, {sed = 1}) end,
           "loss: unknown option 'sed'; known: drop eps first label perceptual seed t")
end)

local function bits(x) return ('%.17g'):format(x:item()) end

t.test('a batch made in one pass is the one made step by step, to the bit', function()
  local net = make_unet{norm = 'group', groups = 4}
  for _, dtype in ipairs{'f32', 'f64'} do
    local raw = z:to(dtype)
    for _, shift in ipairs{false, {0.3, -0.2, 0.1, 0}} do
      local by = shift and ld.tensor(shift, {dtype = dtype}) or nil
      local x_t, times, eps, x0 = ld.diffusion.batch(raw, {scale = 0.25, shift = by, seed = 3, first = 10, x0 = true})
      local key = {seed = 3, first = 10, dtype = dtype}
      local clean = (by and raw - by:reshape(1, 4, 1, 1) or raw) * 0.25
      t.eq(x0:tolist(), clean:tolist())
      t.eq(times:tolist(), ld.diffusion.times(5, key):tolist())
      t.eq(eps:tolist(), ld.diffusion.eps(raw.shape, key):tolist())
      t.eq(x_t:tolist(), ld.diffusion.noised(clean, times, eps):tolist())
      t.eq(select('#', ld.diffusion.batch(raw, {seed = 3})), 3)
    end
  end
  local model = ld.diffusion.cosine(net, {scale = 0.25, shift = {0.3, -0.2, 0.1, 0}})
  local key = {seed = 3, first = 10}
  local given = {t = ld.diffusion.times(5, key), eps = ld.diffusion.eps(z.shape, key)}
  t.eq(bits(model:loss(z, key)), bits(model:loss(z, given)))
  local wants = (z * 1):requires_grad_(true) -- latents that want a gradient take the operations that have one
  local loss = model:loss(wants, key)
  t.eq(bits(loss), bits(model:loss(z, key)))
  loss:backward()
  t.ok(wants.grad:abs():sum():item() > 0)
  local p = make_judge()
  local perceptual = ld.perceptual(p)
  given.perceptual = perceptual
  t.eq(bits(model:loss(z, {seed = 3, first = 10, perceptual = perceptual})), bits(model:loss(z, given)))
  t.raises(function() ld.diffusion.batch(z, {shift = ld.tensor{1, 2}}) end,
           'diffusion.batch: the latents are (5,4,8,8) f32 cpu, the shift (2) f32 cpu; a number for each channel')
  t.raises(function() ld.diffusion.batch(z:to('i64')) end, 'f32 or f64 is needed')
end)

t.test('losses in one pass are those of the operations, to the bit', function()
  local a, b = ld.noise({5, 4, 33, 31}, {seed = 1}), ld.noise({5, 4, 33, 31}, {seed = 2})
  local d = a - b
  t.eq(bits(ld.mse(a, b)), bits(d:square():mean()))
  t.eq(bits(ld.mse(a, b, {reduction = 'sum'})), bits(d:square():sum()))
  t.eq(bits(ld.l1(a, b)), bits(d:abs():mean()))
  local c = d:clamp(-0.7, 0.7)
  t.eq(bits(ld.huber(a, b, {delta = 0.7})), bits((c * (d - c * 0.5)):mean()))
  local function gradients(f)
    local u, v = a:detach():requires_grad_(true), b:detach():requires_grad_(true)
    f(u, v):backward()
    return {u.grad:tolist(), v.grad:tolist()}
  end
  t.eq(gradients(function(u, v) return ld.mse(u, v) * 3 end),
       gradients(function(u, v) return (u - v):square():mean() * 3 end))
  t.eq(gradients(ld.l1), gradients(function(u, v) return (u - v):abs():mean() end))
  t.eq(bits(ld.mse(a:slice(3, 1, 1):slice(2, 1, 1), b:slice(3, 1, 1):slice(2, 1, 1))),
       bits((a:slice(3, 1, 1):slice(2, 1, 1) - b:slice(3, 1, 1):slice(2, 1, 1)):square():mean()))
end)

-- ---- the perceptual latent loss -------------------------------------------------------------------------------------

local times = {0.1, 0.4, 0.79, 0.8, 0.97} -- tan(pi t/2) <= 3 up to 0.795
local function situation(perceptual, net)
  local model = ld.diffusion.cosine(net or make_unet{norm = 'group', groups = 4}, {scale = 0.2})
  local time, x0 = ld.tensor(times), model:normalise(z)
  local eps = ld.noise(z.shape, {seed = 5})
  local x_t = ld.diffusion.noised(x0, time, eps)
  local eps_hat = (eps + ld.noise(z.shape, {seed = 6}) * 0.3):detach():requires_grad_(true)
  local term, d, w = perceptual:term{model = model, x_t = x_t, t = time, eps_hat = eps_hat, x0 = x0}
  return {term = term, d = d, w = w, model = model, x_t = x_t, eps_hat = eps_hat, x0 = x0, time = time}
end

t.test('gate and weight', function()
  local p = ld.perceptual((make_judge()))
  local s = situation(p)
  local want = {}
  for i, time in ipairs(times) do want[i] = i <= 3 and math.cos(math.pi * time / 2) ^ 2 or 0 end
  t.near(s.w, want, 1e-6)
  local sum = 0
  for i, d in ipairs(s.d:tolist()) do sum = sum + d * want[i] / #times end
  t.ok(sum > 0)
  t.near(s.term:item(), 0.1 * sum, 1e-6)
  local wide = situation(ld.perceptual((make_judge{gate = 5, weight = 2})))
  want[4] = math.cos(math.pi * times[4] / 2) ^ 2
  t.near(wide.w, want, 1e-6)
  sum = 0
  for i, d in ipairs(wide.d:tolist()) do sum = sum + d * want[i] / #times end
  t.near(wide.term:item(), 2 * sum, 1e-5)
end)

-- The distance by its definition: features in eval mode of both standardised latents.
local function features(net, s, stages)
  net:eval()
  local p = {mean = ld.tensor{0.5, -1, 0, 2}:reshape(1, 4, 1, 1), std = ld.tensor{3, 4, 2, 5}:reshape(1, 4, 1, 1)}
  local alpha, sigma = {}, {}
  for i, time in ipairs(times) do
    alpha[i], sigma[i] = math.cos(math.pi * time / 2), math.sin(math.pi * time / 2)
  end
  alpha, sigma = ld.tensor(alpha):reshape(5, 1, 1, 1), ld.tensor(sigma):reshape(5, 1, 1, 1)
  local x0_hat = (s.x_t - sigma * s.eps_hat) / alpha
  local n_hat = ((x0_hat * 5 - p.mean) / p.std):clamp(-8, 8)
  local n = (s.x0 * 5 - p.mean) / p.std
  return {net:features(stages)(n_hat)}, {net:features(stages)(n)}
end

t.test('the distance of pooled features, mse and l1', function()
  for metric, f in pairs{mse = ld.square, l1 = ld.abs} do
    local o, net = make_judge{metric = metric}
    local s = situation(ld.perceptual(o))
    local a, b = features(net, s)
    t.near(s.d, f(a[1] - b[1]):mean(2), 1e-4, metric)
  end
end)

t.test('extended layers', function()
  local o, net = make_judge{layers = {pool = 0.5, [1] = 2, [2] = 0.25}}
  local s = situation(ld.perceptual(o))
  local a, b = features(net, s, {1, 2})
  local total = ld.square(a[1] - b[1]):mean(2) * 0.5
  for stage, weight in pairs{2, 0.25} do
    local u, v = a[2][stage], b[2][stage]
    u = u / ld.sqrt(ld.sum(ld.square(u), 2, true))
    v = v / ld.sqrt(ld.sum(ld.square(v), 2, true))
    total = total + ld.square(u - v):sum(2):mean({2, 3}) * weight
  end
  t.near(s.d, total, 1e-4)
end)

t.test('the gradient reaches eps_hat of the open samples only, and nothing of the classifier', function()
  local o, net = make_judge()
  local before = copies(net:named_buffers())
  local p = ld.perceptual(o)
  local s = situation(p)
  s.term:backward()
  local norms = ld.square(s.eps_hat.grad):sum({2, 3, 4}):tolist()
  for i = 1, 5 do t.ok((norms[i] > 0) == (i <= 3), ('sample %d: %g'):format(i, norms[i])) end
  for _, entry in ipairs(net:named_parameters()) do t.eq(entry[2].grad, nil, entry[1]) end
  t.eq(copies(net:named_buffers()), before, 'running statistics')
  t.eq(net.training, false)
  -- and it is the derivative
  local direction = ld.noise(z.shape, {seed = 31})
  local slope = ld.sum(direction * s.eps_hat.grad):item()
  local function at(h)
    local moved = s.eps_hat:detach() + direction * h
    return (p:term{model = s.model, x_t = s.x_t, t = s.time, eps_hat = moved, x0 = s.x0}):item()
  end
  local h = 1e-3
  t.near((at(h) - at(-h)) / (2 * h), slope, 0.02 * math.abs(slope))
end)

t.test('in the loss: added, told apart, its share', function()
  local net = make_unet{norm = 'group', groups = 4}
  local model = ld.diffusion.cosine(net)
  local o = make_judge{weight = 3}
  local loss, parts = model:loss(z, {seed = 2, perceptual = ld.perceptual(o)})
  local plain = model:loss(z, {seed = 2}):item()
  t.near(parts.mse:item(), plain, 1e-6)
  t.ok(parts.perceptual:item() > 0)
  t.near(loss:item(), plain + parts.perceptual:item(), 1e-5)
  t.near(parts.share:item(), parts.perceptual:item() / loss:item(), 1e-6)
  loss:backward()
  local norm = ld.grad_norm(net:parameters())
  net:zero_grad()
  model:loss(z, {seed = 2}):backward()
  t.ok(norm > 0 and math.abs(norm - ld.grad_norm(net:parameters())) > 1e-4 * norm, 'pulls the U-Net')
end)

t.test('any head-removed network serves', function()
  ld.seed(2)
  local body = ld.nn.sequential{ld.nn.conv2d{in_channels = 4, out_channels = 6, kernel = 3, stride = 2},
                                ld.nn.relu(), ld.nn.adaptive_avg_pool2d{size = 1}, ld.nn.flatten{}}
  local s = situation(ld.perceptual{net = body, mean = {0, 0, 0, 0}, std = {5, 5, 5, 5}})
  local x0_hat = ld.diffusion.predicted_x0(s.x_t, s.time, s.eps_hat)
  t.near(s.d, ld.square(body(x0_hat:clamp(-8, 8)) - body(s.x0)):mean(2), 1e-4)
end)

t.test('refusals', function()
  local o = make_judge()
  local function refuse(text, change)
    local p = {}
    for key, value in pairs(o) do p[key] = value end
    for key, value in pairs(change) do p[key] = value end
    local message = t.raises(function() ld.perceptual(p) end, text)
    t.ok(message:find('test_diffusion_lua.lua:%d+: '), message)
  end
  refuse("unknown metric 'cosine'; known: mse l1", {metric = 'cosine'})
  refuse("unknown layer 'head'", {layers = {head = 1}})
  refuse('stage 3; there are 2', {layers = {[3] = 1}})
  refuse('layers is empty', {layers = {}})
  refuse('mean has 4 channels, std 2', {std = {1, 2}})
  refuse('net must be a classifier', {net = {}})
  refuse("unknown option 'wieght'", {wieght = 1})
  t.raises(function() ld.perceptual{net = o.net, mean = o.mean} end, "option 'std' is needed")
  t.raises(function() ld.diffusion.cosine(o.net, {scal = 1}) end, "unknown option 'scal'; known: scale shift")
  local model = ld.diffusion.cosine(make_unet())
  t.raises(function() model:sample{n = 2, size = 8, sampler = ld.sampler.dpm{steps = 3}} end, 'sampler')
  t.raises(function() model:sample{n = 2, size = 9} end, 'sides that divide by 2')
end)

-- ---- sampling -------------------------------------------------------------------------------------------------------

t.test('sample i is the same in any batch and any number', function()
  local net = make_unet()
  local model = ld.diffusion.cosine(net, {scale = 0.3, shift = {1, 2, 3, 4}})
  for name, sampler in pairs{ddim = ld.sampler.ddim{steps = 4, eta = 1}, ancestral = ld.sampler.ancestral{steps = 4},
                             ddim0 = ld.sampler.ddim{steps = 4, eta = 0}} do
    local function sample(o)
      o.size, o.seed, o.sampler = 8, 7, sampler
      return model:sample(o)
    end
    local all = sample{n = 6}
    t.eq(all.shape, {6, 4, 8, 8})
    t.near(sample{n = 6, batch = 4}, all, 2e-5, name)
    t.near(sample{n = 6, batch = 1}, all, 2e-5, name)
    t.near(sample{n = 2}, all:slice(1, 1, 2), 2e-5, name)
    t.near(sample{n = 3, first = 2, batch = 2}, all:slice(1, 3, 5), 2e-5, name)
    t.eq(sample{n = 6}, all, name .. ': again')
    local d = ld.square(all[1] - all[2]):mean():item()
    t.ok(d > 1e-3, name .. ': two samples differ')
  end
  t.eq(net.training, true)
end)

t.test('ddim with eta 0 takes no noise on the way; with 1 it does', function()
  local model = ld.diffusion.cosine(make_unet())
  local function steps_with_noise(eta)
    local sampler, n = ld.sampler.ddim{steps = 5, eta = eta}, 0
    for i = 1, sampler:steps() do n = n + (sampler:needs_noise(i) and 1 or 0) end
    return n
  end
  t.eq(steps_with_noise(0), 0)
  t.ok(steps_with_noise(1) >= 3)
  local calls = 0
  local a = model:sample{n = 2, size = 8, sampler = ld.sampler.ddim{steps = 5, eta = 0}, each = function(i, x0)
    calls = calls + 1
    t.eq(i, calls)
    t.eq(x0.shape, {2, 4, 8, 8})
  end}
  t.eq(calls, 5)
  ld.randn{100} -- the program's generator has no part in it
  t.eq(model:sample{n = 2, size = 8, sampler = ld.sampler.ddim{steps = 5, eta = 0}}, a)
end)

t.test('an error while sampling puts the mode back', function()
  local net = make_unet()
  t.raises(function()
    ld.diffusion.cosine(net):sample{n = 1, size = 8, each = function() error('stop', 0) end}
  end, 'stop')
  t.eq(net.training, true)
  t.eq(ld.grad_enabled(), true)
end)

-- ---- averages -------------------------------------------------------------------------------------------------------

local function data(k) return ld.noise({4, 4, 8, 8}, {seed = 100 + k}) * (1 + k) + k end

-- A network with batch norm, and averages that are not its weights.
local function averaged(net)
  net = net or make_unet()
  local model = ld.diffusion.cosine(net)
  local ema = ld.ema.of(net, {decay = 0.5, warmup = false})
  model:loss(z) -- moves the running statistics
  for _, x in ipairs(net:parameters()) do ld.no_grad(function() x:copy_(x * 1.25) end) end
  ema:update()
  return net, ema, function(i) model:loss(data(i), {first = 4 * i}) end
end

t.test('use: averaged weights inside, everything as before after', function()
  local net, ema, batches = averaged()
  local weights, statistics, averages = copies(net:named_parameters()), copies(net:named_buffers()), ema:state()
  local want = {}
  for name, x in pairs(averages) do want[name] = x:tolist() end
  local a, b = ema:use(function()
    t.eq(net.training, false)
    for name, x in pairs(net:state()) do
      if want[name] then t.eq(x, want[name], name) end
    end
    local moved = copies(net:named_buffers())
    t.ok(moved['conv_out.0.running_mean'][1] ~= statistics['conv_out.0.running_mean'][1])
    return 'a', 'b'
  end, batches, 3)
  t.eq({a, b}, {'a', 'b'})
  t.eq(copies(net:named_parameters()), weights)
  t.eq(copies(net:named_buffers()), statistics)
  t.eq(net.training, true)
  for name, x in pairs(ema:state()) do t.eq(x, want[name], name) end
end)

t.test('use: the same after an error', function()
  local net, ema, batches = averaged()
  local weights, statistics = copies(net:named_parameters()), copies(net:named_buffers())
  t.raises(function() ema:use(function() error('inside', 0) end, batches, 2) end, 'inside')
  t.raises(function() ema:use(function() end, function() error('in a batch', 0) end, 2) end, 'in a batch')
  t.eq(copies(net:named_parameters()), weights)
  t.eq(copies(net:named_buffers()), statistics)
  t.eq(net.training, true)
  t.raises(function() ema:use(function() end) end, 'has batch norm: pass a function')
  local plain = ld.ema.of(make_unet{norm = 'group', groups = 4})
  t.eq(plain:use(function() return 5 end), 5)
end)

t.test('recalibrate: the plain mean of the batch statistics', function()
  for _, momentum in ipairs{0.1, 0.3, 1} do
    ld.seed(1)
    local net = ld.nn.sequential{ld.nn.conv2d{in_channels = 4, out_channels = 3, kernel = 1},
                                 ld.nn.batch_norm{channels = 3, momentum = momentum}}
    net(data(9))
    ld.ema.recalibrate(net, function(i) net(data(i)) end, 3)
    local mean, var = {0, 0, 0}, {0, 0, 0}
    for i = 1, 3 do
      local y = net[1](data(i))
      local m, v = ld.mean(y, {1, 3, 4}):tolist(), ld.var(y, {1, 3, 4}):tolist()
      for c = 1, 3 do mean[c], var[c] = mean[c] + m[c] / 3, var[c] + v[c] / 3 end
    end
    local state = net:state()
    t.near(state['1.running_mean'], mean, 1e-4)
    t.near(state['1.running_var'], var, 1e-3)
    t.eq(net.training, true)
  end
  local frozen = ld.nn.sequential{ld.nn.batch_norm{channels = 4, momentum = 0}}
  t.raises(function() ld.ema.recalibrate(frozen, function() end, 2) end, 'momentum 0')
end)

t.test('averages by name, and back', function()
  local net, ema = averaged()
  local state = {}
  for name, x in pairs(ema:state()) do state[name] = x:clone() end
  local other = ld.ema.of(net, {decay = 0.5})
  other:load_state(state, 17)
  t.eq(other.average:updates(), 17)
  for name, x in pairs(other:state()) do t.eq(x, state[name], name) end
  state['conv_in.weight'] = nil
  t.raises(function() other:load_state(state, 1) end, 'no average of conv_in.weight')
end)

t.finish()
