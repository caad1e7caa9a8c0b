-- Pictures: files, sets of them, augmentation.
return {title = 'Pictures', internal = [[ld.pipeline ld.cache_folder pipeline:next pipeline:stats pipeline:close
  mix:crop]], [==[
ld.images(path, {size = 256, transform = 'adm', exif = false, limit = nil, labels = nil, partial = false})
ld.images.open(path, {size = 256, transform = 'adm', exif = false, limit = nil, labels = nil, partial = false})
  A set of pictures; nothing is read yet.
  path       a folder (a sub-folder is a class), a tar or zip or a folder of those, an LMDB, CIFAR's binary files
  size       side of the pictures that are read, in pixels
  transform  how a picture becomes size x size: adm, short-center-bilinear, topleft, lanczos, center, stretch,
             dct-fast
  exif       turn pictures as their EXIF data say
  limit      the first so many only
  labels     a file that gives classes, such as ImageNet's validation list
  partial    take what a damaged archive has before the damage
  returns    a set: fields count, name, classes, size
  errors     nothing there; no picture in it
  see        set:read ld.latents.encode
  example
    ld.make_dirs 'pictures/cats'
    ld.save_image(ld.faces(1, {size = 32})[1], 'pictures/cats/one.png')
    local set = ld.images('pictures', {size = 16})
    print(set, ld.images.open('pictures', {size = 8}).count)

ld.images.picture(path, {size = 256, transform = 'adm', exif = false, limit = nil, labels = nil, partial = false})
  One picture file.
  path       a PNG, JPEG or WebP file
  size       side, in pixels
  transform  how it becomes size x size, as for ld.images
  exif       turn it as its EXIF data say
  limit      as for ld.images; not for one picture
  labels     the same
  partial    the same
  returns    a tensor (1,3,size,size) u8
  errors     no such file; not a picture
  example
    ld.save_image(ld.faces(1, {size = 32})[1], 'one.png')
    print(ld.images.picture('one.png', {size = 16}):describe())

ld.images.exists(path)
  Whether there is something that ld.images might read.
  path     as for ld.images
  returns  true or false
  example
    print(ld.images.exists 'no/such/folder')

ld.images.batch(set, indices, on_bad)
  Those of the pictures that can be read.
  set      a set
  indices  a table of numbers from 1
  on_bad   function (index, reason), called for the others
  returns  a tensor (n,3,size,size) u8, or nil when none can be read
  example
    local set = ld.images.synthetic_faces{n = 4, size = 16}
    print(ld.images.batch(set, {1, 2}, print):describe())

ld.images.synthetic_faces{n = 10000, size = 256, seed = 0}
  A set of faces drawn by ldlua itself: data for trying things out.
  n        how many
  size     side in pixels
  seed     whole number
  returns  a set
  example
    print(ld.images.synthetic_faces{n = 10, size = 32})

set:read(indices)
  Pictures at the set's size.
  indices  a table of numbers from 1
  returns  a tensor (n,3,size,size) u8, and {[position in the table] = reason} of those that could not be read
  example
    print(ld.images.synthetic_faces{n = 4, size = 16}:read{1, 4}:describe())

set:label(i)
  The class of a picture, from 0; -1 without classes.
  i        from 1
  returns  a number
  example
    print(ld.images.synthetic_faces{n = 1, size = 16}:label(1))

set:file_name(i)
  What the picture is called.
  i        from 1
  returns  text
  example
    print(ld.images.synthetic_faces{n = 1, size = 16}:file_name(1))

set:fingerprint()
  What identifies the pictures: a hash over names, sizes and classes.
  returns  text
  example
    print(ld.images.synthetic_faces{n = 1, size = 16}:fingerprint())

ld.faces(n, {size = 256, seed = 0, first = 0})
  Synthetic faces.
  n        how many
  size     side in pixels
  seed     whole number
  first    number of the first face, from 0
  returns  a tensor (n,3,size,size) u8
  example
    print(ld.faces(2, {size = 32}):describe())

ld.load_image(path, channels)
  A picture from a PNG, JPEG, WebP or other picture file.
  path      file
  channels  3 when left out; 1 for grey
  returns   a tensor (channels,height,width) u8
  errors    the file's name and what is wrong with it
  example
    ld.save_image(ld.faces(1, {size = 16})[1], 'face.png')
    print(ld.load_image 'face.png':describe())

ld.save_image(x, path, text)
  Write a PNG.
  x        tensor (C,H,W): u8, or floats in [0,1]
  path     file
  text     a table of strings by name, stored in the file; or nil
  returns  nothing
  example
    ld.save_image(ld.rand(3, 8, 8), 'noise.png', {what = 'noise'})

ld.grid(images, {columns = nil, gap = 2})
  Pictures side by side in one.
  images   tensor (N,C,H,W): u8, or floats in [0,1]
  columns  as many as rows when nil
  gap      white pixels between
  returns  a tensor (C,H',W')
  example
    print(ld.grid(ld.faces(4, {size = 16}), {columns = 2}):describe())

ld.augment.gather(x, rows, {shift = nil, scale = nil, pad = 0, erase = 0, max = 4, flip = 0, seed = 0, first = 0})
  Pictures out of a set, augmented on their way, on the device where the set lies.
  x        tensor (R,C,H,W) of floats or u8
  rows     a table of numbers from 1; all of x when nil
  shift    tensor (C) f32, and with it
  scale    tensor (C) f32: (x - shift) * scale, first
  pad      zeros on each side, then a random cut of the old size
  erase    side of random rectangles that become noise of the picture's own mean and spread, as a share of the picture's
  max      the most of them, at most 64
  flip     probability of the other way round
  seed     whole number
  first    number of the first picture's sample, from 0
  returns  a tensor (n,C,H,W) f32
  see      ld.augment.pad_crop ld.augment.rand_erase ld.augment.random_flip
  example
    print(ld.augment.gather(ld.faces(3, {size = 16}), {3, 1}, {pad = 2, flip = 0.5}):describe())

ld.augment.pad_crop(x, {pad = 2, seed = 0, first = 0})
  Zeros around, then a random cut of the old size, in place.
  x        tensor (N,C,H,W)
  pad      zeros on each side
  seed     whole number
  first    number of the first row's sample, from 0
  returns  x
  example
    print(ld.augment.pad_crop(ld.ones(1, 1, 4, 4), {pad = 1}))

ld.augment.rand_erase(x, {pct = 0.2, max = 4, seed = 0, first = 0})
  Random rectangles become noise of x's own mean and spread, in place.
  x        tensor (N,C,H,W) of floats
  pct      side of a rectangle, as a share of the picture's
  max      the most rectangles, at most 64
  seed     whole number
  first    number of the first row's sample, from 0
  returns  x
  source   fast.ai's RandErase
  example
    print(ld.augment.rand_erase(ld.randn(1, 1, 8, 8)):describe())

ld.augment.random_flip(x, {p = 0.5, seed = 0, first = 0})
  Pictures the other way round with probability p, in place.
  x        tensor (N,C,H,W)
  p        from 0 to 1
  seed     whole number
  first    number of the first row's sample, from 0
  returns  x
  example
    print(ld.augment.random_flip(ld.arange(4):reshape(1, 1, 1, 4), {p = 1}))

ld.picture_mix{photos = nil, faces = 0, size = 128, crop = size, seed = 0, held_out = 0.1, repeats = 16}
  Pictures for training an autoencoder: random crops of photographs, and synthetic faces; a data set for run:batches.
  photos    a folder or archive, or nil
  faces     how many synthetic ones
  size      side that photographs are read at
  crop      side of the crops; size when left out
  seed      whole number
  held_out  share of the photographs that is kept for measuring
  repeats   crops of a photograph an epoch
  returns   a mix: field count, methods get and held_out_images
  example
    print(ld.picture_mix{faces = 4, size = 32, crop = 16})

mix:get(indices, first)
  A batch.
  indices  a table of numbers from 1
  first    number of the first sample, which decides where the crops lie
  returns  {x = a tensor (n,3,crop,crop) u8}
  example
    print(ld.picture_mix{faces = 4, size = 32, crop = 16}:get({1, 2}, 0).x:describe())

mix:held_out_images(n)
  Pictures that training never shows.
  n        how many at most
  returns  a tensor (n,3,size,size) u8
  example
    print(ld.picture_mix{faces = 4, size = 32}:held_out_images(2):describe())

ld.source(path, {labels = nil, synsets = nil, cache = nil, partial = false, progress = nil})
  The list of pictures behind a set, in C.
  path      as for ld.images
  labels    a file that gives classes
  synsets   a file with the order of ImageNet's classes
  cache     a folder for lists of archives
  partial   take what a damaged archive has before the damage
  progress  function (members, archive), called while an archive is listed
  returns   a source
  see       ld.images
  example
    ld.make_dirs 'listed'
    ld.save_image(ld.faces(1, {size = 32})[1], 'listed/one.png')
    print(ld.source('listed'):count())

source:count()
source:kind()
source:memory()
source:in_order()
  How many pictures there are; what kind of source it is; bytes that the list takes; whether it should be read in
  order.
  returns  a number, text, a number, true or false
  example
    ld.make_dirs 'listed'
    ld.save_image(ld.faces(1, {size = 32})[1], 'listed/one.png')
    local s = ld.source 'listed'
    print(s:count(), s:kind(), s:memory(), s:in_order())

source:name(i)
source:label(i)
source:bytes(i)
source:inspect(i)
  Of picture i: its name; its class from 0 or -1; its file's size; {format, bytes, width, height, channels}.
  i        from 1
  returns  text, a number, a number or nil, a table (and why it cannot be read)
  example
    ld.make_dirs 'listed'
    ld.save_image(ld.faces(1, {size = 32})[1], 'listed/one.png')
    local s = ld.source 'listed'
    print(s:name(1), s:label(1), s:bytes(1), s:inspect(1).width)

source:classes()
source:class_counts()
source:notes()
  The classes' names; how many pictures each has, and how many have none; what is odd about the source.
  returns  a table; for class_counts also a number
  example
    ld.make_dirs 'listed'
    ld.save_image(ld.faces(1, {size = 32})[1], 'listed/one.png')
    local s = ld.source 'listed'
    print(#s:classes(), select(2, s:class_counts()), #s:notes())

source:fingerprint(count)
  SHA-256 over names, sizes and classes of the first pictures.
  count    all when left out
  returns  64 digits
  example
    ld.make_dirs 'listed'
    ld.save_image(ld.faces(1, {size = 32})[1], 'listed/one.png')
    print(ld.source('listed'):fingerprint())

source:read(indices, {size = 256, transform = 'adm', exif = false})
  Pictures.
  indices    a table of numbers from 1
  size       side in pixels
  transform  as for ld.images
  exif       turn pictures as their EXIF data say
  returns    a tensor (n,3,size,size) u8, and {[position] = reason} of bad ones
  example
    ld.make_dirs 'listed'
    ld.save_image(ld.faces(1, {size = 32})[1], 'listed/one.png')
    print(ld.source('listed'):read({1}, {size = 16}):describe())
]==]}
