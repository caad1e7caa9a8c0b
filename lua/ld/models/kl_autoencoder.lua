-- The KL autoencoder of sd-vae-ft-ema: image in [-1,1] <-> latent (N,4,H/8,W/8). Names are diffusers' AutoencoderKL.
-- Source: method section 1.1.
local core = require 'ld.core'
local nn = require 'ld.nn'
local take = require 'ld.take'

local EPS = 1e-6
local silu = nn.silu()

local function norm(o, channels)
  return nn.group_norm{groups = o.norm_num_groups, channels = channels, eps = EPS}
end

local function conv3(ni, nf, options)
  options = options or {}
  return nn.conv2d{in_channels = ni, out_channels = nf, kernel = 3, stride = options.stride or 1,
                   padding = options.padding or 1, upsample = options.upsample}
end

local Resnet = nn.class('resnet', function(self, o, ni, nf)
  self.norm1, self.conv1 = norm(o, ni), conv3(ni, nf)
  self.norm2, self.conv2 = norm(o, nf), conv3(nf, nf)
  if ni ~= nf then self.conv_shortcut = nn.conv2d{in_channels = ni, out_channels = nf, kernel = 1} end
end)
-- f's result, all other tensors made in it let go; at 256 x 256 each is 32 MiB a picture.
local scope = core.scope

-- conv(silu(norm(x)))
local function normed(norm_layer, conv, x)
  local y = nn.norm_act(norm_layer, silu, x)
  local z = conv(y)
  y:release()
  return z
end

function Resnet:forward(x)
  return scope(function()
    local h = normed(self.norm1, self.conv1, x)
    local y = normed(self.norm2, self.conv2, h)
    h:release()
    return y + (rawget(self, 'conv_shortcut') and self.conv_shortcut(x) or x)
  end)
end

local Attention = nn.class('attention', function(self, o, channels)
  self.group_norm = norm(o, channels)
  for _, name in ipairs{'to_q', 'to_k', 'to_v'} do
    self[name] = nn.linear{in_features = channels, out_features = channels}
  end
  self.to_out = nn.sequential{nn.linear{in_features = channels, out_features = channels}}
end)
function Attention:forward(x)
  local n, c, h, w = x.shape[1], x.shape[2], x.shape[3], x.shape[4]
  return scope(function()
    local tokens = self.group_norm(x):permute(1, 3, 4, 2):reshape(n, h * w, c)
    local y = core.attention(self.to_q(tokens), self.to_k(tokens), self.to_v(tokens), 1)
    return self.to_out(y):reshape(n, h, w, c):permute(1, 4, 2, 3) + x
  end)
end

local Mid = nn.class('mid', function(self, o, channels)
  self.attentions = nn.list{Attention(o, channels)}
  self.resnets = nn.list{Resnet(o, channels, channels), Resnet(o, channels, channels)}
end)
function Mid:forward(x)
  return scope(function() return self.resnets[2](self.attentions[1](self.resnets[1](x))) end)
end

local function resnets(o, ni, nf, n)
  local list = nn.list()
  for i = 1, n do list:append(Resnet(o, i == 1 and ni or nf, nf)) end
  return list
end

-- Each of the list applied to the result of the one before, which then goes; x itself stays.
local function run(list, x)
  local y = x
  for i = 1, list:size() do
    local z = list[i](y)
    if y ~= x then y:release() end
    y = z
  end
  return y
end

-- zeros on the right and below only, then stride 2
local Downsampler = nn.class('downsampler', function(self, channels)
  self.conv = conv3(channels, channels, {stride = 2, padding = {0, 1, 0, 1}})
end)
function Downsampler:forward(x) return self.conv(x) end

local Upsampler = nn.class('upsampler', function(self, channels)
  self.conv = conv3(channels, channels, {upsample = true})
end)
function Upsampler:forward(x) return self.conv(x) end

local Level = nn.class('level', function(self, o, ni, nf, n, sampler, kind)
  self.resnets = resnets(o, ni, nf, n)
  if sampler then self[kind] = nn.list{sampler(nf)} end
end)
function Level:forward(x)
  return scope(function()
    local y = run(self.resnets, x)
    local list = rawget(self, 'downsamplers') or rawget(self, 'upsamplers')
    return list and list[1](y) or y
  end)
end

local Encoder = nn.class('encoder', function(self, o)
  local channels = o.block_out_channels
  self.conv_in = conv3(o.in_channels, channels[1])
  self.down_blocks = nn.list()
  for i, nf in ipairs(channels) do
    self.down_blocks:append(Level(o, channels[math.max(i - 1, 1)], nf, o.layers_per_block,
                                  i < #channels and Downsampler or nil, 'downsamplers'))
  end
  local top = channels[#channels]
  self.mid_block = Mid(o, top)
  self.conv_norm_out = norm(o, top)
  self.conv_out = conv3(top, 2 * o.latent_channels)
end)
function Encoder:forward(x)
  return scope(function()
    return normed(self.conv_norm_out, self.conv_out, self.mid_block(run(self.down_blocks, self.conv_in(x))))
  end)
end

local Decoder = nn.class('decoder', function(self, o)
  local channels = o.block_out_channels
  local top = channels[#channels]
  self.conv_in = conv3(o.latent_channels, top)
  self.up_blocks = nn.list()
  for i = #channels, 1, -1 do
    self.up_blocks:append(Level(o, channels[math.min(i + 1, #channels)], channels[i], o.layers_per_block + 1,
                                i > 1 and Upsampler or nil, 'upsamplers'))
  end
  self.mid_block = Mid(o, top)
  self.conv_norm_out = norm(o, channels[1])
  self.conv_out = conv3(channels[1], o.out_channels)
end)
function Decoder:forward(z)
  return scope(function()
    return normed(self.conv_norm_out, self.conv_out, run(self.up_blocks, self.mid_block(self.conv_in(z))))
  end)
end

local KL = nn.class('kl_autoencoder', function(self, o)
  rawset(self, 'options', o)
  rawset(self, 'latent_channels', o.latent_channels)
  rawset(self, 'factor', 2 ^ (#o.block_out_channels - 1))
  rawset(self, 'pixel_range', 'signed')
  self.encoder, self.decoder = Encoder(o), Decoder(o)
  local z = o.latent_channels
  self.quant_conv = nn.conv2d{in_channels = 2 * z, out_channels = 2 * z, kernel = 1}
  self.post_quant_conv = nn.conv2d{in_channels = z, out_channels = z, kernel = 1}
end)

--- Mean and log-variance (clamped to -30 .. 20) of the posterior of images (N,3,H,W) in [-1,1].
function KL:moments(x)
  local side = self.factor
  if x.ndim ~= 4 or x.shape[2] ~= 3 or x.shape[3] % side ~= 0 or x.shape[4] % side ~= 0 then
    core.fail(('kl_autoencoder: the image is %s; (N,3,H,W) with sides that divide by %d was needed'):format(
      x:describe(), side))
  end
  local mean, logvar = nn.wide(self.quant_conv(self.encoder(x))):chunk(2, 2)
  return mean, logvar:clamp(-30, 20)
end

--- The posterior mean.
function KL:encode(x)
  return (self:moments(x))
end

--- Images of latents, around [-1,1], not clamped.
function KL:decode(z) return nn.wide(self.decoder(self.post_quant_conv(z))) end
function KL:forward(x) return self:decode(self:encode(x)) end

local known = {in_channels = 3, out_channels = 3, latent_channels = 4, block_out_channels = {128, 256, 512, 512},
               layers_per_block = 2, norm_num_groups = 32}

--- models.kl_autoencoder{block_out_channels = {128,256,512,512}, layers_per_block = 2, latent_channels = 4, ...}
return setmetatable({}, {__call = function(_, o) return KL(take('models.kl_autoencoder', o, known)) end})
