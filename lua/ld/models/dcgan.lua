-- The networks of a Wasserstein GAN: DCGAN's generator, and its discriminator without the sigmoid as the critic.
-- Sources: Radford et al. 2015, arXiv:1511.06434; Arjovsky et al. 2017, arXiv:1701.07875.
local core = require 'ld.core'
local nn = require 'ld.nn'
local take = require 'ld.take'

local function up(ni, nf, stride, padding)
  return nn.conv_transpose2d{in_channels = ni, out_channels = nf, kernel = 4, stride = stride, padding = padding,
                             bias = false}
end
local function down(ni, nf, stride, padding)
  return nn.conv2d{in_channels = ni, out_channels = nf, kernel = 4, stride = stride, padding = padding, bias = false}
end

-- latent numbers -> 4 x 4, then twice as large until `size`, half as many channels each time
local function generator(o)
  local layers, side, width = {}, 4, o.width * o.size / 8
  for _, m in ipairs{up(o.latent, width, 1, 0), nn.batch_norm{channels = width}, nn.relu()} do
    layers[#layers + 1] = m
  end
  while side < o.size / 2 do
    for _, m in ipairs{up(width, width / 2, 2, 1), nn.batch_norm{channels = width / 2}, nn.relu()} do
      layers[#layers + 1] = m
    end
    side, width = side * 2, width / 2
  end
  layers[#layers + 1], layers[#layers + 2] = up(width, o.channels, 2, 1), nn.tanh()
  return nn.sequential(layers)
end

local function critic(o)
  local layers, side, width = {down(o.channels, o.width, 2, 1), nn.leaky_relu{slope = 0.2}}, o.size / 2, o.width
  while side > 4 do
    for _, m in ipairs{down(width, 2 * width, 2, 1), nn.batch_norm{channels = 2 * width}, nn.leaky_relu{slope = 0.2}} do
      layers[#layers + 1] = m
    end
    side, width = side / 2, width * 2
  end
  layers[#layers + 1] = down(width, 1, 1, 0)
  return nn.sequential(layers)
end

local Gan = nn.class('dcgan', function(self, o)
  rawset(self, 'options', o)
  self.generator, self.critic = generator(o), critic(o)
  for _, entry in ipairs(self:named_parameters()) do -- DCGAN's rule; offsets of norms stay 0
    local x = entry[2]
    if x.ndim == 4 then
      core.init.normal_(x, 0, 0.02)
    elseif entry[1]:match('weight$') then
      core.init.normal_(x, 1, 0.02)
    end
  end
end)

--- gan:noise(n, {seed, first}): what the generator makes pictures of, (n,latent,1,1), row i for sample first + i.
function Gan:noise(n, options)
  local o = take('noise', options, {seed = 0, first = 0})
  return core.noise({n, self.options.latent, 1, 1}, {seed = o.seed, first = o.first, device = self:device()})
end

--- gan:clip(c): the critic's parameters to -c .. c, which keeps it Lipschitz.
function Gan:clip(c)
  core.no_grad(function()
    for _, x in ipairs(self.critic:parameters()) do x:clamp_(-c, c) end
  end)
end

local known = {size = 64, channels = 3, latent = 100, width = 64}

--- models.dcgan{size = 64 (a power of two, at least 16), channels = 3, latent = 100, width = 64}: a module with the
-- children generator: noise (N,latent,1,1) -> (N,channels,size,size) in [-1,1]; critic: pictures -> (N,1,1,1).
local M = setmetatable({}, {
  __call = function(_, given)
    local o = take('models.dcgan', given, known)
    local side = 16
    while side < o.size do side = side * 2 end
    if side ~= o.size then
      core.fail(('models.dcgan: size %g; a power of two, at least 16, is needed'):format(o.size))
    end
    return Gan(o)
  end,
})

--- models.dcgan.load(path): from a checkpoint of recipes/wgan.lua.
function M.load(path)
  return require('ld.checkpoint').load_model(path, 'dcgan', M)
end

return M
