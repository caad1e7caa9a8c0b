-- What a run tells: log.jsonl, TensorBoard's files, the report, the live line, messages. Methods of ld.run's runs
-- (run.lua).
local core = require 'ld.core'
local ranks = require 'ld.ranks'

local Run = {}

local now = core.clock

-- A kill may have left half a line at the end of the log: it is cut off.
function Run:mend_log()
  if ranks.rank() > 0 then return end
  local path = self.log_path
  local f = io.open(path, 'rb')
  if not f then return end
  local text, why = f:read('*a')
  f:close()
  if not text then core.fail(('run: cannot read %s: %s'):format(path, why)) end
  local whole = text:match('^(.*\n)') or ''
  if #whole < #text then core.write_file(path, whole) end
end

function Run:say(text, ...)
  if self.quiet then return end
  self:clear_line()
  io.stdout:write(text:format(...), '\n')
  io.stdout:flush()
end

function Run:empty_sums()
  return {n = 0, parts = {}, busy = 0, waited = 0, images = 0}
end

-- The time since the batch was asked for, or since this was called last in the step.
function Run:time_step()
  local t = now()
  if self.asked then
    self.sums.busy = self.sums.busy + (t - self.asked)
    self.asked = t
  end
end

-- The step's pictures and the wait for them, of the next log line.
function Run:count_pictures()
  self.sums.waited, self.sums.images = self.sums.waited + self.waited, self.sums.images + self.batch.count
  self.waited = 0
end

-- A step that counted: its loss, parts and gradient's norm join the sums of the next log line. at: where the run was in
-- a step that is counted later (run_graph.lua).
function Run:count(value, parts, norm, at)
  self.in_a_row = 0
  local s = self.sums
  s.n, s.loss, s.norm = s.n + 1, (s.loss or 0) + value, (s.norm or 0) + norm
  for key, part in pairs(parts or {}) do
    s.parts[key] = (s.parts[key] or 0) + (type(part) == 'number' and part or part:item())
  end
  self:time_step()
  if not at then
    self:count_pictures()
    self.asked = nil
  end
  self:watch(value, norm, at)
  if s.n >= self.log_every then self:write_sums() end
  self:line()
end

function Run:flush_log()
  self:settle()
  self:write_sums()
end

function Run:write_sums()
  local s = self.sums
  if s.n == 0 then return end
  local entry = {images = self:seen(), loss = s.loss / s.n, gradient_norm = s.norm / s.n, lr = self.optim.lr}
  self:health_entry(entry, s)
  for key, sum in pairs(s.parts) do entry[key] = sum / s.n end
  for key, drift in pairs(self.ema and self.ema:drift() or {}) do entry[key] = drift end
  self:log(entry)
  self.mean = entry
  self.sums = self:empty_sums()
end

local function plain(t)
  local out = {}
  for key, value in pairs(t or {}) do
    if type(value) ~= 'function' and type(value) ~= 'userdata' then out[key] = value end
  end
  return out
end

-- The first line of a process: what runs, and on what.
function Run:log_beginning()
  local numbers = 0
  for _, x in ipairs(self.parameters) do numbers = numbers + x:numel() end
  self:log{event = self.resumed and 'resumed' or 'started', images = self.images, options = plain(self.opt),
           environment = require('ld.environment')(), seed = self.seed, deterministic = self.deterministic,
           model = {name = self.model.name, parameters = numbers}, optimizer = self.optim.kind, clip = self.clip}
end

-- What the run trains on and for how long.
function Run:log_data(data, epochs)
  local entry = {event = 'data', name = tostring(data.name), count = data.count, batch = self.batch_size,
                 epochs = epochs, total_images = self.total_images, total_steps = self.total_steps,
                 overfit = self.overfit > 0 and self.overfit or nil, path = data.path}
  for key, value in pairs(data.attributes or {}) do entry[key] = entry[key] or value end
  self:log(entry)
end

-- Adds text to the log; what a failure leaves of it is cut off by mend_log.
local function append(path, text)
  local f, why = io.open(path, 'a')
  if not f then return false, why end
  local ok
  ok, why = f:write(text)
  local closed, late = f:close()
  if not closed then ok, why = false, late end
  return ok, why
end

-- Lines that could not be written wait for the next one; until then training goes on. A first line that cannot be
-- written, and a last one, are errors.
function Run:write_line(line, last)
  local waiting = self.unwritten or {}
  waiting[#waiting + 1] = line
  local ok, why = true, nil
  if #waiting > 1 then ok, why = pcall(self.mend_log, self) end
  if ok then ok, why = append(self.log_path, table.concat(waiting)) end
  if ok then
    self.unwritten, self.log_begun = nil, true
    return
  end
  if last or not self.log_begun then core.fail(('run: cannot write %s: %s'):format(self.log_path, tostring(why))) end
  if not self.unwritten then
    self:say('warning: cannot write %s: %s; its lines are kept until it can be written', self.log_path, tostring(why))
  end
  self.unwritten = waiting
end

--- log{...}: one line of log.jsonl, with the time and images seen.
function Run:log(entry)
  if ranks.rank() > 0 then return end
  entry.time = now()
  entry.images = entry.images or self:seen()
  self:write_line(core.json_encode(entry) .. '\n', entry.event == 'stopped' or entry.event == 'finished')
  self:to_board(function(board) board:log(entry) end)
end

-- Telling never ends a run: what fails is said once and left out from then on.
function Run:try_to_tell(what, f)
  local ok, why = pcall(f)
  if not ok then self:say('warning: no %s from here on: %s', what, why) end
  return ok
end

function Run:to_board(f)
  if not self.tensorboard then return end
  self.tensorboard = self:try_to_tell('TensorBoard files', function()
    self.board = self.board or require('ld.tensorboard')(self.folder .. '/tb', self.images)
    f(self.board)
  end)
end

-- A picture was written: `path` lies in the run's folder.
function Run:log_image(name, path, width, height)
  local entry = {event = 'image', name = name, file = path:sub(#self.folder + 2), width = width, height = height}
  self:log(entry)
  self:to_board(function(board) board:image(entry, path) end)
  if self.finished then self:write_report() end
end

function Run:write_report()
  if ranks.rank() > 0 then return end
  if self.report_minutes <= 0 then return end
  local started = now()
  if not self:try_to_tell('report', function() require('ld.report').write(self.folder) end) then
    self.report_minutes = 0
  end
  self.report_cost, self.report_at = now() - started, now()
end

-- Between steps: the report, when it is time for it; it never takes more than a fiftieth of the time.
function Run:tell()
  if self.report_minutes <= 0 then return end
  self.report_at = self.report_at or now() - self.report_minutes * 60 + math.min(self.report_minutes * 60, 30)
  if now() - self.report_at >= math.max(self.report_minutes * 60, 50 * (self.report_cost or 0)) then
    self:write_report()
  end
end

function Run:speed()
  local seconds = now() - self.started
  return seconds > 0 and (self:seen() - self.start_images) / seconds or 0
end

function Run.duration(seconds)
  if seconds < 90 then return ('%d s'):format(seconds) end
  if seconds < 5400 then return ('%d min'):format(seconds / 60 + 0.5) end
  return ('%.1f h'):format(seconds / 3600)
end

function Run:clear_line()
  if self.line_shown then
    io.stdout:write('\r\27[K')
    self.line_shown = false
  end
end

-- The loop is over: what the live line says last stays.
function Run:end_line()
  if self.line_shown then
    io.stdout:write('\n')
    io.stdout:flush()
    self.line_shown = false
  end
end

-- The live line, once a second on a terminal; a plain line every half minute elsewhere.
function Run:line()
  local t, terminal = now(), core.terminal()
  if self.quiet or (self.line_at and t - self.line_at < (terminal and 1 or 30)) then return end
  self.line_at = t
  local seen, speed = self:seen(), self:speed()
  local s = self.sums.n > 0 and self.sums or {n = 1, loss = self.mean.loss, parts = {}}
  local text = ('epoch %d  %d/%d images  loss %.4f'):format(self.batch.epoch, seen, self.total_images, s.loss / s.n)
  local names = {}
  for key in pairs(s.parts) do names[#names + 1] = key end
  table.sort(names)
  for _, key in ipairs(names) do text = text .. ('  %s %.4f'):format(key, s.parts[key] / s.n) end
  text = text .. ('  %.1f images/s'):format(speed)
  if speed > 0 then text = text .. '  ' .. self.duration((self.total_images - seen) / speed) .. ' left' end
  if self.skipped > 0 then text = text .. ('  %d skipped'):format(self.skipped) end
  if terminal then
    io.stdout:write('\r\27[K', text)
    self.line_shown = true
  else
    io.stdout:write(text, '\n')
  end
  io.stdout:flush()
end

return Run
