-- How far two runs' last checkpoints are apart: LDLUA tests/tools/compare_runs.lua A B TOLERANCE. For each group the
-- largest difference of a tensor over its largest number, and of the logged losses; an error beyond TOLERANCE. Numbers
-- below a hundredth of the group's largest count as that: a bias in front of a batch norm has a gradient of 0,
-- and what is there instead is rounding of the others.
local ld = require 'ld'
local a, b, tolerance = arg[1], arg[2], tonumber(arg[3])

local function losses(folder)
  local out = {}
  for line in io.lines(folder .. '/log.jsonl') do
    local entry = ld.core.json_decode(line)
    if entry.loss and not entry.event then out[#out + 1] = entry.loss end
  end
  return out
end

local worst, where = {}, {}
local function see(group, name, difference)
  if difference ~= difference then difference = math.huge end
  if difference > (worst[group] or -1) then worst[group], where[group] = difference, name end
end

local one, other = ld.checkpoint.open(a .. '/last.h5'), ld.checkpoint.open(b .. '/last.h5')
local tensors, largest, found = 0, {}, {}
for _, name in ipairs(one.file:list()) do
  local x, y = one.file:read(name), other.file:read(name)
  if x.dtype == 'f32' then
    local group, size = name:match '^/?([%w_]+)', x:abs():max():item()
    largest[group] = math.max(largest[group] or 0, size)
    found[name] = {group = group, size = size, difference = (x - y):abs():max():item()}
    tensors = tensors + 1
  end
end
for name, f in pairs(found) do see(f.group, name, f.difference / math.max(f.size, largest[f.group] / 100)) end
assert(tensors > 20, 'a checkpoint of a network was needed')
local la, lb = losses(a), losses(b)
assert(#la == #lb and #la > 0, ('%d and %d losses'):format(#la, #lb))
for i = 1, #la do see('loss', tostring(i), math.abs(la[i] - lb[i]) / math.abs(la[i])) end
local bad = false
for group, difference in pairs(worst) do
  print(('%s: %.2g (%s)'):format(group, difference, where[group]))
  bad = bad or difference > tolerance
end
if bad then ld.fail('beyond %g', tolerance) end
