-- The diffusion U-Net: FiLM residual blocks with a time embedding, attention from a given level on.
-- Names are those of the fast.ai notebooks 26 and 28 in PyTorch. Source: method section 4.
local core = require 'ld.core'
local nn = require 'ld.nn'
local take = require 'ld.take'

-- The normalisation in front of a convolution: batch norm as in the notebooks, or group norm.
local function norm(o, channels)
  if o.norm == 'batch' then return nn.batch_norm{channels = channels} end
  local groups = math.min(o.groups, channels)
  while channels % groups ~= 0 do groups = groups - 1 end
  return nn.group_norm{groups = groups, channels = channels}
end

local function pre_conv(o, ni, nf)
  return nn.sequential{norm(o, ni), nn.silu(), nn.conv2d{in_channels = ni, out_channels = nf, kernel = 3, padding = 1}}
end

local Block = nn.class('time block', function(self, o, ni, nf, attention)
  self.emb_proj = nn.linear{in_features = o.emb, out_features = 2 * nf}
  self.conv1 = pre_conv(o, ni, nf)
  self.conv2 = pre_conv(o, nf, nf)
  if ni ~= nf then self.idconv = nn.conv2d{in_channels = ni, out_channels = nf, kernel = 1} end
  if attention then self.attn = nn.attention{channels = nf, head_width = o.attention_width} end
end)

-- In a scope: what the gradient does not need is let go at the end of the block and not at the next collection.
function Block:forward(x, emb)
  return core.scope(function()
    local film = self.emb_proj(core.silu(emb)) -- (N,2C): scale, shift
    local norm2, act2, conv2 = unpack(self.conv2, 1, 3)
    local y = conv2(nn.norm_act(norm2, act2, self.conv1(x), film)) + (rawget(self, 'idconv') and self.idconv(x) or x)
    if rawget(self, 'attn') then y = y + self.attn(y) end
    return y
  end)
end

local Down = nn.class('down', function(self, o, ni, nf, last, attention)
  self.resnets = nn.list()
  for i = 1, o.layers do self.resnets:append(Block(o, i == 1 and ni or nf, nf, attention)) end
  if not last then
    self.down = nn.conv2d{in_channels = nf, out_channels = nf, kernel = 3, stride = 2, padding = 1}
  end
end)

function Down:forward(x, emb, skips)
  for i = 1, self.resnets:size() do
    x = self.resnets[i](x, emb)
    skips[#skips + 1] = x
  end
  if rawget(self, 'down') then
    x = self.down(x)
    skips[#skips + 1] = x
  end
  return x
end

local Up = nn.class('up', function(self, o, ni, previous, nf, last, attention)
  self.resnets = nn.list()
  for i = 1, o.layers + 1 do
    local from, skip = i == 1 and previous or nf, i == o.layers + 1 and ni or nf
    self.resnets:append(Block(o, from + skip, nf, attention))
  end
  if not last then
    -- upsampling is part of the convolution; it keeps PyTorch's place in the sequence
    self.up = nn.sequential{nn.identity(),
                            nn.conv2d{in_channels = nf, out_channels = nf, kernel = 3, padding = 1, upsample = true}}
  end
end)

function Up:forward(x, emb, skips)
  for i = 1, self.resnets:size() do x = self.resnets[i](core.concat({x, table.remove(skips)}, 2), emb) end
  return rawget(self, 'up') and self.up(x) or x
end

local Unet = nn.class('unet', function(self, o)
  local channels = o.channels
  rawset(self, 'options', o)
  o.emb = 4 * channels[1]
  self.conv_in = nn.conv2d{in_channels = o.in_channels, out_channels = channels[1], kernel = 3, padding = 1}
  local first = o.norm == 'batch' and nn.batch_norm{channels = channels[1]} or nn.identity()
  self.emb_mlp = nn.sequential{
    nn.sequential{first, nn.silu(), nn.linear{in_features = channels[1], out_features = o.emb}},
    nn.sequential{nn.silu(), nn.linear{in_features = o.emb, out_features = o.emb}}}
  if o.classes > 0 then self.class_emb = nn.embedding{count = o.classes + 1, features = o.emb} end
  self.downs, self.ups = nn.list(), nn.list()
  local function attended(level) return o.attention_from > 0 and level >= o.attention_from end
  for i, nf in ipairs(channels) do
    self.downs:append(Down(o, channels[math.max(i - 1, 1)], nf, i == #channels, attended(i)))
  end
  self.mid_block = Block(o, channels[#channels], channels[#channels], false)
  for i = #channels, 1, -1 do
    local previous = channels[math.min(i + 1, #channels)]
    self.ups:append(Up(o, channels[math.max(i - 1, 1)], previous, channels[i], i == 1, attended(i)))
  end
  self.conv_out = nn.sequential{norm(o, channels[1]), nn.silu(),
                                nn.conv2d{in_channels = channels[1], out_channels = o.out_channels, kernel = 3,
                                          padding = 1, bias = false}}
  self:initialise()
end)

-- The second convolution of every block in downs and ups (not mid) starts at zero; its bias stays random.
function Unet:initialise()
  for _, entry in ipairs(self:named_parameters()) do
    if entry[1]:match('^[du][op].*conv2%.2%.weight$') then core.init.constant_(entry[2], 0) end
  end
end

-- Labels (N) i64 as the network's classes: one row of the embedding each, added to the time's.
function Unet:add_class(emb, label, n)
  local classes = self.options.classes
  if classes == 0 then
    if label then core.fail('unet: a label was given, but the network knows no classes; make it with classes = ...') end
    return emb
  end
  if not label then
    core.fail(('unet: labels (%d) i64 are needed, 0 to %d, or %d for none'):format(n, classes - 1, classes))
  end
  return emb + self.class_emb(label)
end

--- Predicted noise (N,out,H,W), f32 in every ld.precision, for x_t (N,in,H,W) at times t (N) in [0,1); with classes, of
-- labels (N) i64 from 0, where the number of classes stands for no label.
function Unet:forward(x, t, label)
  local side = 2 ^ (#self.options.channels - 1)
  if x.ndim ~= 4 or x.shape[2] ~= self.options.in_channels or x.shape[3] % side ~= 0 or x.shape[4] % side ~= 0 then
    core.fail(('unet: x is %s; (N,%d,H,W) with sides that divide by %d was needed'):format(x:describe(),
      self.options.in_channels, side))
  end
  local emb = self.emb_mlp(core.diffusion.time_embedding(t, self.options.channels[1]))
  emb = self:add_class(emb, label, x.shape[1])
  x = self.conv_in(x)
  local skips = {x}
  for i = 1, self.downs:size() do x = self.downs[i](x, emb, skips) end
  x = self.mid_block(x, emb)
  for i = 1, self.ups:size() do x = self.ups[i](x, emb, skips) end
  return nn.wide(self.conv_out(x))
end

local known = {in_channels = 4, out_channels = 4, channels = {128, 256, 512, 768}, layers = 2, attention_from = 2,
               attention_width = 16, norm = 'batch', groups = 32, classes = 0}

--- models.unet{channels = {128,256,512,768}, layers = 2, attention_from = 2, attention_width = 16,
-- norm = 'batch', ...}. attention_from counts levels from 1 (2: from 16x16 down for 32x32 latents); 0 stands for no
-- attention. norm is 'batch' or 'group' (with `groups`). in_channels and out_channels are 4. classes: how many
-- there are, to be told as labels; 0 for none.
local M = setmetatable({}, {
  __call = function(_, given)
    local o = take('models.unet', given, known)
    if o.norm ~= 'batch' and o.norm ~= 'group' then
      core.fail(("models.unet: unknown norm '%s'; known: batch group"):format(o.norm))
    end
    return Unet(o)
  end,
})

--- models.unet.load(path): from a checkpoint of a diffusion run.
function M.load(path)
  return require('ld.checkpoint').load_model(path, 'unet', M)
end

return M
