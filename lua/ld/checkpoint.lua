-- Checkpoints: HDF5 files with a network's tensors under /model by dotted path, its options, and whatever else a run
-- adds.
local core = require 'ld.core'

local checkpoint = {}

-- Names in an order of their own, so that equal contents give equal bytes.
local function in_order(t)
  local names = {}
  for name in pairs(t) do names[#names + 1] = name end
  table.sort(names)
  return names
end

--- write(path, parts): parts.model (a module), parts.tensors ({group = {name = tensor}}), parts.record (a table of
-- plain values, stored as JSON). Written safely: whoever reads `path` sees the old file or the new one, whose bytes
-- have been read back and summed.
function checkpoint.write(path, parts)
  local f = core.h5_create_summed(path)
  local ok, message = pcall(function()
    f:attribute('/', 'format', 'ldlua checkpoint 1')
    f:attribute('/', 'record', core.json_encode(parts.record or {}))
    local groups = {}
    for name, tensors in pairs(parts.tensors or {}) do groups[name] = tensors end
    if parts.model then
      groups.model = parts.model:state()
      f:attribute('/model', 'name', parts.model.name)
      f:attribute('/model', 'options', core.json_encode(parts.model.options or {}))
      f:attribute('/model', 'layout', 'tensors by dotted path; weights (out, in, height, width)')
    end
    for _, group in ipairs(in_order(groups)) do
      for _, name in ipairs(in_order(groups[group])) do f:write(group .. '/' .. name, groups[group][name]) end
    end
  end)
  if not ok then
    f:close()
    error(message, 0)
  end
  f:commit()
end

local SIZES = {f64 = 8, i64 = 8, f32 = 4, i32 = 4, f16 = 2, bf16 = 2, u8 = 1}

--- bytes(parts): about what write(path, parts) takes on the disk, rather more than less.
function checkpoint.bytes(parts)
  local n = 2 ^ 16 + 2 * #core.json_encode(parts.record or {})
  local function add(tensors)
    for _, x in pairs(tensors) do
      local bytes = SIZES[x.dtype]
      for _, size in ipairs(x.shape) do bytes = bytes * size end
      n = n + bytes + 1024
    end
  end
  if parts.model then add(parts.model:state()) end
  for _, tensors in pairs(parts.tensors or {}) do add(tensors) end
  return n
end

--- open(path): {file, record, model (options), model_name}; groups are read with read_group. Close file when done. A
-- file whose bytes are not those that were written is refused.
function checkpoint.open(path)
  core.h5_check(path)
  local f = core.h5_open(path)
  local format = f:attribute('/', 'format')
  if not format or not format:match('^ldlua checkpoint') then
    f:close()
    core.fail(('checkpoint: %s is an HDF5 file, but no checkpoint of ldlua'):format(path))
  end
  return {file = f, path = path, record = core.json_decode(f:attribute('/', 'record') or '{}') or {},
          model_name = f:attribute('/model', 'name'),
          model = core.json_decode(f:attribute('/model', 'options') or '{}') or {}}
end

--- read_group(c, group): its tensors by name.
function checkpoint.read_group(c, group)
  local out = {}
  for _, name in ipairs(c.file:list(group)) do out[name] = c.file:read(group .. '/' .. name) end
  return out
end

-- Options that the constructor computes itself are not given back to it.
local function constructor_options(options)
  local o = {}
  for key, value in pairs(options) do
    if key ~= 'emb' then o[key] = value end
  end
  return o
end

--- load_model(path, name, constructor): the network in a checkpoint, built from its stored options; and the record.
function checkpoint.load_model(path, name, constructor)
  local c = checkpoint.open(path)
  if c.model_name ~= name then
    c.file:close()
    core.fail(("checkpoint: %s holds a '%s', a '%s' was needed"):format(path, tostring(c.model_name), name))
  end
  local net = constructor(constructor_options(c.model))
  core.scope(function() net:load_state(checkpoint.read_group(c, 'model'), {name = path}) end)
  c.file:close()
  rawset(net, 'record', c.record)
  return net, c.record
end

--- read_averages(path, width): the averaged parameters in a run's checkpoint, by path; see ld.ema.read.
function checkpoint.read_averages(path, width) return require('ld.ema').read(path, width) end

return checkpoint
