-- Diffusion: the model, its parts, samplers, the perceptual loss.
return {title = 'Diffusion',
    internal = 'model:sample_batch model:predict model:batch model:note perceptual:sample_weight perceptual:distance',
        [==[
ld.diffusion.cosine(net, {scale = 0.2, shift = nil})
  A diffusion model: a network that predicts the noise, on the cosine schedule abar(t) = cos^2(pi t / 2), t from 0
  to 1.
  net      module called as net(x_t (N,C,h,w), t (N)) that gives the noise (N,C,h,w)
  scale    raw latents z enter the network as (z - shift) scale
  shift    a table of a number a channel, or nil for none
  returns  a model
  source   Nichol & Dhariwal 2021, arXiv:2102.09672; scale 0.2 is fast.ai's, for sd-vae-ft-ema
  see      model:loss model:sample store:scaling
  example
    local unet = ld.models.unet{channels = {8, 16}, layers = 1, attention_from = 0}
    local model = ld.diffusion.cosine(unet, {scale = 0.2})
    print(model:loss(ld.randn(2, 4, 8, 8)))

model:loss(z, {seed = 0, first = 0, perceptual = nil, t = nil, eps = nil, label = nil, drop = 0.1})
  Mean squared error of the predicted noise, at times and with noise keyed by (seed, sample).
  z           raw latents (N,C,h,w)
  seed        whole number
  first       number of the first row's sample, from 0
  perceptual  an object of ld.perceptual whose term is added
  t           times (N) of your own
  eps         noise of your own, like z
  label       classes (N) i64 from 0, for a network that was made with classes
  drop        share of the labels that the network is not told, so that guidance has something to guide away from
  returns     the loss, a tensor of one element, and its parts by name: mse; with perceptual also perceptual and share
  see         model:sample ld.perceptual
  example
    local unet = ld.models.unet{channels = {8, 16}, layers = 1, attention_from = 0}
    local loss, parts = ld.diffusion.cosine(unet):loss(ld.randn(2, 4, 8, 8), {seed = 1})
    loss:backward()
    print(parts.mse:item())

model:sample{n = 16, size = 32, channels = 4, seed = 0, first = 0, batch = 64, sampler = nil, each = nil, label = nil,
    guidance = 1, image = nil, strength = 0.6, noise = nil, split = false}
  Latents made from noise; sample first + i of a seed is the same picture in any batch.
  n         how many
  size      side of a latent
  channels  of a latent
  seed      whole number
  first     number of the first sample, from 0
  batch     how many at a time
  sampler   ld.sampler.ddim{steps = 100, eta = 1} when nil
  each      function (step, x0) that looks on
  label     classes from 0: one for all, a table, or a tensor (n) i64; for a network that was made with classes
  guidance  classifier-free guidance: 1 plain, above 1 exaggerates the class, at twice the time
  image     raw latents (n,C,h,w) to begin with, noised to the time `strength`; n, C and sides must fit
  strength  above 0, at most 1: how much of the image is given up
  noise     (n,C,h,w) to begin with in place of the seed's
  split     every rank draws its share, and all of them get all samples
  returns   raw latents (n,channels,size,size)
  errors    labels, images or noise that are not n; a network with classes and no label
  source    guidance: Ho & Salimans 2022, arXiv:2207.12598; image: Meng et al. 2021, arXiv:2108.01073
  example
    local unet = ld.models.unet{channels = {8, 16}, layers = 1, attention_from = 0, classes = 3}
    local model, short = ld.diffusion.cosine(unet), ld.sampler.ddim{steps = 3, eta = 0}
    local z = model:sample{n = 2, size = 8, sampler = short, label = {0, 2}, guidance = 2}
    print(z:describe())
    print(model:sample{n = 2, sampler = short, label = 1, image = z, strength = 0.5}:describe())

model:normalise(z)
model:denormalise(x)
  Raw latents to the network's scale, and back.
  z        raw latents
  x        latents at the network's scale
  returns  a tensor
  example
    local model = ld.diffusion.cosine(nn.identity(), {scale = 0.5})
    print(model:normalise(ld.ones(1)), model:denormalise(ld.ones(1)))

model:statistics(store, batch, seed)
  A function of i that runs the network on the i-th of endlessly many batches of noised data: what recomputes the
  statistics of batch norm, for run:draws, run:averaged, ema:use.
  store    latents, as ld.latents.open gives them
  batch    latents in a batch
  seed     of times and noise
  returns  function (i)
  example
    local vae = ld.vae.load('data/vae-small.h5')
    local store = ld.latents.encode(vae, ld.images.synthetic_faces{n = 8, size = 64}, 'few.h5', {quiet = true})
    local unet = ld.models.unet{channels = {8, 16}, layers = 1, attention_from = 0}
    ld.ema.recalibrate(unet, ld.diffusion.cosine(unet, store:scaling(0)):statistics(store, 4, 1), 2)

ld.diffusion.times(n, {seed = 0, first = 0, dtype = 'f32', device = nil})
  Random times in [0, 1), keyed by (seed, sample).
  n        how many
  seed     whole number
  first    number of the first sample, from 0
  dtype    f32 or f64
  device   the default device when nil
  returns  a tensor (n)
  example
    print(ld.diffusion.times(4, {seed = 1}))

ld.diffusion.eps(sizes, {seed = 0, first = 0, dtype = 'f32', device = nil})
  The noise of training, keyed by (seed, sample).
  sizes    a table; the first is the number of samples
  seed     whole number
  first    number of the first sample, from 0
  dtype    f32 or f64
  device   the default device when nil
  returns  a tensor of those sizes
  example
    print(ld.diffusion.eps({1, 2, 2}, {seed = 1}))

ld.diffusion.batch(z, {scale = 1, shift = nil, seed = 0, first = 0, x0 = false})
  What a training step needs of a batch, in one pass over it: the same as times, eps and noised give.
  z        raw latents (N,C,h,w)
  scale    x0 = (z - shift) scale
  shift    tensor (C), or nil for none
  seed     whole number
  first    number of the first sample, from 0
  x0       x0 is wanted too
  returns  x_t, t (N), eps, and x0 where it is wanted
  example
    print(ld.diffusion.batch(ld.zeros(2, 4, 8, 8), {scale = 0.2, seed = 1, x0 = true}))

ld.diffusion.noised(x0, t, eps)
  alpha(t) x0 + sigma(t) eps.
  x0       tensor (N,...)
  t        times (N)
  eps      tensor like x0
  returns  a tensor like x0
  example
    print(ld.diffusion.noised(ld.ones(1, 2), ld.tensor{0.5}, ld.zeros(1, 2)))

ld.diffusion.predicted_x0(x_t, t, eps)
  (x_t - sigma(t) eps) / alpha(t): what noised would have been made from.
  x_t      tensor (N,...)
  t        times (N)
  eps      tensor like x_t
  returns  a tensor like x_t
  example
    print(ld.diffusion.predicted_x0(ld.ones(1, 2), ld.tensor{0.5}, ld.zeros(1, 2)))

ld.diffusion.alpha(t)
ld.diffusion.sigma(t)
ld.diffusion.snr(t)
  cos(pi t / 2), sin(pi t / 2), and the square of their quotient.
  t        times, any shape
  returns  a tensor like t
  example
    local t = ld.tensor{0.25, 0.5}
    print(ld.diffusion.alpha(t), ld.diffusion.sigma(t), ld.diffusion.snr(t))

ld.diffusion.time_embedding(t, width)
  Sines and cosines of the times at width / 2 frequencies.
  t        times (N)
  width    even
  returns  a tensor (N,width)
  source   Vaswani et al. 2017, arXiv:1706.03762
  example
    print(ld.diffusion.time_embedding(ld.tensor{0.5}, 8):describe())

ld.diffusion.sampler_noise(sizes, {seed = 0, first = 0, step = 0, dtype = 'f32', device = nil})
  The noise of a sampler's step, keyed by (seed, sample, step); step 0 is the start.
  sizes    a table; the first is the number of samples
  seed     whole number
  first    number of the first sample, from 0
  step     whole number
  dtype    f32 or f64
  device   the default device when nil
  returns  a tensor of those sizes
  example
    print(ld.diffusion.sampler_noise({1, 3}, {seed = 1}))

ld.sampler.ddim{steps = 100, eta = 1, clamp = nil}
  The DDIM sampler.
  steps    calls of the network, about
  eta      share of fresh noise: 0 none, 1 as much as DDPM
  clamp    {low, high} for the predicted x0, or nil
  returns  a sampler
  source   Song et al. 2020, arXiv:2010.02502
  example
    print(ld.sampler.ddim{steps = 50, eta = 0})

ld.sampler.ddpm{steps = 1000, beta_first = 1e-4, beta_last = 0.02, clamp = nil}
  The sampler of the first paper, on its own linear schedule.
  steps       calls of the network
  beta_first  of the first step
  beta_last   of the last step
  clamp       {low, high} for the predicted x0, or nil
  returns     a sampler
  source      Ho et al. 2020, arXiv:2006.11239
  example
    print(ld.sampler.ddpm{steps = 100})

ld.sampler.ancestral{steps = 250, clamp = nil}
  Ancestral sampling on the cosine schedule.
  steps    calls of the network
  clamp    {low, high} for the predicted x0, or nil
  returns  a sampler
  example
    print(ld.sampler.ancestral{steps = 100})

sampler:steps()
  How many steps it takes.
  returns  a number
  example
    print(ld.sampler.ddim{steps = 10}:steps())

sampler:t(i)
sampler:abar(i)
  The time, and abar = alpha^2, at which step i begins.
  i        from 1
  returns  a number
  example
    local sampler = ld.sampler.ddim{steps = 10}
    print(sampler:t(1), sampler:abar(1))

sampler:needs_noise(i)
sampler:needs_eps(i)
  Whether step i takes fresh noise, and whether it calls the network.
  i        from 1
  returns  true or false
  example
    local sampler = ld.sampler.ddim{steps = 10, eta = 0}
    print(sampler:needs_noise(1), sampler:needs_eps(1))

sampler:step(i, x, eps, noise)
  One step.
  i        from 1
  x        tensor (N,...) at the network's scale
  eps      the predicted noise, nil where needs_eps(i) is false
  noise    fresh noise, nil where needs_noise(i) is false
  returns  the next x, and the predicted x0
  example
    local x = ld.randn(1, 4, 8, 8)
    local following, x0 = ld.sampler.ddim{steps = 10, eta = 0}:step(1, x, x)
    print(following:describe(), x0:describe())

ld.perceptual{net, mean, std, weight = 0.1, gate = 3, clamp = 8, metric = 'mse', layers = nil}
  The perceptual latent loss: how far apart a classifier's features of predicted and true latents are.
  net      a classifier (with :features), or a module that gives features (N,C); frozen
  mean     a table, a number a channel: what its input is standardised with
  std      the same
  weight   of the term in the whole loss
  gate     samples with sigma / alpha above it count 0, others abar(t)
  clamp    bound on the standardised latents
  metric   'mse' or 'l1', of the pooled features
  layers   weights by layer: pool, and stages by number; {pool = 1} when nil
  returns  an object for model:loss
  source   the article "Latent Diffusion and Perceptual Latent Loss"; docs/method.md
  example
    local judge = ld.models.classifier{channels = {8, 8}, blocks = {1}, classes = 4}
    local ones = {1, 1, 1, 1}
    local perceptual = ld.perceptual{net = judge, mean = {0, 0, 0, 0}, std = ones, weight = 0.1}
    local unet = ld.models.unet{channels = {8, 16}, layers = 1, attention_from = 0}
    local loss, parts = ld.diffusion.cosine(unet):loss(ld.randn(2, 4, 8, 8), {perceptual = perceptual})
    print(parts.mse:item(), parts.perceptual:item())

perceptual:term{model, x_t, t, eps_hat, x0}
  The weighted loss of a batch; model:loss calls it.
  model    a diffusion model
  x_t      noised latents (N,C,h,w) at the network's scale
  t        times (N)
  eps_hat  the predicted noise
  x0       the true latents at the network's scale
  returns  the term, the distances (N), the weights of the samples (N)
  example
    local judge = ld.models.classifier{channels = {8, 8}, blocks = {1}, classes = 4}
    local perceptual = ld.perceptual{net = judge, mean = {0, 0, 0, 0}, std = {1, 1, 1, 1}}
    local x = ld.randn(1, 4, 8, 8)
    local model, t = ld.diffusion.cosine(nn.identity()), ld.tensor{0.2}
    print(perceptual:term{model = model, x_t = x, t = t, eps_hat = x, x0 = x})

perceptual:standardise(model, x0)
  The classifier's input for latents at the network's scale.
  model    a diffusion model
  x0       tensor (N,C,h,w)
  returns  a tensor like x0
  example
    local judge = ld.models.classifier{channels = {8, 8}, blocks = {1}, classes = 4}
    local perceptual = ld.perceptual{net = judge, mean = {0, 0, 0, 0}, std = {2, 2, 2, 2}}
    print(perceptual:standardise(ld.diffusion.cosine(nn.identity(), {scale = 1}), ld.ones(1, 4, 1, 1)))
]==]}
