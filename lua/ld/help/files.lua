-- Measures, files, JSON.
return {title = 'Measures and files', internal = [[
  ld.npy_folder npy_folder:shape npy_folder:name npy_folder:label npy_folder:classes npy_folder:rows
  npy_folder:close ld.lock_folder ld.unlock_folder ld.sweep_folder]], [==[
ld.metrics.frechet(x, y, {method = 'eigenvalues'})
ld.metrics.frechet_of(mean1, cov1, mean2, cov2, {method = 'eigenvalues'})
  The Frechet distance of two sets of features, or of two Gaussians; FID when the features are Inception's.
  x        tensor (N,d)
  y        tensor (M,d)
  mean1    (d)
  cov1     (d,d)
  mean2    (d)
  cov2     (d,d)
  method   'eigenvalues', or 'newton_schulz' to check it
  returns  a number
  source   Heusel et al. 2017, arXiv:1706.08500
  example
    local x, y = ld.randn(20, 3), ld.randn(20, 3)
    local m, s = ld.metrics.statistics(x)
    print(ld.metrics.frechet(x, y), ld.metrics.frechet_of(m, s, m, s))

ld.metrics.kid(x, y, {blocks = nil})
ld.metrics.mmd2(x, y)
  The kernel distance KID (mean over blocks) and the unbiased squared maximum mean discrepancy.
  x        tensor (N,d)
  y        tensor (M,d)
  blocks   how many slices; one for every 50 rows when nil, at least 4
  returns  a number; kid also the standard error
  source   Binkowski et al. 2018, arXiv:1801.01401
  example
    local x, y = ld.randn(20, 3), ld.randn(20, 3)
    print(ld.metrics.mmd2(x, y), ld.metrics.kid(x, y))

ld.metrics.statistics(x)
  Mean and covariance in f64.
  x        tensor (N,d)
  returns  (d) and (d,d), divided by N - 1
  example
    print(ld.metrics.statistics(ld.randn(5, 2)))

ld.metrics.eigenvalues(s)
  Eigenvalues of a symmetric matrix, rising.
  s        tensor (n,n)
  returns  a tensor (n) f64
  example
    print(ld.metrics.eigenvalues(ld.tensor{{2, 0}, {0, 1}}))

ld.h5_create(path)
ld.h5_open(path, writable)
  An HDF5 file: a new one, which appears at h5:commit, or one that is there.
  path      file
  writable  true: its data may be changed
  returns   an h5
  errors    the file's name and what is wrong
  example
    local f = ld.h5_create 'new.h5'
    f:write('x', ld.ones(2))
    f:commit()
    print(ld.h5_open('new.h5'):read 'x')

h5:write(name, x)
h5:read(name)
h5:list(path)
h5:exists(name)
h5:shape(name)
  Tensors by path: write, read, list all below, ask.
  name     path in the file
  path     group, '' when left out
  x        tensor
  returns  read: a tensor; list: a table of names; exists: true or false; shape: sizes and dtype, or nil
  example
    local f = ld.h5_create 'rw.h5'
    f:write('a/x', ld.ones(2))
    print(f:exists 'a/x', f:shape('a/x')[1], f:list()[1], f:read 'a/x')
    f:commit()

h5:make(name, sizes, dtype)
h5:write_rows(name, first, x)
h5:read_rows(name, first, count)
  A data set of rows: made, filled, read piece by piece.
  name     path in the file
  sizes    a table; the first is the number of rows
  dtype    f32 ...
  first    row, from 1
  count    rows
  x        tensor
  returns  read_rows: a tensor
  example
    local f = ld.h5_create 'rows.h5'
    f:make('x', {4, 2}, 'f32')
    f:write_rows('x', 1, ld.ones(4, 2))
    print(f:read_rows('x', 2, 1))
    f:commit()

h5:attribute(path, key, value)
h5:attributes(path)
  An attribute of a group or data set, and the names of all.
  path     '/' for the file
  key      name
  value    number or string: sets it
  returns  a number, a string or nil; a table of names
  example
    local f = ld.h5_create 'attributes.h5'
    f:attribute('/', 'what', 'a test')
    print(f:attribute('/', 'what'), #f:attributes '/')
    f:commit()

h5:write_strings(name, strings)
h5:read_strings(name)
  A list of strings.
  name     path in the file
  strings  a table
  returns  read_strings: a table
  example
    local f = ld.h5_create 'strings.h5'
    f:write_strings('names', {'a', 'b'})
    print(f:read_strings('names')[2])
    f:commit()

h5:commit()
h5:flush()
h5:close()
  commit: a new file is complete and takes its name. flush: what was written reaches the disk. close: without
  commit a new file is dropped.
  returns  nothing
  example
    local f = ld.h5_create 'done.h5'
    f:write('x', ld.ones(1))
    f:flush()
    f:commit()
    ld.h5_open('done.h5'):close()

ld.safetensors_open(path)
ld.safetensors_write(path, tensors, metadata)
  A safetensors file.
  path      file
  tensors   a table by name
  metadata  strings by name, or nil
  returns   safetensors_open: a safetensors
  example
    ld.safetensors_write('x.safetensors', {x = ld.ones(2)}, {what = 'test'})
    print(ld.safetensors_open('x.safetensors'):read 'x')

safetensors:names()
safetensors:shape(name)
safetensors:read(name)
safetensors:metadata()
safetensors:close()
  Names of its tensors, sizes and dtype of one, one of them, its strings, the end.
  name     of a tensor
  returns  a table; sizes and dtype or nil; a tensor; a table
  example
    ld.safetensors_write('y.safetensors', {x = ld.ones(2)}, {what = 'test'})
    local f = ld.safetensors_open 'y.safetensors'
    print(f:names()[1], f:shape('x')[1], f:read 'x', f:metadata().what)
    f:close()

ld.npy_open(path, sizes, dtype)
  A NumPy array in a file; with sizes and dtype, numbers without a header.
  path     file
  sizes    a table, or nil
  dtype    f32 ...
  returns  an npy
  example
    ld.write_file('numbers.bin', ld.arange(4):bytes())
    print(ld.npy_open('numbers.bin', {2, 2}, 'f32'):rows(1, 2))

npy:shape()
npy:rows(first, count)
npy:close()
  Sizes and dtype; rows; the end.
  first    from 1
  count    rows
  returns  sizes and dtype; a tensor
  example
    ld.write_file('numbers.bin', ld.arange(4):bytes())
    local f = ld.npy_open('numbers.bin', {2, 2}, 'f32')
    print(f:shape()[1], f:rows(1, 1))
    f:close()

ld.json_encode(value, pretty)
ld.json_decode(text)
  JSON: tables with a first element are arrays, others objects with keys in order.
  value    table, string, number, boolean
  pretty   true: on several lines
  text     JSON
  returns  text; a value, or nil and what is wrong
  example
    print(ld.json_encode{a = 1}, ld.json_decode('[1, 2]')[2])

ld.write_file(path, text)
ld.append_file(path, text)
ld.rename_file(path, to)
ld.make_dirs(path)
  Write a file safely (the old or the whole new one); add to its end; give it another name; make folders.
  path     file or folder
  text     bytes
  to       the new name
  returns  nothing
  example
    ld.make_dirs 'notes'
    ld.write_file('notes/a', 'one\n')
    ld.append_file('notes/a', 'two\n')
    ld.rename_file('notes/a', 'notes/b')

ld.file_kind(path)
ld.disk_free(path)
  'file', 'folder', 'other' or nil, and the size; free bytes where the path lies.
  path     file or folder
  returns  text and a number; a number or nil
  example
    print(ld.file_kind '.', ld.disk_free '.')

ld.sha256(text)
ld.sha256_file(path)
  The SHA-256 of bytes, or of a file.
  text     bytes
  path     file
  returns  64 digits
  example
    ld.write_file('hash', 'x')
    print(ld.sha256 'x' == ld.sha256_file 'hash')

ld.clock()
ld.terminal()
  Seconds since 1970; whether standard output is a terminal, and its columns.
  returns  a number; true or false, and a number or nil
  example
    print(ld.clock(), ld.terminal())
]==]}
