-- Shapes, parts, joining.
return {title = 'Shapes and parts', [==[
ld.reshape(x, sizes)
  The same elements in row-major order under other sizes; a view where the layout allows, else a copy.
  x        tensor
  sizes    numbers or a table of numbers; one of them may be -1, which is worked out
  returns  a tensor
  errors   when the numbers of elements differ
  example
    print(ld.arange(6):reshape(2, -1))

ld.expand(x, sizes)
  A view in which dimensions of size 1 are repeated.
  x        tensor
  sizes    numbers or a table of numbers; new dimensions come in front
  returns  a view; changing it in place is refused, take x:clone()
  example
    print(ld.ones(1, 2):expand(3, 2))

ld.permute(x, dims)
  A view with its dimensions in another order.
  x        tensor
  dims     every dimension once, from 1
  returns  a view
  example
    print(ld.zeros(2, 3, 4):permute(3, 1, 2).shape[1])

ld.transpose(x, a, b)
  A view with two dimensions exchanged.
  x        tensor of two dimensions or more
  a        the last but one when left out
  b        the last when left out
  returns  a view
  example
    print(ld.tensor{{1, 2}, {3, 4}}:transpose())

ld.flatten(x, first, last)
  Dimensions first to last become one.
  x        tensor
  first    1 when left out
  last     -1, the last, when left out
  returns  a tensor
  example
    print(ld.zeros(2, 3, 4):flatten(2).shape[2])

ld.squeeze(x, dim)
  Without that dimension of size 1, or without all such dimensions.
  x        tensor
  dim      nil for all
  returns  a view
  example
    print(#ld.zeros(1, 3, 1):squeeze().shape)

ld.unsqueeze(x, dim)
  A dimension of size 1 put at that place.
  x        tensor
  dim      from 1
  returns  a view
  example
    print(ld.zeros(3):unsqueeze(1).shape[1])

ld.concat(tensors, dim)
  Tensors one after another along a dimension.
  tensors  a table of tensors whose other sizes are equal
  dim      1 when left out
  returns  a tensor
  errors   an empty table; sizes that differ, with the tensor's number
  example
    print(ld.concat({ld.zeros(2, 1), ld.ones(2, 2)}, 2))

ld.stack(tensors, dim)
  Tensors of equal shape side by side along a new dimension.
  tensors  a table of tensors
  dim      place of the new dimension, 1 when left out
  returns  a tensor
  example
    print(ld.stack{ld.zeros(2), ld.ones(2)})

ld.chunk(x, parts, dim)
  Equal parts along a dimension, as several results.
  x        tensor
  parts    how many, 1 to 64; they must divide the size
  dim      1 when left out
  returns  that many views
  example
    local a, b = ld.arange(4):chunk(2)
    print(a, b)

ld.slice(x, dim, first, last, step)
  Positions first to last of a dimension, both included; also x[{{}, {first, last}}].
  x        tensor
  dim      from 1, or from the end with -1
  first    position from 1, or from the end with -1
  last     the last when left out
  step     1 when left out
  returns  a view
  errors   a position that is not there
  example
    print(ld.arange(6):slice(1, 2, -2))

ld.select(x, dim, position)
  One position of a dimension, which goes; also x[i] for the first one.
  x         tensor
  dim       from 1, or from the end with -1
  position  from 1, or from the end with -1
  returns   a view
  example
    print(ld.arange(6):reshape(2, 3):select(2, -1))

ld.pad(x, widths, value)
  A border of a value; widths come in pairs, those of the last dimension first, as in PyTorch.
  x        tensor
  widths   a table {left, right, top, bottom, ...}
  value    0 when left out
  returns  a tensor
  example
    print(ld.ones(1, 2):pad({1, 0}, 9))

ld.flip(x, dim)
  A dimension the other way round.
  x        tensor
  dim      from 1, or from the end with -1
  returns  a tensor
  example
    print(ld.arange(3):flip(1))

ld.contiguous(x)
  The elements in row-major order in memory: x itself where they are, else a copy.
  x        tensor
  returns  a tensor
  example
    print(ld.zeros(2, 3):transpose():contiguous():stride()[1])

ld.gather(x, rows)
  Rows of x by number.
  x        tensor (R, ...)
  rows     tensor i64 of numbers from 0, any shape
  returns  a tensor (rows' shape, ...); the gradient adds up where a row is taken twice
  errors   a number outside 0 to R - 1
  example
    print(ld.gather(ld.tensor{10, 20, 30}, ld.tensor({2, 0}, {dtype = 'i64'})))

ld.one_hot(classes, count, dtype)
  A row of zeros with a one at the class, for each class.
  classes  tensor i64 of numbers from 0
  count    the number of classes
  dtype    'f32' when left out
  returns  a tensor (classes' shape, count)
  example
    print(ld.one_hot(ld.tensor({2, 0}, {dtype = 'i64'}), 3))
]==]}
