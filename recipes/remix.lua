-- New pictures from old: variations of a picture, and the way from one seed to another, by a trained run.
--   ldlua recipes/remix.lua --run runs/celeba --image me.png [--strength 0.5 --n 8]
--       a grid: the picture, what the autoencoder makes of it, and n variations; strength 1 forgets the picture
--   ldlua recipes/remix.lua --run runs/celeba --seed 3 --to 8 [--n 9]
--       n pictures between two seeds: noise on the great circle between theirs, DDIM with eta 0
local ld = require 'ld'

local opt = ld.options{
  run = 'runs/celeba', out = '', image = '', strength = 0.5, n = 8, seed = 0,
  to = -1,             -- the other seed of a way between two; -1: none
  steps = 100, eta = 0.5, weights = 'ema', sigma_rel = 0, vae = '', store = '', batch = 32,
}
if (opt.image ~= '') == (opt.to >= 0) then
  ld.fail('give either --image, for variations of a picture, or --to, for the way to another seed')
end

local run = ld.trained(opt.run, {weights = opt.weights, sigma_rel = opt.sigma_rel, vae = opt.vae, store = opt.store})
local x, vae, model = run.extra, run.vae, run.model

local function variations()
  local picture = ld.images.picture(opt.image, {size = x.latent[2] * vae.factor})
  local z = vae:encode_images(picture)
  local drawn = model:sample{n = opt.n, image = z:expand(opt.n, z.shape[2], z.shape[3], z.shape[4]), seed = opt.seed,
                             strength = opt.strength, sampler = ld.sampler.ddim{steps = opt.steps, eta = opt.eta},
                             batch = opt.batch}
  local known = picture:to(z.device):f32():affine(1 / 255, 0)
  return ld.concat({known, vae:decode_images(z), vae:decode_images(drawn)}, 1)
end

-- Points on the great circle: unlike those on the straight line they have the length of noise.
local function between()
  local shape = {1, x.latent[1], x.latent[2], x.latent[2]}
  local function noise(seed) return ld.diffusion.sampler_noise(shape, {seed = seed, first = 0, step = 0}) end
  local a, b, rows = noise(opt.seed), noise(opt.to), {}
  local cosine = (a * b):sum():item() / math.sqrt(ld.square(a):sum():item() * ld.square(b):sum():item())
  local angle = math.acos(math.max(-1, math.min(1, cosine)))
  for i = 0, opt.n - 1 do
    local share = opt.n > 1 and i / (opt.n - 1) or 0
    rows[#rows + 1] = angle < 1e-6 and a or a * (math.sin((1 - share) * angle) / math.sin(angle)) +
                                            b * (math.sin(share * angle) / math.sin(angle))
  end
  local z = model:sample{n = opt.n, noise = ld.concat(rows, 1), seed = opt.seed, batch = opt.batch,
                         sampler = ld.sampler.ddim{steps = opt.steps, eta = 0}}
  return vae:decode_images(z)
end

local pictures = opt.image ~= '' and variations() or between()
local name = opt.image ~= '' and ('remix-%s-%g'):format(opt.image:match('([^/]*)$'):gsub('%.%w+$', ''), opt.strength)
             or ('between-%d-%d'):format(opt.seed, opt.to)
local out = opt.out ~= '' and opt.out or ('%s/samples/%s.png'):format(opt.run, name)
ld.make_dirs(out:match('^(.*)/[^/]*$') or '.')
ld.save_image(ld.grid(pictures, {columns = pictures.shape[1]}), out,
  {run = opt.run, steps = tostring(opt.steps), seed = tostring(opt.seed), image = opt.image, weights = run.weights})
print(out)
