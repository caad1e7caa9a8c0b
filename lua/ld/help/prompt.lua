-- The prompt.
return {title = 'The prompt', internal = [[
  ld.help.entry ld.help.search ld.help.show ld.help.near ld.help.options ld.help.class ld.help.markdown
  ld.terminal_mode ld.terminal_size ld.terminal_picture
  ld.help.found ld.help.index ld.note_makers ld.help.all ld.help.class_names]], [==[
ld.repr(value)
  How a value is printed at the prompt.
  value    anything
  returns  text
  example
    print(ld.repr{a = 1, b = {2, 3}})

ld.show(x, {mode = nil, columns = nil, vae = nil, path = nil, as = nil, key = 'loss', bins = 64})
  Shows a picture in the terminal; where there is none, or no libchafa, writes a file and says where.
  x        (3,H,W) or (N,3,H,W), u8 or floats in [0,1]: pictures; other floats (C,H,W) or (N,C,H,W): latents; tensors
           of another shape: a histogram; a list of numbers: a curve; a run's folder or log.jsonl: a curve of it; the
           path of a picture
  mode     'half', 'sixel', 'kitty' or 'iterm'; nil: what the terminal can, as the environment or it says
  columns  width in characters
  vae      decodes latents; without it their first three channels are shown
  path     write this file instead: PNG, or SVG for curves and histograms
  as       'picture', 'latent' or 'histogram', where the shape would say otherwise
  key      which number of log.jsonl
  bins     of a histogram
  returns  the file's path, or nothing
  example
    ld.show(ld.faces(4, {size = 32}), {mode = 'half'})
    ld.show{3, 2, 1.5}

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
