-- A small autoencoder of the TAESD shape: 3x3 convolutions, residual blocks, three halvings, no normalisation.
-- Image in [0,1] <-> latent (N,latent_channels,H/8,W/8). Names and numbers are TAESD's Sequential indices.
-- Source: method section 1.4 (madebyollin/taesd).
local core = require 'ld.core'
local nn = require 'ld.nn'
local take = require 'ld.take'

local function conv(ni, nf, bias, stride)
  return nn.conv2d{in_channels = ni, out_channels = nf, kernel = 3, padding = 1, stride = stride or 1, bias = bias}
end

local Block = nn.class('block', function(self, width)
  self.conv = nn.sequential{conv(width, width, true), nn.relu(), conv(width, width, true), nn.relu(),
                            conv(width, width, true)}
end)
function Block:forward(x)
  return core.relu(self.conv(x) + x)
end

local function encoder(o)
  local list = {conv(3, o.width, true), Block(o.width)}
  for _ = 1, 3 do
    list[#list + 1] = conv(o.width, o.width, false, 2)
    for _ = 1, o.blocks do list[#list + 1] = Block(o.width) end
  end
  list[#list + 1] = conv(o.width, o.latent_channels, true)
  return nn.sequential(list)
end

-- 3 tanh(x/3): keeps latents inside (-3, 3) before decoding
local function soft_clamp()
  return nn.func(function(x) return core.tanh(x * (1 / 3)) * 3 end)
end

local function decoder(o)
  local list = {soft_clamp(), conv(o.latent_channels, o.width, true), nn.relu()}
  for _ = 1, 3 do
    for _ = 1, o.blocks do list[#list + 1] = Block(o.width) end
    -- upsampling is part of the convolution; it keeps TAESD's place in the sequence
    list[#list + 1] = nn.identity()
    list[#list + 1] = nn.conv2d{in_channels = o.width, out_channels = o.width, kernel = 3, padding = 1, bias = false,
                                upsample = true}
  end
  list[#list + 1] = Block(o.width)
  list[#list + 1] = conv(o.width, 3, true)
  return nn.sequential(list)
end

local Small = nn.class('small_autoencoder', function(self, o)
  rawset(self, 'options', o)
  rawset(self, 'latent_channels', o.latent_channels)
  rawset(self, 'factor', 8)
  rawset(self, 'pixel_range', 'unit')
  self.encoder = encoder(o)
  self.decoder = decoder(o)
end)

--- Latents of images (N,3,H,W) in [0,1]; sides divide by 8.
function Small:encode(x)
  if x.ndim ~= 4 or x.shape[2] ~= 3 or x.shape[3] % 8 ~= 0 or x.shape[4] % 8 ~= 0 then
    core.fail(('small_autoencoder: the image is %s; (N,3,H,W) with sides that divide by 8 was needed'):format(
      x:describe()))
  end
  return nn.wide(self.encoder(x))
end

--- Images of latents, around [0,1], not clamped.
function Small:decode(z) return nn.wide(self.decoder(z)) end

--- The image after encoding and decoding.
function Small:forward(x) return self:decode(self:encode(x)) end

local known = {latent_channels = 4, width = 64, blocks = 3}

--- models.small_autoencoder{latent_channels = 4, width = 64, blocks = 3}
local M = setmetatable({}, {__call = function(_, o) return Small(take('models.small_autoencoder', o, known)) end})

return M
