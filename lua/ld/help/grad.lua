-- Gradients, scopes, memory, devices.
return {title = 'Gradients, memory, devices', internal = 'ld.set_library ld.position ld.core ld.root', [==[
x:backward(gradient, {retain = false})
  Gradients of x with regard to every leaf that requires one, added to its grad.
  x         a result of recorded operations
  gradient  tensor of x's shape; may be left out where x has one element
  retain    keep the record, so that backward may run again
  returns   nothing
  errors    no history; more than one element and no gradient; a tensor changed in place since it was used
  example
    local w = ld.ones({3}, {requires_grad = true})
    w:square():sum():backward()
    print(w.grad)

x:requires_grad_(on)
  Whether backward gives this leaf a gradient.
  x        tensor of floats without history
  on       true when left out
  returns  x
  example
    print(ld.ones(2):requires_grad_().requires_grad)

x:zero_grad()
  Forget the gradient: x.grad is nil afterwards.
  x        tensor
  returns  nothing
  example
    ld.ones(2):zero_grad()

x:detach()
  The same numbers in the same memory, without history.
  x        tensor
  returns  a view
  example
    local w = ld.ones({2}, {requires_grad = true})
    print((w * 2):detach().requires_grad)

ld.no_grad(f, ...)
  Call f without recording, in a scope of its own.
  f        function
  ...      its arguments
  returns  f's results
  example
    local w = ld.ones({2}, {requires_grad = true})
    print(ld.no_grad(function() return w * 2 end).is_leaf)

ld.scope(f, ...)
  Call f; tensors made inside that are not among its results give their memory back at its end.
  f        function
  ...      its arguments
  returns  f's results, also tables with tensors in them
  see      ld.keep x:release
  example
    print(ld.scope(function() local t = ld.ones(1000) return t:sum() end):item())

ld.keep(value)
  Take a tensor, or every tensor in a table, out of all scopes.
  value    tensor or table
  returns  value
  example
    local kept
    ld.scope(function() kept = ld.keep(ld.ones(2)) end)
    print(kept)

ld.grad_enabled()
  Whether operations are recorded.
  returns  true or false
  example
    print(ld.grad_enabled())

ld.set_grad_enabled(on)
  Switch recording on or off; ld.no_grad puts it back by itself.
  on       true or false
  returns  what held before
  example
    local was = ld.set_grad_enabled(false)
    ld.set_grad_enabled(was)

ld.grad_norm(parameters)
  The Euclidean norm of all gradients together.
  parameters  a list of tensors, such as net:parameters()
  returns     a number
  example
    local w = ld.ones({4}, {requires_grad = true})
    w:sum():backward()
    print(ld.grad_norm{w})

ld.clip_grad_norm(parameters, most)
  Scale the gradients together so that their norm is at most that.
  parameters  a list of tensors
  most        number above 0
  returns     the norm before
  example
    local w = ld.ones({4}, {requires_grad = true})
    w:sum():backward()
    print(ld.clip_grad_norm({w}, 1), w.grad)

ld.gradcheck(f, inputs, {eps = 1e-6, tol = 1e-6})
  Compare f's gradients with central differences.
  f        function of the inputs that gives one f64 tensor
  inputs   a list; its f64 tensors are checked, others are passed on
  eps      step of the differences
  tol      allowed difference, relative to the larger of 1 and both gradients
  returns  true
  errors   names the input and the element that is furthest off
  example
    print(ld.gradcheck(function(x) return x:square():sum() end, {ld.tensor({1, 2}, {dtype = 'f64'})}))

ld.memory(what, device)
  Bytes of tensors: live, cached, packed, peak of live, graphs (of live, held by recordings); blocks, allocations,
  tensors.
  what     'reset': peak starts again from live; 'trim': cached blocks go back to the system; 'largest': also `largest`,
           a list of the operations that hold most, {op, bytes, blocks}; nil
  device   the default device when left out
  returns  a table of numbers
  example
    print(ld.memory().live, ld.memory 'trim'.cached)

ld.memory.plan(f)
  How much memory calls of f need: it is run once without computing, and everything is put back.
  f        function of no arguments
  returns  {peak, before, workspace, held, room, largest = {{op, bytes, blocks}, ...}, outlived, first = {...}}; bytes
  example
    print(ld.memory.plan(function() return ld.zeros(1000, 1000) + 1 end).peak)

ld.memory_limit(bytes, device)
  The most that tensors may take, live and cached together; 0 lifts the limit.
  bytes    whole number
  device   the default device when left out
  returns  nothing
  example
    ld.memory_limit(2 ^ 30)
    ld.memory_limit(0)

ld.synchronize(device)
  Waits until the device has done all work that it was given; errors of that work come out here. A device computes
  behind the program's back, so a time is taken between two such calls.
  device   the default device when left out
  returns  nothing
  errors   the device is lost
  example
    ld.synchronize()
    local from = ld.clock()
    local y = ld.ones(64, 64):matmul(ld.ones(64, 64))
    ld.synchronize()
    print(ld.clock() - from >= 0)

ld.threads(n)
  How many threads compute; with a number: from now on.
  n        1 to 1024, or nothing
  returns  the number of threads
  example
    print(ld.threads())

ld.default_device(name)
  Where new tensors lie; with a name: from now on.
  name     'cpu', 'cuda', 'cuda:1', or nothing
  returns  the device's name
  errors   a device that is not there, with those that are
  example
    print(ld.default_device())

ld.tune(what)
  How convolutions are computed: the ways that were timed, by shape.
  what     true and false switch the timing of new shapes on and off; 'forget' drops all choices; nil
  returns  {on, choices = {{key, way, milliseconds}, ...}}
  example
    print(ld.tune().on)

ld.version
  The program's version.
  example
    print(ld.version)

ld.fail(message, ...)
  An error at the user's line, as those of the library are.
  message  text, or a format for string.format
  ...      values for the format
  returns  never
  example
    print(pcall(ld.fail, 'recipe: %d is too many', 3))
]==]}
