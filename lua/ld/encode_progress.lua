-- How far an encoding is: one line that is rewritten on a terminal, a line every ten seconds elsewhere.
--
--   encoded 5120 of 50000, 36.8/s (37.1 overall), 20 min left; read 12/64 ready 3/4 write 0/8; encoding is the limit
--
-- read: files waiting to be decoded; ready: batches waiting to be encoded; write: batches waiting to be written; each
-- of the most there can be.
local core = require 'ld.core'

local Progress = {}
Progress.__index = Progress

local progress = {}

--- "45 s", "12 min", "3 h 20 min"
function progress.duration(s)
  if s ~= s or s == math.huge then return 'unknown' end
  if s < 100 then return ('%d s'):format(math.ceil(s)) end
  if s < 5400 then return ('%d min'):format(math.ceil(s / 60)) end
  local minutes = math.ceil(s / 60)
  return ('%d h %d min'):format(math.floor(minutes / 60), minutes % 60)
end

-- Which stage the others wait for, from the shares of the last seconds that the loop has waited.
local function limit(waited, written, stats)
  if written > 0.2 and written > waited then return 'waiting for the disk to write' end
  if waited <= 0.2 then return 'encoding is the limit' end
  if stats and stats.raw > 0 then return 'waiting for pictures: decoding is the limit' end
  return 'waiting for pictures: reading is the limit'
end

function Progress:queues()
  local s, w = self.batches:stats(), self.writer:stats()
  local puts = w.waiting > 0 and math.max(1, math.floor(w.room / (w.bytes / w.waiting))) or self.puts
  self.puts = puts
  local text = s and ('read %d/%d ready %d/%d '):format(s.raw, s.raw_room, s.ready, s.ready_room) or ''
  return ('%swrite %d%s'):format(text, w.waiting, puts and '/' .. puts or ''), s, w
end

-- Pictures a second over the last minute: the oldest mark that is at most a minute old.
function Progress:recent(t)
  local marks = self.marks
  marks[#marks + 1] = {t, self.now_done}
  while #marks > 2 and t - marks[1][1] > 60 do table.remove(marks, 1) end
  local first = marks[1]
  return (self.now_done - first[2]) / math.max(t - first[1], 1e-3)
end

function Progress:line(t)
  local speed = self:recent(t)
  local overall = (self.now_done - self.before) / math.max(t - self.started, 1e-3)
  local queues, s, w = self:queues()
  local span = math.max(t - self.told, 1e-3)
  local waited, written = ((s and s.take_wait or 0) - self.take_wait) / span, (w.wait - self.write_wait) / span
  self.take_wait, self.write_wait = s and s.take_wait or 0, w.wait
  local bad = self.bad.count
  local left = progress.duration((self.total - self.now_done) / speed)
  return ('encoded %d of %d, %.1f/s (%.1f overall), %s left; %s; %s%s'):format(self.now_done, self.total, speed,
    overall, left, queues, limit(waited, written, s), bad > 0 and ('; %d bad'):format(bad) or '')
end

--- count(n): n more pictures are encoded.
function Progress:count(n) self.now_done = self.now_done + n end

function Progress:tell()
  local t = core.clock()
  if self.quiet or t - self.told < (self.terminal and 1 or 10) then return end
  local line = self:line(t)
  self.told = t
  if self.terminal then
    io.stdout:write('\r', line, '\27[K')
    io.stdout:flush()
    self.shown = true
  else
    self.say('%s', line)
  end
end

function Progress:clear()
  if self.shown then io.stdout:write('\r\27[K') end
  self.shown = false
end

function Progress:finish()
  self:clear()
  local n, t = self.now_done - self.before, core.clock() - self.started
  local s, w = self.batches:stats(), self.writer:stats()
  if n == 0 then return end
  self.say('encoded %d pictures in %s, %.1f a second; waited %.1f s for pictures, %.1f s for the disk', n,
    progress.duration(t), n / math.max(t, 1e-3), s and s.take_wait or 0, w.wait)
end

local function mib(n) return ('%.0f MiB'):format(n / 2 ^ 20) end

--- new{total, done, bad, batches, writer, say, quiet}: says at once how much memory the queues may take.
function progress.new(o)
  local t = core.clock()
  local self = setmetatable({total = o.total, before = o.done, now_done = o.done, bad = o.bad, batches = o.batches,
                             writer = o.writer, say = o.say, quiet = o.quiet, terminal = core.terminal(), started = t,
                             told = t, marks = {{t, o.done}}, take_wait = 0, write_wait = 0}, Progress)
  local s, w = self.batches:stats(), self.writer:stats()
  if s and o.done < o.total then
    self.say('%d readers, %d decoders; queues of at most %s: %s of files and pictures, %s of latents', s.readers,
      s.decoders, mib(s.memory + w.room), mib(s.memory), mib(w.room))
  end
  return self
end

return progress
