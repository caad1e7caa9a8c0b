-- ld: the module recipes require. Functions of the core, and the parts below, loaded when first named.
local core = require 'ld.core'
local host = package.loaded['ld.host'] or {}

local ld = {core = core, version = host.version, root = host.root}

if host.root then core.set_library('@' .. host.root .. '/lua/ld/') end
if host.threads then core.threads(tonumber(host.threads)) end
if host.device then
  local ok, message = pcall(core.default_device, host.device)
  if not ok then error(message:gsub('^.-: ', 'ldlua: '), 0) end
end

-- tables of the core that a Lua part of the same name extends are left to that part
local extended = {layer = true, init = true, diffusion = true, optim = true, sampler = true, schedule = true,
                  ema = true, ranks = true, precision = true}
for name, value in pairs(core) do
  if not extended[name] then ld[name] = value end
end
local take = require 'ld.take'
ld.optim = take.names('ld.optim', core.optim)
ld.sampler = take.names('ld.sampler', core.sampler)
ld.init = take.names('ld.init', core.init)

-- part name -> Lua file
local parts = {
  nn = 'ld.nn', models = 'ld.models', vae = 'ld.vae', diffusion = 'ld.diffusion', perceptual = 'ld.perceptual',
  schedule = 'ld.schedule', ema = 'ld.ema', images = 'ld.images', latents = 'ld.latents', run = 'ld.run',
  options = 'ld.options', gradcheck = 'ld.gradcheck', grid = 'ld.grid', checkpoint = 'ld.checkpoint',
  help = 'ld.help', metrics = 'ld.metrics', ranks = 'ld.ranks', pixels = 'ld.pixels', demo = 'ld.demo',
  picture_mix = 'ld.picture_mix', precision = 'ld.precision', report = 'ld.report', plot = 'ld.plot',
  health = 'ld.health', find_lr = 'ld.find_lr', show = 'ld.show', trained = 'ld.trained',
}

--- Variance over dimensions (all when nil); divided by n - 1 unless `biased`.
function ld.var(x, dims, biased)
  local mean = dims and core.mean(x, dims, true) or core.mean(x)
  local squares = core.square(x - mean)
  local v = dims and core.mean(squares, dims) or core.mean(squares)
  if biased then return v end
  local n = x:numel() / v:numel()
  return v * (n / (n - 1))
end

--- Standard deviation, as ld.var.
function ld.std(x, dims, biased)
  return core.sqrt(ld.var(x, dims, biased))
end

--- How a value is printed at the prompt.
function ld.repr(v)
  if type(v) == 'string' then return string.format('%q', v) end
  if type(v) ~= 'table' or (getmetatable(v) or {}).__tostring then return tostring(v) end
  local out, n = {}, 0
  if #v > 0 and #v <= 40 and next(v, #v) == nil then -- a short list of plain values fits on a line
    for i, value in ipairs(v) do
      out[i] = type(value) ~= 'table' and not ld.is_tensor(value) and ld.repr(value) or nil
    end
    if #out == #v then return '{' .. table.concat(out, ', ') .. '}' end
    out = {}
  end
  for key, value in pairs(v) do
    n = n + 1
    if n > 40 then out[#out + 1] = '  ...' break end
    local text = type(value) == 'table' and tostring(value) or ld.repr(value)
    if type(value) == 'userdata' and ld.is_tensor(value) then text = '[tensor ' .. value:describe() .. ']' end
    out[#out + 1] = ('  %s = %s'):format(tostring(key), (text:gsub('\n', '\n  ')))
  end
  table.sort(out)
  return n == 0 and '{}' or '{\n' .. table.concat(out, '\n') .. '\n}'
end

--- An error at the user's line: ld.fail('recipe: %d is too many', n).
function ld.fail(message, ...)
  return core.fail(select('#', ...) > 0 and message:format(...) or message)
end

-- '; did you mean ld.zeros?', or nothing.
local function near(name)
  local names = require('ld.help').near(name)
  return #names > 0 and '; did you mean ' .. table.concat(names, ', ') .. '?' or ''
end

return setmetatable(ld, {
  __index = function(t, key)
    local file = parts[key]
    if not file then core.fail(("ld has no '%s'%s"):format(tostring(key), near('ld.' .. tostring(key)))) end
    local part = require(file)
    rawset(t, key, part)
    return part
  end,
})
