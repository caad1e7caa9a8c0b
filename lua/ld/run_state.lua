-- What a run keeps: checkpoints, resume, best. Methods of ld.run's runs (run.lua).
local core = require 'ld.core'
local checkpoint = require 'ld.checkpoint'
local host = package.loaded['ld.host'] or {}

local Run = {}

local now = core.clock

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
          ema_updates = self.ema and self.ema.average:updates() or 0, ema_decay = self.decay, seed = self.seed,
          options = plain(self.opt), extra = self.record, optimizer = self.optim.kind, best = self.best_value,
          data = self.data_name, count = self.n, mean = self.mean}
end

-- Images seen, those of the step just done included.
function Run:seen()
  return self.images + self.counted
end

--- save(path): model, optimiser, average and clock; by default the run's last.h5. Timed choices are written first, so
-- that the process that resumes computes as this one did.
function Run:save(path)
  self:settle()
  if host.save_tuning then host.save_tuning() end
  core.scope(function()
    local tensors = {optimizer = self.optim:state()}
    if self.ema then tensors.ema = self.ema:state() end
    checkpoint.write(path or self.last, {model = self.model, tensors = tensors, record = self:state_record()})
  end)
  if not path or path == self.last then self.saved_at = now() end -- another file is no use to resume from
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
  if not self.ema then return end
  local averages, updates = checkpoint.read_group(c, 'ema'), c.record.ema_updates
  if not next(averages) then averages, updates = state, 0 end -- none so far: they begin at the weights
  self.ema:load_state(averages, updates)
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

-- The value that best.h5 was kept for; last.h5 may be older.
local function best_kept(path, value)
  if not core.file_kind(path) then return value end
  local ok, c = pcall(checkpoint.open, path)
  if not ok then return value end
  c.file:close()
  local kept = c.record.best
  return kept and (not value or kept > value) and kept or value
end

function Run:resume()
  local c = checkpoint.open(self.last)
  local ok, message = pcall(core.scope, function() self:load(c) end)
  c.file:close()
  if not ok then error(message, 0) end
  local r = c.record
  core.seed(r.generator_seed, r.generator_draws)
  self.images, self.skipped, self.mean, self.before, self.resumed = r.images, r.skipped, r.mean, r, true
  self.best_value = best_kept(self.folder .. '/best.h5', r.best)
  self:say('resumed %s at %d images%s', self.last, self.images, changes(r.options or {}, self.opt))
end

--- best(value): keep best.h5 when `value` is the highest so far; returns whether it was.
function Run:best(value)
  if value ~= value or (self.best_value and value <= self.best_value) then return false end
  self.best_value = value
  self:save(self.folder .. '/best.h5')
  return true
end

return Run
