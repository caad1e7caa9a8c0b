-- What a run computes with, for its log and report: plain values by name.
local core = require 'ld.core'
local host = package.loaded['ld.host'] or {}

local function line_of(path, pattern)
  local f = io.open(path)
  if not f then return nil end
  local text = f:read('*a')
  f:close()
  return text:match(pattern)
end

--- environment(): {ldlua, luajit, processor, threads, memory (GiB), system, host, device, card, onednn, hdf5, started};
-- what the system does not tell is left out.
return function()
  local device, libraries = tostring(core.default_device()), core.libraries()
  local card = device:match('^cuda:(%d+)')
  card = card and require('ld.nvml').open(tonumber(card))
  local kib = line_of('/proc/meminfo', 'MemTotal:%s*(%d+)')
  return {ldlua = host.version, luajit = jit.version, threads = core.threads(),
          processor = line_of('/proc/cpuinfo', 'model name%s*:%s*([^\n]+)'),
          memory = kib and math.floor(kib / 2 ^ 20 * 10 + 0.5) / 10,
          system = line_of('/proc/sys/kernel/osrelease', '[^\n]+'),
          host = line_of('/proc/sys/kernel/hostname', '[^\n]+'),
          device = device, card = card and card.name, onednn = libraries.onednn, hdf5 = libraries.hdf5,
          started = os.date('!%Y-%m-%d %H:%M:%S UTC')}
end
