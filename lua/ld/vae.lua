-- Autoencoders between images and latents: loading weights, encoding and decoding batches.
--
-- An autoencoder object has encode_images(u8 batch), decode_images(latents), latent_channels, factor (pixels per latent
-- side), name, hash (of its weights' file) and pixel_range: what it is fed, 'signed' [-1,1] or 'unit' [0,1].
local core = require 'ld.core'
local models = require 'ld.models'
local take = require 'ld.take'

local host = package.loaded['ld.host'] or {}

local vae = {}

local ranges = {signed = {1 / 127.5, -1, 0.5, 0.5}, unit = {1 / 255, 0, 1, 0}}

local Autoencoder = {}
Autoencoder.__index, Autoencoder.__name = Autoencoder, 'vae'
Autoencoder.__tostring = function(self)
  return ('%s (%s, pixel range %s)\n%s'):format(self.name, self.kind, self.pixel_range, tostring(self.net))
end

--- Posterior means (N,C,h,w) f32, on the network's device, of u8 images (N,3,H,W) on any device; with
-- `moments` also the log-variances, where there are any.
function Autoencoder:encode_images(images, moments)
  local r = ranges[self.pixel_range]
  return core.no_grad(function()
    local x = images:to(self.net:device()):f32():affine(r[1], r[2])
    if not moments then return self.net:encode(x) end
    if not self.net.moments then core.fail('vae: ' .. self.kind .. ' has no log-variances') end
    return self.net:moments(x)
  end)
end

--- Images (N,3,H,W) in [0,1] of latents on any device, on the network's device, clamped, `batch` (16) at a time.
function Autoencoder:decode_images(z, batch)
  local r = ranges[self.pixel_range]
  return core.no_grad(function()
    local parts, n, step, there = {}, z.shape[1], batch or 16, self.net:device()
    for i = 1, n, step do
      parts[#parts + 1] = core.scope(function()
        return self.net:decode(z:slice(1, i, math.min(i + step - 1, n)):to(there)):affine(r[3], r[4]):clamp(0, 1)
      end)
    end
    return #parts == 1 and parts[1] or core.concat(parts, 1)
  end)
end

--- Peak signal-to-noise ratio in dB of u8 images against themselves encoded and decoded; the mean over pictures.
function Autoencoder:round_trip(images)
  return core.no_grad(function()
    local back = self:decode_images(self:encode_images(images))
    local mse = core.square(back - images:to(back.device):f32():affine(1 / 255, 0)):mean({2, 3, 4})
    return core.log(mse:clamp(1e-10, nil)):affine(-10 / math.log(10), 0):mean():item()
  end)
end

local function wrap(net, kind, fields)
  net:freeze()
  local self = {net = net, kind = kind, latent_channels = net.latent_channels, factor = net.factor,
                pixel_range = net.pixel_range}
  for key, value in pairs(fields) do self[key] = value end
  return setmetatable(self, Autoencoder)
end

--- vae.wrap(net, {name, hash}): an autoencoder object around a network (small or KL), frozen.
function vae.wrap(net, fields)
  return wrap(net, net.name, fields)
end

-- ---- published weights ----------------------------------------------------------------------------------------------

-- CompVis names -> diffusers names; levels is the number of levels (decoder.up counts from the other end).
local function from_compvis(name, levels)
  name = name:gsub('%.nin_shortcut%.', '.conv_shortcut.'):gsub('%.norm_out%.', '.conv_norm_out.')
  name = name:gsub('%.mid%.block_([12])%.', function(i) return ('.mid_block.resnets.%d.'):format(i - 1) end)
  name = name:gsub('%.mid%.attn_1%.(%w+)%.', function(part)
    local to = {norm = 'group_norm', q = 'to_q', k = 'to_k', v = 'to_v'}
    return '.mid_block.attentions.0.' .. (to[part] or part) .. '.'
  end)
  name = name:gsub('%.mid%.attn_1%.proj_out%.', '.mid_block.attentions.0.to_out.0.')
  name = name:gsub('^encoder%.down%.(%d+)%.block%.', 'encoder.down_blocks.%1.resnets.')
  name = name:gsub('^encoder%.down%.(%d+)%.downsample%.', 'encoder.down_blocks.%1.downsamplers.0.')
  name = name:gsub('^decoder%.up%.(%d+)%.block%.(%d+)%.', function(i, j)
    return ('decoder.up_blocks.%d.resnets.%s.'):format(levels - 1 - i, j)
  end)
  return (name:gsub('^decoder%.up%.(%d+)%.upsample%.', function(i)
    return ('decoder.up_blocks.%d.upsamplers.0.'):format(levels - 1 - i)
  end))
end

local old_attention = {query = 'to_q', key = 'to_k', value = 'to_v', proj_attn = 'to_out.0'}

local function from_old_diffusers(name)
  return (name:gsub('(%.mid_block%.attentions%.0%.)([%w_]+)%.', function(head, part)
    return head .. (old_attention[part] or part) .. '.'
  end))
end

local FIRST = 'first_stage_model.'

-- The names of a file that belong to the autoencoder, without first_stage_model.: {{bare, name in the file}}; and what
-- naming it is. A file with that prefix is a whole latent diffusion model: only what has the prefix counts. A CompVis
-- file without it may also hold the discriminator and averages.
local function own_names(names)
  local prefixed, compvis, levels, list = false, false, 0, {}
  for _, name in ipairs(names) do prefixed = prefixed or name:sub(1, #FIRST) == FIRST end
  for _, name in ipairs(names) do
    local inside = name:sub(1, #FIRST) == FIRST
    local bare = inside and name:sub(#FIRST + 1) or name
    if inside == prefixed then list[#list + 1] = {bare, name} end
    local level = inside == prefixed and bare:match('^encoder%.down%.(%d+)%.')
    if level then compvis, levels = true, math.max(levels, tonumber(level) + 1) end
  end
  return list, compvis, levels
end

-- {our name = name in the file}, in whichever of the three namings.
local function name_map(names, path)
  local list, compvis, levels = own_names(names)
  local map = {}
  for _, entry in ipairs(list) do
    local bare, name = entry[1], entry[2]
    local beside = bare:match('^loss%.') or bare:match('^model_ema%.')
    local ours = from_old_diffusers(compvis and from_compvis(bare, levels) or bare)
    if not beside and map[ours] then
      core.fail(('vae: %s holds %s twice, as %s and as %s'):format(path, ours, map[ours], name))
    end
    if not beside then map[ours] = name end
  end
  return map
end

-- The configuration that the shapes of a file imply.
local function infer(file, map, path)
  local function shape(name)
    return map[name] and (file:shape(map[name])) or nil
  end
  local first, latent = shape('encoder.conv_in.weight'), shape('post_quant_conv.weight')
  for name, s in pairs{['encoder.conv_in.weight'] = first or false, ['post_quant_conv.weight'] = latent or false} do
    if not s or #s ~= 4 then
      core.fail(('vae: %s holds no KL autoencoder: %s is %s'):format(path, name,
        s and 'no convolution weight' or 'missing'))
    end
  end
  local o = {in_channels = first[2], latent_channels = latent[1], block_out_channels = {}, layers_per_block = 0}
  while true do
    local s = shape(('encoder.down_blocks.%d.resnets.0.conv1.weight'):format(#o.block_out_channels))
    if not s then break end
    o.block_out_channels[#o.block_out_channels + 1] = s[1]
  end
  if #o.block_out_channels == 0 then
    core.fail(('vae: %s holds no KL autoencoder: encoder.down_blocks.0.resnets.0.conv1.weight is missing'):format(path))
  end
  while shape(('encoder.down_blocks.0.resnets.%d.conv1.weight'):format(o.layers_per_block)) do
    o.layers_per_block = o.layers_per_block + 1
  end
  local out = shape('decoder.conv_out.weight')
  o.out_channels = out and out[1] or 3
  local groups = 32
  for _, c in ipairs(o.block_out_channels) do
    while c % groups ~= 0 do groups = groups / 2 end
  end
  o.norm_num_groups = groups
  return o
end

local function check_groups(path, groups, channels)
  for _, c in ipairs(channels) do
    if type(groups) ~= 'number' or groups < 1 or c % groups ~= 0 then
      core.fail(('vae: %s says norm_num_groups is %s, which does not divide %d channels'):format(path,
        core.json_encode(groups), c))
    end
  end
end

-- A diffusers config.json: the options it sets, which must be those of the weights.
local function read_config(path, o)
  local f, why = io.open(path, 'r')
  local text = f and f:read('*a')
  if f then f:close() end
  if not text then core.fail(('vae: cannot read %s: %s'):format(path, why or 'not a file')) end
  local config = core.json_decode(text)
  if type(config) ~= 'table' then core.fail(('vae: %s is no JSON object'):format(path)) end
  if config.norm_num_groups ~= nil then check_groups(path, config.norm_num_groups, o.block_out_channels) end
  for key in pairs{in_channels = 1, out_channels = 1, latent_channels = 1, block_out_channels = 1, layers_per_block = 1,
                   norm_num_groups = 1} do
    if config[key] ~= nil then
      if key ~= 'norm_num_groups' and core.json_encode(config[key]) ~= core.json_encode(o[key]) then
        core.fail(('vae: %s says %s is %s, the weights have %s'):format(path, key, core.json_encode(config[key]),
          core.json_encode(o[key])))
      end
      o[key] = config[key]
    end
  end
end

-- The path, or that below the program's own folder: data/vae-small.h5 is found from anywhere.
local function find(path)
  if core.file_kind(path) then return path end
  local shipped = host.root and not path:match('^/') and host.root .. '/' .. path
  if shipped and core.file_kind(shipped) then return shipped end
  core.fail(('vae: there is no %s; data/README.md says where to get sd-vae-ft-ema'):format(path))
end

local function find_weights(path)
  local kind = core.file_kind(path)
  if kind == 'file' then return path, path:match('^(.*/)[^/]*$') or '' end
  for _, name in ipairs{'diffusion_pytorch_model.safetensors', 'vae/diffusion_pytorch_model.safetensors'} do
    local file = path .. '/' .. name
    if core.file_kind(file) == 'file' then return file, file:match('^(.*/)') end
  end
  core.fail(('vae: no diffusion_pytorch_model.safetensors in the folder %s'):format(path))
end

-- Convolutions of 1x1 that hold what are linear layers here.
local function squeezed(x)
  local s = x.shape
  return #s == 4 and s[3] == 1 and s[4] == 1 and x:reshape(s[1], s[2]) or x
end

local function load_kl(path, options)
  local file_path, folder = find_weights(path)
  local file = core.safetensors_open(file_path)
  local map = name_map(file:names(), file_path)
  local o = infer(file, map, file_path)
  local config = options.config or folder .. 'config.json'
  if options.config or core.file_kind(config) then read_config(config, o) end
  local net = models.kl_autoencoder(o)
  core.scope(function()
    local state = {}
    for ours, theirs in pairs(map) do
      local x = file:read(theirs)
      state[ours] = ours:match('attentions%.0%.to_') and squeezed(x) or x
    end
    net:load_state(state, {name = file_path})
  end)
  file:close()
  return wrap(net, 'kl_autoencoder', {name = path:match('([^/]+)/*$'), hash = core.sha256_file(file_path),
                                      path = path})
end

local function load_small(path)
  local checkpoint = require 'ld.checkpoint'
  local net, record = checkpoint.load_model(path, 'small_autoencoder', models.small_autoencoder)
  return wrap(net, 'small_autoencoder', {name = record.name or path:match('([^/]+)$'), hash = core.sha256_file(path),
                                         path = path})
end

--- vae.load(path, {range, config}): a diffusers folder or .safetensors file (new and old attention names), a CompVis
-- file (also with the first_stage_model. prefix), or the small autoencoder's .h5. range = 'unit' feeds [0,1] to a
-- network made for [-1,1], as fast.ai did. config names a config.json that lies elsewhere than beside the weights.
function vae.load(path, options)
  options = take('vae.load', options, {range = take.optional, config = take.optional})
  if type(path) ~= 'string' then core.fail(('vae.load: the path is a %s; a string was needed'):format(type(path))) end
  local range = options.range
  if range ~= nil and not ranges[range] then
    core.fail(("vae.load: unknown range '%s'; known: signed unit"):format(tostring(range)))
  end
  path = find(path)
  local self = path:match('%.h5$') and load_small(path) or load_kl(path, options)
  self.pixel_range = range or self.pixel_range
  return self
end

return vae
