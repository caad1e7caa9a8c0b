-- ldlua's side of the cases: work(case) builds the network and its inputs, always the same ones, and returns
--
--   given     tensors by name that the other side starts from: param.*, judge.*, input.*
--   check()   computes once from `given`: tensors by name to compare, result.* and grad.*
--   run       {label = function that is timed}
--   meta      strings by name: what the other side needs to build the same network
--
-- Weights are the constructors' plus a little noise, so that no layer starts at zero and every gradient has something
-- to say.
local ld = require 'ld'

-- What the latents of ImageNet look like through the autoencoder, per channel (method section 1.3).
local MEAN, STD = {5.37007, 2.65468, 0.44876, -2.39154}, {3.99512, 4.44317, 3.21629, 3.10339}
local ADAMW = {lr = 1e-4, eps = 1e-5, weight_decay = 0.01}

local function fan_in(x)
  return x:numel() / x.shape[1]
end

-- A tenth of the usual size is added to every parameter; running statistics come from a few batches in training mode.
local function stir(net)
  ld.no_grad(function()
    for _, x in ipairs(net:parameters()) do
      local noise = x.ndim > 1 and ld.randn(unpack(x.shape)) * (0.3 / math.sqrt(fan_in(x)))
                    or ld.randn(unpack(x.shape)) * 0.1
      x:copy_(x + noise)
    end
  end)
end

-- A leaky ReLU's slope jumps at 0. Where a value is nearer to 0 than rounding reaches, the two sides disagree about
-- the slope, and a part p of such values makes the gradients differ by sqrt(p): 1e-6 becomes 1e-3, layer after layer.
-- So the classifier is given weights with which its activations see values a few spreads above and below 0 in turn, and
-- few near 0: batch norms before activations by their scale and shift, the residual sum before the last activation by
-- its last bias.
local function stay_off_the_kinks(net)
  local function in_turn(x, size)
    local signs = {}
    for i = 1, x:numel() do signs[i] = i % 2 == 0 and size or -size end
    x:copy_(ld.tensor(signs) + ld.randn(x:numel()) * 0.1)
  end
  local last
  ld.no_grad(function()
    for _, entry in ipairs(net:named_parameters()) do
      local name, x = entry[1], entry[2]
      if name:match('convs%.%d%.0%.weight$') then x:copy_(x * 0.5) end -- the spread
      if name:match('convs%.%d%.0%.bias$') then in_turn(x, 2) end
      if name:match('convs%.1%.2%.bias$') then last = x end
    end
    in_turn(last, 12)
  end)
end

local function warm_statistics(net, forward)
  net:train()
  ld.no_grad(function() for _ = 1, 3 do forward() end end)
end

local function latents(n, size)
  local mean = ld.tensor(MEAN):reshape(1, 4, 1, 1)
  local std = ld.tensor(STD):reshape(1, 4, 1, 1)
  return ld.randn(n, 4, size, size) * std + mean
end

local function add_state(out, prefix, net, pattern)
  for name, x in pairs(net:state()) do
    if not name:match('num_batches_tracked$') and (not pattern or name:match(pattern)) then
      out[prefix .. name] = x:detach()
    end
  end
  return out
end

local function gradients(net, out)
  for _, entry in ipairs(net:named_parameters()) do
    if entry[2].grad then out['grad.' .. entry[1]] = entry[2].grad end
  end
  return out
end

local function join(list)
  return table.concat(list, ',')
end

local function unet_meta(case, meta)
  meta.channels, meta.layers = join(case.unet.channels), tostring(case.unet.layers)
  meta.attention_from, meta.attention_width = tostring(case.unet.attention_from), tostring(case.unet.attention_width)
  return meta
end

local function unet_of(case)
  local o = {}
  for key, value in pairs(case.unet) do o[key] = value end
  local net = ld.models.unet(o)
  stir(net)
  return net, ld.diffusion.cosine(net)
end

local runs = 0

-- A run whose steps are a recipe's (lua/ld/run.lua), which is what a device records and plays again; nothing is saved.
local function new_run(net, adamw, precision, log_every)
  runs = runs + 1
  local folder = ('%s/run-%d-%d'):format(os.getenv 'BENCH_SCRATCH' or 'build/bench', ld.clock() * 1e6 % 1e9, runs)
  local o = {model = net, optim = adamw, quiet = true, plan = false, save_minutes = 1e9, log_every = log_every or 1e9}
  if precision and precision ~= 'f32' then o.precision = precision end
  return ld.run(folder, o)
end

local function run_step(net, adamw, loss, precision)
  local run = new_run(net, adamw, precision)
  local data = {count = 1e6, name = 'bench', get = function() return {} end}
  local following = run:batches(data, 2, 1e6)
  return function()
    following()
    run:step(loss)
  end
end

-- zero_grad, loss, backward, AdamW: what a recipe's step does
local function training_step(adamw, loss, case, net)
  if case.cuda then return run_step(net, adamw, loss, case.precision) end
  return function()
    ld.scope(function()
      adamw:zero_grad()
      loss():backward()
      adamw:step()
    end)
  end
end

local works = {}

-- The timed step draws its own times and noise; the check is given them.
local function diffusion_work(case, perceptual)
  local net, model = unet_of(case)
  local n = case.images
  local z = latents(n, case.size)
  local t, eps = ld.diffusion.times(n, {seed = 1}), ld.diffusion.eps(z.shape, {seed = 1})
  local first = 0
  local function loss(term)
    return function()
      first = first + n
      return (model:loss(z, {first = first, perceptual = term}))
    end
  end
  local work = {given = add_state({['input.z'] = z, ['input.t'] = t, ['input.eps'] = eps}, 'param.', net),
                meta = unet_meta(case, {scale = tostring(model.scale)}), run = {}, loss = loss,
                adamw = ld.optim.adamw(net:parameters(), ADAMW), net = net}
  function work.check()
    net:zero_grad()
    local value, parts = model:loss(z, {t = t, eps = eps, perceptual = perceptual})
    value:backward()
    return gradients(net, {['result.loss'] = value:detach(),
                           ['result.perceptual'] = parts.perceptual and parts.perceptual:detach()})
  end
  return work
end

function works.diffusion(case)
  local work = diffusion_work(case)
  work.run.step = training_step(work.adamw, work.loss(), case, work.net)
  return work
end

-- `case.steps` steps of a run, from the same weights, batches, times and noise on both sides. The other side is told
-- which latents each step had and what was drawn for it; results are the mean losses of `case.means` stretches.
function works.curve(case)
  local n, count = case.images, case.images * 8
  local net, model = unet_of(case)
  local pool, order, drawn_t, drawn_eps = latents(count, case.size), {}, {}, {}
  local data = {count = count, name = 'bench', get = function(_, indices, first)
    for _, i in ipairs(indices) do order[#order + 1] = i - 1 end
    local key = {seed = 1, first = first}
    drawn_t[#drawn_t + 1] = ld.keep(ld.diffusion.times(#indices, key))
    drawn_eps[#drawn_eps + 1] = ld.keep(ld.diffusion.eps({#indices, 4, case.size, case.size}, key))
    return {x = pool:gather(ld.tensor(indices, {dtype = 'i64'}) - 1)}
  end}
  local given = add_state({['input.z'] = pool}, 'param.', net)
  for key, x in pairs(given) do given[key] = x:clone() end
  local meta = unet_meta(case, {scale = tostring(model.scale), means = tostring(case.means), lr = tostring(case.lr),
                                images = tostring(n)})
  local work = {given = given, run = {}, meta = meta}
  function work.check(precision)
    local o = {}
    for key, value in pairs(ADAMW) do o[key] = value end
    o.lr = case.lr
    local run = new_run(net, ld.optim.adamw(net:parameters(), o), precision, 1)
    for _ in run:batches(data, n, case.steps / 8) do
      run:step(function(batch) return (model:loss(batch.x, {seed = 1, first = batch.first})) end)
    end
    local losses = {}
    for line in io.lines(run.folder .. '/log.jsonl') do
      local entry = ld.core.json_decode(line)
      if entry.loss then losses[#losses + 1] = entry.loss end
    end
    if #losses ~= case.steps then ld.fail('%d losses of %d steps', #losses, case.steps) end
    given['input.order'] = ld.tensor(order, {dtype = 'i64'})
    given['input.t'], given['input.eps'] = ld.concat(drawn_t, 1), ld.concat(drawn_eps, 1)
    return {['result.curve'] = ld.tensor(losses):reshape(case.means, -1):mean(2)}
  end
  return work
end

function works.perceptual(case)
  local o = {dropout = 0}
  for key, value in pairs(case.classifier or {}) do o[key] = value end
  local judge = ld.models.classifier(o)
  stir(judge)
  stay_off_the_kinks(judge)
  local mean, std = ld.tensor(MEAN):reshape(1, 4, 1, 1), ld.tensor(STD):reshape(1, 4, 1, 1)
  warm_statistics(judge, function() judge((latents(8, case.size) - mean) / std) end)
  local term = ld.perceptual{net = judge, mean = MEAN, std = STD}
  local work = diffusion_work(case, term)
  add_state(work.given, 'judge.', judge)
  work.given['input.mean'], work.given['input.std'] = ld.tensor(MEAN), ld.tensor(STD)
  work.meta.weight, work.meta.gate, work.meta.clamp = tostring(term.weight), tostring(term.gate), tostring(term.clamp)
  work.meta.judge_channels, work.meta.judge_blocks = join(judge.options.channels), join(judge.options.blocks)
  work.meta.judge_classes = tostring(judge.options.classes)
  work.run['plain step'] = training_step(work.adamw, work.loss(), case, work.net)
  work.run['perceptual step'] = training_step(work.adamw, work.loss(term), case, work.net)
  return work
end

function works.classifier(case)
  local o = {dropout = 0}
  for key, value in pairs(case.classifier or {}) do o[key] = value end
  local net = ld.models.classifier(o)
  stir(net)
  stay_off_the_kinks(net)
  local x, y = ld.randn(case.images, 4, case.size, case.size), (ld.rand(case.images) * net.options.classes):i64()
  local function loss() return ld.cross_entropy(net(x), y) end
  local work = {given = add_state({['input.x'] = x, ['input.y'] = y}, 'param.', net),
                meta = {channels = join(net.options.channels), blocks = join(net.options.blocks),
                        classes = tostring(net.options.classes), bf16_gradient_limit = '0.2'}}
  function work.check()
    net:zero_grad()
    local value = loss()
    value:backward()
    return gradients(net, {['result.loss'] = value:detach()})
  end
  work.run = {step = training_step(ld.optim.adamw(net:parameters(), ADAMW), loss, case, net)}
  return work
end

-- The weights that one direction of the autoencoder uses: `part` and the 1x1 convolution between it and the latents.
local function coder(case, x, method, part, between)
  local net = ld.models.kl_autoencoder(case.vae or {}):freeze()
  local given = add_state({['input.x'] = x}, 'param.', net, '^' .. part)
  add_state(given, 'param.', net, '^' .. between)
  local function once() return ld.no_grad(function() return net[method](net, x) end) end
  return {given = given, meta = {channels = join(net.options.block_out_channels)},
          check = function() return {['result.output'] = once()} end,
          run = {step = function() ld.scope(function() once() end) end}}
end

function works.encoder(case)
  return coder(case, ld.rand(case.images, 3, case.size, case.size) * 2 - 1, 'encode', 'encoder', 'quant_conv')
end

function works.decoder(case)
  local side = case.size / 8
  return coder(case, ld.randn(case.images, 4, side, side), 'decode', 'decoder', 'post_quant_conv')
end

function works.sampling(case)
  local net, model = unet_of(case)
  local n, size = case.images, case.size
  local sampler = ld.sampler.ddim{steps = case.steps, eta = 0}
  warm_statistics(net, function() net(ld.randn(8, 4, size, size), ld.rand(8)) end)
  local start = ld.core.diffusion.sampler_noise({n, 4, size, size}, {seed = 0, first = 0, step = 0})
  local given = add_state({['input.start'] = start}, 'param.', net)
  local function sample(seed) return model:sample{n = n, size = size, sampler = sampler, seed = seed} end
  local seed = 0
  return {given = given, meta = unet_meta(case, {scale = tostring(model.scale), steps = tostring(case.steps)}),
          check = function() return {['result.output'] = sample(0)} end,
          run = {step = function()
            seed = seed + 1
            ld.scope(function() sample(seed) end)
          end}}
end

-- Forward without recording; each backward direction alone, by asking for one gradient and timing backward only: run
-- returns the seconds it counted.
local function conv_shape(work, case, shape)
  local n, c, to, side = case.images, shape.channels, shape.out, shape.size
  local x, g = ld.keep(ld.randn(n, c, side, side)), ld.keep(ld.randn(n, to, side, side))
  local w = ld.keep(ld.randn(to, c, 3, 3) / math.sqrt(9 * c))
  local given = {x = x, g = g, w = w}
  if case.precision == 'bf16' then x, g, w = ld.keep(x:bf16()), ld.keep(g:bf16()), ld.keep(w:bf16()) end
  local function forward() return ld.conv2d(x, w, nil, {padding = 1}) end
  local function backward(leaf)
    return function()
      local seconds
      ld.scope(function()
        leaf:requires_grad_(true)
        local y = forward()
        ld.synchronize()
        local from = ld.clock()
        y:backward(g)
        ld.synchronize()
        seconds = ld.clock() - from
        leaf:zero_grad()
        leaf:requires_grad_(false)
      end)
      return seconds
    end
  end
  local name = shape.name
  work.run[name .. ' forward'] = function() ld.no_grad(function() forward() end) end
  work.run[name .. ' data'], work.run[name .. ' weight'] = backward(x), backward(w)
  for kind, tensor in pairs(given) do work.given[('input.%s.%s'):format(kind, name)] = tensor end
  work.checks[#work.checks + 1] = function(out)
    x:requires_grad_(true)
    w:requires_grad_(true)
    local y = forward()
    y:backward(g)
    out['result.y.' .. name], out['result.dx.' .. name] = y:detach():f32():clone(), x.grad:f32():clone()
    out['result.dw.' .. name] = w.grad:f32():clone()
    for _, leaf in ipairs{x, w} do
      leaf:zero_grad()
      leaf:requires_grad_(false)
    end
  end
end

function works.conv(case)
  local names = {}
  local work = {given = {}, run = {}, checks = {}}
  for i, shape in ipairs(case.shapes) do
    conv_shape(work, case, shape)
    names[i] = shape.name
  end
  work.meta = {shapes = join(names)}
  function work.check()
    local out = {}
    for _, f in ipairs(work.checks) do f(out) end
    return out
  end
  return work
end

--- The work of a case, from the same random numbers every time.
return function(case)
  ld.seed(1)
  local work = works[case.kind](case)
  work.meta.kind = case.kind
  return work
end
