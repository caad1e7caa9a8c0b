-- Exponential moving averages of a network's parameters, and using them safely with batch norm.
local core = require 'ld.core'

local EMA = {}
EMA.__index, EMA.__name = EMA, 'ema'

local ema = {}

--- ema.of(net, {decay = 0.9999, warmup = true})
function ema.of(net, options)
  options = options or {}
  local self = {net = net, decay = options.decay or 0.9999}
  self.average = core.ema(net:parameters(), {decay = self.decay, warmup = options.warmup ~= false})
  return setmetatable(self, EMA)
end

function EMA:update() self.average:update() end

-- Running statistics belong to the weights they were gathered with.
local function has_statistics(net)
  return #net:named_buffers() > 0
end

--- use(f, batches): run f with the averaged weights in the network, in eval mode, then put everything back. With batch
-- norm, `batches(i)` runs the network on the i-th of `count` batches of data; the statistics are recomputed from them.
function EMA:use(f, batches, count)
  local net, kept = self.net, {}
  if has_statistics(net) and not batches then
    core.fail('ema: the network has batch norm: pass a function that runs it on data, to recompute its statistics')
  end
  local was_training = net.training
  core.no_grad(function()
    for i, x in ipairs(net:buffers()) do kept[i] = core.keep(x:clone()) end
  end)
  self.average:swap()
  local results = {pcall(function()
    if batches then ema.recalibrate(net, batches, count or 16) end
    net:eval()
    return f()
  end)}
  self.average:swap()
  core.no_grad(function()
    for i, x in ipairs(net:buffers()) do
      x:copy_(kept[i])
      kept[i]:release()
    end
  end)
  net:train(was_training)
  if not results[1] then error(results[2], 0) end
  return unpack(results, 2, table.maxn(results))
end

-- {running value, momentum of its layer} of every batch norm.
local function running_values(net)
  local list = {}
  for path, m in net:modules() do
    local layer = rawget(m, 'layer')
    for _, entry in ipairs(layer and layer:buffers() or {}) do
      if entry[1]:match('^running_') then
        local momentum = tonumber(layer:describe():match('momentum ([^,%s%)]+)'))
        if not momentum or momentum == 0 then
          core.fail(('ema: %s keeps no running average (momentum 0); its statistics cannot be recomputed'):format(path))
        end
        list[#list + 1] = {entry[2], momentum}
      end
    end
  end
  return list
end

--- recalibrate(net, batches, count): running means and variances as the plain average over `count` batches. Dropout and
-- all else is as in training meanwhile; the network is left in the mode it was in.
function ema.recalibrate(net, batches, count)
  local values, was_training = running_values(net), net.training
  if #values == 0 then return end
  net:train()
  local ok, message = pcall(core.no_grad, function()
    local sums = {}
    for k, value in ipairs(values) do sums[k] = core.zeros_like(value[1]) end
    for i = 1, count do
      core.scope(function()
        -- from zeros, the running value after one batch is `momentum` times that batch's
        for _, value in ipairs(values) do value[1]:zero_() end
        batches(i)
        for k, value in ipairs(values) do sums[k]:axpby_(value[1], 1 / (value[2] * count), 1) end
      end)
    end
    for k, value in ipairs(values) do value[1]:copy_(sums[k]) end
  end)
  net:train(was_training)
  if not ok then error(message, 0) end
end

--- state(): the averages by parameter path, and load_state to put them back.
function EMA:state()
  local out = {}
  for i, entry in ipairs(self.net:named_parameters()) do out[entry[1]] = self.average:average(i) end
  return out
end

function EMA:load_state(state, updates)
  for i, entry in ipairs(self.net:named_parameters()) do
    local x = state[entry[1]]
    if not x then core.fail(('ema: no average of %s'):format(entry[1])) end
    self.average:load(i, x)
  end
  self.average:updates(updates)
end

return ema
