-- Modules: layers of the core and networks composed of them.
--
-- A module has named children in order of assignment; dotted paths of names equal PyTorch's where there is a
-- counterpart. Define one with nn.class, compose with nn.sequential and nn.list, call it like a function.
local core = require 'ld.core'
local take = require 'ld.take'

local nn = {}
local Module = {}
Module.__index, Module.__name = Module, 'net'

local function is_module(v)
  return type(v) == 'table' and rawget(v, '_order') ~= nil
end
nn.is_module = is_module

-- First assignment of a field: children and tensors are listed, in order. A tensor that requires a gradient then is a
-- parameter from then on, another a buffer.
local function remember(self, key, value)
  if is_module(value) or core.is_tensor(value) then
    local order = rawget(self, '_order')
    order[#order + 1] = key
    if not is_module(value) then
      core.keep(value)
      rawget(self, '_kind')[key] = value.requires_grad and 'parameters' or 'buffers'
    end
  end
  rawset(self, key, value)
end

local function forward(self, ...)
  return self:forward(...)
end

--- nn.class(name, init): a class whose instances are modules. init(self, options) builds the children.
--   local Block = nn.class('Block', function(self, o) self.conv = nn.conv2d{...} end)
--   function Block:forward(x) return self.conv(x) end
--   local b = Block{...}
function nn.class(name, init)
  local class = setmetatable({}, {
    __index = Module,
    __call = function(class, ...)
      local self = setmetatable({_order = {}, _kind = {}, training = true}, class)
      if init then init(self, ...) end
      return self
    end,
  })
  class.__index, class.__newindex, class.__call, class.name = class, remember, forward, name
  class.__tostring = Module.tree
  return class
end

function Module:forward()
  core.fail(('%s has no forward'):format(self.name or 'this module'))
end

-- Numbered children count from 0 in paths, as PyTorch's, and from 1 in Lua.
local function path_of(prefix, key)
  local part = type(key) == 'number' and tostring(key - 1) or key
  return prefix == '' and part or prefix .. '.' .. part
end

--- Every module below and itself, as (path, module), parents first: for path, m in net:modules() do ... end
function Module:modules()
  local list = {}
  local function walk(m, path)
    list[#list + 1] = {path, m}
    for _, key in ipairs(rawget(m, '_order')) do
      local child = rawget(m, key)
      if is_module(child) then walk(child, path_of(path, key)) end
    end
  end
  walk(self, '')
  local i = 0
  return function()
    i = i + 1
    if list[i] then return list[i][1], list[i][2] end
  end
end

-- Named tensors of one kind: {path, tensor} in order.
local function collect(self, kind)
  local out = {}
  for path, m in self:modules() do
    local layer = rawget(m, 'layer')
    if layer then
      for _, entry in ipairs(layer[kind](layer)) do out[#out + 1] = {path_of(path, entry[1]), entry[2]} end
    end
    for _, key in ipairs(rawget(m, '_order')) do
      local x = rawget(m, key)
      if core.is_tensor(x) and rawget(m, '_kind')[key] == kind then out[#out + 1] = {path_of(path, key), x} end
    end
  end
  return out
end

--- {name, tensor} of every parameter, and of every buffer, in order.
function Module:named_parameters() return collect(self, 'parameters') end
function Module:named_buffers() return collect(self, 'buffers') end

local function second(list)
  for i, entry in ipairs(list) do list[i] = entry[2] end
  return list
end

--- The parameters as a list, for optimisers.
function Module:parameters() return second(self:named_parameters()) end
function Module:buffers() return second(self:named_buffers()) end

--- All parameters and buffers by path; the tensors share storage with the network.
function Module:state()
  local out = {}
  for _, entry in ipairs(self:named_parameters()) do out[entry[1]] = entry[2] end
  for _, entry in ipairs(self:named_buffers()) do out[entry[1]] = entry[2] end
  return out
end

local function shape_text(shape)
  return '(' .. table.concat(shape, ',') .. ')'
end

local function list_some(title, names)
  if #names == 0 then return '' end
  table.sort(names)
  local shown = {}
  for i = 1, math.min(#names, 6) do shown[i] = names[i] end
  return ('; %d %s: %s%s'):format(#names, title, table.concat(shown, ', '), #names > 6 and ', ...' or '')
end

--- Copy tensors by path into the network. Every shape is checked before anything is copied; options: strict (true),
-- name (for messages), ignore (a pattern of paths that may be missing).
function Module:load_state(state, options)
  options = take('load_state', options, {strict = true, name = 'the state', ignore = take.optional})
  if type(state) ~= 'table' then core.fail(('load_state: tensors by path are needed, not %s'):format(type(state))) end
  for path, x in pairs(state) do
    if not core.is_tensor(x) then
      core.fail(('load_state: %s is a %s, not a tensor'):format(tostring(path), type(x)))
    end
  end
  local missing, unexpected, wrong, own = {}, {}, {}, self:state()
  for path, x in pairs(own) do
    local given = state[path]
    if not given then
      if not (options.ignore and path:match(options.ignore)) and not path:match('num_batches_tracked$') then
        missing[#missing + 1] = path
      end
    elseif shape_text(given.shape) ~= shape_text(x.shape) then
      wrong[#wrong + 1] = ('%s is %s, needed %s'):format(path, shape_text(given.shape), shape_text(x.shape))
    end
  end
  for path in pairs(state) do
    if own[path] == nil then unexpected[#unexpected + 1] = path end
  end
  if #wrong > 0 or (options.strict and (#missing > 0 or #unexpected > 0)) then
    core.fail(('load_state: %s does not fit the network%s%s%s'):format(options.name,
      list_some('missing', missing), list_some('unexpected', unexpected), list_some('misshapen', wrong)))
  end
  core.no_grad(function()
    for path, x in pairs(own) do
      if state[path] then x:copy_(state[path]) end
    end
  end)
  return self
end

local function each_layer(self, f)
  for _, m in self:modules() do
    local layer = rawget(m, 'layer')
    if layer then f(layer) end
  end
  return self
end

--- Training mode (batch statistics, dropout) on or off.
function Module:train(on)
  on = on ~= false
  for _, m in self:modules() do rawset(m, 'training', on) end
  return each_layer(self, function(layer) layer:train(on) end)
end
function Module:eval() return self:train(false) end

-- f(module, key, tensor, kind) for every tensor that is a module's own field.
local function each_tensor(self, f)
  for _, m in self:modules() do
    for key, kind in pairs(rawget(m, '_kind')) do
      local x = rawget(m, key)
      if core.is_tensor(x) then f(m, key, x, kind) end
    end
  end
  return self
end

local is_float = {f32 = true, bf16 = true, f16 = true, f64 = true}

--- Another dtype ('f64') or device. Parameters of layers stay the same objects; a tensor that is itself a field is
-- replaced, so that optimisers and averages of it are made afterwards.
function Module:to(what)
  each_layer(self, function(layer) layer:to(what) end)
  return each_tensor(self, function(m, key, x)
    if is_float[what] and not is_float[x.dtype] then return end
    local y = core.keep(x:detach():to(what))
    rawset(m, key, x.requires_grad and y:requires_grad_() or y)
  end)
end

function Module:cuda() return self:to('cuda') end
function Module:cpu() return self:to('cpu') end

--- Where the network lies: the device of its first parameter, or the default device where it has none.
function Module:device()
  local first = self:parameters()[1]
  return first and first.device or core.default_device()
end

--- Whether gradients of the parameters are wanted.
function Module:requires_grad_(on)
  each_layer(self, function(layer) layer:require_grad(on ~= false) end)
  return each_tensor(self, function(_, _, x, kind)
    if kind == 'parameters' then x:requires_grad_(on ~= false) end
  end)
end
function Module:freeze() return self:requires_grad_(false):eval() end

function Module:zero_grad()
  for _, x in ipairs(self:parameters()) do x:zero_grad() end
  return self
end

--- Numbers of parameters, tensors among them, and running values.
function Module:count()
  local n, tensors, buffers = 0, 0, 0
  for _, x in ipairs(self:parameters()) do n, tensors = n + x:numel(), tensors + 1 end
  for _, entry in ipairs(self:named_buffers()) do
    if not entry[1]:match('num_batches_tracked$') then buffers = buffers + entry[2]:numel() end
  end
  return n, tensors, buffers
end

local function thousands(n)
  local s = ('%d'):format(n):reverse():gsub('(%d%d%d)', '%1 '):reverse()
  return (s:gsub('^ ', ''))
end

--- The network as a tree with shapes and counts of parameters.
function Module:tree()
  local lines = {}
  local function walk(m, name, indent)
    local layer, n = rawget(m, 'layer'), m:count()
    local text = layer and layer:describe() or m.name or 'module'
    local count = n > 0 and '  ' .. thousands(n) or ''
    lines[#lines + 1] = ('%s%s%s%s'):format(('  '):rep(indent), name and name .. ': ' or '', text, count)
    for _, key in ipairs(rawget(m, '_order')) do
      local child = rawget(m, key)
      local label = type(key) == 'number' and tostring(key - 1) or key
      if is_module(child) then
        walk(child, label, indent + 1)
      elseif child then
        lines[#lines + 1] = ('%s%s: tensor %s'):format(('  '):rep(indent + 1), label, child:describe())
      end
    end
  end
  walk(self, nil, 0)
  return table.concat(lines, '\n')
end

-- ---- layers of the core -------------------------------------------------------------------------------------------

local Layer = nn.class('layer')
local function layer_forward(self, x)
  return self.layer:forward(x)
end
Layer.forward = layer_forward

-- A layer as this file makes it, its forward not replaced, whose kind is in the set.
local function plain_layer(m, kinds)
  local layer = m and rawget(m, 'layer')
  return layer and m.forward == layer_forward and kinds[layer:type()] and layer
end
local norms = {batch_norm = true, group_norm = true}
local acts = {identity = true, relu = true, leaky = true, silu = true}

--- nn.norm_act(norm, act, x, film): act(norm(x * (1 + scale) + shift)) as one operation that keeps only x for the
-- gradient. norm is an nn.batch_norm or nn.group_norm, act an activation or nil; film (N,2C), which may be nil, holds
-- scale, then shift, by sample and channel. nn.sequential joins a norm and an activation that follows by itself.
function nn.norm_act(norm, act, x, film)
  if not is_module(norm) or not rawget(norm, 'layer') then
    core.fail(('nn.norm_act: the norm is a %s, not a layer'):format(is_module(norm) and norm.name or type(norm)))
  end
  if act ~= nil and not (is_module(act) and rawget(act, 'layer')) then
    core.fail(('nn.norm_act: the activation is a %s, not a layer'):format(is_module(act) and act.name or type(act)))
  end
  return norm.layer:norm_act(act and act.layer, x, film)
end

for name, make in pairs(core.layer) do
  nn[name] = function(options)
    local m = Layer()
    rawset(m, 'layer', make(options))
    return m
  end
end

-- Activations by name: nn.silu(), nn.relu(), nn.general_relu{slope = 0.1, sub = 0.4}
for _, kind in ipairs{'identity', 'relu', 'silu', 'gelu', 'tanh', 'sigmoid'} do
  nn[kind] = function(options)
    take('nn.' .. kind, options, {})
    return nn.activation{kind = kind}
  end
end
function nn.leaky_relu(options)
  local o = take('nn.leaky_relu', options, {slope = 0.01})
  return nn.activation{kind = 'leaky', slope = o.slope}
end
function nn.general_relu(options)
  local o = take('nn.general_relu', options, {slope = 0.1, sub = 0.4})
  return nn.activation{kind = 'leaky', slope = o.slope, sub = o.sub}
end

-- ---- composition --------------------------------------------------------------------------------------------------

-- Puts the modules of a list into self by number.
local function fill(who, self, list, ...)
  if type(list) ~= 'table' or is_module(list) or select('#', ...) > 0 then
    core.fail(('%s: one table of modules was expected, as in %s{a, b}'):format(who, who))
  end
  for key, m in pairs(list) do
    if type(key) ~= 'number' then core.fail(("%s: '%s' is no position"):format(who, tostring(key))) end
    if not is_module(m) then core.fail(('%s: entry %d is a %s, not a module'):format(who, key, type(m))) end
  end
  for i = 1, table.maxn(list) do
    if not list[i] then core.fail(('%s: entry %d is nil, not a module'):format(who, i)) end
    self[i] = list[i]
  end
end

--- nn.sequential{a, b, c}: each applied to the result of the one before; children are named 0, 1, 2 in paths. A batch
-- or group norm and an activation right behind it are computed as one, with the same result (see nn.norm_act).
local Sequential = nn.class('sequential', function(self, ...) fill('nn.sequential', self, ...) end)
function Sequential:forward(x)
  local i, n = 1, #self._order
  while i <= n do
    local norm = plain_layer(self[i], norms)
    local act = norm and plain_layer(self[i + 1], acts)
    if act then
      x = norm:norm_act(act, x)
      i = i + 2
    else
      x = self[i](x)
      i = i + 1
    end
  end
  return x
end
function nn.sequential(...) return Sequential(...) end

--- nn.list{a, b}: modules kept by number, applied by the owner.
local List = nn.class('list', function(self, ...) fill('nn.list', self, ...) end)
function List:append(m)
  if not is_module(m) then core.fail(('nn.list: append takes a module, not a %s'):format(type(m))) end
  self[#self._order + 1] = m
  return self
end
function List:size() return #self._order end
function nn.list(list, ...) return List(list or {}, ...) end

--- nn.wide(x): x, in f32 where it has 16 bits: what a network gives whatever it computes in (ld.precision).
function nn.wide(x)
  return (x.dtype == 'bf16' or x.dtype == 'f16') and x:f32() or x
end

--- nn.func(f): a function as a module without parameters.
local Func = nn.class('function', function(self, f) rawset(self, 'f', f) end)
function Func:forward(...) return self.f(...) end
function nn.func(f)
  if type(f) ~= 'function' then core.fail(('nn.func: a function was expected, not a %s'):format(type(f))) end
  return Func(f)
end

return take.names('nn', nn)
