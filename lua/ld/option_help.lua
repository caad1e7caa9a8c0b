-- What --help prints of a recipe's options: their names and values in the order of the script, and what they mean: the
-- comment behind an option that has its line alone, else what its name means in every recipe.

-- Options that mean the same in every recipe that has them.
local common = {
  attention_from = 'level, from 1, whose blocks have attention first; 0: none',
  attention_width = 'channels of a head of attention',
  ahead = 'batches kept ready; 0: as fits',
  bad = 'names of unreadable pictures that are listed',
  batch = 'pictures a step',
  blocks = 'residual blocks of each level',
  channels = 'channels of each level, the first having the full size',
  classes = 'file with the names of classes, one a line',
  columns = 'samples of each class in the picture',
  crop = 'side of the squares cut from photographs',
  data = 'pictures: a folder, archive or LMDB (docs/data.md)',
  decoders = 'threads that decode pictures; 0: as fits',
  demo = 'a small network on synthetic faces',
  deterministic = 'the same bytes whatever the number of threads',
  dropout = 'share of features dropped before the last layer',
  dtype = 'of the numbers in the file: f16 or f32',
  ema = 'decay of the averaged weights, for each step',
  epochs = 'times through the data',
  eps = 'added to the root of AdamW\'s second moment',
  erase = 'side of the rectangles that RandErase fills, as a share of the picture\'s; 0: none',
  eta = 'share of DDPM\'s noise that DDIM adds in each step, 0 to 1',
  evaluator = 'latent classifier that judges samples; one that was not in the loss',
  every = 'epochs between pictures',
  faces = 'synthetic faces in the set',
  find_lr = 'search a learning rate, write its curve and end',
  first = 'number of the first sample; sample j of a seed is the same in any batch',
  gate = 'the perceptual loss counts where sigma/alpha is at most this',
  guidance = 'strength of classifier-free guidance; 1: none',
  held_out = 'share of the pictures that are not trained on',
  image = 'picture to begin with',
  judge = 'latent classifier of the perceptual loss',
  k = 'neighbours for precision and recall',
  l1 = 'weight of the absolute error beside the squared one',
  labels = 'file with a class for each picture (docs/data.md)',
  layers = 'residual blocks a level',
  least_psnr = 'dB that the autoencoder must reach on the first pictures',
  limit = 'take at most so many pictures; 0: all',
  lr = 'highest learning rate',
  mirrored = 'latents of the mirrored pictures too',
  moments = 'log-variances too',
  n = 'how many are drawn',
  norm = 'normalisation: batch or group',
  out = 'folder that the run writes to; resumed when it is there',
  on_bad = 'a picture that cannot be read: skip (invalid row), zero (a row of zeros), or stop',
  overfit = 'train on so many batches only, in a folder beside: can it learn them?',
  pad = 'width of the zeros around a picture before it is cut back at random; 0: none',
  partial = 'take what a damaged archive has before the damage',
  path = 'what to look at; its name may be left out',
  perceptual = 'weight of the perceptual latent loss; 0: MSE only',
  photos = 'folder of photographs, any sub-folders',
  precision = 'f32, or bf16 on a CUDA device',
  quiet = 'print nothing of the run while it trains',
  quick = 'leave out what needs every latent',
  range = 'pixel range fed to the autoencoder: own (its own), signed, or unit',
  readers = 'threads that read files; 0: as fits',
  run = 'folder of the trained run',
  runs = 'folders of runs; their name may be left out',
  sample = 'pictures that are decoded to look at them',
  sampler = 'ddim, or ancestral (DDPM\'s step on the cosine schedule)',
  samples = 'samples in a picture',
  scale = 'latents enter the network times this; 0: to mean 0, std 1',
  seed = 'of everything random: same seed, same result',
  shape = 'of the array: 303125,4,32,32',
  shards = 'files that the store is split into; 0: one',
  sigma_rel = 'width of the power-function average; 0: the first that the run kept',
  size = 'side of the square pictures, in pixels',
  smoothing = 'label smoothing of the cross entropy',
  steps = 'steps of the sampler',
  store = 'store of latents; named when it has moved',
  strength = 'how far from the picture to begin: 0 keeps it, 1 forgets it',
  sync_bn = 'with several ranks: batch norm takes its statistics over all of them',
  tensorboard = 'event files for TensorBoard, in tb of the run\'s folder',
  train = 'store of latents to train on',
  transform = 'how pictures become square (docs/data.md)',
  vae = 'autoencoder: .h5, .safetensors, or a diffusers folder',
  valid = 'store of latents held out; none: nothing is measured on others',
  verify = 'rows that are encoded again, chosen at random, and compared',
  weight_decay = 'of AdamW, decoupled',
  weights = 'ema: averaged ones; live: those of the last step',
  width = 'channels where the picture has its full size',
}

-- Where a line's comment begins, and the names that are given a value in it at the outermost level; `depth` counts open
-- braces and is given back.
local function scan(line, depth)
  local names, i = {}, 1
  while i <= #line do
    local c = line:sub(i, i)
    if c == "'" or c == '"' then
      i = line:find(c, i + 1, true) or #line
    elseif line:sub(i, i + 1) == '--' then
      return names, depth, line:sub(i + 2):match('^%s*(.-)%s*$')
    elseif c == '{' then
      depth = depth + 1
    elseif c == '}' then
      depth = depth - 1
      if depth == 0 then break end
    elseif depth == 1 and c:match('[%a_]') then
      local word, equals = line:match('^([%w_]+)%s*(=?)', i)
      if equals == '=' then names[#names + 1] = word end
      i = i + #word - 1
    end
    i = i + 1
  end
  return names, depth
end

--- read(path): names of the options in the order in which the script at `path` gives them to `options`, and a table of
-- comments by name; both empty where there is no such call.
local function read(path)
  local order, words, depth = {}, {}, 0
  local f = path and io.open(path)
  for line in f and f:lines() or function() end do
    if depth == 0 and #order == 0 then line = line:match('options%s*(%{.*)$') end
    if line and (depth > 0 or #order == 0) then
      local names, comment
      names, depth, comment = scan(line, depth)
      for _, name in ipairs(names) do order[#order + 1] = name end
      if #names == 1 and comment and comment ~= '' then words[names[1]] = comment end
    end
  end
  if f then f:close() end
  return order, words
end

-- The words of `text` on lines of at most `width` columns.
local function wrap(text, width)
  local lines = {''}
  for word in text:gmatch('%S+') do
    local last = lines[#lines]
    if last ~= '' and #last + 1 + #word > width then
      lines[#lines + 1] = word
    else
      lines[#lines] = last == '' and word or last .. ' ' .. word
    end
  end
  return lines
end

--- print_options(path, values, text): a line for each option, in the script's order; `text` makes a value printable.
local function print_options(path, values, text)
  local order, words = read(path)
  local seen = {}
  for _, name in ipairs(order) do seen[name] = true end
  local rest = {}
  for name in pairs(values) do
    if not seen[name] then rest[#rest + 1] = name end
  end
  table.sort(rest)
  for _, name in ipairs(rest) do order[#order + 1] = name end
  for _, name in ipairs(order) do
    if values[name] ~= nil then
      local left = ('  --%-16s %s'):format(name:gsub('_', '-'), text(values[name]))
      local lines = wrap(words[name] or common[name] or '', 74)
      if #left > 42 and lines[1] ~= '' then
        print(left)
        left = ''
      end
      for k, line in ipairs(lines) do print((('%-44s%s'):format(k == 1 and left or '', line):gsub('%s+$', ''))) end
    end
  end
end

return {read = read, print = print_options, common = common}
