-- Draw pictures from a trained run.
--   ldlua recipes/sample.lua --run runs/celeba --n 64 --seed 7 [--sampler ddim --steps 100 --eta 1]
--   sample number i of a seed is the same picture whatever --n and --batch are
local ld = require 'ld'

local opt = ld.options{
  run = 'runs/celeba', out = '', n = 64, first = 0, seed = 0, batch = 32,
  sampler = 'ddim', steps = 100, eta = 1,   -- ddim, or ancestral (DDPM's step on the cosine schedule)
  weights = 'ema',                          -- ema, or live
  sigma_rel = 0,                            -- width of the average; 0: the first that the run kept
  precision = 'f32',                        -- f32, or bf16 or f16 on a CUDA device
  vae = '', store = '',                     -- where autoencoder and latents lie, when they have moved
}

ld.precision(opt.precision)
local path = opt.run .. '/last.h5'
if not ld.file_kind(path) then
  ld.fail('there is no %s: train first, e.g. ldlua recipes/celeba.lua --demo', path)
end
local unet, record = ld.models.unet.load(path)
local x      = record.extra
local vae    = ld.vae.load(opt.vae ~= '' and opt.vae or x.vae, {range = x.range ~= 'own' and x.range or nil})
local beside = opt.run .. '/latents.h5'
local store  = ld.latents.open(opt.store ~= '' and opt.store or ld.file_kind(beside) and beside or x.store or beside)
store:check_vae(vae)
local model  = ld.diffusion.cosine(unet, {scale = x.scale, shift = x.shift})
local make   = ({ddim = function() return ld.sampler.ddim{steps = opt.steps, eta = opt.eta} end,
                 ancestral = function() return ld.sampler.ancestral{steps = opt.steps} end})[opt.sampler]
               or ld.fail("unknown sampler '%s'; known: ddim ancestral", opt.sampler)

if opt.weights == 'ema' then
  local averages, what = ld.ema.weights(opt.run, opt.sigma_rel > 0 and opt.sigma_rel or nil)
  unet:load_state(averages, {strict = false})
  opt.weights = what
  ld.ema.recalibrate(unet, function(i)
    model:loss(store:random_batch(128, i).x, {seed = 1, first = i * 128})
  end, 16)
elseif opt.weights ~= 'live' then
  ld.fail("unknown weights '%s'; known: ema live", opt.weights)
end

local z = model:sample{n = opt.n, first = opt.first, seed = opt.seed, batch = opt.batch, sampler = make(),
                       channels = x.latent[1], size = x.latent[2]}
local out = opt.out ~= '' and opt.out or ('%s/samples/seed-%d.png'):format(opt.run, opt.seed)
ld.make_dirs(out:match('^(.*)/[^/]*$') or '.')
ld.save_image(ld.grid(vae:decode_images(z)), out,
  {run = opt.run, sampler = tostring(opt.sampler), steps = tostring(opt.steps), eta = tostring(opt.eta),
   seed = tostring(opt.seed), weights = opt.weights, images = tostring(record.images)})
print(out)
