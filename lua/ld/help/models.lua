-- Networks of the method, and autoencoders.
return {title = 'Models and autoencoders',
    internal = 'classifier:initialise unet:initialise unet:add_class kl_autoencoder:moments', [==[
ld.models.unet{in_channels = 4, out_channels = 4, channels = {128, 256, 512, 768}, layers = 2, attention_from = 2,
    attention_width = 16, norm = 'batch', groups = 32, classes = 0}
  The diffusion U-Net: residual blocks that know the time, attention from a level on.
  in_channels      of the latents
  out_channels     of the result
  channels         of the levels; the sides halve from one to the next
  layers           blocks a level
  attention_from   level, from 1, from which there is attention; 0 for none
  attention_width  channels of a head
  norm             'batch' or 'group'
  groups           of group norm, at most
  classes          how many it is told of; 0 for none
  returns          a module called as unet(x (N,C,H,W), t (N)), with classes unet(x, t, label (N) i64), where the
                   number of classes stands for no label; it gives (N,out_channels,H,W) f32
  errors           sides that do not divide by 2^(levels - 1); labels that are missing, or not known of
  source           fast.ai, notebooks 26 and 28; Ho et al. 2020, arXiv:2006.11239
  example
    local unet = ld.models.unet{channels = {16, 32}, layers = 1}
    print(unet(ld.randn(2, 4, 8, 8), ld.tensor{0.2, 0.5}):describe())
    local told = ld.models.unet{channels = {16, 32}, layers = 1, classes = 10}
    print(told(ld.randn(2, 4, 8, 8), ld.tensor{0.2, 0.5}, ld.tensor({3, 10}, {dtype = 'i64'})):describe())

ld.models.unet.load(path)
  The U-Net in a checkpoint of a diffusion run.
  path     file, such as runs/celeba/last.h5
  returns  the network and the record stored with it
  example
    local unet = ld.models.unet{channels = {8, 16}, layers = 1, attention_from = 0}
    ld.checkpoint.write('unet.h5', {model = unet})
    print(ld.models.unet.load 'unet.h5':count())

ld.models.classifier{in_channels = 4, channels = {32, 64, 128, 512, 1024}, blocks = {1, 2, 4, 3}, classes = 1000,
    dropout = 0.1}
  The latent classifier: a pre-activation residual network on standardised latents.
  in_channels  of the latents
  channels     of the first layer and of each stage
  blocks       of each stage; one number fewer than channels
  classes      how many
  dropout      before the last layer
  returns      a module: (N,in_channels,H,W) to logits (N,classes)
  source       fast.ai, notebook 31
  example
    print(ld.models.classifier{channels = {8, 16}, blocks = {1}, classes = 10}(ld.randn(2, 4, 8, 8)):describe())

ld.models.classifier.load(path)
  The classifier in a checkpoint; its field record has mean and std of the latents it learnt.
  path     file
  returns  the network and the record
  example
    local net = ld.models.classifier{channels = {8, 8}, blocks = {1}, classes = 4}
    ld.checkpoint.write('judge.h5', {model = net, record = {mean = {0, 0, 0, 0}, std = {1, 1, 1, 1}}})
    print(ld.models.classifier.load 'judge.h5'.record.std[1])

classifier:features(stages)
  The network without its head, sharing its parameters.
  stages   a table of stages whose activations are wanted too, or nil
  returns  a module: x to pooled features (N,C), and a table of activations by stage
  errors   a stage that is not there
  example
    local net = ld.models.classifier{channels = {8, 16}, blocks = {1}, classes = 10}
    print(net:features{1}(ld.randn(2, 4, 8, 8)):describe())

ld.models.dcgan{size = 64, channels = 3, latent = 100, width = 64}
  The two networks of a Wasserstein GAN, DCGAN's, as the children generator and critic.
  size      side of the pictures: a power of two, at least 16
  channels  of the pictures
  latent    numbers that a picture is made of
  width     channels of the critic's first layer
  returns   a module; generator: (N,latent,1,1) to pictures (N,channels,size,size) in [-1,1]; critic: pictures to
            (N,1,1,1)
  errors    another size
  source    Radford et al. 2015, arXiv:1511.06434; Arjovsky et al. 2017, arXiv:1701.07875
  see       dcgan:noise dcgan:clip
  example
    local gan = ld.models.dcgan{size = 16, latent = 8, width = 4}
    local pictures = gan.generator(gan:noise(2))
    print(pictures:describe(), gan.critic(pictures):describe())

ld.models.dcgan.load(path)
  The networks in a checkpoint of recipes/wgan.lua.
  path     file
  returns  the networks and the record stored with them
  example
    ld.checkpoint.write('gan.h5', {model = ld.models.dcgan{size = 16, latent = 8, width = 4}})
    print(ld.models.dcgan.load 'gan.h5':count())

dcgan:noise(n, {seed = 0, first = 0})
dcgan:clip(c)
  What the generator makes pictures of, keyed by (seed, sample); and the critic's parameters bounded to -c .. c, in
  place.
  n        how many
  seed     whole number
  first    number of the first sample, from 0
  c        above 0; 0.01 in the paper
  returns  a tensor (n,latent,1,1); nothing
  example
    local gan = ld.models.dcgan{size = 16, latent = 8, width = 4}
    print(gan:noise(2, {seed = 1}):describe())
    gan:clip(0.01)

ld.models.kl_autoencoder{in_channels = 3, out_channels = 3, latent_channels = 4, block_out_channels = {128, 256,
    512, 512}, layers_per_block = 2, norm_num_groups = 32}
  The autoencoder of sd-vae-ft-ema, with diffusers' names; ld.vae.load fills it with published weights.
  in_channels         of images
  out_channels        of images
  latent_channels     of latents
  block_out_channels  of the levels
  layers_per_block    residual blocks a level
  norm_num_groups     of group norm
  returns             a module with encode and decode; images in [-1,1], sides that divide by 8
  source              Rombach et al. 2021, arXiv:2112.10752
  example
    local net = ld.models.kl_autoencoder{block_out_channels = {8, 8}, layers_per_block = 1, norm_num_groups = 4}
    print(net:encode(ld.zeros(1, 3, 8, 8)):describe())

kl_autoencoder:encode(x)
kl_autoencoder:decode(z)
  The posterior mean of images, and images of latents (not clamped).
  x        tensor (N,3,H,W) in [-1,1]
  z        tensor (N,4,H/8,W/8)
  returns  a tensor
  errors   sides that do not divide
  example
    local net = ld.models.kl_autoencoder{block_out_channels = {8, 8}, layers_per_block = 1, norm_num_groups = 4}
    print(net:decode(net:encode(ld.zeros(1, 3, 8, 8))):describe())

ld.models.small_autoencoder{latent_channels = 4, width = 64, blocks = 3}
  A small autoencoder of the shape of TAESD.
  latent_channels  of latents
  width            channels of its layers
  blocks           residual blocks a level
  returns          a module with encode and decode; images in [0,1], sides that divide by 8
  source           madebyollin/taesd
  example
    print(ld.models.small_autoencoder{width = 8, blocks = 1}:encode(ld.zeros(1, 3, 16, 16)):describe())

small_autoencoder:encode(x)
small_autoencoder:decode(z)
  Latents of images, and images of latents (not clamped).
  x        tensor (N,3,H,W) in [0,1]
  z        tensor (N,latent_channels,H/8,W/8)
  returns  a tensor
  errors   sides that do not divide by 8
  example
    local net = ld.models.small_autoencoder{width = 8, blocks = 1}
    print(net:decode(net:encode(ld.zeros(1, 3, 16, 16))):describe())

ld.vae.load(path, {range = nil, config = nil})
  An autoencoder with its weights, frozen.
  path     a diffusers folder or .safetensors file, a CompVis file, or the small one's .h5 (data/vae-small.h5 is ours)
  range    'signed' or 'unit': what it is fed, [-1,1] or [0,1]; its own when nil
  config   a config.json that lies elsewhere than beside the weights
  returns  a vae: fields latent_channels, factor (pixels a latent's side), name, hash, pixel_range
  errors   a file that is not there, or holds other weights
  example
    local vae = ld.vae.load 'data/vae-small.h5'
    print(vae.latent_channels, vae.factor, vae.pixel_range)

ld.vae.wrap(net, fields)
  An autoencoder object around a network; freezes it.
  net      ld.models.small_autoencoder or ld.models.kl_autoencoder
  fields   {name, hash}: what is told of it, and the hash of its weights
  returns  a vae
  example
    print(ld.vae.wrap(ld.models.small_autoencoder{width = 8, blocks = 1}, {name = 'mine', hash = '0'}).factor)

vae:encode_images(images, moments)
  Latents of pictures.
  images   tensor (N,3,H,W) u8, on any device
  moments  true: log-variances too, where the autoencoder has them
  returns  posterior means (N,C,h,w) f32, raw (not scaled); with moments also the log-variances
  example
    print(ld.vae.load 'data/vae-small.h5':encode_images(ld.faces(1, {size = 32})):describe())

vae:decode_images(z, batch)
  Pictures of latents, clamped to [0,1].
  z        raw latents (N,C,h,w), on any device
  batch    how many at a time, 16 when left out
  returns  a tensor (N,3,H,W) f32 in [0,1]
  example
    local vae = ld.vae.load 'data/vae-small.h5'
    print(vae:decode_images(ld.zeros(1, vae.latent_channels, 4, 4)):describe())

vae:round_trip(images)
  How well pictures come back: the peak signal-to-noise ratio, mean over pictures.
  images   tensor (N,3,H,W) u8
  returns  dB
  example
    print(ld.vae.load 'data/vae-small.h5':round_trip(ld.faces(2, {size = 32})))
]==]}
