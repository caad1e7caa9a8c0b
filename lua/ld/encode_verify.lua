-- Verifying a store of latents: rows chosen at random are encoded again and compared.
local core = require 'ld.core'
local take = require 'ld.take'
local batches_of = require 'ld.encode_batches'
local encode = require 'ld.encode'

-- Half a unit in the last place comes from rounding to the store's dtype, and a value near the middle may go to the
-- other side; ways of convolution differ in their sums by some 1e-5 of a latent's spread, and 0.1 % of it leaves room
-- for deep networks. A latent of another picture, transform or network is further away than that nearly everywhere.
local LAST_PLACE = {f16 = 2 ^ -10, bf16 = 2 ^ -7, f32 = 2 ^ -23}
local SPREAD = 1e-3

-- n different rows of `count`, chosen by the seed, in ascending order.
local function sample(n, count, seed)
  local rows = {}
  for i = 1, math.min(n, count) do rows[i] = core.shuffled(i, count, seed, 0) end
  table.sort(rows)
  return rows
end

-- A bitmap in which all but the rows are done.
local function all_but(rows, count)
  local parts, at, k = {}, 0, 1
  while k <= #rows do
    local byte, bits = math.floor((rows[k] - 1) / 8), 255
    while k <= #rows and math.floor((rows[k] - 1) / 8) == byte do
      bits, k = bits - 2 ^ ((rows[k] - 1) % 8), k + 1
    end
    parts[#parts + 1] = ('\255'):rep(byte - at) .. string.char(bits)
    at = byte + 1
  end
  return table.concat(parts) .. ('\255'):rep(math.ceil(count / 8) - at)
end

local Check = {}
Check.__index = Check

function Check:wrong(row, text, ...)
  self.differ[#self.differ + 1] = {row = row, name = self.set:file_name(row), why = text:format(...)}
end

-- Largest distance of a row from the store's, in standard deviations, and whether it is within what rounding explains.
function Check:distance(name, row, z)
  local stored = self.file:read_rows(name, row, 1):f32()
  local gap = core.abs(z:cpu():to(self.dtype):f32() - stored)
  local allowed = core.abs(stored) * LAST_PLACE[self.dtype] + SPREAD * self.std
  return (gap:max():item()) / self.std, (gap - allowed):max():item() <= 0
end

-- One row of a batch against the store. z: its latents by data set.
function Check:row(row, b, z)
  local f = self.file
  local function number(name) return f:read_rows(name, row, 1):tolist()[1] end
  local valid, crc = number '/valid', number '/crc32'
  if b.crc32:tolist()[1] ~= crc then
    return self:wrong(row, 'the picture has changed: CRC-32 %08x, the store has %08x', b.crc32:tolist()[1], crc)
  end
  if number '/label' ~= b.label:tolist()[1] then
    self:wrong(row, 'its class is %d, the store has %d', b.label:tolist()[1], number '/label')
  end
  if b.bad then
    if valid == 1 and f:read_rows('/latents/mean', row, 1):f32():abs():max():item() > 0 then
      self:wrong(row, 'it cannot be read now: %s', b.bad[1])
    end
    return
  end
  if valid == 0 then return self:wrong(row, 'it can be read, the store says it could not') end
  for name, x in pairs(z) do
    local d, same = self:distance(name, row, x)
    self.largest = math.max(self.largest, d)
    if not same then self:wrong(row, '%s differs by %.3g standard deviations', name, d) end
  end
end

-- Pictures of one batch (read one by one), encoded together with as many as the store's batches have.
function Check:encode(list)
  core.scope(function()
    local parts = {}
    for i = 1, self.batch do parts[i] = list[math.min(i, #list)].x end
    local x, z = core.concat(parts, 1), {}
    z['/latents/mean'], z['/latents/logvar'] = self.vae:encode_images(x, self.moments)
    if self.mirrored then
      z['/mirrored/mean'], z['/mirrored/logvar'] = self.vae:encode_images(x:flip(4), self.moments)
    end
    for i, b in ipairs(list) do
      local own = {}
      for name, y in pairs(z) do own[name] = y:slice(1, i, i) end
      self:row(b.first, b, own)
    end
  end)
  for _, b in ipairs(list) do
    for _, key in ipairs{'x', 'label', 'valid', 'crc32'} do b[key]:release() end
  end
end

--- verify(path, vae, set, {n = 64, seed = 0, quiet}): encode n rows of a store again, chosen at random, and compare
-- latents, classes and checksums. The rows meet in batches of the store's own size, so that convolutions are computed
-- in the same ways as then. A row may differ by one unit in the last place of the store's dtype and 0.1 % of the
-- latents' standard deviation: ways of convolution round differently, and another machine chooses others. Fails, naming
-- the rows that differ further and those whose picture has changed; else returns {n, largest (in standard deviations)}.
local function verify(path, vae, set, options)
  local o = take('latents.verify', options, {n = 64, seed = 0, quiet = false})
  local f = core.h5_open(path)
  local function attribute(key) return f:attribute('/', key) end
  local self = setmetatable({vae = vae, set = set, file = f, dtype = attribute 'dtype', batch = attribute 'batch',
                             moments = attribute 'moments' == 1, mirrored = attribute 'mirrored' == 1, largest = 0,
                             differ = {}}, Check)
  local rows = sample(o.n, set.count, o.seed)
  local ok, message = pcall(function()
    local wanted = encode.provenance(vae, set, {dtype = self.dtype, moments = self.moments, mirrored = self.mirrored,
                                         batch = self.batch, shards = attribute 'shards'})
    local wrong = encode.difference(path, wanted, {source_hash = true}) -- pictures that changed are named one by one
    if wrong then core.fail(('latents: %s was made otherwise: %s'):format(path, wrong)) end
    self.std = 0
    for _, s in ipairs(f:read('/statistics/std'):tolist()) do self.std = math.max(self.std, s) end
    self.std = math.max(self.std, 1e-30)
    local batches = batches_of(set, {batch = 1, done = all_but(rows, set.count), ahead = math.min(64, #rows)})
    local list = {}
    for b in function() return batches:next() end do
      list[#list + 1] = b
      if #list == self.batch then
        self:encode(list)
        list = {}
      end
    end
    if #list > 0 then self:encode(list) end
    batches:close()
  end)
  f:close()
  if not ok then error(message, 0) end
  if #self.differ > 0 then
    local lines = {}
    for i = 1, math.min(20, #self.differ) do
      local d = self.differ[i]
      lines[i] = ('  row %d, %s: %s'):format(d.row, d.name, d.why)
    end
    core.fail(('latents: of %d rows of %s that were encoded again these %d differ:\n%s%s'):format(#rows, path,
      #self.differ, table.concat(lines, '\n'), #self.differ > 20 and '\n  ...' or ''))
  end
  if not o.quiet then
    print(('verified %d rows of %s: they differ by at most %.2g standard deviations'):format(#rows, path,
      self.largest))
  end
  return {n = #rows, largest = self.largest}
end

return verify
