-- What runs use and leave: precision, ranks, a learning-rate search, curves, reports, health.
local trained = [[
    local net = nn.linear{in_features = 2, out_features = 1}
    local run = ld.run('runs/example', {model = net, optim = ld.optim.adamw(net:parameters()), quiet = true})
    for batch in run:batches({count = 8, name = 'ones'}, 4, 2) do
      run:step(function() return net(ld.ones(batch.count, 2)):square():mean() end)
    end
    run:finish()
]]
local text = [==[
ld.precision(name, f, ...)
  The precision in which networks compute. Weights, optimisers, averages, statistics of norms and losses stay f32.
  name     'f32', 'bf16' or 'f16' ('f16' not for training); without it the one in force is asked for
  f        function: while it runs; without it from here on
  ...      f's arguments
  returns  f's results; without a name, the precision's
  errors   bf16 and f16 where the default device computes in f32 alone, as the CPU does
  see      nn.wide
  example
    print(ld.precision(), ld.precision('f32', function(x) return x + 1 end, 1))

ld.computes(name, device)
  Whether a device computes in a precision.
  name     'f32', 'bf16' or 'f16'
  device   the default device when left out
  returns  true or false
  example
    print(ld.computes 'f32', ld.computes('bf16', 'cpu'))

ld.find_lr{model, optim, loss, from = 1e-7, to = 10, steps = 100, smooth = 0.9, clip = 0, path = nil}
ld.find_lr.valley(rates, losses)
  A learning-rate search: a few steps at rates that rise by equal factors, until the loss is four times its lowest; then
  weights, buffers, optimiser and generator are what they were. valley: the rate half way down the losses' longest
  descent, which is what is suggested.
  model    module
  optim    its optimizer
  loss     function (k) that gives the loss of step k, a tensor
  from     first learning rate
  to       last
  steps    how many, at least 10
  smooth   share of the old mean that stays in the smoothed loss
  clip     the gradient's largest norm; 0 for none
  path     of an SVG with the curve; nil for none
  rates    a table of numbers
  losses   a table of numbers
  returns  {suggestion (nil when the loss never fell), rates, losses, smooth}; a number or nil
  source   Smith 2015, arXiv:1506.01186
  see      run:find_lr
  example
    local net = nn.linear{in_features = 2, out_features = 1}
    local x, y = ld.randn(16, 2), ld.randn(16, 1)
    local found = ld.find_lr{model = net, optim = ld.optim.adamw(net:parameters()), steps = 30,
                             loss = function() return ld.mse(net(x), y) end}
    print(found.suggestion, ld.find_lr.valley(found.rates, found.smooth))

ld.pixels(set, {flip = false, seed = 0, resident = nil})
  Every picture of a set that can be read, in memory: a data set for runs that learn from pixels.
  set       from ld.images
  flip      half of the pictures are mirrored, as (seed, images seen) says
  seed      whole number
  resident  true, false or 'auto' (as nil): a run holds them in the memory of the device that trains; 'auto' when they
            take at most half of what a step leaves of it
  returns   a pixels: fields count, size, classes, name, x (u8), label
  errors    none can be read
  example
    print(ld.pixels(ld.images.synthetic_faces{n = 4, size = 16}))

pixels:get(indices, first)
pixels:first(n)
  Some of the pictures; the first n of them.
  indices  a table of numbers from 1
  first    images seen, for flip; 0 when left out
  n        how many
  returns  {x (n,3,size,size) f32 in [-1,1], label (n) i64}; x alone
  example
    local pictures = ld.pixels(ld.images.synthetic_faces{n = 4, size = 16})
    print(pictures:get{1, 3}.x:describe(), pictures:first(2):describe())

pixels:resident_bytes()
pixels:place(device)
  What the pictures take in memory; and they go to a device's, where x of batches is made from now on.
  device   a name
  returns  a number; true, or nil and the reason where there is no room
  example
    local pictures = ld.pixels(ld.images.synthetic_faces{n = 4, size = 16})
    print(pictures:resident_bytes(), pictures:place(ld.default_device()), pictures:get{1}.x.device)

ld.ranks.rank()
ld.ranks.count()
  The number of this process, from 0, and how many there are, of those that `mpirun -np 4 ldlua recipe.lua` started.
  returns  a number
  example
    print(ld.ranks.rank(), ld.ranks.count())

ld.ranks.start()
ld.ranks.gather(numbers)
ld.ranks.first(f)
ld.ranks.split(n, f)
ld.ranks.equal(tensors, what)
  Begin messages (runs do so by themselves); what each rank gave, to all; f on rank 0 before the others; rows computed
  in shares, given to all; an error unless every rank has the same bytes. All ranks have to come to the same calls.
  numbers  a table of numbers, equally many on every rank
  f        function: of no arguments; for split (first from 0, count), which gives a tensor of count rows
  n        rows in all
  tensors  a table
  what     name of it for the message
  returns  gather: a table by rank, from 1; first: f's results; split: a tensor of n rows
  errors   a rank that has ended
  example
    ld.ranks.start()
    print(ld.ranks.gather{1}[1], ld.ranks.first(function() return 'done' end))
    print(ld.ranks.split(4, function(first, count) return ld.ones(count, 2) * first end):describe())
    ld.ranks.equal({ld.ones(1)}, 'weights')

ld.plot(series, {title = nil, width = 640, height = 250, log_x = false, log_y = false, zero = false, x_label = nil,
    smooth = 0, alone = false, legend = false})
  Curves as SVG text.
  series   a table of {x = {...}, y = {...}, name, colour (1 to 8), dots, faint, marks (positions on x)}
  title    text
  width    in pixels
  height   in pixels
  log_x    a logarithmic axis
  log_y    the same
  zero     y begins at 0
  x_label  text
  smooth   also means over windows of that share of all values; 0 for none
  alone    colours are in it: a file of its own
  legend   the names of the series stand above them
  returns  text, or nil when there is nothing to draw
  example
    ld.write_file('curve.svg', ld.plot({{x = {1, 2, 3}, y = {4, 2, 1}, name = 'loss'}}, {alone = true}))

ld.plot.smooth(ys, share)
  Means over windows around each value.
  ys       a table of numbers
  share    of all values in a window; 0.04 when left out
  returns  a table of numbers
  example
    print(#ld.plot.smooth({1, 2, 3}, 0.5))

ld.report.write(folder, path)
ld.report.page(folder)
ld.report.read(folder)
  A run as one HTML page without outside resources, as its text, or as tables: of what its folder has.
  folder   of the run
  path     of the page; report.html in the folder when left out
  returns  write: the path; page: text; read: {name, folder, state, seen, steps, events, facts, data, pictures}
  errors   no log.jsonl
  see      run:write_report
  example
<trained>    print(ld.report.write('runs/example', 'page.html'), #ld.report.page 'runs/example')
    print(ld.report.read('runs/example').state)

ld.report.compare(folders, path)
ld.report.table(folders)
  Several runs side by side, as a page or as lines of text.
  folders  a table of runs' folders
  path     of the page
  returns  the path; text
  errors   a folder without a run
  example
<trained>    print(ld.report.compare({'runs/example', 'runs/example'}, 'both.html'))
    print(ld.report.table{'runs/example'})

ld.health.levels(parts)
levels:add(t, losses)
levels:read()
  Losses by noise level, added up on the device; read gives the means since the last read, and starts anew.
  parts    of the time range [0,1); 4 when left out
  t        times (N)
  losses   (N); those not finite are left out
  returns  a levels; nothing; a table from least noise to most, false where there was nothing
  example
    local levels = ld.health.levels(2)
    levels:add(ld.tensor{0.1, 0.9}, ld.tensor{1, 3})
    print(levels:read()[2])

ld.health.outliers(limit)
outliers:see(loss, norm)
  Losses and gradient norms that stand out from the 200 before them, by the deviations of their logarithms.
  limit    deviations; 8 when left out
  loss     number
  norm     number
  returns  an outliers; nil, or {loss, norm} in deviations
  example
    local watch = ld.health.outliers()
    for i = 1, 60 do watch:see(1 + i % 3 * 0.1, 1) end
    print(watch:see(100, 1).loss)

ld.health.compare(a, b, parameters, optim)
  How two terms of a loss pull on the weights; they have not run backward yet, and may do so afterwards.
  a           tensor of one element
  b           tensor of one element
  parameters  a table of tensors
  optim       their optimizer
  returns     the cosine between their gradients, and the norm of b's over that of a's
  example
    local net = nn.linear{in_features = 2, out_features = 1}
    local y = net(ld.ones(1, 2))
    print(ld.health.compare(y:square():sum(), y:sum(), net:parameters(), ld.optim.sgd(net:parameters())))

ld.health.resident()
  Memory that the process holds.
  returns  bytes, or nil where the system does not say
  example
    print(ld.health.resident())
]==]
return {title = 'Precision, ranks, reports', internal = [[ld.precision.check ld.precision.within ld.plot.escape
  ld.plot.number ld.plot.style ld.report.spread ld.report.state_of ld.report.whole series:see]],
  (text:gsub('<trained>', function() return trained end))}
