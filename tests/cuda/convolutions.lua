-- Convolutions of the method's networks, forward and backward, at batches that benchmarks, cards with little memory and
-- recipes that go on with a trained network have: run on the fake device, whose plans write them down (LD_FAKE_LOG).
-- Nothing is computed, and no memory taken. What the recipes themselves make, tests/cuda/recipes.sh finds out.
local ld = require 'ld'

local function plan(make, x_shape, use, train)
  ld.memory.plan(function()
    local net = make()
    local x = ld.zeros(x_shape)
    if train == false then return ld.no_grad(function() use(net, x) end) end
    use(net, x):sum():backward()
  end)
end

local function unet(channels, layers, batch, extra)
  local o = {channels = channels, layers = layers}
  for key, value in pairs(extra or {}) do o[key] = value end
  plan(function() return ld.models.unet(o) end, {batch, 4, 32, 32}, function(net, x)
    return net(x, ld.zeros{batch})
  end)
end

for _, batch in ipairs{16, 32, 64, 128, 256} do
  unet({128, 256, 512, 768}, 2, batch, {attention_from = 2, attention_width = 16}) -- notebook 30
end
unet({64, 128, 256, 384}, 2, 16, {attention_from = 2, attention_width = 16})    -- 40 million parameters
for _, batch in ipairs{16, 256, 512} do
  plan(function() return ld.models.classifier{classes = 1000} end, {batch, 4, 32, 32},
       function(net, x) return net(x) end)
end
local function kl() return ld.models.kl_autoencoder{} end
for _, batch in ipairs{16, 32} do
  plan(kl, {batch, 3, 256, 256}, function(net, x) return net:encode(x) end, false)
end
plan(kl, {4, 4, 32, 32}, function(net, x) return net:decode(x) end, false)
local function small() return ld.models.small_autoencoder{} end
plan(small, {32, 3, 64, 64}, function(net, x) return net(x) end)
plan(small, {16, 3, 256, 256}, function(net, x) return net:encode(x) end, false)
plan(small, {16, 4, 32, 32}, function(net, x) return net:decode(x) end, false)
