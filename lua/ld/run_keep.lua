-- Which checkpoints a run keeps, and which it goes on from: <folder>/checkpoints/<images seen>.h5, the newest of them
-- under the name last.h5 too, and best-<images seen>.h5, the best under the name best.h5. Methods of ld.run's runs
-- (run.lua).
--
-- A checkpoint has its name only when its bytes are on the disk and were read back, and only then are older ones
-- removed; so at every moment one that is good is there.
local core = require 'ld.core'
local checkpoint = require 'ld.checkpoint'
local ranks = require 'ld.ranks'
local take = require 'ld.take'

local keep, Run = {}, {}

local now = core.clock
local MARGIN = 2 ^ 20 -- bytes that a checkpoint leaves free, for the log

--- keep.options(given): {last = 2 (newest ones, at least 1), best = 1, every = 0 (images; the first checkpoint behind
-- each multiple stays for good, 0: none does)}
function keep.options(given)
  local o = take('run: keep', given, {last = 2, best = 1, every = 0})
  for name, least in pairs{last = 1, best = 0, every = 0} do
    if not (o[name] >= least and o[name] < math.huge and (name == 'every' or o[name] % 1 == 0)) then
      core.fail(('run: keep.%s is %g; a %snumber, at least %d, is needed'):format(name, o[name],
        name == 'every' and '' or 'whole ', least))
    end
  end
  return o
end

-- A message without the recipe's line, which has nothing to do with it.
local function without_line(message) return (tostring(message):gsub('^[^\n]-:%d+: ', '', 1)) end

local function megabytes(n) return ('%.3g MiB'):format(n / 2 ^ 20) end

function Run:checkpoint_path(images, kind)
  return ('%s/checkpoints/%s%012d.h5'):format(self.folder, kind or '', images)
end

-- The images of all checkpoints of a kind ('' or 'best-'), ascending.
function Run:generations(kind)
  local folder, list = self.folder .. '/checkpoints', {}
  if core.file_kind(folder) ~= 'folder' then return list end
  for _, name in ipairs(core.list_files(folder)) do
    local images = name:match('^' .. kind:gsub('%-', '%%-') .. '(%d+)%.h5$')
    if images then list[#list + 1] = tonumber(images) end
  end
  table.sort(list)
  return list
end

-- ---- writing --------------------------------------------------------------------------------------------------------

function Run:check_room(bytes)
  local free = core.disk_free(self.folder)
  if free and free < bytes + bytes / 64 + MARGIN then
    core.fail(('run: a checkpoint takes about %s, and the disk of %s has %s left'):format(megabytes(bytes), self.folder,
      megabytes(free)))
  end
end

-- Writes a generation and lets `name` be it too.
function Run:write_generation(kind, name)
  core.make_dirs(self.folder .. '/checkpoints')
  local path = self:checkpoint_path(self:seen(), kind)
  self:write_state(path)
  core.link_file(path, name)
end

-- Those beyond the clock are of a run that went on from an older one: they are not counted, and stay.
local function remove_old(self, kind, last, every)
  local list, kept, shelf = self:generations(kind), 0, {}
  for _, images in ipairs(list) do
    local k = every > 0 and math.floor(images / every) or 0
    if k > 0 and not shelf[k] then shelf[k] = images end
  end
  for i = #list, 1, -1 do
    local images = list[i]
    if images <= self:seen() then
      kept = kept + 1
      local stays = kept <= last or (every > 0 and shelf[math.floor(images / every)] == images)
      if not stays then os.remove(self:checkpoint_path(images, kind)) end
    end
  end
end

--- save(path): a checkpoint of model, optimiser, averages and clock: a new generation, under the name last.h5 too; with
-- a path, that file alone. An error when it cannot be written; what was there before stays.
function Run:save(path)
  if ranks.rank() > 0 then return end
  self:settle()
  if path and path ~= self.last then return self:write_state(path) end
  self:write_generation('', self.last)
  self.saved_at = now()
  remove_old(self, '', self.keep.last, self.keep.every)
end

-- While steps are skipped nothing is saved: the weights may be what makes the loss not finite.
function Run:save_is_due()
  local every, before = self.keep.every, self.images - self.advance
  local due = now() - self.saved_at >= self.save_minutes * 60
              or (every > 0 and math.floor(self.images / every) > math.floor(before / every))
  if due then self:settle() end
  return due and self.in_a_row == 0
end

-- The words for what there is when a checkpoint could not be written.
local function left(self)
  return core.file_kind(self.last) and 'the last good checkpoint is ' .. self.last or 'there is no checkpoint yet'
end

--- try_to_save(what, f): calls f, which writes `what` while training goes on: a failure is told, and no more.
function Run:try_to_save(what, f)
  local ok, message = pcall(f)
  if ok then return end
  local why = without_line(message)
  self:say('warning: no %s at %d images: %s; %s; training goes on', what, self:seen(), why, left(self))
  pcall(self.log, self, {event = 'not saved', what = what, images = self:seen(), why = why})
end

-- The next try comes when the next checkpoint would.
function Run:save_or_tell()
  self:try_to_save('checkpoint', function() self:save() end)
  self.saved_at = now()
end

-- The last checkpoint before the program ends has to be there.
function Run:save_at_end()
  self:settle()
  if self.in_a_row > 0 then return end
  local ok, message = pcall(self.save, self)
  if not ok then error(('%s; %s'):format(message, left(self)), 0) end
end

--- best(value): keep best.h5 when `value` is the highest so far; returns whether it was.
function Run:best(value)
  self:settle()
  if value ~= value or (self.best_value and value <= self.best_value) then return false end
  local before = self.best_value
  self.best_value = value
  if self.keep.best == 0 or ranks.rank() > 0 then return true end
  self:try_to_save('best.h5', function()
    local done, message = pcall(self.write_generation, self, 'best-', self.folder .. '/best.h5')
    if not done then
      self.best_value = before -- so that a later one is kept
      error(message, 0)
    end
    remove_old(self, 'best-', self.keep.best, 0)
  end)
  return true
end

-- ---- going on -------------------------------------------------------------------------------------------------------

-- Bad ones get out of the way, and the good one becomes last.h5 again.
local function set_right(self, bad, path)
  for _, b in ipairs(bad) do
    self:say('%s', b.why)
    if b.path ~= self.last then os.rename(b.path, b.path .. '.damaged') end
  end
  self:say('going back to %s', path)
  core.link_file(path, self.last)
end

-- The newest checkpoint that is good, opened, and its path; nil when there is none at all. An error when all are bad.
function Run:newest_good()
  local paths, bad, list = {}, {}, self:generations('')
  if core.file_kind(self.last) then paths[1] = self.last end
  for i = #list, 1, -1 do paths[#paths + 1] = self:checkpoint_path(list[i]) end
  for _, path in ipairs(paths) do
    local ok, c = pcall(checkpoint.open, path)
    if ok then
      if path ~= self.last and ranks.rank() == 0 then set_right(self, bad, path) end
      return c, path
    end
    bad[#bad + 1] = {path = path, why = without_line(c), error = c}
  end
  if #bad > 0 then error(bad[1].error, 0) end
end

-- The value that best.h5 was kept for; last.h5 may be older. A damaged one is to be replaced by the next.
function Run:best_kept(value)
  local path = self.folder .. '/best.h5'
  if not core.file_kind(path) then return value end
  local ok, c = pcall(checkpoint.open, path)
  if not ok then
    self:say('%s', without_line(c))
    return nil
  end
  c.file:close()
  local kept = c.record.best
  return kept and (not value or kept > value) and kept or value
end

keep.methods = Run
return keep
