-- What a checkpoint of a run holds, and going on from one. Methods of ld.run's runs (run.lua).
local core = require 'ld.core'
local checkpoint = require 'ld.checkpoint'
local ranks = require 'ld.ranks'
local host = package.loaded['ld.host'] or {}

local Run = {}

local function plain(opt)
  local out = {}
  for key, value in pairs(opt or {}) do
    if type(value) ~= 'function' and type(value) ~= 'userdata' then out[key] = value end
  end
  return out
end

function Run:state_record()
  local seed, draws = core.seed()
  return {images = self:seen(), skipped = self.skipped, generator_seed = seed, generator_draws = draws,
          averages = self.ema and self.ema:record(), seed = self.seed,
          options = plain(self.opt), extra = self.record, optimizer = self.optim.kind, best = self.best_value,
          data = self.data_name, count = self.n, batch = self.schedule_batch, mean = self.mean,
          changes = self.changes[1] and self.changes}
end

-- Images seen, those of the step just done included.
function Run:seen()
  return self.images + self.counted
end

-- Writes model, optimiser, averages and clock. Timed choices are written first, so that the process that resumes
-- computes as this one did.
function Run:write_state(path)
  self:settle()
  if host.save_tuning then host.save_tuning() end
  core.scope(function()
    local parts = {model = self.model, tensors = {optimizer = self.optim:state()}, record = self:state_record()}
    for name, averages in pairs(self.ema and self.ema:groups() or {}) do parts.tensors[name] = averages end
    self:check_room(checkpoint.bytes(parts))
    checkpoint.write(path, parts)
  end)
end

-- The checkpoint must be of the same kind of network and optimiser.
function Run:check_kind(c)
  for _, kind in ipairs{{c.model_name, self.model.name}, {c.record.optimizer, self.optim.kind}} do
    if kind[1] ~= kind[2] then
      core.fail(("run: %s was trained with '%s', this recipe has '%s'; choose another folder"):format(self.last,
        tostring(kind[1]), tostring(kind[2])))
    end
  end
end

function Run:load(c)
  self:check_kind(c)
  local state = checkpoint.read_group(c, 'model')
  self.model:load_state(state, {name = self.last})
  self.optim:load_state(checkpoint.read_group(c, 'optimizer'))
  if self.ema then self.ema:load(c, state) end
end

-- Options that are not what they were, as text.
local function changes(before, opt)
  local changed = {}
  for key, value in pairs(plain(opt)) do
    if core.json_encode(before[key]) ~= core.json_encode(value) then
      changed[#changed + 1] = ('%s %s -> %s'):format(key, core.json_encode(before[key]), core.json_encode(value))
    end
  end
  table.sort(changed)
  return #changed > 0 and '; options changed: ' .. table.concat(changed, ', ') or ''
end

-- Goes on from the newest good checkpoint, where there is one.
function Run:resume()
  local c, path = ranks.first(function() return self:newest_good() end)
  if not c then return end
  local ok, message = pcall(core.scope, function() self:load(c) end)
  c.file:close()
  if not ok then error(message, 0) end
  local r = c.record
  core.seed(r.generator_seed, r.generator_draws)
  self.images, self.skipped, self.mean, self.before, self.resumed = r.images, r.skipped, r.mean, r, true
  self.best_value = self:best_kept(r.best)
  self:say('resumed %s at %d images%s', path, self.images, changes(r.options or {}, self.opt))
end

return Run
