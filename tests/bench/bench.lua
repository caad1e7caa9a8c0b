-- Times of the main workloads on this machine: ldlua tests/bench/bench.lua [--threads N] [--quick]
-- Each case is run until it is warm, then several times; the median, fastest and slowest are printed. No verdicts.
local ld = require 'ld'

local opt = ld.options{runs = 5, quick = false}
local runs = opt.quick and 2 or opt.runs

local function median(list)
  table.sort(list)
  return list[math.floor((#list + 1) / 2)]
end

-- images per call, nominal forward-and-backward GFLOP per image (0: not said)
local function case(name, images, gflop, f)
  f()
  local times = {}
  for i = 1, runs do
    local t = ld.clock()
    f()
    times[i] = ld.clock() - t
  end
  local m = median(times)
  print(('%-44s %8.1f ms  (%.1f .. %.1f)  %7.1f images/s%s  peak %d MB'):format(name, m * 1e3, times[1] * 1e3,
    times[#times] * 1e3, images / m, gflop > 0 and ('  %6.0f GFLOP/s'):format(gflop * images / m) or '',
    ld.memory('reset').peak / 2 ^ 20))
end

local function training_step(params, loss)
  local adamw = ld.optim.adamw(params, {lr = 1e-4})
  return function()
    ld.scope(function()
      adamw:zero_grad()
      loss():backward()
      adamw:step()
    end)
  end
end

print(('%d threads, %d runs a case; nominal FLOPs of convolutions and products'):format(ld.threads(), runs))

do
  local unet = ld.models.unet{channels = {64, 128, 256, 384}, layers = 2}
  local model = ld.diffusion.cosine(unet)
  local z, first = ld.randn(16, 4, 32, 32), 0
  case('U-Net (64,128,256,384), training, batch 16', 16, 15.9, training_step(unet:parameters(), function()
    first = first + 16
    return (model:loss(z, {first = first}))
  end))
  case('U-Net, DDIM 20 steps, batch 4', 4, 0, function()
    model:sample{n = 4, sampler = ld.sampler.ddim{steps = 20, eta = 0}}
  end)
end
collectgarbage()

do
  local net = ld.models.classifier{}
  local x, y = ld.randn(32, 4, 32, 32), (ld.rand(32) * 1000):i64()
  case('classifier, training, batch 32', 32, 11.1, training_step(net:parameters(), function()
    return ld.cross_entropy(net(x), y)
  end))
end
collectgarbage()

do
  local net = ld.models.kl_autoencoder{}:freeze()
  local x, z = ld.randn(1, 3, 256, 256), ld.randn(1, 4, 32, 32)
  case('sd-vae encoder, 256 x 256, batch 1', 1, 272.7, function() ld.no_grad(function() net:encode(x) end) end)
  case('sd-vae decoder, 256 x 256, batch 1', 1, 622.2, function() ld.no_grad(function() net:decode(z) end) end)
end
collectgarbage()

do
  local net = ld.models.small_autoencoder{}:freeze()
  local x = ld.rand(8, 3, 128, 128)
  case('small autoencoder, there and back, batch 8', 8, 16.5, function() ld.no_grad(function() net(x) end) end)
  case('synthetic faces, 128 x 128', 64, 0, function() ld.core.faces(64, {size = 128}):release() end)
end
