-- What U-Net and classifier files have in common: parameters, gradients and running statistics by name.
local network = {OUTPUT = 1e-5, GRADIENT = 1e-4}

--- The recorded parameters and running statistics into the network; strict.
function network.load(net, source)
  net:load_state(source:below('param.'), {name = source.name})
  return net
end

-- What a gradient's difference is measured against. A bias in front of a batch norm has no effect, so its gradient is
-- rounding error; biases are therefore measured against no less than a tenth of the gradient of the weight beside them.
local function scale_of(name, recorded, own, largest)
  local layer, scale = name:match('^(.*)%.bias$'), largest(recorded[name])
  local weight = layer and (recorded[layer .. '.weight'] or own[layer .. '.weight'])
  return weight and math.max(scale, 0.1 * largest(weight)) or scale
end

--- Every recorded gradient against own = {name = tensor}, as a group that is not finished yet. A file that says in its
-- metadata that it is reduced may lack some.
function network.gradients(report, source, own, title)
  local group = report:group(source.name .. ' ' .. (title or 'train.grad'), network.GRADIENT)
  local recorded = source:below('train.grad.')
  for name, x in pairs(recorded) do
    group:check(name, own[name], x, {scale = scale_of(name, recorded, own, report.largest)})
  end
  for name in pairs(own) do
    if not recorded[name] and not source.meta.reduced then group:check(name .. ' (not in the file)', nil) end
  end
  return group
end

--- {name = gradient} of a network, copied.
function network.own_gradients(net)
  local own = {}
  for _, entry in ipairs(net:named_parameters()) do own[entry[1]] = entry[2].grad and entry[2].grad:clone() end
  return own
end

--- Running statistics after one forward pass in training mode; then the recorded ones take their place, in eval mode.
function network.statistics(report, source, net)
  local group, state = report:group(source.name .. ' train.after', network.OUTPUT), net:state()
  local recorded = source:below('train.after.')
  for name, x in pairs(recorded) do group:check(name, state[name], x) end
  for name in pairs(state) do
    if name:match('running_%a+$') and not recorded[name] then group:check(name .. ' (not in the file)', nil) end
  end
  group:done()
  for name, x in pairs(recorded) do
    if state[name] then state[name]:copy_(x) end
  end
  net:eval()
end

--- One tensor as a group of its own.
function network.one(report, source, name, got, limit)
  local group = report:group(source.name .. ' ' .. name, limit or network.OUTPUT)
  group:check(name, got, source:read(name))
  group:done()
end

return network
