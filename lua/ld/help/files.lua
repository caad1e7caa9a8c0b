-- Measures, files, JSON.
local judge = [[
    local net = ld.models.classifier{channels = {8, 8}, blocks = {1}, classes = 4}
    local faces = ld.images.synthetic_faces{n = 24, size = 32}
    local store = ld.latents.encode(ld.vae.load 'data/vae-small.h5', faces, 'judged.h5', {quiet = true})
    local like = {mean = store.mean, std = store.std, vae_hash = store.vae_hash, pixel_range = store.pixel_range}
    ld.checkpoint.write('judge.h5', {model = net, record = like})
    local judge = ld.metrics.judge 'judge.h5'
]]
local evaluation = [[
    local function draw(n) return ld.randn(n, 4, 4, 4) end
    local record = ld.metrics.evaluate{judge = judge, store = store, n = 12, draw = draw, sampler = {name = 'noise'}}
]]
local parts = {judge = judge, evaluation = evaluation}
local text = [==[
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

ld.metrics.precision_recall(real, generated, {k = 3})
  The share of generated rows that lie within the real set, and of real rows within the generated; a set is the union
  of balls that reach each row's k-th nearest other row.
  real       features (N,d)
  generated  features (M,d)
  k          whole number below N and M
  returns    precision and recall, numbers from 0 to 1
  source     Kynkaanniemi et al. 2019, arXiv:1904.06991
  example
    print(ld.metrics.precision_recall(ld.randn(20, 3), ld.randn(20, 3)))

ld.metrics.psnr(x, y)
ld.metrics.ssim(x, y)
  How alike pictures are: peak signal-to-noise ratio in dB, and structural similarity.
  x        tensor (N,C,H,W) in [0,1], or u8; for ssim at least 11 x 11
  y        tensor of the same shape
  returns  the mean over pictures, and a table of each one's; psnr is infinite where they are equal
  source   Wang et al. 2004, "Image quality assessment: from error visibility to structural similarity"
  example
    local x = ld.rand(2, 3, 16, 16)
    print(ld.metrics.psnr(x, x * 0.9), ld.metrics.ssim(x, x * 0.9))

ld.metrics.judge(path)
judge:features(z, batch)
  A latent classifier that evaluates, and its features of latents.
  path     checkpoint of recipes/imagenet_classifier.lua
  z        raw latents (N,C,h,w)
  batch    how many at a time; 128 when left out
  returns  a judge: {net, hash, path, record}; a tensor (N,d) f32 on the CPU
  errors   a classifier that does not say what its latents are standardised with
  example
<judge>    print(judge:features(ld.randn(2, 4, 4, 4)):describe())

ld.metrics.evaluate{judge, store, n = 1000, k = 3, draw, sampler, seed = nil, weights = nil, run = nil, images = nil,
    loss_judge = nil}
  Frechet distance, KID, precision and recall of generated latents by a judge, and of real against real beside: the
  floor. Not comparable with FID, whose features are Inception's.
  judge       from ld.metrics.judge, of the store's autoencoder
  store       of real latents, at least 2 n
  n           how many generated, and how many real, at least 10
  k           of precision and recall
  draw        function (n) that gives n generated raw latents
  sampler     a table of plain values that says how they are drawn, for the record
  seed        for the record
  weights     for the record
  run         for the record
  images      for the record
  loss_judge  hash of the classifier in the loss; false: there was none; nil: unknown
  returns     a record: values and floor {frechet, kid, kid_error, precision, recall}, and what they depend on
  errors      too few latents; a judge of another autoencoder
  see         ld.metrics.summary
  example
<judge><evaluation>    print(record.values.frechet, record.floor.frechet)

ld.metrics.write_record(path, record)
ld.metrics.read_record(path)
ld.metrics.check_comparable(records)
ld.metrics.summary(records)
  Records of evaluations: as JSON files, checked to be of the same conditions, and as a table in text.
  path     file
  record   from ld.metrics.evaluate
  records  a table of them
  returns  read_record: a record; summary: text
  errors   names what differs
  example
<judge><evaluation>    ld.metrics.write_record('record.json', record)
    local records = {record, ld.metrics.read_record 'record.json'}
    ld.metrics.check_comparable(records)
    print(ld.metrics.summary(records))

ld.metrics.weights_hash(net)
  SHA-256 over the names, shapes and values of a network's parameters and buffers; the same on every device.
  net      module
  returns  64 digits
  example
    print(ld.metrics.weights_hash(nn.linear{in_features = 1, out_features = 1}))

ld.libraries()
  Versions of the libraries that compute and store.
  returns  {onednn, hdf5}
  example
    print(ld.libraries().onednn)

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
]==]
return {title = 'Measures and files', internal = [[
  ld.npy_folder npy_folder:shape npy_folder:name npy_folder:label npy_folder:classes npy_folder:rows
  npy_folder:close ld.lock_folder ld.unlock_folder ld.sweep_folder ld.event_file ld.file_fail_at
  ld.h5_check ld.h5_create_summed ld.link_file ld.list_files ld.memory_fail_at]], (text:gsub('<(%l+)>', parts))}
