-- Tensors: making them, asking them, converting them. The form of an entry: lua/ld/help/init.lua.
return {title = 'Tensors', internal = 'x.released', [==[
ld.tensor(values, {dtype = 'f32', device = nil, requires_grad = false})
  A tensor of a number or of nested tables of numbers.
  values         a number (a tensor without dimensions), a table (n numbers), tables of tables; a tensor is copied
  dtype          f32 bf16 f16 f64 i64 i32 u8
  device         'cpu', 'cuda', 'cuda:1'; the default device when nil
  requires_grad  whether backward gives it a gradient; floats only
  returns        a tensor of the tables' shape
  errors         rows that differ in length; options among the numbers: they go into a table of their own
  example
    local x = ld.tensor({{1, 2}, {3, 4}}, {dtype = 'f64'})
    print(x.shape[1], x[2][1]:item())

ld.zeros(sizes, {dtype = 'f32', device = nil, requires_grad = false})
  A tensor of zeros.
  sizes          numbers or a table of numbers; none for a single number
  dtype          f32 bf16 f16 f64 i64 i32 u8
  device         the default device when nil
  requires_grad  whether backward gives it a gradient
  returns        a tensor of those sizes
  example
    print(ld.zeros(2, 3), ld.zeros({2, 3}, {dtype = 'i64'}))

ld.ones(sizes, {dtype = 'f32', device = nil, requires_grad = false})
  A tensor of ones.
  sizes          numbers or a table of numbers
  dtype          f32 bf16 f16 f64 i64 i32 u8
  device         the default device when nil
  requires_grad  whether backward gives it a gradient
  returns        a tensor of those sizes
  example
    print(ld.ones(4):sum():item())

ld.full(sizes, value, {dtype = 'f32', device = nil, requires_grad = false})
  A tensor of one value.
  sizes          a table of numbers
  value          a number
  dtype          f32 bf16 f16 f64 i64 i32 u8
  device         the default device when nil
  requires_grad  whether backward gives it a gradient
  returns        a tensor of those sizes
  example
    print(ld.full({2, 2}, 0.5))

ld.rand(sizes, {dtype = 'f32', device = nil, requires_grad = false})
  Uniform random numbers in [0, 1) from the global generator (ld.seed).
  sizes          numbers or a table of numbers
  dtype          f32 bf16 f16 f64
  device         the default device when nil
  requires_grad  whether backward gives it a gradient
  returns        a tensor of those sizes
  source         Philox4x32-10: Salmon et al. 2011, Parallel random numbers: as easy as 1, 2, 3
  see            ld.noise
  example
    ld.seed(1)
    print(ld.rand(3))

ld.randn(sizes, {dtype = 'f32', device = nil, requires_grad = false})
  Normal random numbers, mean 0 and standard deviation 1, from the global generator.
  sizes          numbers or a table of numbers
  dtype          f32 bf16 f16 f64
  device         the default device when nil
  requires_grad  whether backward gives it a gradient
  returns        a tensor of those sizes
  see            ld.noise ld.seed
  example
    ld.seed(1)
    print(ld.randn(2, 3))

ld.noise(sizes, {seed = 0, purpose = 64, first = 0, uniform = false, dtype = 'f32', device = nil})
  Random numbers that are a function of (seed, purpose, sample, element): row i is sample first + i, whatever the
  batch.
  sizes    numbers in a table; the first is the number of samples
  seed     whole number
  purpose  whole number that keeps streams apart
  first    number of the first row's sample, from 0
  uniform  in [0, 1) instead of normal
  dtype    f32 bf16 f16 f64
  device   the default device when nil
  returns  a tensor of those sizes
  example
    local a, b = ld.noise({4, 2}, {seed = 3}), ld.noise({2, 2}, {seed = 3, first = 2})
    print(a[3][1]:item() == b[1][1]:item()) -- true

ld.arange(first, last, step, {dtype = 'f32', device = nil, requires_grad = false})
  Numbers in equal steps, the last one included; with a single number n: 0, 1 ... n - 1.
  first          the first value; alone: how many
  last           the last value
  step           1 when left out
  dtype          f32 bf16 f16 f64 i64 i32 u8
  device         the default device when nil
  requires_grad  whether backward gives it a gradient
  returns        a tensor of one dimension
  example
    print(ld.arange(4), ld.arange(1, 9, 2, {dtype = 'i64'}))

ld.zeros_like(x)
  Zeros of the shape, dtype and device of x.
  x        tensor
  returns  a tensor without gradient
  example
    print(ld.zeros_like(ld.ones(2)))

ld.ones_like(x)
  Ones of the shape, dtype and device of x.
  x        tensor
  returns  a tensor without gradient
  example
    print(ld.ones_like(ld.zeros(2)))

ld.randn_like(x)
  Normal random numbers of the shape, dtype and device of x.
  x        tensor of floats
  returns  a tensor without gradient
  example
    print(ld.randn_like(ld.zeros(2, 2)))

ld.seed(seed, draws)
  Restart the global generator; without arguments: its state.
  seed     whole number, 0 or more
  draws    where in its sequence, 0 when left out
  returns  without arguments seed and draws, else nothing
  example
    ld.seed(7)
    local a = ld.rand(1):item()
    ld.seed(7)
    print(a == ld.rand(1):item())

ld.shuffled(i, n, seed, epoch)
  Position i of a random order of 1 ... n; computed, so that no order is stored.
  i        position, 1 to n
  n        how many
  seed     whole number
  epoch    whole number; each gives another order
  returns  a number from 1 to n
  example
    print(ld.shuffled(1, 10, 0, 0), ld.shuffled(2, 10, 0, 0))

ld.is_tensor(value)
  Whether a value is a tensor.
  value    anything
  returns  true or false
  example
    print(ld.is_tensor(ld.ones(1)), ld.is_tensor(1))

ld.same_storage(x, y)
  Whether two tensors share memory, as a view and what it was cut from do.
  x        tensor
  y        tensor
  returns  true or false
  example
    local x = ld.zeros(4)
    print(ld.same_storage(x, x:reshape(2, 2)))

x.shape
  The sizes, a table of numbers.
  example
    print(ld.zeros(2, 3).shape[2])

x.dtype
  The kind of number: f32 bf16 f16 f64 i64 i32 u8.
  example
    print(ld.zeros(1).dtype)

x.device
  Where the numbers lie: 'cpu', 'cuda:0'.
  example
    print(ld.zeros(1).device)

x.ndim
  The number of dimensions.
  example
    print(ld.zeros(2, 3).ndim)

x.requires_grad
  Whether backward gives it a gradient.
  see      x:requires_grad_
  example
    print(ld.zeros({1}, {requires_grad = true}).requires_grad)

x.is_leaf
  True for a tensor that no recorded operation made.
  example
    local w = ld.ones({1}, {requires_grad = true})
    print(w.is_leaf, (w * 2).is_leaf)

x.grad
  The gradient that backward left, nil before; assigning a tensor or nil sets it.
  example
    local w = ld.ones({2}, {requires_grad = true})
    w:sum():backward()
    print(w.grad)

x.version
  How many times it was changed in place; the tape compares it.
  example
    print(ld.zeros(1):add_(1).version)

x:size(dim)
  The sizes, or the one of a dimension.
  x        tensor
  dim      from 1, or from the end with -1; nil for all
  returns  a number, or a table of them
  example
    print(ld.zeros(2, 3):size(-1))

x:stride()
  How many elements lie between neighbours of each dimension; images lie channels-last.
  x        tensor
  returns  a table of numbers
  example
    print(ld.zeros(2, 3):stride()[1])

x:numel()
  The number of elements.
  x        tensor
  returns  a number
  example
    print(ld.zeros(2, 3):numel())

x:item()
  The number in a tensor of one element.
  x        tensor
  returns  a number
  errors   when there are more elements, or none
  example
    print(ld.ones(3):sum():item())

x:tolist()
  The elements as nested tables.
  x        tensor
  returns  tables of the tensor's shape, a number without dimensions
  example
    print(ld.ones(2, 2):tolist()[1][2])

x:bytes()
  The elements in row-major order as a string of their own dtype.
  x        tensor
  returns  a string of numel times the dtype's size
  example
    print(#ld.ones(3):bytes())

x:ptr()
  The address of the first element, for LuaJIT's FFI; valid while the tensor lives.
  x        tensor in the host's memory
  returns  a light userdata
  errors   when the numbers are on another device: take a copy with x:cpu()
  example
    local x = ld.ones(3):cpu()
    print(require 'ffi'.cast('float *', x:ptr())[2])

x:describe()
  Shape, dtype and device as text, as in messages.
  x        tensor
  returns  a string such as "(32,3,64,64) f32 cpu"
  example
    print(ld.ones(2, 3):describe())

x:to(what)
  The tensor in another dtype or on another device; x itself stays.
  x        tensor
  what     a dtype (f32 bf16 f16 f64 i64 i32 u8) or a device ('cpu', 'cuda', 'cuda:1')
  returns  a tensor; gradients flow through where both are floats
  errors   a name that is neither; a device that is not there
  example
    print(ld.ones(2):to 'i64')

x:cpu()
  A tensor with these numbers in the host's memory.
  x        tensor
  returns  a tensor on cpu
  example
    print(ld.ones(2):cpu().device)

x:cuda()
  A tensor with these numbers on the first CUDA device.
  x        tensor
  returns  a tensor on cuda:0
  errors   when there is no such device, with the reason
  example
    print(pcall(function() return ld.ones(2):cuda() end))

x:f32()
x:bf16()
x:f16()
x:f64()
x:i64()
x:i32()
x:u8()
  The tensor in that dtype, as x:to does; from floats to whole numbers towards 0.
  x        tensor
  returns  a tensor
  example
    local x = ld.tensor{1.5, 2.5}
    print(x:f32(), x:bf16(), x:f16(), x:f64(), x:i64(), x:i32(), x:u8())

x:clone()
  A copy in memory of its own, through which gradients flow.
  x        tensor
  returns  a tensor
  example
    print(ld.ones(2):clone())

x:release()
  Give the memory back now instead of at the next collection; the tensor cannot be used any more.
  x        tensor
  returns  nothing
  see      ld.scope
  example
    local x = ld.ones(1000)
    x:release()

x:fill_(value)
  Every element becomes the value, in place.
  x        tensor
  value    number
  returns  x
  example
    print(ld.zeros(2):fill_(3))

x:zero_()
  Every element becomes 0, in place.
  x        tensor
  returns  x
  example
    print(ld.ones(2):zero_())

x:copy_(y)
  Elements of y into x, in place; y is broadcast, converted, and moved between devices.
  x        tensor
  y        tensor that broadcasts to x's shape
  returns  x
  example
    print(ld.zeros(2, 2):copy_(ld.tensor{1, 2}))

x:axpby_(y, alpha, beta)
  x = alpha y + beta x, in place, not recorded.
  x        tensor of floats
  y        tensor of x's shape
  alpha    number
  beta     number
  returns  x
  example
    print(ld.ones(2):axpby_(ld.ones(2), 3, 0.5))

x:uniform_(low, high)
  Uniform random numbers in [low, high) from the global generator, in place.
  x        tensor of floats
  low      0 when left out
  high     1 when left out
  returns  x
  example
    print(ld.zeros(3):uniform_(-1, 1))

x:normal_(mean, std)
  Normal random numbers from the global generator, in place.
  x        tensor of floats
  mean     0 when left out
  std      standard deviation, 1 when left out
  returns  x
  example
    print(ld.zeros(3):normal_(0, 0.02))
]==]}
