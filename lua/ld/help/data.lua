-- Latents as data, runs, checkpoints.
local setup = [[
    local vae = ld.vae.load 'data/vae-small.h5'
    local faces = ld.images.synthetic_faces{n = 8, size = 32}
    local store = ld.latents.encode(vae, faces, 'faces.h5', {quiet = true})
]]
local training = [[
    local net = nn.linear{in_features = 2, out_features = 1}
    local adamw = ld.optim.adamw(net:parameters())
    local run = ld.run('runs/example', {model = net, optim = adamw, quiet = true, plan = false})
    for batch in run:batches({count = 8, name = 'ones'}, 4, 1) do
      run:step(function() return net(ld.ones(batch.count, 2)):square():mean() end)
    end
]]
local text = [==[
ld.latents.encode(vae, set, path, {dtype = 'f16', moments = false, mirrored = false, batch = 16, on_bad = 'skip',
    bad_in_a_row = 256, shards = 0, least_psnr = 15, quiet = false, deterministic = false, save_seconds = 10,
    readers = nil, decoders = nil, ahead = nil})
  Every picture of a set into a store of latents, unless it is there; a run that was stopped goes on where it was.
  vae            from ld.vae.load
  set            from ld.images
  path           of the store, an .h5 file
  dtype          'f16' 'bf16' 'f32'
  moments        log-variances too
  mirrored       latents of the mirrored pictures too
  batch          pictures at a time
  on_bad         'skip', 'zero' or 'stop': what becomes of pictures that cannot be read
  bad_in_a_row   as many end the run; 0 for any number
  shards         files of rows beside the store; 0 for none
  least_psnr     dB that the first pictures must reach, encoded and decoded
  quiet          no progress
  deterministic  no ways of computing are timed
  keep           how many checkpoints stay: of the newest, of the best; and every how many images one for good
  save_seconds   how much work a kill may cost
  readers        threads; they follow the machine when nil
  decoders       threads
  ahead          batches kept ready
  returns        a store
  errors         a store made with another vae, range, size, transform or set
  example
<setup>    print(store)

ld.latents.open(path, {split = nil, share = 0.1, resident = 'auto', mirror = true, unfinished = false})
  A store as a data set for run:batches.
  path        file
  split       'train' or 'valid': by position, without shuffling
  share       of the rows that is 'valid'
  resident    true, false or 'auto': training holds the latents in the memory of the device that trains, and a step
              sends no pixels there; 'auto' when they take at most half of what a step leaves of it
  mirror      training takes mirrored latents half of the time, where the store has them
  unfinished  a store in the making too
  returns     a store: fields count, shape, mean, std, vae, vae_hash, pixel_range
  example
<setup>    print(ld.latents.open('faces.h5', {split = 'valid', share = 0.25}).count)

ld.latents.verify(path, vae, set, {n = 64, seed = 0, quiet = false})
  Encode rows of a store again, chosen at random, and compare.
  path     of the store
  vae      that made it
  set      of its pictures
  n        how many rows
  seed     whole number
  quiet    say nothing
  returns  {n, largest (difference, in standard deviations)}
  errors   names rows that differ
  example
<setup>    print(ld.latents.verify('faces.h5', vae, faces, {n = 4, quiet = true}).n)

ld.latents.import(path, out, {vae, range, shape = nil, dtype = 'f32', labels = nil, classes = nil, scaled = 1,
    store = 'f16', quiet = false})
  Latents that other programs made, from NumPy's files, into a store.
  path     an .npy (N,C,h,w), a folder of .npy (C,h,w), or numbers without a header
  out      the store
  vae      what made them: weights, or a name
  range    what it was fed, 'signed' or 'unit'
  shape    of numbers without a header
  dtype    of numbers without a header
  labels   a file with a class from 0 for each
  classes  a file with the classes' names, one a line
  scaled   what the latents were multiplied by
  store    dtype of the store
  quiet    no progress
  returns  a store
  example
    ld.write_file('raw.bin', ld.randn(4, 4, 2, 2):bytes())
    local o = {vae = 'sd-vae', range = 'signed', shape = {4, 4, 2, 2}, quiet = true}
    print(pcall(ld.latents.import, 'raw.bin', 'imported.h5', o))

store:get(indices, first, seed)
  Rows of the data set, on the default device.
  indices  a table of numbers from 1
  first    images seen, to have them as training takes them (store:augmented); raw latents when left out
  seed     of the run
  returns  {x = latents (n,C,h,w) f32, label = (n) i64}
  example
<setup>    print(store:get{1, 2}.x:describe())

store:augmented{standardise = false, pad = 0, erase = 0, max = 4, flip = 0}
  The same rows, of which run:batches and loaders give changed ones, by (seed, images seen + position); store:get
  without `first` and store:in_order give them as they are.
  standardise  per channel (z - mean) / std of the whole store, first
  pad          zeros on each side, then a random cut of the old size
  erase        side of random rectangles that become noise, as a share of the picture's; below 1
  max          the most of them, at most 64
  flip         probability of the other way round
  returns      a store
  see          ld.augment.gather
  example
<setup>    print(store:augmented{standardise = true, pad = 1, flip = 0.5}:loader{batch = 4}:batch(0, 4):describe())

store:resident_bytes()
  What the latents take in memory.
  returns  a number
  example
<setup>    print(store:resident_bytes())

store:loader{batch, seed = 0, rank = 1, ranks = 1, micro = 0, ahead = 4, threads = 4, resident = nil, device = nil,
    mirror = nil}
  Batches by the clock of images seen; ld.run makes one by itself.
  batch     images a batch
  seed      of the order
  rank      this process, from 1
  ranks     how many processes share a batch
  micro     a rank's share is made of whole micro-batches of so many images; 0: equal shares
  ahead     batches read ahead
  threads   that read
  resident  true, false or 'auto': hold the latents in memory of `device`; as the store says when nil. 'auto': where
            they take at most a quarter of what is free there, on the CPU half
  device    the default device when nil
  mirror    as the store says when nil
  returns   a loader
  example
<setup>    print(store:loader{batch = 4}:batch(0, 4):describe())

loader:batch(images, count)
loader:next(images)
  The batch at a clock; and where the next batch begins at or after a clock.
  images   images seen
  count    of this batch
  returns  x (count / ranks,C,h,w) f32 and label i64; for next the clock and the size
  example
<setup>    local loader = store:loader{batch = 4}
    print(loader:batch(0, 4):describe(), loader:next(0))

loader:place(device)
  The latents go to a device's memory, and batches are made there from now on.
  device   the default device when left out
  returns  true; nil and the reason where there is no room
  example
<setup>    print(store:loader{batch = 4}:place())

loader:stats()
loader:close()
  {batches, wait, spent (seconds), resident, device, memory (bytes)}; and the end of its threads.
  returns  a table; nothing
  example
<setup>    local loader = store:loader{batch = 4}
    print(loader:stats().batches)
    loader:close()

store:row(i)
store:file_name(i)
  Where picture i of the data set lies in the store, and what it was called.
  i        from 1
  returns  a number; text
  example
<setup>    print(store:row(1), store:file_name(1))

store:part(first, count)
  A data set of count neighbouring pictures of this one.
  first    from 1
  count    how many
  returns  a store over the same latents
  example
<setup>    print(store:part(3, 4).count)

store:in_order(size)
  Every row in order: for batch in store:in_order(64) do ... end
  size     rows at a time
  returns  an iterator of {x, label}
  example
<setup>    for batch in store:in_order(4) do print(batch.x:describe()) end

store:standardise(z)
  (z - mean) / std by channel of the whole store, for classifiers.
  z        raw latents (N,C,h,w)
  returns  a tensor like z
  example
<setup>    print(store:standardise(store:get{1}.x):describe())

store:scaling(scale)
  Options of ld.diffusion.cosine that suit the data.
  scale    0: one shift a channel and one scale that give mean 0 and variance 1; else that scale
  returns  {scale, shift}
  example
<setup>    print(store:scaling(0).scale)

store:random_batch(n, k)
  The k-th of endlessly many random batches.
  n        rows
  k        from 1
  returns  {x, label}
  example
<setup>    print(store:random_batch(2, 1).x:describe())

store:shuffled_split(share, seed)
  Two data sets over the same latents, rows chosen at random.
  share    of the second
  seed     whole number
  returns  two stores
  example
<setup>    local train, valid = store:shuffled_split(0.25, 0)
    print(train.count, valid.count)

store:check_same(other)
store:check_vae(vae)
  Refuse a store, or an autoencoder, that does not belong to this store.
  other    a store
  vae      from ld.vae.load
  returns  nothing
  errors   says what made each
  example
<setup>    store:check_same(store)
    store:check_vae(vae)

ld.run(folder, {model, optim, opt = nil, schedule = nil, ema = nil, clip = 0, seed = 0, save_minutes = 5,
    log_every = 20, record = nil, quiet = false, plan = true, deterministic = false, micro = 0, sync_bn = false,
    precision = 'f32', tensorboard = false, report_minutes = 5, outlier = 8, compare_every = 200, overfit = 0,
    keep = {last = 2, best = 1, every = 0}, attach = true, graph = nil})
  A training run in a folder: clock, order of data, checkpoints, resume, log, report. Calling it again resumes.
  folder          for last.h5, log.jsonl, report.html, samples/
  model           module
  optim           an optimizer
  opt             the recipe's options, stored
  schedule        from ld.schedule
  ema             decay of averaged weights, or {sigma_rel = {0.05, 0.10}, every = images}, averages of these widths
                  (ld.ema.of) with snapshots for ld.ema.rebuild; nil or 0 for none
  clip            the gradient's largest norm; 0 for none
  seed            of order and noise
  save_minutes    between checkpoints
  log_every       steps
  record          a table stored with checkpoints
  quiet           say nothing
  plan            the memory of a step is worked out before the first
  deterministic   no ways of computing are timed
  micro           images of a micro-batch, whose gradients are summed; 0: a batch is cut into as many as there are ranks
  sync_bn         several ranks: batch norm's statistics in training are those of the whole batch; not with micro
  precision       'f32', or 'bf16' on a CUDA device: what the functions of run:step and run:averaged compute in
  tensorboard     event files in <folder>/tb too
  report_minutes  between versions of report.html; 0 for none
  outlier         deviations from the median from which a step is flagged; 0 for none
  compare_every   steps between comparisons of the gradients of MSE and perceptual term; 0 for none
  keep            how many newest and best checkpoints stay, and after how many images one stays for good (0: none)
  overfit         k: train on the first k batches only, in <folder>/overfit
  attach          `ldlua attach <folder>` may ask while it trains
  graph           false: the function computes every step; else a device that can records the step and does it again
  returns         a run
  errors          a checkpoint of another network or optimiser; only damaged ones; a folder in which another process
                  trains; a precision the device lacks
  see             ld.report.write run:find_lr
  example
<training>    run:finish()

run:batches(data, size, epochs)
  The loop: for batch in run:batches(data, 128, 25) do ... end
  data     a data set: count and name, and loader or get
  size     images a batch
  epochs   how many times through the data
  returns  an iterator of {x, label, indices, first, epoch, count, seed}
  errors   fewer than 2 pictures; sizes that are no whole numbers
  example
<training>
run:step(f)
  One step: f's loss, backward, clipping, update, average. A loss that is not finite changes nothing and is counted.
  f        function (batch) that gives the loss, a tensor of one element, and perhaps its parts by name; with micro or
           several ranks it is called for each micro-batch, and computes what it is given
  returns  whether the step counted
  errors   outside the loop; no loss; ten steps in a row that are not finite
  example
<training>
run:every{images = nil, epochs = nil}
run:epoch_end()
  True once each time the clock passes a multiple, and at the end; epoch_end: every epoch. Asked after run:step.
  images   so many
  epochs   so many
  returns  true or false
  example
<training>    print(run:every{epochs = 1}, run:epoch_end())

run:seen()
  Images seen, the step just done included.
  returns  a number
  example
<training>    print(run:seen())

run:save(path)
  A checkpoint: model, optimiser, average, clock.
  path     a new one in <folder>/checkpoints, also named last.h5, when left out
  returns  nothing
  example
<training>    run:save()

run:best(value)
  Keep best.h5 when the value is the highest so far.
  value    number
  returns  whether it was
  example
<training>    print(run:best(0.5))

run:log(entry)
  A line of log.jsonl.
  entry    a table of plain values; the time is added
  returns  nothing
  example
<training>    run:log{event = 'note', accuracy = 0.5}

run:say(text, ...)
  A line on the terminal, which the live line makes room for; nothing where the run is quiet.
  text     a format, as for string.format
  ...      its values
  returns  nothing
  example
<training>    run:say('%d images', run:seen())

run:find_lr(data, size, f, {from = 1e-7, to = 10, steps = 100, smooth = 0.9})
  A learning-rate search (ld.find_lr) with the run's network and optimiser; the curve goes to <folder>/find_lr.svg. The
  run is as it was.
  data     a data set, as for run:batches
  size     images a batch
  f        function (batch) that gives the loss, as for run:step
  from     first learning rate
  to       last
  steps    how many
  smooth   share of the old mean that stays in the smoothed loss
  returns  {suggestion (nil when the loss never fell), rates, losses, smooth}
  see      ld.find_lr
  example
    local net = nn.linear{in_features = 2, out_features = 1}
    local run = ld.run('runs/example', {model = net, optim = ld.optim.adamw(net:parameters()), quiet = true})
    local function loss(batch) return net(ld.ones(batch.count, 2)):square():mean() end
    print(run:find_lr({count = 8, name = 'ones'}, 4, loss, {steps = 30}).suggestion)

run:write_report()
  report.html in the run's folder, now; while it trains it is written by itself.
  returns  nothing
  example
<training>    run:write_report()

run:averaged(f, batches, count, width)
  Call f with the averaged weights in the network (as ema:use), or the live ones in eval mode.
  f        function
  batches  function (i), needed with batch norm
  count    of batches
  width    which average, where there are several; the first when left out
  returns  f's results
  example
<training>    print(run:averaged(function() return net(ld.ones(1, 2)):item() end))

run:image(name, x, {columns = nil, gap = 2})
  A grid of pictures to samples/<name>-<images seen>.png.
  name     text
  x        tensor (N,3,H,W) in [0,1] or u8
  columns  of the grid
  gap      white pixels between
  returns  the path
  example
<training>    print(run:image('noise', ld.rand(4, 3, 8, 8)))

run:draws(f, batches)
run:draw(n)
  How pictures of the network are drawn, for those who attach to the run and ask for samples; and n of them.
  f        function (n, together) that gives n pictures (n,3,H,W) by the weights that are in the network; together is
           true where every rank calls it, so that ranks may share the work
  batches  function (i), needed with batch norm, as for run:averaged
  n        how many
  returns  draws: nothing; draw: pictures by the averaged weights, or by the live ones where the run keeps no average
  errors   draw: nothing was said with draws
  example
<training>    run:draws(function(n) return ld.rand(n, 3, 8, 8) end) print(run:draw(2):describe())

run:finish()
  The last checkpoint and a summary line.
  returns  nothing
  example
<training>    run:finish()

ld.options(defaults)
  A recipe's options: the defaults, overridden by the script's arguments (--epochs 10); unknown ones are refused.
  defaults  a table; names listed first may stand without --name on the command line
  returns   a table that refuses names it lacks
  example
    local opt = ld.options{epochs = 25, lr = 1e-3}
    print(opt.epochs)

ld.checkpoint.write(path, parts)
  A checkpoint file, written safely.
  path     file
  parts    {model = module, tensors = {group = {name = tensor}}, record = table}
  returns  nothing
  example
    ld.checkpoint.write('net.h5', {model = ld.models.unet{channels = {8}, layers = 1, attention_from = 0}})

ld.checkpoint.open(path)
ld.checkpoint.read_group(checkpoint, group)
  A checkpoint's parts; and the tensors of a group.
  path        file
  checkpoint  what open gave
  group       'model', 'ema' ...
  returns     {file, record, model (options), model_name}: close file when done; a table of tensors by name
  example
    ld.checkpoint.write('group.h5', {tensors = {extra = {x = ld.ones(2)}}})
    local c = ld.checkpoint.open 'group.h5'
    print(ld.checkpoint.read_group(c, 'extra').x)
    c.file:close()

ld.checkpoint.load_model(path, name, constructor)
  The network in a checkpoint.
  path         file
  name         kind of network
  constructor  called with the stored options
  returns      the network and the record
  example
    ld.checkpoint.write('load.h5', {model = ld.models.unet{channels = {8}, layers = 1, attention_from = 0}})
    print(ld.checkpoint.load_model('load.h5', 'unet', ld.models.unet):count())

ld.trained(folder, {weights = 'ema', sigma_rel = 0, vae = '', store = '', decode = true})
  A trained diffusion run, ready to draw from: network, model, latents and autoencoder.
  folder     of ld.run
  weights    'ema', whose batch-norm statistics are recomputed, or 'live'
  sigma_rel  width of the average; 0 for the first that the run kept
  vae        where the autoencoder lies, when it has moved
  store      where the latents lie, when they have moved
  decode     false: no autoencoder is loaded
  returns    a table: unet, model, store, vae, record, extra, weights, how
  errors     no checkpoint; a run that was not trained on latents
  example
    print(pcall(ld.trained, 'no such run'))

ld.checkpoint.read_averages(path)
  The averaged parameters of a run's checkpoint.
  path     file
  returns  a table of tensors by path
  errors   a checkpoint without them
  example
    ld.checkpoint.write('ema.h5', {tensors = {ema = {w = ld.ones(2)}}})
    print(ld.checkpoint.read_averages('ema.h5').w)
]==]
return {title = 'Latents, runs, checkpoints', internal = [[
  ld.store_create ld.store_open ld.store_writer store_writer:put store_writer:flush store_writer:done_count
  store_writer:done store_writer:is_done store_writer:stats store_writer:finish store_writer:close rows:count
  rows:row rows:part rows:before rows:get rows:info rows:statistics rows:measure rows:name rows:label
  rows:crc32 rows:bad rows:class_counts rows:duplicates rows:loader rows:close ld.demo.options
  ld.demo.check_judge ld.demo.expect_judge ld.demo.judge ld.demo.train_judge ld.demo.farewell run:state_record
  ld.checkpoint.bytes
  run:best_kept run:check_room run:checkpoint_path run:follow_schedule run:generations run:newest_good
  run:save_at_end run:save_is_due run:save_or_tell run:try_to_save run:write_generation run:write_line run:write_state
  run:check_kind run:load run:resume run:stop_requested run:next_batch run:indices run:make_batch run:start
  run:after_step run:set_learning_rate run:compute run:plan_memory run:skip run:count run:flush_log run:speed
  run:clear_line run:line run:check_ranks run:checkpoint_bytes run:collect run:compare_gradients run:duration
  run:empty_sums run:call run:comparable
  run:count_pictures run:forget_graphs run:settle run:step_recorded
  run:time_step run:write_sums ld.graph ld.graph_able run:end_line run:few run:gradient run:health_entry
  run:log_beginning run:log_data run:log_image
  run:lost run:mend_log run:micro_gradient run:share run:synchronised run:tell run:tell_disk run:tell_time run:to_board
  run:try_to_tell run:watch run:with_averages run:open_data run:close_data run:plan_data run:place_data]],
  (text:gsub('<setup>', function() return setup end):gsub('<training>', function() return training end))}
