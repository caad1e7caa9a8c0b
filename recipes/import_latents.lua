-- Latents that other programs made, from NumPy's files into a store that the other recipes take.
--   run     ldlua recipes/import_latents.lua PATH --vae data/sd-vae-ft-ema --range unit --out runs/imported.h5
--   path    one .npy (N,C,h,w); a folder of .npy files (C,h,w), a sub-folder a class (fast.ai's ImageNet latents); or
--           numbers without a header, with --shape 303125,4,32,32 --dtype f32 (fast.ai's LSUN latents, a memmap)
--   vae     the weights that made them, or only their name: then nothing can check later that the right VAE is used
--   range   what the VAE was fed: unit [0,1] (fast.ai) or signed [-1,1] (nearly everybody else)
--   scaled  what the latents were multiplied by when they were stored, such as 0.18215; they are divided by it
--   labels  a class number from 0 for each latent, an .npy or a text file; classes: their names, one a line
--   Stopped, it goes on when it is run again.
local ld = require 'ld'

local opt = ld.options{'path',
  path = '',
  out = '',        -- the store that is written
  vae = '',        -- autoencoder that made the latents: a path, or a name where its weights are not here
  range = '',      -- pixel range it was fed: unit or signed
  shape = '',      -- of the array, 303125,4,32,32, where the file does not say it
  dtype = 'f32',   -- of the numbers in a bare memory map
  store = 'f16',   -- of the numbers in the store
  scaled = 1,      -- latents were multiplied by this when they were made
  labels = '', classes = '',
}

if opt.path == '' or opt.out == '' then
  ld.fail('import_latents: PATH --out FILE --vae PATH_OR_NAME --range unit or signed are needed; --help tells more')
end

local shape
if opt.shape ~= '' then
  shape = {}
  for word in opt.shape:gmatch('[^,]+') do
    shape[#shape + 1] = tonumber(word) or ld.fail('option --shape is numbers such as 303125,4,32,32')
  end
end

local function given(word) return word ~= '' and word or nil end

local store = ld.latents.import(opt.path, opt.out, {
  vae = opt.vae, range = opt.range, shape = shape, dtype = opt.dtype, store = opt.store, scaled = opt.scaled,
  labels = given(opt.labels), classes = given(opt.classes)})
print(store)
for c = 1, #store.mean do print(('channel %d: mean %8.4f, std %7.4f'):format(c, store.mean[c], store.std[c])) end
if store.vae_hash == 'unknown' then
  print(('the weights of %s are not here: nothing can check later that the right ones decode these latents'):format(
    store.vae))
end
