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
local run  = ld.trained(opt.run, {weights = opt.weights, sigma_rel = opt.sigma_rel, vae = opt.vae, store = opt.store})
local make = ({ddim = function() return ld.sampler.ddim{steps = opt.steps, eta = opt.eta} end,
               ancestral = function() return ld.sampler.ancestral{steps = opt.steps} end})[opt.sampler]
             or ld.fail("unknown sampler '%s'; known: ddim ancestral", opt.sampler)

local z = run.model:sample{n = opt.n, first = opt.first, seed = opt.seed, batch = opt.batch, sampler = make(),
                           channels = run.extra.latent[1], size = run.extra.latent[2], split = true}
if ld.ranks.rank() > 0 then return end -- all ranks draw, the first one writes
local out = opt.out ~= '' and opt.out or ('%s/samples/seed-%d.png'):format(opt.run, opt.seed)
ld.make_dirs(out:match('^(.*)/[^/]*$') or '.')
ld.save_image(ld.grid(run.vae:decode_images(z)), out,
  {run = opt.run, sampler = tostring(opt.sampler), steps = tostring(opt.steps), eta = tostring(opt.eta),
   seed = tostring(opt.seed), weights = run.weights, images = tostring(run.record.images)})
print(out)
