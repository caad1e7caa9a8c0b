-- Pictures held in memory as a data set for runs that learn from pixels.
local core = require 'ld.core'
local images = require 'ld.images'
local resident = require 'ld.resident'
local take = require 'ld.take'

local Pixels = {}
Pixels.__index, Pixels.__name = Pixels, 'pixels'
Pixels.__tostring = function(self)
  return ('%d pictures of %s, %d x %d, in memory'):format(self.count, self.name, self.size, self.size)
end

local CHUNK = 256

local function middle_and_factor(device) -- of 0 .. 255 to [-1,1]
  return core.keep(core.full({3}, 127.5, {device = device})), core.keep(core.full({3}, 2 / 255, {device = device}))
end

--- pixels(set, {flip = false, seed = 0, resident = 'auto'}): every picture of an ld.images set that can be read, as u8
-- in memory; those that cannot are told. A data set for ld.run: batches have x (N,3,size,size) f32 in [-1,1] and label
-- (N) i64. flip: half of the pictures are mirrored, as (seed, images seen) says. resident: a run holds them in the
-- memory of the device that trains; 'auto' when they take at most half of what a step leaves there.
local function new(set, options)
  local o = take('pixels', options, {flip = false, seed = 0, resident = take.optional})
  o.resident = resident.check('pixels', o.resident)
  local parts, labels = {}, {}
  for at = 1, set.count, CHUNK do
    local list, bad = {}, {}
    for i = at, math.min(at + CHUNK - 1, set.count) do list[#list + 1] = i end
    parts[#parts + 1] = images.batch(set, list, function(i, why)
      bad[i] = true
      io.stderr:write(('skipped %s: %s\n'):format(set:file_name(i), why))
    end)
    for _, i in ipairs(list) do
      if not bad[i] then labels[#labels + 1] = set:label(i) end
    end
  end
  if #labels == 0 then core.fail(('pixels: none of the %d pictures of %s can be read'):format(set.count, set.name)) end
  local label = core.tensor(labels, {dtype = 'i64', device = 'cpu'})
  local self = {x = core.keep(core.concat(parts, 1)), label = core.keep(label),
                count = #labels, size = set.size, classes = set.classes, name = set.name, flip = o.flip, seed = o.seed,
                resident = o.resident}
  self.shift, self.scale = middle_and_factor('cpu')
  return setmetatable(self, Pixels)
end

--- get(indices, first): {x, label} of those pictures: labels on the CPU, x where the pictures are.
function Pixels:get(indices, first)
  return core.scope(function()
    local rows = {}
    for i, index in ipairs(indices) do rows[i] = index - 1 end
    local at = core.tensor(rows, {dtype = 'i64', device = 'cpu'})
    local x = core.augment.gather(self.x, indices, {shift = self.shift, scale = self.scale, seed = self.seed,
                                                    first = first or 0, flip = self.flip and 0.5 or 0})
    return {x = x, label = core.gather(self.label, at)}
  end)
end

--- resident_bytes(): what the pictures take in memory; place(device): take them there. nil and the reason where there
-- is no room.
function Pixels:resident_bytes() return self.x:numel() end

function Pixels:place(device)
  if self.x.device == device then return true end
  local ok, x = pcall(core.no_grad, function() return self.x:to(device) end)
  if not ok then
    if not tostring(x):find('out of memory', 1, true) then error(x, 0) end
    return nil, x
  end
  self.x = core.keep(x)
  self.shift, self.scale = middle_and_factor(device)
  return true
end

--- first(n): x of the first n pictures.
function Pixels:first(n)
  local list = {}
  for i = 1, math.min(n, self.count) do list[i] = i end
  return self:get(list).x
end

return new
