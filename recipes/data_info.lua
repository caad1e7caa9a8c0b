-- What a set of pictures holds, before anything is done with it.
--   run     ldlua recipes/data_info.lua PATH [--labels FILE] [--sample 200] [--partial]
--   path    a folder, a tar or zip (also packed tars), a folder of those, an LMDB, CIFAR's binary files; a path may go
--           on inside an archive
--   labels  a file that gives classes, such as ImageNet's lists for its validation pictures
--   sample  so many pictures are read, for their forms and sides; size: that latents are reckoned for
--   partial: take what a damaged archive has before the damage
local ld = require 'ld'

local opt = ld.options{'path', path = '', labels = '', sample = 200, size = 256, partial = false}

if opt.path == '' then ld.fail('data_info: which pictures? ldlua recipes/data_info.lua PATH; --help tells more') end

local set = ld.images.open(opt.path, {labels = opt.labels ~= '' and opt.labels or nil, partial = opt.partial})
local source = set.source
local count = source:count()

local function bytes(n)
  local unit, k = {'B', 'kB', 'MB', 'GB', 'TB'}, 1
  while n >= 1000 and k < #unit do n, k = n / 1000, k + 1 end
  return (n < 100 and k > 1 and '%.1f %s' or '%.0f %s'):format(n, unit[k])
end

local function say(what, text, ...) print(('%-9s %s'):format(what, text:format(...))) end

-- ---- a sample, spread evenly; the first ones where a packed archive would be read to its end ------------------------

local sample = {forms = {}, sides = {}, bytes = 0, n = 0, gray = 0, failed = {}}

local function look_at(i)
  local info, why = source:inspect(i)
  if why then
    sample.failed[#sample.failed + 1] = why
    return
  end
  sample.n, sample.bytes = sample.n + 1, sample.bytes + info.bytes
  sample.forms[info.format] = (sample.forms[info.format] or 0) + 1
  sample.sides[#sample.sides + 1] = {info.width, info.height}
  if info.channels == 1 then sample.gray = sample.gray + 1 end
end

local looked = math.max(1, math.min(opt.sample, count))
for k = 0, looked - 1 do look_at(source:in_order() and k + 1 or math.floor(k * count / looked) + 1) end
table.sort(sample.sides, function(a, b) return math.min(a[1], a[2]) < math.min(b[1], b[2]) end)

-- ---- what is told ---------------------------------------------------------------------------------------------------

local function total_bytes()
  if source:kind() == 'folder' and count > 200000 then -- asking for every file's size takes minutes on a slow disk
    return sample.n > 0 and sample.bytes / sample.n * count, 'about '
  end
  local sum = 0
  for i = 1, count do sum = sum + (source:bytes(i) or 0) end
  return sum, ''
end

local sum, about = total_bytes()
say('pictures', '%d in %s (%s%s)', count, opt.path, source:kind(),
  source:in_order() and ', which is cheap to read only from front to back' or '')
if sum then say('bytes', '%s%s, %s a picture', about, bytes(sum), bytes(sum / count)) end

local function tell_classes()
  local counts, without = source:class_counts()
  local names, order = source:classes(), {}
  if #names == 0 then return say('classes', 'none') end
  for c = 1, #names do order[c] = c end
  say('classes', '%d', #names)
  local function some(first, last)
    local list = {}
    for k = first, last do list[#list + 1] = ('%s %d'):format(names[order[k]], counts[order[k]]) end
    return table.concat(list, ', ') .. (last - first + 1 < #names and ', ...' or '')
  end
  say('', 'first: %s', some(1, math.min(5, #names)))
  table.sort(order, function(a, b)
    if counts[a] ~= counts[b] then return counts[a] < counts[b] end
    return a < b
  end)
  say('', 'smallest: %s %d; largest: %s %d', names[order[1]], counts[order[1]], names[order[#order]],
    counts[order[#order]])
  if without > 0 then say('', '%d pictures without a class', without) end
end
tell_classes()

local function tell_sample()
  local forms = {}
  for form, n in pairs(sample.forms) do forms[#forms + 1] = ('%d %s'):format(n, form) end
  table.sort(forms)
  say('sample', '%d %s: %s%s', looked, source:in_order() and 'first pictures' or 'pictures spread evenly',
    #forms > 0 and table.concat(forms, ', ') or 'none could be decoded',
    sample.gray > 0 and (', %d of them gray'):format(sample.gray) or '')
  local s = sample.sides
  if #s > 0 then
    local middle = s[math.ceil(#s / 2)]
    say('', 'by their shorter side: smallest %d x %d, median %d x %d, largest %d x %d', s[1][1], s[1][2], middle[1],
      middle[2], s[#s][1], s[#s][2])
  end
  if #sample.failed > 0 then
    say('', '%d cannot be read or decoded:', #sample.failed)
    for k = 1, math.min(5, #sample.failed) do say('', '  %s', sample.failed[k]) end
  end
end
tell_sample()

for _, note in ipairs(source:notes()) do say('note', '%s', note) end
local side = math.floor(opt.size / 8)
local row = 4 * side * side * 2
say('latents', '4 x %d x %d in f16 (8 times down, at %d): %s; as much again for each of moments and mirrored', side,
  side, opt.size, bytes(count * row))
say('memory', 'the list of pictures takes %s, %.0f bytes a picture', bytes(source:memory()), source:memory() / count)
