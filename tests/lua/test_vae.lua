-- Loading autoencoders: the three namings of a KL autoencoder, configurations, what is missing or misshapen, ranges.
local ld = require 'ld'
local t = dofile 'tests/lua/harness.lua'

local tmp = os.getenv 'TEST_TMP' or '/tmp/ldlua-test-vae'
os.execute('mkdir -p ' .. tmp)

local options = {block_out_channels = {8, 16, 24}, layers_per_block = 2, norm_num_groups = 8}
ld.seed(5)
local net = ld.models.kl_autoencoder(options)
for _, entry in ipairs(net:named_parameters()) do -- biases and gains other than zeros and ones
  ld.no_grad(function() entry[2]:copy_(entry[2] + ld.noise(entry[2].shape, {seed = #entry[1]}) * 0.05) end)
end
local state = net:state()
local images = ld.faces(2, {size = 16, seed = 1}):to(ld.default_device())

local function put(path, text)
  local f = assert(io.open(path, 'wb'))
  f:write(text)
  f:close()
  return path
end

local function renamed(rename, also)
  local out = {}
  for name, x in pairs(state) do
    local to, y = rename(name, x)
    out[to] = y or x
  end
  for name, x in pairs(also or {}) do out[name] = x end
  return out
end

local function write(name, tensors)
  local path = tmp .. '/' .. name
  ld.safetensors_write(path, tensors)
  return path
end

local function same(name) return name end

-- diffusers before 0.17 called the attention's layers otherwise.
local function old(name)
  local to = {to_q = 'query', to_k = 'key', to_v = 'value', ['to_out.0'] = 'proj_attn'}
  return (name:gsub('(attentions%.0%.)(to_[qkv])', function(head, part) return head .. to[part] end)
              :gsub('attentions%.0%.to_out%.0', 'attentions.0.proj_attn'))
end

-- The names of CompVis' latent-diffusion code, from its modules: levels of the decoder count from below, attention
-- is made of 1x1 convolutions.
local function compvis(name, x)
  local attention = name:match('attentions%.0%.to_')
  local levels = #options.block_out_channels
  local to = {['attentions.0.group_norm'] = 'attn_1.norm', ['attentions.0.to_q'] = 'attn_1.q',
              ['attentions.0.to_k'] = 'attn_1.k', ['attentions.0.to_v'] = 'attn_1.v',
              ['attentions.0.to_out.0'] = 'attn_1.proj_out', ['resnets.0'] = 'block_1', ['resnets.1'] = 'block_2'}
  name = name:gsub('mid_block%.(.*)%.(%w+)$', function(part, last)
    for from, now in pairs(to) do
      if part == from then return 'mid.' .. now .. '.' .. last end
      if part:sub(1, #from + 1) == from .. '.' then return 'mid.' .. now .. part:sub(#from + 1) .. '.' .. last end
    end
  end)
  name = name:gsub('down_blocks%.(%d)%.resnets', 'down.%1.block'):gsub('down_blocks%.(%d)%.downsamplers%.0',
    'down.%1.downsample')
  name = name:gsub('up_blocks%.(%d)%.resnets', function(i) return ('up.%d.block'):format(levels - 1 - i) end)
  name = name:gsub('up_blocks%.(%d)%.upsamplers%.0', function(i) return ('up.%d.upsample'):format(levels - 1 - i) end)
  name = name:gsub('conv_norm_out', 'norm_out'):gsub('conv_shortcut', 'nin_shortcut')
  if attention and name:match('weight$') then return name, x:reshape(x.shape[1], x.shape[2], 1, 1) end
  return name
end

t.test('the CompVis names of this test are those of the published files', function()
  local names = renamed(compvis)
  for _, name in ipairs{'encoder.conv_in.weight', 'encoder.down.0.block.1.norm1.weight', 'decoder.norm_out.bias',
                        'encoder.down.1.block.0.nin_shortcut.weight', 'encoder.down.0.downsample.conv.bias',
                        'encoder.mid.block_1.conv1.weight', 'encoder.mid.attn_1.norm.weight', 'quant_conv.weight',
                        'encoder.mid.attn_1.q.weight', 'decoder.mid.attn_1.proj_out.weight', 'encoder.norm_out.weight',
                        'decoder.up.0.block.2.conv2.weight', 'decoder.up.2.upsample.conv.weight',
                        'decoder.up.0.block.0.nin_shortcut.weight', 'post_quant_conv.bias'} do
    t.ok(names[name], name)
  end
  t.eq(names['encoder.mid.attn_1.q.weight'].shape, {24, 24, 1, 1})
  t.eq(names['decoder.up.2.block.0.conv1.weight'].shape, {24, 24, 3, 3}) -- the deepest level
  t.eq(names['decoder.up.0.upsample.conv.weight'], nil)
end)

local extra = {['loss.logvar'] = ld.zeros{1}, ['loss.discriminator.main.0.weight'] = ld.zeros{4, 3, 4, 4},
               ['model_ema.decay'] = ld.zeros{1}, ['model_ema.num_updates'] = ld.zeros{1}:i64()}
local function first_stage(name, x)
  local to, y = compvis(name, x)
  return 'first_stage_model.' .. to, y
end

local files = {
  new = write('new.safetensors', renamed(same)),
  old = write('old.safetensors', renamed(old)),
  compvis = write('compvis.safetensors', renamed(compvis, extra)),
  whole = write('whole.safetensors', renamed(first_stage, {
    ['model.diffusion_model.out.0.weight'] = ld.zeros{3}, ['cond_stage_model.encoder.layers.0.weight'] = ld.zeros{3},
    ['encoder.conv_in.weight'] = ld.zeros{1}, ['first_stage_model.loss.logvar'] = ld.zeros{1},
    ['model_ema.decay'] = ld.zeros{1}, ['betas'] = ld.zeros{3}})),
}

t.test('every naming gives the same autoencoder', function()
  local x = images:f32():affine(1 / 127.5, -1)
  local mean, logvar = net:moments(x)
  local decoded = net:decode(mean)
  for naming, path in pairs(files) do
    local vae = ld.vae.load(path)
    for name, x0 in pairs(vae.net:state()) do t.eq(x0, state[name], naming .. ' ' .. name) end
    local m, v = vae:encode_images(images, true)
    t.eq(m, mean, naming)
    t.eq(v, logvar, naming)
    t.eq(vae:encode_images(images), mean, naming)
    t.eq(vae:decode_images(mean), decoded:affine(0.5, 0.5):clamp(0, 1), naming)
    t.eq(vae.pixel_range, 'signed')
    t.eq(vae.latent_channels, 4)
    t.eq(vae.factor, 4)
    t.eq(vae.hash, ld.sha256_file(path))
    t.eq(vae.name, path:match('[^/]*$'))
  end
end)

t.test('decoding in small batches is decoding at once', function()
  local vae = ld.vae.load(files.new)
  local z = ld.noise({5, 4, 4, 4}, {seed = 3})
  t.near(vae:decode_images(z, 2), vae:decode_images(z, 5), 1e-6)
end)

t.test('f16 weights', function()
  local half = {}
  for name, x in pairs(state) do half[name] = x:to('f16') end
  local vae = ld.vae.load(write('half.safetensors', half))
  t.eq(vae.net:state()['encoder.conv_in.weight'], state['encoder.conv_in.weight']:to('f16'):f32())
end)

t.test('ranges', function()
  local x = images:f32() * (1 / 255)
  local vae = ld.vae.load(files.new, {range = 'unit'})
  t.eq(vae.pixel_range, 'unit')
  t.near(vae:encode_images(images), net:encode(x), 1e-6)
  local z = net:encode(x)
  t.near(vae:decode_images(z), net:decode(z):clamp(0, 1), 1e-6)
  t.raises(function() ld.vae.load(files.new, {range = 'bytes'}) end, "unknown range 'bytes'; known: signed unit")
  t.raises(function() ld.vae.load(files.new, {rang = 'unit'}) end, "unknown option 'rang'; known: config range")
end)

-- ---- folders and configurations -------------------------------------------------------------------------------------

local function folder(name, config, tensors)
  local path = tmp .. '/' .. name
  os.execute(('mkdir -p %s'):format(path))
  if config then put(path .. '/config.json', config) end
  ld.safetensors_write(path .. '/diffusion_pytorch_model.safetensors', tensors or state)
  return path
end

local good = [[{"_class_name": "AutoencoderKL", "act_fn": "silu", "block_out_channels": [8, 16, 24], "in_channels": 3,
  "latent_channels": 4, "layers_per_block": 2, "norm_num_groups": %s, "out_channels": 3, "sample_size": 256}]]

t.test('a diffusers folder with its configuration', function()
  local vae = ld.vae.load(folder('with-config', good:format(8)))
  t.eq(vae.net.options.norm_num_groups, 8)
  t.eq(vae.name, 'with-config')
  t.eq(vae:encode_images(images), net:encode(images:f32():affine(1 / 127.5, -1)))
  local four = ld.vae.load(folder('four-groups', good:format(4))) -- which no shape tells
  t.eq(four.net.options.norm_num_groups, 4)
  local a, b = four:encode_images(images):tolist(), vae:encode_images(images):tolist()
  t.ok(a[1][1][1][1] ~= b[1][1][1][1], 'another network')
  t.eq(ld.vae.load(folder('no-config')).net.options.block_out_channels, {8, 16, 24})
  os.execute(('mkdir -p %s/pipeline && cp -r %s/with-config %s/pipeline/vae'):format(tmp, tmp, tmp))
  t.eq(ld.vae.load(tmp .. '/pipeline').net.options.norm_num_groups, 8)
  local elsewhere = put(tmp .. '/elsewhere.json', good:format(4))
  t.eq(ld.vae.load(tmp .. '/no-config', {config = elsewhere}).net.options.norm_num_groups, 4)
  t.eq(ld.vae.load(tmp .. '/no-config/').name, 'no-config')
end)

t.test('a configuration that is not of these weights', function()
  local cases = {
    {good:format(8):gsub('%[8, 16, 24%]', '[8, 16, 32]'), 'says block_out_channels is [8,16,32], the weights have'},
    {good:format(8):gsub('"latent_channels": 4', '"latent_channels": 16'), 'says latent_channels is 16'},
    {good:format(8):gsub('"layers_per_block": 2', '"layers_per_block": 3'), 'says layers_per_block is 3'},
    {good:format(5), 'norm_num_groups is 5, which does not divide 8'},
    {good:format('"8"'), 'norm_num_groups is "8"'},
    {good:format(0), 'norm_num_groups is 0'},
    {'{"a": ', 'config.json is no JSON object'},
    {'17', 'config.json is no JSON object'},
  }
  for i, case in ipairs(cases) do
    local message = t.raises(function() ld.vae.load(folder('config-' .. i, case[1])) end, case[2])
    t.ok(message:find('test_vae.lua:%d+: vae: ') and message:find('config.json', 1, true), message)
  end
  t.raises(function() ld.vae.load(files.new, {config = tmp .. '/absent.json'}) end, 'absent.json')
end)

-- ---- what does not fit ----------------------------------------------------------------------------------------------

t.test('missing, unexpected and misshapen tensors are named', function()
  local function changed(change)
    local out = renamed(same)
    change(out)
    return write('changed.safetensors', out)
  end
  local function refuse(text, change)
    local path = changed(change)
    local message = t.raises(function() ld.vae.load(path) end, text)
    t.ok(message:find('test_vae.lua:%d+: ') and message:find('changed.safetensors', 1, true), message)
  end
  refuse('1 missing: decoder.conv_norm_out.bias', function(s) s['decoder.conv_norm_out.bias'] = nil end)
  refuse('1 unexpected: decoder.more.weight', function(s) s['decoder.more.weight'] = ld.zeros{1} end)
  refuse('1 unexpected: other.weight', function(s) s['other.weight'] = ld.zeros{1} end)
  refuse('1 misshapen: decoder.mid_block.resnets.0.conv1.weight is (24,24,1,1), needed (24,24,3,3)',
    function(s) s['decoder.mid_block.resnets.0.conv1.weight'] = ld.zeros{24, 24, 1, 1} end)
  refuse('attentions.0.to_q.weight is (24,24,3,3), needed (24,24)',
    function(s) s['encoder.mid_block.attentions.0.to_q.weight'] = ld.zeros{24, 24, 3, 3} end)
  refuse('holds no KL autoencoder: encoder.conv_in.weight is missing',
    function(s) s['encoder.conv_in.weight'] = nil end)
  refuse('holds no KL autoencoder: encoder.conv_in.weight is no convolution weight',
    function(s) s['encoder.conv_in.weight'] = ld.zeros{8} end)
  refuse('post_quant_conv.weight is missing', function(s) s['post_quant_conv.weight'] = nil end)
  refuse('holds encoder.mid_block.attentions.0.to_q.weight twice', function(s)
    s['encoder.mid_block.attentions.0.query.weight'] = ld.zeros{24, 24}
  end)
  refuse('encoder.down_blocks.0.resnets.0.conv1.weight is missing', function(s)
    for name in pairs(s) do
      if name:match('^encoder%.down') then s[name] = nil end
    end
  end)
  refuse('misshapen', function(s) -- a level fewer on the way up
    for name in pairs(s) do
      if name:match('^encoder%.down_blocks%.2') then s[name] = nil end
    end
  end)
end)

t.test('a CompVis file may hold more, but not anything', function()
  local path = write('strange.safetensors', renamed(compvis, {['decoder.strange.weight'] = ld.zeros{1}}))
  t.raises(function() ld.vae.load(path) end, '1 unexpected: decoder.strange.weight')
end)

t.test('paths that lead nowhere', function()
  t.raises(function() ld.vae.load(tmp .. '/absent') end, 'vae: there is no ' .. tmp .. '/absent')
  t.raises(function() ld.vae.load(tmp .. '/absent.h5') end, 'vae: there is no ' .. tmp .. '/absent.h5')
  os.execute('mkdir -p ' .. tmp .. '/hollow')
  t.raises(function() ld.vae.load(tmp .. '/hollow') end, 'no diffusion_pytorch_model.safetensors in the folder')
  t.raises(function() ld.vae.load(put(tmp .. '/text.safetensors', 'not weights at all')) end, 'text.safetensors')
  t.raises(function() ld.vae.load() end, 'the path is a nil')
  ld.safetensors_write(tmp .. '/nothing.safetensors', {})
  t.raises(function() ld.vae.load(tmp .. '/nothing.safetensors') end, 'holds no KL autoencoder')
end)

-- ---- the small autoencoder ------------------------------------------------------------------------------------------

t.test('the small autoencoder', function()
  local tiny = ld.models.small_autoencoder{width = 4, blocks = 1, latent_channels = 5}
  ld.checkpoint.write(tmp .. '/tiny.h5', {model = tiny, record = {name = 'tiny one'}})
  local vae = ld.vae.load(tmp .. '/tiny.h5')
  t.eq({vae.name, vae.kind, vae.latent_channels, vae.factor, vae.pixel_range, vae.hash},
    {'tiny one', 'small_autoencoder', 5, 8, 'unit', ld.sha256_file(tmp .. '/tiny.h5')})
  t.eq(vae:encode_images(images), tiny:encode(images:f32() * (1 / 255)))
  ld.checkpoint.write(tmp .. '/unet.h5', {model = ld.models.unet{channels = {8, 8}, layers = 1, attention_from = 0}})
  t.raises(function() ld.vae.load(tmp .. '/unet.h5') end, "holds a 'unet', a 'small_autoencoder' was needed")
  t.raises(function() vae:encode_images(ld.zeros({1, 3, 12, 16}, {dtype = 'u8'})) end, 'sides that divide by 8')
  t.eq(#vae.net:parameters(), #tiny:parameters())
end)

t.finish()
