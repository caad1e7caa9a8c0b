-- The cases of `make bench-cuda`, in the order in which they are measured: what matters most comes first. Entries as in
-- cases.lua, and
--
--   floor   images a second that a card cannot pass, by arithmetic and memory traffic of a step with everything fused
--           that can be; by a word of the card's name. A model, not a measurement: 790 TFLOP/s in bf16 and 4.3 TB/s of
--           an H200, 59.5 TFLOP/s and 684 GB/s of an RTX 3080
--   goals   {least share of the floor, images a second over PyTorch's eager bf16, over the best of its other ways}
--   peers   which of PyTorch's ways, in the order of their worth; P3 takes minutes to compile and comes last of all
--   memory  GB that the step must stay below
--   cold    seconds in which a process for which nothing was kept is to have made its first step
--   steps, means, lr   of a curve: so many steps at this rate, compared as the means of so many stretches
local NB30 = {channels = {128, 256, 512, 768}, layers = 2, attention_from = 2, attention_width = 16}
local UNET40 = {channels = {64, 128, 256, 384}, layers = 2, attention_from = 2, attention_width = 16}
local TINY = {channels = {16, 32}, layers = 1, attention_from = 2, attention_width = 16}
local ALL, MOST, EAGER = {'bf16', 'bf16_graph', 'bf16_compile'}, {'bf16', 'bf16_graph'}, {'bf16'}

return {
  {name = 'cuda_conv', title = '3x3 convolutions of the nb-30 U-Net, batch 256', kind = 'conv', images = 256,
   peers = EAGER,
   layers = {{128, 128, 32}, {384, 128, 32}, {256, 256, 16}, {768, 256, 16}, {512, 512, 8}, {1280, 512, 8},
             {768, 768, 4}, {1536, 768, 4}}},
  {name = 'cuda_unet256', title = 'nb-30 U-Net, training step, batch 256', kind = 'diffusion', unet = NB30,
   images = 256, size = 32, gflop = 62.1, floor = {H200 = 9430, ['3080'] = 831}, goals = {0.60, 1.3, 1.05},
   peers = ALL, cold = 8},
  {name = 'cuda_curve', title = 'U-Net 40M, loss over 200 steps, batch 32', kind = 'curve', unet = UNET40, images = 32,
   size = 32, steps = 200, means = 20, lr = 1e-3, series = {}, peers = {}},
  {name = 'cuda_classifier512', title = 'classifier, training step, batch 512', kind = 'classifier', images = 512,
   size = 32, gflop = 11.1, floor = {H200 = 53700, ['3080'] = 4660}, goals = {0.60, 1.2, 1.05}, peers = MOST},
  {name = 'cuda_unet32', title = 'nb-30 U-Net, training step, batch 32', kind = 'diffusion', unet = NB30,
   images = 32, size = 32, gflop = 62.1, floor = {H200 = 9430, ['3080'] = 831}, goals = {nil, 2.0, nil},
   peers = MOST},
  {name = 'cuda_ddim16', title = 'DDIM, 100 steps, nb-30 U-Net, batch 16', kind = 'sampling', unet = NB30,
   images = 16, size = 32, steps = 100, gflop = 99 * 20.63, goals = {nil, 1.8, nil}, peers = EAGER},
  {name = 'cuda_small128', title = 'U-Net 40M, training step, batch 128', kind = 'diffusion', unet = UNET40,
   images = 128, size = 32, gflop = 15.9, floor = {H200 = 29500, ['3080'] = 2910}, goals = {nil, 2.0, 1.1},
   peers = MOST},
  {name = 'cuda_unet128', title = 'nb-30 U-Net, training step, batch 128', kind = 'diffusion', unet = NB30,
   images = 128, size = 32, gflop = 62.1, floor = {H200 = 9430, ['3080'] = 831}, memory = 8, peers = EAGER},
  {name = 'cuda_encoder32', title = 'sd-vae encoder, 256 x 256, batch 32', kind = 'encoder', images = 32, size = 256,
   gflop = 272.7, floor = {H200 = 2220, ['3080'] = 191}, goals = {1300 / 2220, 1.3, nil}, peers = EAGER},
  {name = 'cuda_decoder16', title = 'sd-vae decoder, 256 x 256, batch 16', kind = 'decoder', images = 16, size = 256,
   gflop = 622.2, floor = {H200 = 1140, ['3080'] = 98}, goals = {650 / 1140, 1.4, nil}, peers = EAGER},
  {name = 'cuda_perceptual128', title = 'nb-30 U-Net, batch 128', kind = 'perceptual', unet = NB30, images = 128,
   size = 32, series = {{'plain step', 62.1}, {'perceptual step', 73.2}}, ratio_goal = 1.30, peers = EAGER},
  -- Small ones of each kind, for tests of the bench itself; they run when they are named.
  {name = 'tinycuda', title = 'small U-Net, training step', kind = 'diffusion', unet = TINY, images = 4, size = 8,
   gflop = 0.01, floor = {fake = 1e6, cpu = 1e6}, goals = {0.6, 1.3, 1.05}, peers = {'bf16', 'bf16_graph'},
   cold = 100, small = true},
  {name = 'tinycuda_conv', title = '3x3 convolutions', kind = 'conv', images = 2,
   layers = {{16, 16, 8}, {32, 16, 4}}, peers = EAGER, small = true},
  {name = 'tinycuda_classifier', title = 'small classifier, training step', kind = 'classifier', images = 4,
   size = 8, classifier = {channels = {8, 16, 32}, blocks = {1, 1}, classes = 10}, peers = EAGER, small = true},
  {name = 'tinycuda_ddim', title = 'DDIM, 4 steps, small U-Net', kind = 'sampling', unet = TINY, images = 2,
   size = 8, steps = 4, peers = EAGER, small = true},
  {name = 'tinycuda_curve', title = 'small U-Net, loss over 40 steps', kind = 'curve', unet = TINY, images = 8,
   size = 8, steps = 40, means = 4, lr = 1e-3, series = {}, peers = {}, small = true},
}
