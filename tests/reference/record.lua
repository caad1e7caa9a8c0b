-- Makes tests/fixtures/reference, from the repository's root:
--
--   ./ldlua tests/reference/record.lua FOLDER tests/fixtures/reference
--
-- FOLDER holds the full set of recorded numbers. Classifier and samplers are copied from it without their largest
-- tensors. U-Net and autoencoder are too large for a repository, so small ones are computed here, in f64: what they pin
-- down is that today's code, which agrees with the full set, is tomorrow's too.
local ld = require 'ld'
local reference = dofile 'tests/reference/init.lua'
local Source = dofile 'tests/reference/source.lua'

local from, to = arg[1], arg[2]

local function copy(name, keep)
  local source, tensors = Source.open(from .. '/' .. name), {}
  for _, key in ipairs(source.list) do
    local x = source:read(key)
    if keep(key, x) then tensors[key] = x end
  end
  source.meta.reduced = 'without the largest tensors'
  ld.safetensors_write(to .. '/' .. name, tensors, source.meta)
end

-- Parameters that are far from their initial values (zeros, ones), so that every path counts.
local function shake(net, seed)
  ld.no_grad(function()
    for i, entry in ipairs(net:named_parameters()) do
      local x = entry[2]
      local noise = ld.noise(x.shape, {seed = seed, purpose = 64 + i})
      x:copy_(x.ndim > 1 and noise * math.sqrt(x.shape[1] / x:numel()) or x + noise * 0.2)
    end
    for i, entry in ipairs(net:named_buffers()) do
      if entry[1]:match('running_mean$') then
        entry[2]:copy_(ld.noise(entry[2].shape, {seed = seed, purpose = 600 + i}) * 0.2)
      end
    end
  end)
  return net
end

local function add(tensors, prefix, list)
  for name, x in pairs(list) do
    if not name:match('num_batches_tracked$') then tensors[prefix .. name] = x:detach():to('f32'):clone() end
  end
end

local function record_unet(name, options, seed, shape)
  local net, tensors = shake(ld.models.unet(options), seed), {}
  add(tensors, 'param.', net:state())
  tensors.x0, tensors.eps = ld.noise(shape, {seed = seed, purpose = 800}), ld.noise(shape, {seed = seed, purpose = 801})
  tensors.t = ld.noise({shape[1]}, {seed = seed, purpose = 802, uniform = true})
  local t, eps = tensors.t:to('f64'), tensors.eps:to('f64')
  -- what the network is given is what the file holds, so it is rounded first
  tensors.x_t = ld.diffusion.noised(tensors.x0:to('f64'), t, eps):to('f32')
  net:to('f64'):train()
  local x_t = tensors.x_t:to('f64'):requires_grad_()
  local out = net(x_t, t)
  local loss = ld.mse(out, eps)
  loss:backward()
  local grads = {}
  for _, entry in ipairs(net:named_parameters()) do grads[entry[1]] = entry[2].grad end
  add(tensors, 'train.', {out = out, loss = loss:reshape(1), grad_x = x_t.grad})
  add(tensors, 'train.grad.', grads)
  local after = {}
  for _, entry in ipairs(net:named_buffers()) do after[entry[1]] = entry[2] end
  add(tensors, 'train.after.', after)
  net:eval()
  add(tensors, 'eval.', {out = ld.no_grad(function() return net(x_t, t) end)})
  ld.safetensors_write(to .. '/' .. name, tensors, {
    what = 'U-Net, computed by ldlua in f64', seed = tostring(seed), channels = table.concat(options.channels, ', '),
    layers = tostring(options.layers), attention_width = tostring(options.attention_width),
    attention_from_level_0based = tostring(options.attention_from - 1),
  })
end

local function record_vae(seed)
  local config = {_class_name = 'AutoencoderKL', in_channels = 3, out_channels = 3, latent_channels = 4,
                  block_out_channels = {4, 8, 8}, layers_per_block = 1, norm_num_groups = 4}
  local options = {}
  for key, value in pairs(config) do
    if key ~= '_class_name' then options[key] = value end
  end
  local net, tensors, io = shake(ld.models.kl_autoencoder(options), seed), {}, {}
  add(tensors, '', net:state())
  ld.safetensors_write(to .. '/vae.diffusers.safetensors', tensors, {what = 'random KL autoencoder'})
  ld.write_file(to .. '/vae_config.json', ld.json_encode(config) .. '\n')
  net:to('f64')
  ld.no_grad(function()
    io.image = ld.noise({2, 3, 16, 24}, {seed = seed, purpose = 900, uniform = true}):affine(2, -1)
    local image = io.image:to('f64')
    local mean, logvar = net:moments(image)
    io.mean = mean:to('f32')
    add(io, '', {moments = net.quant_conv(net.encoder(image)), logvar = logvar,
                 decoded = net:decode(io.mean:to('f64'))})
    ld.safetensors_write(to .. '/vae_io.safetensors', io, {what = 'KL autoencoder, computed by ldlua in f64'})
  end)
end

assert(from and to, 'usage: ldlua tests/reference/record.lua FOLDER TO')
assert(#reference.run(from, function() end).failed == 0, 'the full set does not agree; nothing was recorded')
ld.make_dirs(to)
copy('classifier.safetensors', function(name, x) return not name:match('^train%.grad%.') or x:numel() <= 1200 end)
copy('sampling_and_optim.safetensors', function(name)
  if name == 'noise.100' or name:match('^one_cycle%.1000') or name:match('^ddim.*eta0%.5') then return false end
  return not name:match('^ddim%.100%.eta1')
end)
record_unet('unet.safetensors', {channels = {4, 8}, layers = 1, attention_from = 2, attention_width = 4}, 31,
            {3, 4, 8, 8})
record_vae(32)
