-- Frechet distance and unbiased MMD^2 of two recorded sets of features.
local ld = require 'ld'

local LIMIT = 1e-8 -- f64 on both sides

local function single(report, source, name, value)
  local group = report:group(source.name .. ' ' .. name, LIMIT)
  group:check(name, ld.tensor({value}, {dtype = 'f64'}), source:read(name))
  group:done()
end

local function check(report, source)
  local x, y = source:read('fid.x'), source:read('fid.y')
  if source:has('fid.value') then
    single(report, source, 'fid.value', ld.metrics.frechet(x, y))
    local group = report:group(source.name .. ' fid.value by Newton-Schulz', LIMIT)
    group:check('fid.value', ld.tensor({ld.metrics.frechet(x, y, {method = 'newton_schulz'})}, {dtype = 'f64'}),
                source:read('fid.value'))
    group:done()
  end
  for _, name in ipairs(source.list) do
    local n = tonumber(name:match('^kid%.unbiased_mmd2_first(%d+)$'))
    if n then single(report, source, name, ld.metrics.mmd2(x:slice(1, 1, n), y:slice(1, 1, n))) end
  end
end

return {
  title = 'metrics',
  recognise = function(source) return source:has('fid.x') and source:has('fid.y') end,
  check = check,
}
