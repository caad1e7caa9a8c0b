-- Layers and how networks are composed.
return {title = 'Layers (nn)', internal = [[layer:forward layer:norm_act layer:parameters layer:buffers layer:train
  layer:require_grad layer:to layer:describe layer:type]], [==[
nn.conv2d{in_channels, out_channels, kernel, stride = 1, padding = 0, upsample = false, bias = true, dtype = 'f32',
    device = nil}
  Convolution layer on (N,in_channels,H,W); parameters weight and bias, initialised as PyTorch does.
  in_channels   channels of the input
  out_channels  channels of the result
  kernel        side in pixels, or {height, width}
  stride        a number or {height, width}
  padding       zeros around: a number, {height, width} or {top, bottom, left, right}
  upsample      true: the input is taken as twice as large before
  bias          whether there is one
  dtype         'f32' or 'f64'
  device        the default device when nil
  returns       a module
  see           ld.conv2d
  example
    print(nn.conv2d{in_channels = 3, out_channels = 8, kernel = 3, padding = 1}(ld.ones(1, 3, 4, 4)):describe())

nn.conv_transpose2d{in_channels, out_channels, kernel, stride = 1, padding = 0, output_padding = 0, bias = true,
    dtype = 'f32', device = nil}
  Transposed convolution layer, which enlarges.
  in_channels     channels of the input
  out_channels    channels of the result
  kernel          side in pixels, or {height, width}
  stride          a number or {height, width}
  padding         what is cut off
  output_padding  pixels added below and on the right
  bias            whether there is one
  dtype           'f32' or 'f64'
  device          the default device when nil
  returns         a module
  example
    local up = nn.conv_transpose2d{in_channels = 3, out_channels = 2, kernel = 4, stride = 2, padding = 1}
    print(up(ld.ones(1, 3, 4, 4)):describe())

nn.linear{in_features, out_features, bias = true, dtype = 'f32', device = nil}
  Affine layer on the last dimension.
  in_features   size of the input's last dimension
  out_features  size of the result's
  bias          whether there is one
  dtype         'f32' or 'f64'
  device        the default device when nil
  returns       a module
  example
    print(nn.linear{in_features = 3, out_features = 2}(ld.ones(5, 3)):describe())

nn.batch_norm{channels, eps = 1e-5, momentum = 0.1, affine = true, dtype = 'f32', device = nil}
  Batch normalisation layer on (N,C,...), with running statistics for use outside training.
  channels  C
  eps       added to the variance
  momentum  share of the new value in the running statistics
  affine    weight and bias
  dtype     'f32' or 'f64'
  device    the default device when nil
  returns   a module
  errors    in training a single value a channel
  source    Ioffe & Szegedy 2015, arXiv:1502.03167
  example
    print(nn.batch_norm{channels = 2}(ld.randn(4, 2, 3, 3)):describe())

nn.group_norm{groups, channels, eps = 1e-5, affine = true, dtype = 'f32', device = nil}
  Group normalisation layer on (N,C,...).
  groups    divides C
  channels  C
  eps       added to the variance
  affine    weight and bias
  dtype     'f32' or 'f64'
  device    the default device when nil
  returns   a module
  source    Wu & He 2018, arXiv:1803.08494
  example
    print(nn.group_norm{groups = 2, channels = 4}(ld.randn(1, 4, 3, 3)):describe())

nn.layer_norm{features, eps = 1e-5, affine = true, dtype = 'f32', device = nil}
  Layer normalisation over the last dimension.
  features  its size
  eps       added to the variance
  affine    weight and bias
  dtype     'f32' or 'f64'
  device    the default device when nil
  returns   a module
  source    Ba et al. 2016, arXiv:1607.06450
  example
    print(nn.layer_norm{features = 3}(ld.ones(2, 3)):describe())

nn.attention{channels, heads = nil, head_width = nil, eps = 1e-5, dtype = 'f32', device = nil}
  Self-attention over the pixels of (N,C,H,W): normalisation, packed projection, attention, projection. The input
  is not added.
  channels    C
  heads       how many; give this or head_width (1 head when neither is given)
  head_width  channels of a head; divides C
  eps         of the normalisation
  dtype       'f32' or 'f64'
  device      the default device when nil
  returns     a module
  example
    print(nn.attention{channels = 8, head_width = 4}(ld.randn(1, 8, 4, 4)):describe())

nn.embedding{count, features, dtype = 'f32', device = nil}
  A learnt row for each number.
  count     how many rows
  features  size of a row
  dtype     'f32' or 'f64'
  device    the default device when nil
  returns   a module; its input is a tensor i64 of numbers from 0
  example
    print(nn.embedding{count = 10, features = 4}(ld.tensor({0, 9}, {dtype = 'i64'})):describe())

nn.dropout{p = 0.5}
  In training elements become 0 with probability p, the others are divided by 1 - p.
  p        0 <= p < 1
  returns  a module
  example
    print(nn.dropout{p = 0.1}:eval()(ld.ones(3)))

nn.activation{kind = 'identity', slope = 0.01, sub = 0}
  An activation by name.
  kind     'identity' 'relu' 'leaky' 'silu' 'gelu' 'tanh' 'sigmoid'
  slope    of leaky
  sub      subtracted after leaky
  returns  a module
  example
    print(nn.activation{kind = 'silu'}(ld.ones(2)))

nn.identity{}
nn.relu{}
nn.silu{}
nn.gelu{}
nn.tanh{}
nn.sigmoid{}
  Activations without options; identity gives its input.
  returns  a module
  example
    local x = ld.tensor{-1, 1}
    print(nn.identity()(x), nn.relu()(x), nn.silu()(x), nn.gelu()(x), nn.tanh()(x), nn.sigmoid()(x))

nn.leaky_relu{slope = 0.01}
  x above 0, slope x below.
  slope    number
  returns  a module
  example
    print(nn.leaky_relu{slope = 0.1}(ld.tensor{-1, 1}))

nn.general_relu{slope = 0.1, sub = 0.4}
  leaky_relu(x, slope) - sub, fast.ai's GeneralReLU.
  slope    number
  sub      number
  returns  a module
  example
    print(nn.general_relu{slope = 0.1, sub = 0.4}(ld.tensor{-1, 1}))

nn.avg_pool2d{kernel, stride = kernel, ceil = false}
  Means of kernel x kernel pixels.
  kernel   side in pixels, or {height, width}
  stride   the kernel when left out
  ceil     the last square may reach over the edge
  returns  a module
  example
    print(nn.avg_pool2d{kernel = 2}(ld.ones(1, 1, 4, 4)):describe())

nn.adaptive_avg_pool2d{size = 1}
  Means of as equal parts as possible.
  size     of the result: a number or {height, width}
  returns  a module
  example
    print(nn.adaptive_avg_pool2d{size = 1}(ld.ones(1, 2, 5, 5)):describe())

nn.upsample{scale = 2}
  Every pixel becomes scale x scale equal pixels.
  scale    whole number
  returns  a module
  example
    print(nn.upsample{scale = 2}(ld.ones(1, 1, 2, 2)):describe())

nn.flatten{}
  All dimensions but the first become one.
  returns  a module
  example
    print(nn.flatten{}(ld.ones(2, 3, 4)):describe())

nn.sequential(modules)
  Modules one after another; a normalisation and the activation behind it are computed as one.
  modules  a table of modules
  returns  a module; net[i] is the i-th, from 1, and i - 1 in paths
  errors   an entry that is no module, with its number
  example
    local net = nn.sequential{nn.linear{in_features = 2, out_features = 3}, nn.relu()}
    print(net(ld.ones(1, 2)):describe())

nn.list(modules)
  Modules kept by number, applied by the owner.
  modules  a table of modules; none when left out
  returns  a module without forward; list:append, list:size, list[i]
  example
    local list = nn.list{nn.relu()}
    print(list:size())

list:append(module)
  One more module at the end.
  module   module
  returns  the list
  example
    print(nn.list():append(nn.relu()):size())

list:size()
  How many modules the list has.
  returns  a number
  example
    print(nn.list{nn.relu(), nn.silu()}:size())

nn.func(f)
  A function as a module without parameters.
  f        function
  returns  a module
  example
    print(nn.func(function(x) return x * 2 end)(ld.ones(2)))

nn.class(name, init)
  A class whose instances are modules: children and tensors assigned to fields are found by name.
  name     text, for the tree and for checkpoints
  init     function (self, ...) that builds the children, or nil
  returns  a class: call it for an instance, define forward on it
  example
    local Twice = nn.class('twice', function(self, width)
      self.layer = nn.linear{in_features = width, out_features = width}
    end)
    function Twice:forward(x) return self.layer(self.layer(x)) end
    print(Twice(3)(ld.ones(1, 3)):describe())

nn.norm_act(norm, act, x, film)
  act(norm(x (1 + scale) + shift)) as one operation that keeps only x for the gradient.
  norm     an nn.batch_norm or nn.group_norm
  act      an activation, or nil
  x        tensor (N,C,...)
  film     tensor (N,2C): scale, then shift; or nil
  returns  a tensor like x
  example
    print(nn.norm_act(nn.batch_norm{channels = 2}, nn.silu(), ld.randn(4, 2, 3, 3)):describe())

nn.is_module(value)
  Whether a value is a module.
  value    anything
  returns  true or false
  example
    print(nn.is_module(nn.relu()), nn.is_module(3))

net:forward(...)
  What calling the module does: net(x).
  ...      what the network takes
  returns  what the network gives
  errors   'has no forward' for a class that does not define it
  example
    print(nn.relu():forward(ld.ones(2)))

net:parameters()
  The parameters as a list, for optimisers.
  returns  a list of tensors, in the order of their layers
  example
    print(#nn.linear{in_features = 2, out_features = 2}:parameters())

net:buffers()
  Tensors that belong to the network and are not trained, such as running statistics.
  returns  a list of tensors
  example
    print(#nn.batch_norm{channels = 2}:buffers())

net:named_parameters()
net:named_buffers()
  Parameters, or buffers, with their dotted paths.
  returns  a list of {path, tensor}
  example
    local net = nn.sequential{nn.batch_norm{channels = 2}}
    print(net:named_parameters()[1][1], net:named_buffers()[1][1])

net:modules()
  Every module below and itself, parents first.
  returns  an iterator of (path, module)
  example
    for path, m in nn.sequential{nn.relu()}:modules() do print(path, nn.is_module(m)) end

net:state()
  Parameters and buffers by path; they share storage with the network.
  returns  a table of tensors
  example
    print(next(nn.linear{in_features = 1, out_features = 1}:state()))

net:load_state(state, {strict = true, name = 'the state', ignore = nil})
  Copy tensors by path into the network; every shape is checked before anything is copied.
  state    a table of tensors by path
  strict   refuse missing and unexpected paths
  name     of the state, for messages
  ignore   a Lua pattern of paths that may be missing
  returns  the network
  errors   lists paths that are missing, unexpected or misshapen
  example
    local a, b = nn.linear{in_features = 2, out_features = 2}, nn.linear{in_features = 2, out_features = 2}
    b:load_state(a:state())

net:train(on)
  Training mode: batch statistics, dropout.
  on       true when left out
  returns  the network
  example
    print(nn.relu():train().training)

net:eval()
  The mode for use: running statistics, no dropout.
  returns  the network
  example
    print(nn.relu():eval().training)

net:to(what)
  Another dtype or device; parameters stay the same tensors, so optimisers stay valid.
  what     'f32' or 'f64', or a device such as 'cuda'
  returns  the network
  errors   layers take f32 and f64
  example
    print(nn.linear{in_features = 1, out_features = 1}:to('f64'):parameters()[1].dtype)

net:cpu()
  The network in the host's memory.
  returns  the network
  example
    print(nn.linear{in_features = 1, out_features = 1}:cpu():device())

net:cuda()
  The network on the first CUDA device.
  returns  the network
  errors   when there is no such device, with the reason
  example
    print(pcall(function() return nn.linear{in_features = 1, out_features = 1}:cuda() end))

net:device()
  Where the network lies: the device of its first parameter.
  returns  a device's name
  example
    print(nn.linear{in_features = 1, out_features = 1}:device())

net:requires_grad_(on)
  Whether gradients of its parameters are wanted.
  on       true when left out
  returns  the network
  example
    nn.linear{in_features = 1, out_features = 1}:requires_grad_(false)

net:freeze()
  No gradients, and eval mode.
  returns  the network
  example
    print(nn.relu():freeze().training)

net:zero_grad()
  Forget the gradients of all parameters.
  returns  the network
  example
    nn.linear{in_features = 1, out_features = 1}:zero_grad()

net:count()
  How large it is.
  returns  numbers of parameters, of tensors among them, of running values
  example
    print(nn.linear{in_features = 3, out_features = 2}:count())

net:tree()
  The network as a tree with shapes and counts of parameters; what printing it shows.
  returns  text
  example
    print(nn.sequential{nn.linear{in_features = 3, out_features = 2}, nn.relu()}:tree())

nn.wide(x)
  x in f32 where it has 16 bits: what a network of your own returns, whatever it computes in.
  x        tensor
  returns  a tensor like x, or x itself
  see      ld.precision
  example
    print(nn.wide(ld.ones(2):bf16()).dtype)
]==]}
