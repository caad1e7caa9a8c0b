-- The latent classifier: pre-activation residual network with GeneralReLU on (N,4,32,32) standardised latents.
-- Layer names and numbers are those of the fast.ai notebook 31 in PyTorch's Sequential. Source: method section 3.
local core = require 'ld.core'
local nn = require 'ld.nn'
local take = require 'ld.take'

-- BatchNorm -> GeneralReLU -> conv
local function pre_conv(ni, nf, kernel, stride)
  return nn.sequential{nn.batch_norm{channels = ni}, nn.general_relu(),
                       nn.conv2d{in_channels = ni, out_channels = nf, kernel = kernel, stride = stride,
                                 padding = math.floor(kernel / 2)}}
end

local Block = nn.class('residual', function(self, ni, nf, stride)
  self.convs = nn.sequential{pre_conv(ni, nf, 3, 1), pre_conv(nf, nf, 3, stride)}
  if ni ~= nf then
    self.idconv = nn.sequential{nn.batch_norm{channels = ni},
                                nn.conv2d{in_channels = ni, out_channels = nf, kernel = 1}}
  end
  rawset(self, 'pool', stride == 2)
end)

-- In a scope: what the gradient does not need is let go at the end of the block and not at the next collection.
function Block:forward(x)
  return core.scope(function()
    local short = self.pool and core.avg_pool2d(x, 2, {ceil = true}) or x
    if rawget(self, 'idconv') then short = self.idconv(short) end
    return self.convs(x) + short
  end)
end

-- n blocks; only the last halves the sides
local function stage(ni, nf, n)
  local blocks = {}
  for i = 1, n do blocks[i] = Block(i == 1 and ni or nf, nf, i == n and 2 or 1) end
  return nn.sequential(blocks)
end

local Features = nn.class('classifier features', function(self, owner, taps)
  rawset(self, 'owner', owner)
  rawset(self, 'taps', taps)
end)

--- Pooled features (N,C); with `taps` also the outputs of those stages: pool, {stage = activation}.
function Features:forward(x)
  local owner, out = self.owner, {}
  x = owner[1](x)
  for i = 1, owner.stages do
    x = owner[i + 1](x)
    if self.taps and self.taps[i] then out[i] = nn.wide(x) end
  end
  for i = owner.stages + 2, owner.stages + 4 do x = owner[i](x) end
  return nn.wide(x:flatten(2)), out
end

local Classifier = nn.class('classifier', function(self, o)
  local channels, blocks = o.channels, o.blocks
  if #channels ~= #blocks + 1 then
    core.fail(('models.classifier: %d channels need %d stages of blocks, not %d'):format(#channels, #channels - 1,
      #blocks))
  end
  rawset(self, 'options', o)
  rawset(self, 'stages', #blocks)
  self[1] = nn.conv2d{in_channels = o.in_channels, out_channels = channels[1], kernel = 5, padding = 2}
  for i = 1, #blocks do self[i + 1] = stage(channels[i], channels[i + 1], blocks[i]) end
  local top, at = channels[#channels], #blocks + 1
  self[at + 1] = nn.general_relu()
  self[at + 2] = nn.batch_norm{channels = top}
  self[at + 3] = nn.adaptive_avg_pool2d{size = 1}
  self[at + 4] = nn.flatten{}
  self[at + 5] = nn.dropout{p = o.dropout}
  self[at + 6] = nn.linear{in_features = top, out_features = o.classes, bias = false}
  self[at + 7] = nn.batch_norm{channels = o.classes}
  self:initialise()
end)

-- Kaiming normal for every convolution's weight, slope 0.1; the rest keeps PyTorch's default.
function Classifier:initialise()
  for _, entry in ipairs(self:named_parameters()) do
    if entry[1]:match('weight$') and entry[2].ndim == 4 then core.init.kaiming_normal_(entry[2], 0.1) end
  end
end

--- Logits (N,classes) of standardised latents (N,in_channels,H,W).
function Classifier:forward(x)
  for i = 1, #self._order do x = self[i](x) end
  return nn.wide(x)
end

--- The network without its head (Flatten, Dropout, Linear, BatchNorm): pooled features, and with taps = {stage numbers}
-- the outputs of those stages. It shares the classifier's parameters.
function Classifier:features(taps)
  local set
  for _, i in ipairs(taps or {}) do
    if i < 1 or i > self.stages then
      core.fail(('classifier:features: stage %d; there are %d'):format(i, self.stages))
    end
    set = set or {}
    set[i] = true
  end
  return Features(self, set)
end

local known = {in_channels = 4, channels = {32, 64, 128, 512, 1024}, blocks = {1, 2, 4, 3}, classes = 1000,
               dropout = 0.1}

--- models.classifier{in_channels = 4, channels = {32,64,128,512,1024}, blocks = {1,2,4,3}, classes = 1000,
-- dropout = 0.1}
local M = setmetatable({}, {__call = function(_, o) return Classifier(take('models.classifier', o, known)) end})

--- models.classifier.load(path): from a checkpoint of recipes/imagenet_classifier.lua or of the demo; its `record` has
-- mean and std (of the latents it learnt, per channel), vae_hash and pixel_range.
function M.load(path)
  local net, record = require('ld.checkpoint').load_model(path, 'classifier', M)
  record = record.extra or record -- a run keeps the recipe's record beside its own
  rawset(net, 'record', record)
  return net, record
end

return M
