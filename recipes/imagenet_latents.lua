-- Encode pictures (ImageNet, or any other set) into a store of latents.
--   data    --data PATH: a folder (sub-folder = class, as ILSVRC/Data/CLS-LOC/train), a tar or zip (also the tar of
--           tars ILSVRC2012_img_train.tar), a folder of those (WebDataset shards), an LSUN LMDB, CIFAR's binary
--           files; a path may go on inside an archive. See docs/data.md;
--           `ldlua recipes/data_info.lua PATH` shows what there is
--   labels  --labels FILE: classes from a file, such as ImageNet's list for its validation pictures
--   vae     --vae: sd-vae-ft-ema (a diffusers folder or .safetensors file), or data/vae-small.h5, which ships
--   run     ldlua recipes/imagenet_latents.lua --data data/imagenet/train --out runs/imagenet/train.h5
--           run it again to go on where it stopped, or was killed: the store comes out the same. Ctrl-C stops in order
--   pixels  --size, --transform, --range, --exif: docs/data.md has the table of transforms, and all options
--   rows    --dtype f16, bf16 or f32; --moments: log-variances too; --mirrored: the mirrored pictures too;
--           --shards N: rows in N files beside the store, which has virtual data sets over them
--   bad     pictures that cannot be read are listed in OUT.bad.txt; --on_bad skip (the row is invalid), zero (it stays,
--           as zeros), or stop
--   check   --verify N: encodes N rows again, chosen at random, and compares them with the store
--   exact   --deterministic: no ways of computing are timed, a fixed rule chooses
--   threads --readers, --decoders, and --ahead (batches kept ready); 0 follows the machine
local ld = require 'ld'

local opt = ld.options{
  data = 'data/imagenet/train', vae = 'data/vae-small.h5',
  out = 'runs/imagenet/train.h5',     -- the store that is written; one in the making is gone on with
  labels = '', partial = false,
  size = 256, transform = 'short-center-bilinear', -- fast.ai's: cut the centre square, then shrink
  exif = false,                       -- turn pictures as their EXIF data say
  range = 'own',                      -- pixel range fed to the VAE: own (the VAE's), signed, or unit (fast.ai's)
  dtype = 'f16', moments = false, mirrored = false, shards = 0,
  bad_in_a_row = 256,                 -- so many and the data are taken to be gone, and the run stops; 0: never
  batch = 16, on_bad = 'skip', limit = 1e9, least_psnr = 15,
  save_seconds = 10,                  -- of work that a kill may cost; more changes nothing
  verify = 0, deterministic = false, readers = 0, decoders = 0, ahead = 0,
}

if not ld.images.exists(opt.data) then
  ld.fail([[there is no %s.
ImageNet (ILSVRC-2012): register at image-net.org, download ILSVRC2012_img_train.tar and name it with --data; it need
not be unpacked. Or name any folder of class folders, or another archive of pictures.
The autoencoder of the method, sd-vae-ft-ema, is at stabilityai's page on Hugging Face (MIT): name its folder with
--vae.]], opt.data)
end

local function given(n) return n ~= 0 and n or nil end

local vae = ld.vae.load(opt.vae, {range = opt.range ~= 'own' and opt.range or nil})
local set = ld.images.open(opt.data, {size = opt.size, transform = opt.transform, exif = opt.exif, limit = opt.limit,
                                      labels = opt.labels ~= '' and opt.labels or nil, partial = opt.partial})
print(set)
for _, note in ipairs(set.source:notes()) do print('note: ' .. note) end
local store = ld.latents.encode(vae, set, opt.out, {
  dtype = opt.dtype, moments = opt.moments, mirrored = opt.mirrored, shards = opt.shards, batch = opt.batch,
  on_bad = opt.on_bad, bad_in_a_row = opt.bad_in_a_row, least_psnr = opt.least_psnr,
  deterministic = opt.deterministic, save_seconds = opt.save_seconds,
  readers = given(opt.readers), decoders = given(opt.decoders), ahead = given(opt.ahead)})
print(store)
for c = 1, #store.mean do print(('channel %d: mean %8.4f, std %7.4f'):format(c, store.mean[c], store.std[c])) end
if opt.verify > 0 then ld.latents.verify(opt.out, vae, set, {n = opt.verify}) end
