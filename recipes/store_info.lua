-- What a store of latents holds, finished or in the making.
--   run     ldlua recipes/store_info.lua PATH [--vae PATH --samples 16 --out FOLDER]
--   vae     decodes samples into a picture; without it data/vae-small.h5 does, where the store was made with that
--   scale   latents are shown as a network would see them with this scale, beside the one that fits the data
--   bad     so many bad pictures are named
--   --quick leaves out what needs every latent: minima, maxima, statistics of an unfinished store
local ld = require 'ld'

local opt = ld.options{'path',
  path = '', vae = '', samples = 16,
  out = '',            -- folder of the picture of samples; '': beside the store
  scale = 0.18215,     -- latents are shown as a network would see them with this
  bad = 10, quick = false,
}

if opt.path == '' then ld.fail('store_info: which store? ldlua recipes/store_info.lua PATH; --help tells more') end

local path = opt.path
if not ld.file_kind(path) and ld.file_kind(path .. '.part') then path = path .. '.part' end
local store = ld.latents.open(path, {unfinished = true})
local data, info, a = store.data, store.data:info(), store.attributes

local function say(what, text, ...) print(('%-12s %s'):format(what, text:format(...))) end

local function bytes(n)
  local unit, k = {'B', 'kB', 'MB', 'GB', 'TB'}, 1
  while n >= 1000 and k < #unit do n, k = n / 1000, k + 1 end
  return (n < 100 and k > 1 and '%.1f %s' or '%.0f %s'):format(n, unit[k])
end

-- ---- what it is -----------------------------------------------------------------------------------------------------

say('store', '%s, %s', path, info.complete and 'complete'
  or ('unfinished: %d of %d rows'):format(info.done, info.count))
say('made by', '%s (%s), fed %s', a.vae, a.vae_kind, a.pixel_range)
say('weights', '%s', a.vae_hash)
say('pictures', '%s at size %s, transform %s', a.source, tostring(a.size), tostring(a.transform))
say('source', '%s', a.source_hash)
say('latents', '(%s) %s%s%s, batches of %d%s', table.concat(info.shape, ','), info.dtype,
  info.moments and ', with log-variances' or '', info.mirrored and ', with those of the mirrored pictures' or '',
  info.batch, info.shards > 0 and (', %d shards'):format(info.shards) or '')
say('on disk', '%s', bytes(info.disk_bytes))
say('in memory', '%s for training', bytes(info.bytes))
say('rows', '%d, %d done, %d valid, %d bad', info.count, info.done, info.valid, info.done - info.valid)
for _, row in ipairs(data:bad(opt.bad)) do say('  bad', '%s', data:name(row)) end
if info.done - info.valid > opt.bad then say('  bad', '... and %d more', info.done - info.valid - opt.bad) end

local twice, first, second = data:duplicates()
if twice > 0 then
  say('twice', '%d pictures have the checksum of an earlier one, e.g. %s and %s', twice, data:name(first),
    data:name(second))
else
  say('twice', '%s', info.valid > 0 and data:crc32(data:row(1)) == 0 and 'not known: the store has no checksums'
    or 'no picture')
end

-- ---- classes --------------------------------------------------------------------------------------------------------

local function classes()
  local n = #store.classes
  if n == 0 then return say('classes', 'none') end
  local counts, other = data:class_counts(n)
  local low, high, empty = math.huge, 0, 0
  for _, k in ipairs(counts) do
    low, high, empty = math.min(low, k), math.max(high, k), empty + (k == 0 and 1 or 0)
  end
  say('classes', '%d with %d to %d pictures, %d empty, %d pictures of none', n, low, high, empty, other)
  for c = 1, math.min(n, 20) do say('  class', '%d %s: %d', c - 1, store.classes[c], counts[c]) end
  if n > 20 then say('  class', '... and %d more', n - 20) end
end
classes()

-- ---- values ---------------------------------------------------------------------------------------------------------

local function table_of_values()
  local m = not opt.quick and info.valid > 0 and data:measure() or info.complete and data:statistics()
  if not m then return say('values', 'none yet') end
  local variance = 0
  for _, s in ipairs(m.std) do variance = variance + s * s / #m.std end
  local fit = variance > 0 and 1 / math.sqrt(variance) or 1
  say('values', 'by channel, then as a network sees them with scale %.4g (fits the data, with a shift) and %.4g', fit,
    opt.scale)
  for c = 1, #m.mean do
    local range = m.min and (' %8.3f to %7.3f'):format(m.min[c], m.max[c]) or ''
    say('  ' .. c, 'mean %8.4f, std %7.4f%s;  mean 0, std %.3f;  mean %6.3f, std %.3f', m.mean[c], m.std[c], range,
      m.std[c] * fit, m.mean[c] * opt.scale, m.std[c] * opt.scale)
  end
  if m.bad then say('values', 'row %d, %s, has values that are not finite', m.bad, data:name(m.bad)) end
end
table_of_values()

-- ---- samples --------------------------------------------------------------------------------------------------------

local function autoencoder()
  local name = opt.vae ~= '' and opt.vae or 'data/vae-small.h5'
  local vae = ld.vae.load(name, {range = a.pixel_range})
  if opt.vae ~= '' then
    store:check_vae(vae)
    return vae
  end
  if vae.hash == a.vae_hash then return vae end
  say('samples', 'none: decoding needs the weights of %s (%s...): name them with --vae', a.vae, a.vae_hash:sub(1, 12))
end

local function samples()
  local n = math.min(opt.samples, store.count)
  local vae = n > 0 and autoencoder()
  if not vae then return end
  local list = {}
  for k = 0, n - 1 do list[k + 1] = math.floor(k * store.count / n) + 1 end
  local out = path:gsub('%.part$', ''):gsub('%.h5$', '') .. '-samples.png'
  if opt.out ~= '' then
    ld.make_dirs(opt.out)
    out = opt.out .. '/samples.png'
  end
  ld.save_image(ld.grid(vae:decode_images(store:get(list).x)), out, {store = path, vae = a.vae})
  say('samples', '%d decoded into %s', n, out)
end
samples()
