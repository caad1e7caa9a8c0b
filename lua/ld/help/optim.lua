-- Optimisers, learning-rate schedules, averages of weights, initialisation.
local averaged = [[
    local net = nn.linear{in_features = 2, out_features = 1}
    local run = ld.run('runs/example', {model = net, optim = ld.optim.adamw(net:parameters()), quiet = true,
                                        plan = false, ema = {sigma_rel = {0.05, 0.10}, every = 8}})
    for batch in run:batches({count = 8, name = 'ones'}, 4, 2) do
      run:step(function() return net(ld.ones(batch.count, 2)):square():mean() end)
    end
    run:finish()
]]
local text = [==[
ld.optim.adamw(parameters, {lr = 1e-3, beta1 = 0.9, beta2 = 0.999, eps = 1e-8, weight_decay = 0.01})
ld.optim.adam(parameters, {lr = 1e-3, beta1 = 0.9, beta2 = 0.999, eps = 1e-8, weight_decay = 0})
  Adam; adamw takes weight decay apart from the gradient, adam adds it to the gradient.
  parameters    a list of tensors, such as net:parameters()
  lr            learning rate
  beta1         of the mean of gradients
  beta2         of the mean of their squares
  eps           added to the root of the second
  weight_decay  adamw: share of lr by which weights shrink at a step
  returns       an optimizer; its options are fields that can be set: optimizer.lr = 1e-4
  errors        something that is no list of tensors: pass net:parameters(), not the module
  source        Kingma & Ba 2014, arXiv:1412.6980; Loshchilov & Hutter 2017, arXiv:1711.05101
  example
    local net = nn.linear{in_features = 2, out_features = 1}
    local optimizer = ld.optim.adamw(net:parameters(), {lr = 1e-2})
    net(ld.ones(1, 2)):sum():backward()
    optimizer:step()
    ld.optim.adam(net:parameters())

ld.optim.sgd(parameters, {lr = 1e-2, momentum = 0, nesterov = false, weight_decay = 0})
  Gradient descent with momentum, as PyTorch's.
  parameters    a list of tensors
  lr            learning rate
  momentum      share of the last step that is kept
  nesterov      look ahead by the momentum
  weight_decay  times the weight, added to the gradient
  returns       an optimizer
  example
    local net = nn.linear{in_features = 2, out_features = 1}
    print(ld.optim.sgd(net:parameters(), {lr = 0.1, momentum = 0.9}))

optimizer:step{ema = nil, norm = nil, clip = 0, drop = false}
  Change the parameters by their gradients.
  ema      averages (ema.average) to update in the same pass
  norm     of the gradient, from ld.grad_norm, for clip
  clip     the gradient is scaled to this norm where its own is larger; 0 for not at all
  drop     let go of the gradients in the same pass
  returns  nothing
  example
    local net = nn.linear{in_features = 2, out_features = 1}
    local optimizer = ld.optim.adamw(net:parameters())
    net(ld.ones(1, 2)):sum():backward()
    optimizer:step{norm = ld.grad_norm(net:parameters()), clip = 1, drop = true}

optimizer:zero_grad(keep)
  Forget the gradients.
  keep     true: fill them with zeros instead
  returns  nothing
  example
    ld.optim.sgd(nn.linear{in_features = 1, out_features = 1}:parameters()):zero_grad()

optimizer:scale(first, count, lr_scale, decay_scale)
  Another learning rate for some of the parameters.
  first        position in the list, from 1
  count        how many from there on
  lr_scale     their lr is lr times this; 1 when left out
  decay_scale  the same for weight_decay
  returns      nothing
  example
    ld.optim.adamw(nn.linear{in_features = 1, out_features = 1}:parameters()):scale(2, 1, 1, 0)

optimizer:state()
  Its tensors by name, and how many steps it has done: for a checkpoint.
  returns  a table of tensors that share its memory
  example
    print(next(ld.optim.adamw(nn.linear{in_features = 1, out_features = 1}:parameters()):state()))

optimizer:load_state(state)
  Put a state back.
  state    what state() gave, of an optimiser of the same kind and parameters
  returns  nothing
  errors   names and shapes that do not fit
  example
    local net = nn.linear{in_features = 1, out_features = 1}
    ld.optim.adamw(net:parameters()):load_state(ld.optim.adamw(net:parameters()):state())

ld.schedule.one_cycle{max = 1e-3, pct_start = 0.3, div = 25, final_div = 1e4, beta1_high = 0.95, beta1_low = 0.85}
  The learning rate rises from max / div to max and falls again, in halves of a cosine; beta1 goes the other way.
  max         highest learning rate
  pct_start   share of the steps in which it rises
  div         max over the first learning rate
  final_div   the first learning rate over the last
  beta1_high  at both ends
  beta1_low   where the learning rate is highest
  returns     a function (step from 0, steps in all) that gives the learning rate and beta1; an option of ld.run
  source      Smith & Topin 2017, arXiv:1708.07120; fast.ai's fit_one_cycle
  example
    print(ld.schedule.one_cycle{max = 3e-3}(30, 100))

ld.schedule.cosine{max = 1e-3, min = 0, warmup = 0}
  Half a cosine from max to min, after a linear warm-up.
  max      highest learning rate
  min      last learning rate
  warmup   steps
  returns  a function (step from 0, steps in all) that gives the learning rate
  example
    print(ld.schedule.cosine{max = 1e-3, warmup = 10}(50, 100))

ld.schedule.constant{max = 1e-3, warmup = 0}
  One learning rate, after a linear warm-up.
  max      learning rate
  warmup   steps
  returns  a function (step from 0, steps in all) that gives the learning rate
  example
    print(ld.schedule.constant{max = 1e-3}(5, 10))

ld.ema.of(net, {decay = 0.9999, warmup = true, sigma_rel = nil, every = nil})
  Exponential moving averages of a network's parameters: one by its decay, or several by their widths.
  net        module
  decay      share of the old average that stays at an update
  warmup     less at first: min(decay, (1 + n) / (10 + n)) after n updates
  sigma_rel  in place of a decay: a width, or a table of them, such as {0.05, 0.10}, each a share of the training so far
  every      images between the snapshots a run keeps of such averages; a 32nd of the run when nil
  returns    an ema
  errors     both decay and widths
  source     widths: Karras et al. 2024, arXiv:2312.02696
  see        ld.ema.rebuild
  example
    local net = nn.linear{in_features = 1, out_features = 1}
    ld.ema.of(net, {decay = 0.99}):update()
    ld.ema.of(net, {sigma_rel = {0.05, 0.10}}):update(64)

ema:update(images)
  Take the present parameters in. Runs do so by themselves.
  images   images seen so far, more each time: needed with widths
  returns  nothing
  example
    ld.ema.of(nn.linear{in_features = 1, out_features = 1}):update()

ema:drift()
  How far the weights are from each average: |weights - average| / |weights|.
  returns  a table: ema_drift, with widths ema_drift_0.05 and so on
  example
    print(ld.ema.of(nn.linear{in_features = 1, out_features = 1}):drift().ema_drift)

ema:use(f, batches, count, width)
  Call f with the averaged weights in the network, in eval mode; afterwards everything is as before.
  f        function
  batches  function (i) that runs the network on the i-th batch of data: needed with batch norm, whose statistics
           are made anew
  count    how many batches; 16 when left out
  width    which average, where there are several; the first when left out
  returns  f's results
  errors   a network with batch norm and no batches; a width that is not kept
  example
    local net = nn.linear{in_features = 2, out_features = 1}
    print(ld.ema.of(net):use(function() return net(ld.ones(1, 2)) end))

ema:state(i)
  The averages by parameter path.
  i        which average; the first when left out
  returns  a table of tensors that share its memory
  example
    print(next(ld.ema.of(nn.linear{in_features = 1, out_features = 1}):state()))

ema:load_state(state, updates, i)
  Put averages back.
  state    a table of tensors by path
  updates  how many updates are in them
  i        which average; the first when left out
  returns  nothing
  errors   names a parameter that has no average in it
  example
    local average = ld.ema.of(nn.linear{in_features = 1, out_features = 1})
    average:load_state(average:state(), 100)

ld.ema.rebuild(folder, sigma_rel, {at = nil})
  The average of any width after the training, from the snapshots of a run that kept averages of some widths.
  folder     of the run
  sigma_rel  the width, such as 0.15
  at         images seen, of a snapshot; the last when nil
  returns    tensors by parameter path, and {error (what is missed of the profile, as a share), at, count, gain}
  errors     a folder without snapshots
  source     Karras et al. 2024, arXiv:2312.02696, section 3.2
  example
<averaged>    local weights, info = ld.ema.rebuild('runs/example', 0.08)
    print(weights.weight, info.error)

ld.ema.read(path, width)
ld.ema.weights(folder, width)
  Averaged weights in a checkpoint; and those of a run's folder, rebuilt where the width was not kept.
  path     checkpoint
  folder   of the run
  width    the first average when left out
  returns  tensors by parameter path, and what they are, as text; weights: where rebuilt, also what rebuild says
  errors   none in it
  example
<averaged>    local _, kept = ld.ema.read('runs/example/last.h5', 0.10)
    print(kept, select(2, ld.ema.weights('runs/example', 0.08)))

ld.init.kaiming_normal_(x, slope, fan_in)
  Normal numbers with standard deviation sqrt(2 / ((1 + slope^2) fan_in)), in place.
  x        tensor: a weight (out, in, ...)
  slope    of the leaky ReLU behind it, 0 when left out
  fan_in   worked out from the shape when left out
  returns  nothing
  source   He et al. 2015, arXiv:1502.01852
  example
    ld.init.kaiming_normal_(ld.zeros(8, 3, 3, 3), 0.1)

ld.init.constant_(x, value)
  Every element becomes the value, in place.
  x        tensor
  value    0 when left out
  returns  nothing
  example
    ld.init.constant_(ld.zeros(3), 1)

ld.init.uniform_(x, low, high)
  Uniform numbers in [low, high), in place.
  x        tensor of floats
  low      number
  high     number
  returns  nothing
  example
    ld.init.uniform_(ld.zeros(3), -1, 1)

ld.init.normal_(x, mean, std)
  Normal numbers, in place.
  x        tensor of floats
  mean     number
  std      standard deviation
  returns  nothing
  example
    ld.init.normal_(ld.zeros(3), 0, 0.02)
]==]
return {title = 'Optimisers, schedules, averages', internal = [[ld.ema.recalibrate ld.ema.for_run averages:update
  averages:swap averages:average averages:load averages:updates averages:decay ema:after_step ema:groups ema:index
  ema:load ema:moved ema:open ema:plan ema:ready ema:record ema:rest]],
  (text:gsub('<averaged>', function() return averaged end))}
