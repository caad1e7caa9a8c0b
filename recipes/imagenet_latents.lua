-- Encode a folder of pictures (ImageNet, CIFAR-10, any folder with a sub-folder a class) into latents.
--   data    --data FOLDER: sub-folder = class, as ILSVRC/Data/CLS-LOC/train (see data/README.md)
--   vae     --vae: sd-vae-ft-ema (a diffusers folder or .safetensors file), or data/vae-small.h5, which ships
--   run     ldlua recipes/imagenet_latents.lua --data data/imagenet/train --out runs/imagenet/train.h5
--           run it again to go on where it stopped; pictures that cannot be read are listed beside the store
local ld = require 'ld'

local opt = ld.options{
  data = 'data/imagenet/train', vae = 'data/vae-small.h5', out = 'runs/imagenet/train.h5',
  size = 256, transform = 'short-center-bilinear',  -- fast.ai's: cut the centre square, then shrink
  range = 'own',                      -- pixel range fed to the VAE: own (the VAE's), signed, or unit (fast.ai's)
  dtype = 'f16', moments = false,     -- moments: log-variances too
  batch = 16, on_bad = 'skip', limit = 1e9, least_psnr = 15,
}

if not ld.file_kind(opt.data) then
  ld.fail([[there is no folder %s.
ImageNet (ILSVRC-2012): register at image-net.org, download ILSVRC2012_img_train.tar and unpack it and the 1000
archives inside so that data/imagenet/train/n01440764/*.JPEG and so on exist; or name any folder of class folders with
--data.
The autoencoder of the method, sd-vae-ft-ema, is at stabilityai's page on Hugging Face (MIT): name its folder with
--vae.]], opt.data)
end

local vae = ld.vae.load(opt.vae, {range = opt.range ~= 'own' and opt.range or nil})
local set = ld.images.open(opt.data, {size = opt.size, transform = opt.transform, limit = opt.limit})
print(set)
local store = ld.latents.encode(vae, set, opt.out, {dtype = opt.dtype, moments = opt.moments, batch = opt.batch,
                                                    on_bad = opt.on_bad, least_psnr = opt.least_psnr})
print(store)
for c = 1, #store.mean do print(('channel %d: mean %8.4f, std %7.4f'):format(c, store.mean[c], store.std[c])) end
