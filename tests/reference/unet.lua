-- The U-Net: noising, training mode with every gradient, running statistics, eval mode.
local ld = require 'ld'
local network = dofile 'tests/reference/network.lua'

local function build(source)
  local first, last = source:read('param.conv_in.weight').shape, source:read('param.conv_out.2.weight').shape
  return ld.models.unet{
    in_channels = first[2], out_channels = last[1], channels = source:integers('channels'),
    layers = source:number('layers'), attention_from = source:number('attention_from_level_0based') + 1,
    attention_width = source:number('attention_width'),
  }
end

local function check(report, source)
  local net = network.load(build(source), source):train()
  local x_t, t, eps = source:read('x_t'):requires_grad_(), source:read('t'), source:read('eps')
  if source:has('x0') then
    network.one(report, source, 'x_t', ld.diffusion.noised(source:read('x0'), t, eps))
  end
  local out = net(x_t, t)
  local loss = ld.mse(out, eps)
  loss:backward()
  network.one(report, source, 'train.out', out)
  network.one(report, source, 'train.loss', loss)
  if source:has('train.grad_x') then
    network.one(report, source, 'train.grad_x', x_t.grad, network.GRADIENT)
  end
  network.gradients(report, source, network.own_gradients(net)):done()
  network.statistics(report, source, net)
  network.one(report, source, 'eval.out', ld.no_grad(function() return net(x_t, t) end))
end

return {
  title = 'U-Net',
  recognise = function(source) return source:has('param.emb_mlp.0.2.weight') and source:has('x_t') end,
  check = check,
}
