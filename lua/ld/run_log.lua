-- What a run tells: log.jsonl, the live line, messages. Methods of ld.run's runs (run.lua).
local core = require 'ld.core'

local Run = {}

local now = core.clock

-- A kill may have left half a line at the end of the log: it is cut off.
function Run:mend_log()
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

-- at: where the run was in a step that is counted later (run_graph.lua).
function Run:count(value, parts, norm, at)
  self.in_a_row = 0
  local s = self.sums
  s.n, s.loss, s.norm = s.n + 1, (s.loss or 0) + value, (s.norm or 0) + norm
  for key, part in pairs(parts or {}) do
    s.parts[key] = (s.parts[key] or 0) + (type(part) == 'number' and part or part:item())
  end
  if s.n >= self.log_every then self:write_sums(at) end
  self:line()
end

function Run:flush_log()
  self:settle()
  self:write_sums()
end

function Run:write_sums(at)
  local s = self.sums
  if s.n == 0 then return end
  local entry = {images = at and at.images or self:seen(), loss = s.loss / s.n,
                 gradient_norm = s.norm / s.n, lr = at and at.lr or self.optim.lr, images_per_second = self:speed(),
                 memory_live = core.memory().live, skipped = self.skipped}
  for key, sum in pairs(s.parts) do entry[key] = sum / s.n end
  self:log(entry)
  self.mean = entry
  self.sums = {n = 0, parts = {}}
end

--- log{...}: one line of log.jsonl, with the time.
function Run:log(entry)
  entry.time = now()
  local line = core.json_encode(entry) .. '\n'
  local f, why = io.open(self.log_path, 'a')
  local ok = f
  if f then
    ok, why = f:write(line)
    local closed, late = f:close()
    if not closed then ok, why = false, late end
  end
  if not ok then core.fail(('run: cannot write %s: %s'):format(self.log_path, tostring(why))) end
end

function Run:speed()
  local seconds = now() - self.started
  return seconds > 0 and (self:seen() - self.start_images) / seconds or 0
end

local function duration(seconds)
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
  if speed > 0 then text = text .. '  ' .. duration((self.total_images - seen) / speed) .. ' left' end
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
