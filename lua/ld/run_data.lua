-- Where a run's data set lies: batches of one that is resident in the device's memory are gathered there. Methods of
-- ld.run's runs (run.lua).
--
-- A data set that can be resident has `resident` (true, false, 'auto') and resident_bytes(), and place(device) or a
-- loader with that. With 'auto' the first batch comes from the host: whether there is room is known when a step has
-- been planned.
local ranks = require 'ld.ranks'
local resident = require 'ld.resident'

local Run = {}

local function new_loader(run, data, more)
  if not data.loader then return nil end
  local o = {batch = run.batch_size, seed = run.seed, micro = run.micro, rank = ranks.rank() + 1, ranks = ranks.count()}
  for key, value in pairs(more) do o[key] = value end
  return data:loader(o)
end

function Run:open_data(data)
  self:close_data()
  local device = data.resident_bytes and resident.device()
  local waits = device and data.resident == 'auto'
  local now = data.resident
  if waits then now = false end
  self.loader = new_loader(self, data, {resident = now})
  self.data, self.data_waits, self.data_placed = data, waits, nil
  if device and data.resident == true then
    self.data_placed = data:resident_bytes()
    if not self.loader then
      local ok, why = data:place(device)
      if not ok then resident.refuse('run', self.data_placed, device, why) end
    end
  end
end

function Run:close_data()
  if self.loader and self.loader.close then self.loader:close() end
  self.loader, self.data, self.data_waits = nil, nil, nil
end

-- The data set's part in the plan of a step's memory, which is changed; its bytes, or nil where it is not resident.
function Run:plan_data(p)
  local device = resident.device()
  if self.data_placed and p.held > p.room then
    resident.refuse('run', self.data_placed, device, ('a step needs %s with it, %s are here'):format(
      resident.amount(p.held), resident.amount(p.room)))
  end
  if self.data_waits then
    local bytes = self.data:resident_bytes()
    self.data_fits = resident.comfortable(bytes, p)
    if not self.data_fits then return nil end
    p.data = bytes
    for _, key in ipairs{'peak', 'before', 'held'} do p[key] = p[key] + bytes end
  elseif self.data_placed then
    p.data = self.data_placed
  end
  return p.data
end

--- place_data(): before a step: the data set goes to the device's memory, if it waits for that and there is room.
function Run:place_data()
  if not self.data_waits then return end
  local data, device, bytes = self.data, resident.device(), self.data:resident_bytes()
  local fits, why = self.data_fits, nil
  self.data_waits, self.data_fits = nil, nil
  if fits == nil then fits = resident.comfortable(bytes) end
  if fits then
    fits, why = (self.loader or data):place(device)
  end
  if fits then
    self.data_placed = bytes
    return
  end
  self:say('data: %s of %s beside a step are too much for %s%s; batches come from the host', resident.amount(bytes),
    tostring(data.name), device, why and ' (' .. why .. ')' or '')
  if self.loader then
    self.loader:close()
    self.loader = new_loader(self, data, {resident = 'auto', device = 'cpu'})
  end
end

return Run
