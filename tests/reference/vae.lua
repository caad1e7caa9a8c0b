-- KL autoencoders under every published naming: as files, as a diffusers folder, with and without the prefix that whole
-- Stable Diffusion checkpoints put in front.
local ld = require 'ld'
local network = dofile 'tests/reference/network.lua'

local PREFIX = 'first_stage_model.'

local function copy_file(from, to)
  local f = assert(io.open(from, 'rb'))
  local bytes = f:read('*a')
  f:close()
  ld.write_file(to, bytes)
end

local function is_autoencoder(source)
  return source:has('encoder.conv_in.weight') or source:has(PREFIX .. 'encoder.conv_in.weight')
end

-- Are the networks' tensors the same to the last bit?
local function same_state(a, b)
  local x, y = a.net:state(), b.net:state()
  for name, value in pairs(x) do
    if not y[name] or value:bytes() ~= y[name]:bytes() then return false, name end
  end
  for name in pairs(y) do
    if not x[name] then return false, name end
  end
  return true
end

-- diffusers' names as the two older namings: method section 1.2. levels is the number of levels.
local function compvis_name(name, levels)
  local attention = {group_norm = 'norm', to_q = 'q', to_k = 'k', to_v = 'v', ['to_out.0'] = 'proj_out'}
  name = name:gsub('mid_block%.attentions%.0%.(.*)%.(%w+)$', function(part, last)
    return 'mid.attn_1.' .. attention[part] .. '.' .. last
  end)
  name = name:gsub('mid_block%.resnets%.(%d)', function(i) return 'mid.block_' .. i + 1 end)
  name = name:gsub('up_blocks%.(%d+)', function(i) return 'up.' .. levels - 1 - i end)
  name = name:gsub('down_blocks', 'down'):gsub('resnets', 'block'):gsub('conv_shortcut', 'nin_shortcut')
  name = name:gsub('downsamplers%.0', 'downsample'):gsub('upsamplers%.0', 'upsample')
  return (name:gsub('conv_norm_out', 'norm_out'))
end

local function old_name(name)
  local old = {to_q = 'query', to_k = 'key', to_v = 'value', ['to_out.0'] = 'proj_attn'}
  return (name:gsub('(attentions%.0%.)(to_.*)(%.%w+)$', function(head, part, last)
    return head .. old[part] .. last
  end))
end

local function write_renamed(source, path, rename, levels)
  local tensors = {}
  for _, name in ipairs(source.list) do
    local x, new = source:read(name), rename(name, levels)
    if new:match('attn_1%.[qkvp].*weight$') then x = x:reshape(x.shape[1], x.shape[2], 1, 1) end
    tensors[new] = x
  end
  ld.safetensors_write(path, tensors, {})
end

-- The same tensors with the prefix put on or taken off, beside keys of a checkpoint that are not the autoencoder's.
local function write_other_prefix(source, path)
  local tensors, bare = {}, source:has('encoder.conv_in.weight')
  for _, name in ipairs(source.list) do
    tensors[bare and PREFIX .. name or name:sub(#PREFIX + 1)] = source:read(name)
  end
  -- a text encoder stands only beside an autoencoder with a prefix
  for _, other in ipairs{'loss.logvar', 'model_ema.decay', bare and 'cond_stage_model.position_ids' or nil} do
    tensors[other] = ld.zeros(1)
  end
  ld.safetensors_write(path, tensors, {note = 'rewritten'})
end

local function check_variant(report, title, path, reference, config)
  local ok, loaded = pcall(ld.vae.load, path, {config = config})
  local same, where = false, loaded
  if ok then same, where = same_state(loaded, reference) end
  report:expect(title .. ' loads the same weights', same, tostring(where))
end

local function check_file(report, source, io, folder)
  local config = folder.path .. '/vae_config.json'
  if ld.file_kind(config) ~= 'file' then config = nil end
  local vae = ld.vae.load(source.path, {config = config})
  for _, name in ipairs(source.list) do source.used[name] = true end -- load_state has seen to every one of them
  local net, image = vae.net, io:read('image')
  ld.no_grad(function()
    local title = source.name .. ' with ' .. io.name
    local group = report:group(title, network.OUTPUT)
    group:check('moments', net.quant_conv(net.encoder(image)), io:read('moments'))
    local mean, logvar = net:moments(image)
    group:check('mean', mean, io:read('mean'))
    group:check('logvar', logvar, io:read('logvar'))
    group:check('decoded', net:decode(io:read('mean')), io:read('decoded'))
    group:done()
  end)
  local here = folder.temporary(source.name:gsub('%W', '_'))
  ld.make_dirs(here .. '/whole/vae')
  write_other_prefix(source, here .. '/prefix.safetensors')
  check_variant(report, source.name .. ' with the prefix changed', here .. '/prefix.safetensors', vae, config)
  if source:any('attentions%.0%.to_q') then
    local levels = #vae.net.options.block_out_channels
    write_renamed(source, here .. '/compvis.safetensors', compvis_name, levels)
    write_renamed(source, here .. '/old.safetensors', old_name, levels)
    check_variant(report, source.name .. ' under CompVis names', here .. '/compvis.safetensors', vae, config)
    check_variant(report, source.name .. ' under old diffusers names', here .. '/old.safetensors', vae, config)
  end
  if config and not source:has(PREFIX .. 'encoder.conv_in.weight') then
    copy_file(source.path, here .. '/whole/vae/diffusion_pytorch_model.safetensors')
    copy_file(config, here .. '/whole/vae/config.json')
    check_variant(report, source.name .. ' as a diffusers folder', here .. '/whole/vae', vae)
    check_variant(report, source.name .. ' as the vae of a pipeline folder', here .. '/whole', vae)
  end
end

return {
  title = 'autoencoder',
  recognise = is_autoencoder,
  check = function(report, source, folder)
    for _, io in ipairs(folder.sources) do
      if io:has('image') and io:has('moments') and io:has('decoded') then
        return check_file(report, source, io, folder)
      end
    end
    report:skip(source.name, 'no file with image, moments and decoded beside it')
  end,
}
