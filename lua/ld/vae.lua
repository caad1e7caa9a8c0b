-- Autoencoders between images and latents: loading weights, encoding and decoding batches.
--
-- An autoencoder object has encode_images(u8 batch), decode_images(latents), latent_channels, factor (pixels per latent
-- side), name, hash (of its weights' file) and pixel_range: what it is fed, 'signed' [-1,1] or 'unit' [0,1].
local core = require 'ld.core'
local models = require 'ld.models'

local vae = {}

local ranges = {signed = {1 / 127.5, -1, 0.5, 0.5}, unit = {1 / 255, 0, 1, 0}}

local Autoencoder = {}
Autoencoder.__index = Autoencoder
Autoencoder.__tostring = function(self)
  return ('%s (%s, pixel range %s)\n%s'):format(self.name, self.kind, self.pixel_range, tostring(self.net))
end

--- Posterior means (N,C,h,w) f32 of u8 images (N,3,H,W); with `moments` also the log-variances, where there are any.
function Autoencoder:encode_images(images, moments)
  local r = ranges[self.pixel_range]
  return core.no_grad(function()
    local x = images:f32():affine(r[1], r[2])
    if not moments then return self.net:encode(x) end
    if not self.net.moments then core.fail('vae: ' .. self.kind .. ' has no log-variances') end
    return self.net:moments(x)
  end)
end

--- Images (N,3,H,W) in [0,1] of latents, clamped, `batch` (16) at a time.
function Autoencoder:decode_images(z, batch)
  local r = ranges[self.pixel_range]
  return core.no_grad(function()
    local parts, n, step = {}, z.shape[1], batch or 16
    for i = 1, n, step do
      parts[#parts + 1] = core.scope(function()
        return self.net:decode(z:slice(1, i, math.min(i + step - 1, n))):affine(r[3], r[4]):clamp(0, 1)
      end)
    end
    return #parts == 1 and parts[1] or core.concat(parts, 1)
  end)
end

--- Peak signal-to-noise ratio in dB of u8 images against themselves encoded and decoded; the mean over pictures.
function Autoencoder:round_trip(images)
  return core.no_grad(function()
    local back = self:decode_images(self:encode_images(images))
    local mse = core.square(back - images:f32():affine(1 / 255, 0)):mean({2, 3, 4})
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

-- ---- published weights -------------------------------------------------------------------------------------------------

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

-- {our name = name in the file} for the names of a file, in whichever of the three namings.
local function name_map(names)
  local map, compvis, levels = {}, false, 0
  for _, name in ipairs(names) do
    local bare = name:gsub('^first_stage_model%.', '')
    local level = bare:match('^encoder%.down%.(%d+)%.')
    if level then compvis, levels = true, math.max(levels, tonumber(level) + 1) end
  end
  for _, name in ipairs(names) do
    local bare = name:gsub('^first_stage_model%.', '')
    if bare:match('^encoder%.') or bare:match('^decoder%.') or bare:match('^quant_conv%.')
       or bare:match('^post_quant_conv%.') then
      map[compvis and from_compvis(bare, levels) or from_old_diffusers(bare)] = name
    end
  end
  return map
end

-- The configuration that the shapes of a file imply.
local function infer(file, map, path)
  local function shape(name)
    return map[name] and (file:shape(map[name])) or nil
  end
  local first, latent = shape('encoder.conv_in.weight'), shape('post_quant_conv.weight')
  if not first or not latent then
    core.fail(('vae: %s holds no KL autoencoder: encoder.conv_in.weight or post_quant_conv.weight is missing'):format(
      path))
  end
  local o = {in_channels = first[2], latent_channels = latent[1], block_out_channels = {}, layers_per_block = 0}
  while true do
    local s = shape(('encoder.down_blocks.%d.resnets.0.conv1.weight'):format(#o.block_out_channels))
    if not s then break end
    o.block_out_channels[#o.block_out_channels + 1] = s[1]
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

-- A diffusers config.json beside the weights, if there is one: the options it sets.
local function read_config(path, o)
  local f = io.open(path, 'r')
  if not f then return end
  local text = f:read('*a')
  f:close()
  local config = core.json_decode(text)
  if type(config) ~= 'table' then core.fail(('vae: %s is no JSON object'):format(path)) end
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

local function find_weights(path)
  local kind = core.file_kind(path)
  if not kind then core.fail(('vae: there is no %s'):format(path)) end
  if kind == 'file' then return path, path:match('^(.*/)[^/]*$') or '' end
  for _, name in ipairs{'diffusion_pytorch_model.safetensors', 'vae/diffusion_pytorch_model.safetensors'} do
    local file = path .. '/' .. name
    if core.file_kind(file) == 'file' then return file, file:match('^(.*/)') end
  end
  core.fail(('vae: no diffusion_pytorch_model.safetensors in the folder %s'):format(path))
end

-- Convolutions of 1x1 that hold what are linear layers here.
local function squeezed(x)
  return x.ndim == 4 and x:reshape(x.shape[1], x.shape[2]) or x
end

local function load_kl(path, options)
  local file_path, folder = find_weights(path)
  local file = core.safetensors_open(file_path)
  local map = name_map(file:names())
  local o = infer(file, map, file_path)
  read_config(options.config or folder .. 'config.json', o)
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

--- vae.load(path, {range, config}): a diffusers folder or .safetensors file (new and old attention names), a CompVis file
-- (also with the first_stage_model. prefix), or the small autoencoder's .h5. range = 'unit' feeds [0,1] to a network made
-- for [-1,1], as fast.ai did.
function vae.load(path, options)
  options = options or {}
  local self = path:match('%.h5$') and load_small(path) or load_kl(path, options)
  if options.range then
    if not ranges[options.range] then
      core.fail(("vae.load: unknown range '%s'; known: signed unit"):format(tostring(options.range)))
    end
    self.pixel_range = options.range
  end
  return self
end

return vae
