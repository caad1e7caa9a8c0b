-- ldlua's side of `make bench-data`. Lines for the driver: kind, label, value, separated by tabs.
--
--   ldlua tests/bench/data_side.lua check FOLDER FILE --transform adm      the first pictures, raw (n,size,size,3)
--   ldlua tests/bench/data_side.lua decode FOLDER --transform adm          every picture, decoded and transformed
--   ldlua tests/bench/data_side.lua encode FOLDER --vae PATH               one batch of pixels again and again
--   ldlua tests/bench/data_side.lua both FOLDER --vae PATH --out FILE      the whole way into a store
--   ldlua tests/bench/data_side.lua load FOLDER --out FILE                 training on latents of random numbers
local ld = require 'ld'

local what, folder = arg[1], arg[2]
local file = what == 'check' and arg[3] or nil
for _ = 1, file and 3 or 2 do table.remove(arg, 1) end
local opt = ld.options{transform = 'adm', size = 256, batch = 16, first = 64, vae = 'data/vae-small.h5', seconds = 10,
                       out = 'build/bench/store.h5', readers = 0, decoders = 0, ahead = 0}

local function emit(kind, label, value) io.write(kind, '\t', label, '\t', ('%.9g'):format(value), '\n') end
local function open() return ld.images.open(folder, {size = opt.size, transform = opt.transform}) end
local function pipeline(set)
  return ld.core.pipeline(set.source, {size = opt.size, transform = opt.transform, batch = opt.batch,
                                       readers = opt.readers, decoders = opt.decoders, ahead = opt.ahead})
end

local work = {}

function work.check()
  local list = {}
  for i = 1, opt.first do list[i] = i end
  local x = open():read(list)
  local f = assert(io.open(file, 'wb'))
  -- (n,3,size,size) lies as rows of interleaved pixels already
  f:write(require('ffi').string(x:ptr(), x:numel()))
  f:close()
end

function work.decode()
  local p, from, seen = pipeline(open()), nil, 0
  for batch in function() return p:next() end do
    if from then seen = seen + batch.count else from = ld.clock() end -- as the other side counts
    batch.x:release()
  end
  emit('rate', 'decode', seen / (ld.clock() - from))
end

function work.encode()
  local vae, p = ld.vae.load(opt.vae), pipeline(open())
  local x = p:next().x
  p:close()
  local function once() ld.scope(function() vae:encode_images(x):f32() end) end
  for _ = 1, 3 do once() end
  local from, n = ld.clock(), 0
  while ld.clock() - from < opt.seconds do
    once()
    n = n + x.shape[1]
  end
  emit('rate', 'encode', n / (ld.clock() - from))
end

function work.both()
  local vae, set = ld.vae.load(opt.vae), open()
  vae:encode_images((set:read{1})) -- loaded and started
  local from = ld.clock()
  ld.latents.encode(vae, set, opt.out, {quiet = true, batch = opt.batch, least_psnr = 0})
  emit('rate', 'both', set.count / (ld.clock() - from))
  os.remove(opt.out)
end

-- A store of n rows of random numbers.
local function random_store(path, n)
  local part, step = path .. '.part', 1000
  ld.core.store_create(part, {count = n, channels = 4, height = 32, width = 32, batch = step, name = function(i)
    return ('row-%d'):format(i)
  end, attributes = {{'vae', 'none'}, {'vae_hash', 'unknown'}, {'vae_kind', 'none'}, {'pixel_range', 'unit'},
                     {'size', 256}, {'transform', 'adm'}, {'source', 'random numbers'}, {'source_hash', 'none'}}})
  local writer = ld.core.store_writer(part)
  for first = 1, n, step do
    ld.scope(function() writer:put(first, {mean = ld.randn(math.min(step, n - first + 1), 4, 32, 32)}) end)
  end
  writer:finish()
  writer:close()
end

-- The share of a training step (U-Net of 40 million parameters, batch 16) that goes into getting the batch.
function work.load()
  random_store(opt.out, 50000)
  local unet = ld.models.unet{channels = {64, 128, 256, 384}, layers = 1}
  local adamw = ld.optim.adamw(unet:parameters(), {lr = 1e-4})
  for _, entry in ipairs{{'resident', true}, {'read ahead', false}} do
    local store = ld.latents.open(opt.out, {resident = entry[2]})
    local model = ld.diffusion.cosine(unet, store:scaling(0))
    local loader = store:loader{batch = 16, seed = 1}
    local images, from, before = 0, nil, nil
    for i = 1, 15 do
      if i == 4 then from, before = ld.clock(), loader:stats().spent end -- warm by then
      ld.scope(function()
        local x = loader:batch(images, 16)
        adamw:zero_grad()
        model:loss(x, {seed = 1, first = images}):backward()
        adamw:step()
      end)
      images = images + 16
    end
    emit('share', entry[1], (loader:stats().spent - before) / (ld.clock() - from))
  end
  os.remove(opt.out)
end

if not work[what] then ld.fail('data_side: check, decode, encode, both or load, not %s', tostring(what)) end
work[what]()
