-- The machine a measurement is from, and how busy other programs keep it meanwhile.
local machine = {}

local function read(path)
  local f = io.open(path)
  if not f then return nil end
  local text = f:read('*a')
  f:close()
  return text
end

local function shell(command)
  local pipe = io.popen(command .. ' 2>/dev/null')
  local text = pipe:read('*a')
  pipe:close()
  return (text:gsub('%s+$', ''))
end

-- Numbers of a list such as 0-3,8
local function expand(list)
  local out = {}
  for from, to in list:gmatch('(%d+)%-?(%d*)') do
    for i = tonumber(from), tonumber(to ~= '' and to or from) do out[#out + 1] = i end
  end
  return out
end

--- The first n physical cores this process may use: logical processors that are the first of their core.
function machine.cores(n)
  local allowed = expand((read('/proc/self/status') or ''):match('Cpus_allowed_list:%s*(%S+)') or '0')
  local out = {}
  for _, cpu in ipairs(allowed) do
    local siblings = read(('/sys/devices/system/cpu/cpu%d/topology/thread_siblings_list'):format(cpu))
    if not siblings or expand(siblings)[1] == cpu then out[#out + 1] = cpu end
    if #out == n then break end
  end
  return out
end

--- Ticks that the given logical processors have spent on anything, stolen time included.
function machine.busy(cores)
  local wanted, sum = {}, 0
  for _, cpu in ipairs(cores) do wanted[cpu] = true end
  for cpu, rest in (read('/proc/stat') or ''):gmatch('cpu(%d+) ([^\n]*)') do
    if wanted[tonumber(cpu)] then
      local field = {}
      for number in rest:gmatch('%d+') do field[#field + 1] = tonumber(number) end
      for i = 1, 8 do
        if i ~= 4 and i ~= 5 then sum = sum + (field[i] or 0) end -- not idle, not waiting for the disk
      end
    end
  end
  return sum
end

--- Ticks of this process's children that have ended.
function machine.children()
  local fields = {}
  for word in ((read('/proc/self/stat') or ''):match('%)%s(.*)') or ''):gmatch('%S+') do fields[#fields + 1] = word end
  return (tonumber(fields[14]) or 0) + (tonumber(fields[15]) or 0)
end

function machine.ticks_per_second() return tonumber(shell('getconf CLK_TCK')) or 100 end

--- One line: processor, cores used, memory.
function machine.describe(cores)
  local cpu = read('/proc/cpuinfo') or ''
  local name = (cpu:match('model name%s*:%s*([^\n]+)') or 'unknown processor'):gsub('%s+', ' ')
  local sets = {}
  for _, flag in ipairs{'avx2', 'avx512f', 'avx512_bf16', 'amx_bf16'} do
    if cpu:find('[%s]' .. flag .. '%f[%s]') then sets[#sets + 1] = flag end
  end
  local kb = (read('/proc/meminfo') or ''):match('MemTotal:%s*(%d+)')
  return ('%s (%s), %d cores used, %.0f GB'):format(name, #sets > 0 and table.concat(sets, ' ') or 'no AVX2', #cores,
    (tonumber(kb) or 0) / 1e6)
end

--- The commit, with a note when files differ from it.
function machine.commit()
  local commit = shell('git rev-parse --short=10 HEAD')
  if commit == '' then return 'unknown' end
  return shell('git status --porcelain --untracked-files=no') == '' and commit or commit .. ' with changes'
end

--- Library versions that decide speed.
function machine.libraries()
  local version = shell('pkg-config --modversion dnnl')
  return version ~= '' and 'oneDNN ' .. version or nil
end

machine.shell = shell
return machine
