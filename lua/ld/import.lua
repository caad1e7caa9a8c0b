-- Latents that other programs made, from NumPy's files into a store of ours.
local core = require 'ld.core'
local take = require 'ld.take'

local BATCH = 256 -- rows at a time; a run that was stopped goes on at the first that are missing

local FLOATS = {f16 = true, bf16 = true, f32 = true, f64 = true}

-- Where rows come from: {shape, dtype, rows(first, n), name(i), label(i), classes, kind}.
local function open_source(path, o)
  local kind = core.file_kind(path)
  if not kind then core.fail(('import: there is no %s'):format(path)) end
  local f, what
  if kind == 'folder' then
    f, what = core.npy_folder(path), 'folder of .npy files'
  elseif o.shape then
    f, what = core.npy_open(path, o.shape, o.dtype), 'file of numbers'
  elseif path:match('%.npy$') then
    f, what = core.npy_open(path), '.npy file'
  else
    core.fail(('import: %s is no .npy file; numbers without a header need shape, such as 303125,4,32,32'):format(path))
  end
  local shape, dtype = f:shape()
  if #shape ~= 4 then
    core.fail(('import: %s is (%s); (N,C,h,w) is needed, or (C,h,w) for each file of a folder'):format(path,
      table.concat(shape, ',')))
  end
  if not FLOATS[dtype] then core.fail(('import: %s holds %s; f16, f32 or f64 is needed'):format(path, dtype)) end
  local folder = kind == 'folder'
  return {file = f, shape = shape, dtype = dtype, kind = what, classes = folder and f:classes() or {},
          name = function(i) return folder and (f:name(i)) or ('row-%08d'):format(i) end,
          label = function(i) return folder and (f:label(i)) or -1 end}
end

-- Classes from a file: an .npy of whole numbers, or a number a line. Called for blocks in order.
local function open_labels(path, count)
  if path:match('%.npy$') then
    local f = core.npy_open(path)
    local shape = f:shape()
    if shape[1] ~= count then
      core.fail(('import: %s has %d labels for %d latents'):format(path, shape[1], count))
    end
    return function(first, n) return core.scope(function() return f:rows(first, n):reshape(n):tolist() end) end
  end
  local f, why = io.open(path)
  if not f then core.fail(('import: cannot read %s'):format(why)) end
  local at = 0
  local function next_label()
    local line = f:read('*l')
    at = at + 1
    local label = line and tonumber(line)
    if not label or label % 1 ~= 0 then
      core.fail(('import: line %d of %s is %s; %d lines with a class number each are needed'):format(at, path,
        line and "'" .. line .. "'" or 'missing', count))
    end
    return label
  end
  return function(first, n)
    while at < first - 1 do next_label() end
    local list = {}
    for i = 1, n do list[i] = next_label() end
    local more = at == count and f:read('*a')
    if more and more:find('%S') then core.fail(('import: %s has more labels than %d latents'):format(path, count)) end
    return list
  end
end

-- Classes that have a name, where names are given: labels counted from 1 show here.
local function check_labels(list, first, classes)
  for i, label in ipairs(list) do
    if #classes > 0 and label >= #classes then
      core.fail(('import: latent %d has the class %g; those with a name are 0 to %d'):format(first + i - 1, label,
        #classes - 1))
    end
  end
end

local function lines_of(path)
  local list = {}
  for line in io.lines(path) do list[#list + 1] = line end
  return list
end

local ORDER = {'vae', 'vae_hash', 'vae_kind', 'pixel_range', 'size', 'transform', 'source', 'source_hash'}

-- What made the latents. An autoencoder that is not at hand is known by its name only.
local function provenance(path, source, o)
  local _, bytes = core.file_kind(path)
  local a = {vae = o.vae, vae_hash = 'unknown', vae_kind = 'unknown', pixel_range = o.range, size = 8 * source.shape[3],
             transform = 'unknown', source = path,
             source_hash = ('%s, %d rows, %d bytes'):format(source.kind, source.shape[1], bytes)}
  if core.file_kind(o.vae) then
    local vae = require('ld.vae').load(o.vae, {range = o.range})
    if vae.latent_channels ~= source.shape[2] then
      core.fail(('import: latents of %d channels; %s makes %d'):format(source.shape[2], vae.name, vae.latent_channels))
    end
    a.vae, a.vae_hash, a.vae_kind, a.size = vae.name, vae.hash, vae.kind, vae.factor * source.shape[3]
  end
  local list = {}
  for i, key in ipairs(ORDER) do list[i] = {key, a[key]} end
  return list
end

-- The unfinished store, an earlier one if it was begun with the same.
local function open_part(part, source, classes, attributes, o)
  local wanted = {{'dtype', o.store}, {'count', source.shape[1]}, unpack(attributes)}
  if core.file_kind(part) then
    local f = core.h5_open(part)
    for _, a in ipairs(wanted) do
      local is = f:attribute('/', a[1])
      if is ~= a[2] then
        f:close()
        core.fail(('import: %s was begun otherwise: %s is %s, now %s; delete it or choose another file'):format(part,
          a[1], tostring(is), tostring(a[2])))
      end
    end
    f:close()
  else
    core.store_create(part, {count = source.shape[1], channels = source.shape[2], height = source.shape[3],
                             width = source.shape[4], dtype = o.store, batch = BATCH, classes = classes,
                             name = source.name, attributes = attributes})
  end
  return core.store_writer(part)
end

local function copy_rows(w, source, labels, classes, o)
  local count, told = source.shape[1], core.clock()
  for first = 1, count, BATCH do
    local n = math.min(BATCH, count - first + 1)
    local list = labels and labels(first, n)
    if list then check_labels(list, first, classes) end
    if not (w:is_done(first) and w:is_done(first + n - 1)) then
      core.scope(function()
        local x = source.file:rows(first, n)
        if o.scaled ~= 1 then x = x:f32():mul(1 / o.scaled) end
        if not list then
          list = {}
          for i = 1, n do list[i] = source.label(first + i - 1) end
        end
        w:put(first, {mean = x, label = list})
      end)
    end
    if core.clock() - told > 10 and not o.quiet then
      told = core.clock()
      print(('%d of %d latents'):format(first + n - 1, count))
    end
  end
end

--- latents.import(path, out, {vae, range, shape, dtype = 'f32', labels, classes, scaled = 1, store = 'f16', quiet}):
-- the latents of one .npy file (N,C,h,w), of a folder of .npy files (C,h,w) with a sub-folder a class, or, with shape
-- and dtype, of a file of numbers without a header, into a store at `out`. vae, the autoencoder that made them: a file
-- or folder of weights, or a name alone; then nothing can check later that the right one decodes them. range: what it
-- was fed, 'signed' or 'unit'. scaled: what the latents were multiplied by; they are divided by it. labels: a file with
-- a class number from 0 for each, .npy or text; classes: a file with the names of the classes, one a line.
local function import(path, out, options)
  local o = take('latents.import', options, {vae = '', range = '', shape = take.optional, dtype = 'f32',
                                             labels = take.optional, classes = take.optional, scaled = 1,
                                             store = 'f16', quiet = false})
  if o.vae == '' then core.fail('import: option vae, what made the latents, is needed: a path or a name') end
  if o.range ~= 'signed' and o.range ~= 'unit' then
    core.fail(("import: range is '%s'; what the autoencoder was fed is needed: signed ([-1,1]) or unit ([0,1], as "
      .. "fast.ai did)"):format(o.range))
  end
  if o.scaled == 0 or o.scaled ~= o.scaled then core.fail('import: scaled must be a number other than 0') end
  if core.file_kind(out) then core.fail(('import: there is a %s already'):format(out)) end
  local source = open_source(path, o)
  local attributes = provenance(path, source, o)
  local classes = o.classes and lines_of(o.classes) or source.classes
  local labels = o.labels and open_labels(o.labels, source.shape[1])
  local folder = out:match('^(.*)/[^/]*$')
  if folder then core.make_dirs(folder) end
  core.sweep_folder(folder or '.')
  local w = open_part(out .. '.part', source, classes, attributes, o)
  local ok, message = pcall(function()
    copy_rows(w, source, labels, classes, o)
    w:finish()
  end)
  local closed, why = pcall(w.close, w)
  source.file:close()
  if not ok or not closed then error(ok and why or message, 0) end
  return require('ld.latents').open(out)
end

return import
