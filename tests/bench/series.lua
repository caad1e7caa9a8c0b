-- What the processes of one side printed, gathered: samples by label with median and range, peaks, load by others.
local Series = {}
Series.__index = Series

function Series.new()
  return setmetatable({times = {}, peaks = {}, above = {}, live = {}, others = {}}, Series)
end

local function append(into, list)
  for _, entry in ipairs(list or {}) do
    into[entry[1]] = into[entry[1]] or {}
    table.insert(into[entry[1]], entry[2])
  end
end

--- One process's output (process.lua).
function Series:add(out)
  append(self.times, out.time)
  append(self.peaks, out.peak)
  append(self.above, out.above)
  append(self.live, out.live)
  self.others[#self.others + 1] = out.others
  self.policy, self.threads = out.policy and out.policy[1][2], out.threads and out.threads[1][2]
end

--- Median, smallest, largest of a list; nil of none.
function Series.spread(list)
  if not list or #list == 0 then return nil end
  local sorted = {}
  for i, x in ipairs(list) do sorted[i] = x end
  table.sort(sorted)
  local n = #sorted
  local middle = n % 2 == 1 and sorted[(n + 1) / 2] or (sorted[n / 2] + sorted[n / 2 + 1]) / 2
  return middle, sorted[1], sorted[n]
end

function Series:median(label) return (Series.spread(self.times[label])) end

--- The largest peak of a label over the processes: 'peaks' (resident set), 'above' (over the one before the network was
-- built), 'live' (tensors and workspace, ldlua alone knows).
function Series:largest(what, label)
  local _, _, most = Series.spread(self[what][label])
  return most
end

return Series
