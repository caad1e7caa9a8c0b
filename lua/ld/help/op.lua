-- Reductions, products, convolutions, normalisation, attention, pooling, losses.
return {title = 'Operations', [==[
ld.sum(x, dims, keep)
ld.mean(x, dims, keep)
ld.max(x, dims, keep)
ld.min(x, dims, keep)
ld.sumsq(x, dims, keep)
  Sum, mean, largest, smallest element, or sum of squares over dimensions.
  x        tensor; mean takes floats
  dims     a dimension or a table of them, from 1 or from the end with -1; nil for all
  keep     true: they stay as dimensions of size 1
  returns  a tensor
  errors   a dimension that is not there; max and min of no elements
  example
    local x = ld.tensor{{1, 2}, {3, 4}}
    print(ld.sum(x, 1), ld.mean(x), ld.max(x, {1, 2}), ld.min(x, 2, true), ld.sumsq(x))

ld.var(x, dims, biased)
ld.std(x, dims, biased)
  Variance, and standard deviation, over dimensions.
  x        tensor of floats
  dims     a dimension or a table of them; nil for all
  biased   true: divided by n instead of n - 1
  returns  a tensor
  example
    local x = ld.tensor{1, 2, 3, 4}
    print(ld.var(x), ld.std(x, 1, true))

ld.argmax(x, dim, keep)
ld.argmin(x, dim, keep)
  Where the largest, or smallest, element of a dimension lies, counted from 0.
  x        tensor
  dim      from 1, or from the end with -1
  keep     true: the dimension stays with size 1
  returns  a tensor i64
  example
    local x = ld.tensor{{1, 5}, {7, 2}}
    print(ld.argmax(x, 2), ld.argmin(x, 1))

ld.matmul(x, y)
  Matrix product over the last two dimensions; the ones in front are broadcast.
  x        tensor (..., n, k), or (k)
  y        tensor (..., k, m), or (k)
  returns  a tensor (..., n, m)
  errors   when the inner sizes differ
  example
    print(ld.matmul(ld.ones(2, 3), ld.ones(3, 4)).shape[2])

ld.linear(x, weight, bias)
  x times the transposed weight, plus bias.
  x        tensor (..., in)
  weight   tensor (out, in)
  bias     tensor (out), or nil
  returns  a tensor (..., out)
  see      nn.linear
  example
    print(ld.linear(ld.ones(2, 3), ld.ones(4, 3)).shape[2])

ld.conv2d(x, weight, bias, {stride = 1, padding = 0, upsample = false})
  Two-dimensional convolution (as in PyTorch, a correlation) of a batch of images.
  x         tensor (N,C,H,W) f32 or f64
  weight    tensor (O,C,kh,kw)
  bias      tensor (O), or nil
  stride    a number or {height, width}, in pixels
  padding   zeros around: a number, {height, width} or {top, bottom, left, right}
  upsample  true: x is taken as twice as large (nearest) before
  returns   a tensor (N,O,H',W') with H' = floor((H + top + bottom - kh) / stride) + 1
  errors    channels that differ; a kernel that does not fit into the padded image; other dtypes
  see       nn.conv2d
  example
    print(ld.conv2d(ld.ones(1, 3, 8, 8), ld.ones(4, 3, 3, 3), nil, {padding = 1}):describe())

ld.conv_transpose2d(x, weight, bias, {stride = 1, padding = 0, output_padding = 0})
  The transposed convolution: the gradient of conv2d with regard to its input, as a layer that enlarges.
  x               tensor (N,C,H,W) f32 or f64
  weight          tensor (C,O,kh,kw)
  bias            tensor (O), or nil
  stride          a number or {height, width}
  padding         what is cut off: a number, {height, width} or {top, bottom, left, right}
  output_padding  pixels added below and on the right
  returns         a tensor (N,O,H',W') with H' = (H - 1) stride - top - bottom + kh + output_padding
  example
    print(ld.conv_transpose2d(ld.ones(1, 3, 4, 4), ld.ones(3, 2, 4, 4), nil, {stride = 2, padding = 1}):describe())

ld.batch_norm(x, {weight = nil, bias = nil, running_mean = nil, running_var = nil, training = false,
    momentum = 0.1, eps = 1e-5, film = nil, act = 'identity', slope = 0.01, sub = 0})
  Batch normalisation: mean and variance of a channel over the batch and all positions.
  x             tensor (N,C,...) of floats
  weight        tensor (C), ones when nil
  bias          tensor (C), zeros when nil
  running_mean  tensor (C): used outside training, updated in training
  running_var   tensor (C)
  training      statistics of this batch, instead of the running ones
  momentum      share of the new value in the running ones
  eps           added to the variance
  film          tensor (N,2C): scale and shift by sample, x (1 + scale) + shift before the normalisation
  act           'identity' 'relu' 'leaky' 'silu', applied to the result
  slope         of leaky
  sub           subtracted after leaky
  returns       a tensor like x
  errors        in training one value a channel; outside training without running statistics
  source        Ioffe & Szegedy 2015, arXiv:1502.03167
  example
    print(ld.batch_norm(ld.randn(4, 2, 3, 3), {training = true}):mean():item())

ld.group_norm(x, groups, {weight = nil, bias = nil, eps = 1e-5, film = nil, act = 'identity', slope = 0.01, sub = 0})
  Group normalisation: mean and variance over a group of channels and all positions of one sample.
  x        tensor (N,C,...) of floats
  groups   divides C
  weight   tensor (C), ones when nil
  bias     tensor (C), zeros when nil
  eps      added to the variance
  film     tensor (N,2C): scale and shift by sample
  act      'identity' 'relu' 'leaky' 'silu'
  slope    of leaky
  sub      subtracted after leaky
  returns  a tensor like x
  errors   groups that do not divide the channels
  source   Wu & He 2018, arXiv:1803.08494
  example
    print(ld.group_norm(ld.randn(2, 4, 3, 3), 2):describe())

ld.layer_norm(x, {weight = nil, bias = nil, eps = 1e-5})
  Layer normalisation over the last dimension.
  x        tensor (...,C) of floats
  weight   tensor (C), ones when nil
  bias     tensor (C), zeros when nil
  eps      added to the variance
  returns  a tensor like x
  source   Ba et al. 2016, arXiv:1607.06450
  example
    print(ld.layer_norm(ld.tensor{{1, 2, 3}}))

ld.softmax(x, dim)
  exp(x) over its sum along a dimension.
  x        tensor of floats
  dim      the last when left out
  returns  a tensor like x
  example
    print(ld.softmax(ld.tensor{0, 1}))

ld.attention(q, k, v, heads)
  softmax(q k' / sqrt(C / heads)) v for each head.
  q        tensor (N,S,C) of floats
  k        tensor (N,T,C)
  v        tensor (N,T,C)
  heads    divides C; 1 when left out
  returns  a tensor (N,S,C)
  source   Vaswani et al. 2017, arXiv:1706.03762
  see      nn.attention
  example
    local x = ld.randn(1, 5, 8)
    print(ld.attention(x, x, x, 2):describe())

ld.attention_packed(qkv, heads)
  Attention whose queries, keys and values lie in one tensor.
  qkv      tensor (N,S,3C)
  heads    divides C
  returns  a tensor (N,S,C)
  example
    print(ld.attention_packed(ld.randn(1, 5, 24), 2):describe())

ld.dropout(x, p, training)
  Elements become 0 with probability p; the others are divided by 1 - p.
  x         tensor of floats
  p         0 <= p < 1
  training  false: x itself; true when left out
  returns   a tensor like x
  source    Srivastava et al. 2014
  example
    print(ld.dropout(ld.ones(8), 0.5))

ld.avg_pool2d(x, kernel, {stride = kernel, ceil = false})
  Means of kernel x kernel pixels.
  x        tensor (N,C,H,W) of floats
  kernel   side in pixels
  stride   pixels between the squares; the kernel when left out
  ceil     true: the last square may reach over the edge and is the mean of what is inside
  returns  a tensor (N,C,H',W')
  example
    print(ld.avg_pool2d(ld.ones(1, 1, 5, 5), 2, {ceil = true}):describe())

ld.adaptive_avg_pool2d(x, height, width)
  Means of as equal parts as possible, so that the result has the given sides.
  x        tensor (N,C,H,W) of floats
  height   of the result
  width    the height when left out
  returns  a tensor (N,C,height,width)
  example
    print(ld.adaptive_avg_pool2d(ld.ones(1, 2, 7, 7), 1):describe())

ld.upsample_nearest(x, scale)
  Every pixel becomes a square of equal pixels.
  x        tensor (N,C,H,W) of floats
  scale    whole number, 2 when left out
  returns  a tensor (N,C,scale H,scale W)
  example
    print(ld.upsample_nearest(ld.ones(1, 1, 2, 2), 3):describe())

ld.resize_bilinear(x, height, width, {antialias = true})
  Bilinear resize with pixel centres at halves, as Pillow and PyTorch with align_corners off.
  x          tensor (N,C,H,W) of floats
  height     of the result
  width      of the result
  antialias  widen the filter when it shrinks
  returns    a tensor (N,C,height,width)
  example
    print(ld.resize_bilinear(ld.ones(1, 3, 8, 8), 4, 6):describe())

ld.mse(x, y, {reduction = 'mean'})
ld.l1(x, y, {reduction = 'mean'})
  Squared, or absolute, difference.
  x          tensor of floats
  y          tensor of the same shape
  reduction  'mean' over all elements, 'sum', or 'none'
  returns    a tensor of one element; like x with 'none'
  errors     shapes that differ: nothing is broadcast here
  example
    local x, y = ld.tensor{1, 2}, ld.tensor{2, 4}
    print(ld.mse(x, y), ld.l1(x, y, {reduction = 'sum'}))

ld.huber(x, y, {reduction = 'mean', delta = 1})
  Half the squared difference d up to delta, delta (d - delta / 2) above.
  x          tensor of floats
  y          tensor of the same shape
  reduction  'mean', 'sum' or 'none'
  delta      above 0
  returns    a tensor of one element; like x with 'none'
  source     Huber 1964
  example
    print(ld.huber(ld.tensor{0, 5}, ld.zeros(2)))

ld.cross_entropy(logits, classes, {smoothing = 0, reduction = 'mean'})
  Minus the logarithm of the softmax probability of the right class.
  logits     tensor (N,K) of floats
  classes    tensor (N) i64 of numbers from 0
  smoothing  share of the target that is spread over all classes
  reduction  'mean', 'sum' or 'none'
  returns    a tensor of one element; (N) with 'none'
  errors     a class outside 0 to K - 1
  example
    print(ld.cross_entropy(ld.zeros(2, 4), ld.tensor({0, 3}, {dtype = 'i64'})))
]==]}
