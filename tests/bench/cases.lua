-- What `make bench` measures: cases as data. Both sides build from these; nothing else knows a batch size.
--
--   name      for --only
--   kind      which work does it (works.lua, torch_works.py)
--   images    of one call of the timed function
--   series    one entry a thing that is timed: {label, gflop an image}. Cases without it have one, `step`
--   gflop     nominal GFLOP an image of the whole timed function
--   goal      least throughput over PyTorch's eager f32
--
-- Nominal FLOPs count convolutions and matrix products as written, 2 for a multiply-add, whatever algorithm runs, and
-- the backward pass as twice the forward one. Counted layer by layer from the shapes, for one image:
--
--   U-Net (64,128,256,384), forward         5.26 GFLOP, a training step 15.9
--   latent classifier, forward              3.70, a training step 11.1, backward to its input alone 3.70
--   KL autoencoder at 256 x 256, forward    encoder 272.7, decoder 622.2
--   perceptual loss on top of a step        two forward passes of the classifier and one back to its input: 11.1
--   DDIM of n steps                         n - 1 forward passes: the last step, at t = 0, calls no network
local UNET = {channels = {64, 128, 256, 384}, layers = 2, attention_from = 2, attention_width = 16}
local UNET_FORWARD, UNET_STEP, CLASSIFIER_FORWARD, CLASSIFIER_STEP = 5.26, 15.9, 3.70, 11.1
local ENCODER, DECODER = 272.7, 622.2

local cases = {
  {name = 'unet', title = 'U-Net 40M, training step, batch 16', kind = 'diffusion', unet = UNET, images = 16, size = 32,
   gflop = UNET_STEP, goal = 1.7, memory_goal = 0.6},
  {name = 'classifier', title = 'latent classifier, training step, batch 32', kind = 'classifier', images = 32,
   size = 32, gflop = CLASSIFIER_STEP, goal = 1.5},
  {name = 'encoder1', title = 'sd-vae encoder, 256 x 256, batch 1', kind = 'encoder', images = 1, size = 256,
   gflop = ENCODER, goal = 1.7},
  {name = 'encoder4', title = 'sd-vae encoder, 256 x 256, batch 4', kind = 'encoder', images = 4, size = 256,
   gflop = ENCODER, goal = 1.7},
  {name = 'decoder1', title = 'sd-vae decoder, 256 x 256, batch 1', kind = 'decoder', images = 1, size = 256,
   gflop = DECODER, goal = 2.0},
  {name = 'decoder4', title = 'sd-vae decoder, 256 x 256, batch 4', kind = 'decoder', images = 4, size = 256,
   gflop = DECODER, goal = 2.0},
  {name = 'ddim', title = 'DDIM, 20 steps, eta 0, U-Net 40M, batch 4', kind = 'sampling', unet = UNET, images = 4,
   size = 32, steps = 20, gflop = 19 * UNET_FORWARD, goal = 2.0},
  {name = 'perceptual', title = 'U-Net 40M, perceptual loss', kind = 'perceptual', unet = UNET, images = 16, size = 32,
   series = {{'plain step', UNET_STEP}, {'perceptual step', UNET_STEP + 3 * CLASSIFIER_FORWARD}}, ratio_goal = 1.9},
  {name = 'conv16', title = '3x3 convolution, batch 16', kind = 'conv', images = 16, conv_goal = 450},
  {name = 'conv32', title = '3x3 convolution, batch 32', kind = 'conv', images = 32, conv_goal = 450},
  -- Small ones of each kind, for tests of the bench itself; they run when they are named.
  {name = 'tiny', title = 'small U-Net, training step, batch 2', kind = 'diffusion', images = 2, size = 8,
   hidden = true, unet = {channels = {16, 32}, layers = 1, attention_from = 2, attention_width = 16}},
  {name = 'tiny_perceptual', title = 'small U-Net, perceptual loss', kind = 'perceptual', images = 2, size = 8,
   hidden = true, unet = {channels = {16, 32}, layers = 1, attention_from = 2, attention_width = 16},
   classifier = {channels = {8, 16, 32}, blocks = {1, 1}, classes = 10},
   series = {{'plain step'}, {'perceptual step'}}, ratio_goal = 1.9},
  {name = 'tiny_conv', title = '3x3 convolution, batch 2', kind = 'conv', images = 2, hidden = true,
   channels = {16}, sizes = {8}},
}

-- Those of `make bench-cuda`: run as a run's steps, on a device, under a precision.
for _, case in ipairs(dofile 'tests/bench/cuda_cases.lua') do
  case.hidden, case.cuda = true, true
  cases[#cases + 1] = case
end

-- Shapes of a convolution case: square images, the case's `layers` {channels in, out, size}, or channels in and out
-- alike.
local function add_shapes(case)
  case.shapes, case.series = {}, {}
  local function add(from, to, side)
    local name = (from == to and '%dx%dx%d' or '%d-%dx%dx%d'):format(from, unpack(from == to and {side, side} or
      {to, side, side}))
    case.shapes[#case.shapes + 1] = {name = name, channels = from, out = to, size = side}
    for _, direction in ipairs{'forward', 'data', 'weight'} do
      case.series[#case.series + 1] = {name .. ' ' .. direction, 2 * side * side * from * to * 9 / 1e9}
    end
  end
  for _, layer in ipairs(case.layers or {}) do add(unpack(layer)) end
  for _, c in ipairs(case.layers and {} or case.channels or {128, 256, 512}) do
    for _, side in ipairs(case.sizes or {8, 16, 32}) do add(c, c, side) end
  end
end

local by_name = {}
for _, case in ipairs(cases) do
  if case.kind == 'conv' then add_shapes(case) end
  case.series = case.series or {{'step', case.gflop}}
  by_name[case.name] = case
end

--- The cases that a list of words such as 'unet,conv' names by their beginnings (all that are not hidden when it is
-- empty), in order; nil and the word when one names none.
local function choose(words)
  local wanted = {}
  for word in words:gmatch('[^,%s]+') do
    local found = by_name[word]
    if found then wanted[found] = true end
    for _, case in ipairs(cases) do
      if not case.hidden and case.name:sub(1, #word) == word then wanted[case], found = true, true end
    end
    if not found then return nil, word end
  end
  local out, all = {}, not next(wanted)
  for _, case in ipairs(cases) do
    if wanted[case] or (all and not case.hidden) then out[#out + 1] = case end
  end
  return out
end

return {by_name = by_name, choose = choose, list = cases}
