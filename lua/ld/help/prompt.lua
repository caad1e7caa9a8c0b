-- The prompt.
return {title = 'The prompt', internal = [[
  ld.help.entry ld.help.search ld.help.show ld.help.near ld.help.options ld.help.class ld.help.markdown
  ld.help.found ld.help.index ld.note_makers ld.help.all ld.help.class_names]], [==[
ld.repr(value)
  How a value is printed at the prompt.
  value    anything
  returns  text
  example
    print(ld.repr{a = 1, b = {2, 3}})

ld.profile(f)
  How long f's operations take, each apart, on the default device; at the prompt: .profile statement.
  f        function of no arguments
  returns  {seconds, ops = {{op, pass, calls, seconds}, ...}}, then f's results; pass is 'forward' or 'backward'
  errors   a profile or a plan that is under way
  example
    local w = ld.ones({64, 64}, {requires_grad = true})
    local p = ld.profile(function() w:matmul(w):sum():backward() end)
    for _, op in ipairs(p.ops) do print(op.op, op.pass, op.calls, op.seconds) end

ld.help(name)
  The entry of a public name; at the prompt also: ? name. Without a name: the subjects. ??word searches.
  name     text such as 'ld.conv2d', 'net:parameters', 'run', or a value, whose class or name is looked up
  returns  nothing; it prints
  example
    ld.help 'ld.arange'
    ld.help(ld.ones)
]==]}
