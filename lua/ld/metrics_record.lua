-- Evaluation of generated latents by a latent classifier's pooled features, and records of it. Nothing is decoded. The
-- numbers depend on the classifier, on N, on the sampler and on the data, so a record names them all, has the same
-- numbers of real latents against other real ones beside (the floor), and is compared with its like only. They are not
-- FID and KID as published, whose features are those of the Inception network.
local core = require 'ld.core'
local metrics = require 'ld.metrics'
local take = require 'ld.take'

local record = {}

-- A value as text that is the same for equal values.
local function text(v)
  if type(v) ~= 'table' then return type(v) == 'number' and ('%.15g'):format(v) or tostring(v) end
  local keys, parts = {}, {}
  for key in pairs(v) do keys[#keys + 1] = key end
  table.sort(keys, function(a, b) return tostring(a) < tostring(b) end)
  for i, key in ipairs(keys) do
    parts[i] = (type(key) == 'number' and '' or key .. ' ') .. text(v[key])
  end
  return table.concat(parts, ', ')
end

--- weights_hash(net): SHA-256 over the names, shapes and values of parameters and buffers; the same wherever they lie.
function record.weights_hash(net)
  local state, names = net:state(), {}
  for name in pairs(state) do names[#names + 1] = name end
  table.sort(names)
  for i, name in ipairs(names) do
    core.scope(function()
      local x = state[name]:detach():to('cpu'):contiguous()
      names[i] = ('%s (%s) %s %s'):format(name, table.concat(x.shape, ','), x.dtype, core.sha256(x:bytes()))
    end)
  end
  return core.sha256(table.concat(names, '\n'))
end

local Judge = {}
Judge.__index, Judge.__name = Judge, 'judge'

--- judge(path): a latent classifier that evaluates: {net, hash, path, record}.
function record.judge(path)
  local net = require('ld.models').classifier.load(path)
  net:freeze()
  local r = net.record
  if not (r.mean and r.std) then core.fail(('metrics: %s does not say what its latents are standardised with'):format(
    path)) end
  return setmetatable({net = net, path = path, record = r, hash = record.weights_hash(net),
                       pool = net:features()}, Judge)
end

--- features(z, batch = 128): pooled features (N,d) f32 of raw latents (N,C,h,w), on the CPU.
function Judge:features(z, batch)
  local c, device = #self.record.mean, self.net:device()
  if z.shape[2] ~= c then
    core.fail(('metrics: latents of %d channels; %s takes %d'):format(z.shape[2], self.path, c))
  end
  return core.no_grad(function()
    local mean = core.tensor(self.record.mean, {device = device}):reshape(1, c, 1, 1)
    local inverse = core.reciprocal(core.tensor(self.record.std, {device = device})):reshape(1, c, 1, 1)
    local parts, n, step = {}, z.shape[1], batch or 128
    for i = 1, n, step do
      parts[#parts + 1] = core.scope(function()
        local x = (z:slice(1, i, math.min(i + step - 1, n)):to(device) - mean) * inverse
        return (self.pool(x)):to('cpu')
      end)
    end
    return #parts == 1 and parts[1] or core.concat(parts, 1)
  end)
end

local SEED = 98 -- of the order in which rows of a store serve

-- Features of n rows of a store, from the first + 1st of that order on.
local function real_features(judge, store, first, n)
  local parts = {}
  for at = 0, n - 1, 512 do
    local list = {}
    for i = at + 1, math.min(at + 512, n) do list[#list + 1] = core.shuffled(first + i, store.count, SEED, 0) end
    parts[#parts + 1] = core.scope(function() return judge:features(store:get(list).x) end)
  end
  return #parts == 1 and parts[1] or core.concat(parts, 1)
end

local function distances(real, made, k)
  local precision, recall = metrics.precision_recall(real, made, {k = k})
  local n = real.shape[1]
  local _, off = metrics.kid(real, made, {blocks = math.min(10, math.floor(n / 2))})
  return {frechet = metrics.frechet(real, made), kid = metrics.mmd2(real, made), kid_error = off,
          precision = precision, recall = recall}
end

--- evaluate{judge, store, n, draw, sampler, ...}: a record (a plain table) of n generated latents against n real ones.
--   judge    from metrics.judge
--   store    the real latents, at least 2 n of them: n to compare with, n others for the floor
--   draw     function(n) returns n generated raw latents; sampler: what describes how, plain values
--   k = 3    of precision and recall; seed, weights, run, images: what else is to stand in the record
--   loss_judge   hash of the classifier in the loss; false: there was none; nil: nobody knows
-- Its values: frechet, kid (unbiased MMD^2 over all pairs), kid_error (standard error of the mean over ten slices, no
-- smaller than that of kid), precision, recall; its floor: the same of real against real.
function record.evaluate(options)
  local o = take('metrics.evaluate', options, {judge = take.optional, store = take.optional, n = 1000, k = 3,
    draw = take.optional, sampler = take.optional, seed = take.optional, weights = take.optional,
    run = take.optional, images = take.optional, loss_judge = take.optional}, {'judge', 'store', 'draw', 'sampler'})
  local judge, store, n = o.judge, o.store, o.n
  require('ld.demo').check_judge(judge.net, judge.path, store)
  if n < 10 or n % 1 ~= 0 or 2 * n > store.count then
    core.fail(('metrics.evaluate: n = %g; a whole number from 10 to %d is needed: half of the %d latents of %s are '
      .. 'compared with, half are the floor'):format(n, math.floor(store.count / 2), store.count, store.path))
  end
  local real = real_features(judge, store, 0, n)
  local made = judge:features(o.draw(n))
  if made.shape[1] ~= n then
    core.fail(('metrics.evaluate: draw(%d) made %d latents'):format(n, made.shape[1]))
  end
  local a, loss = store.attributes, o.loss_judge
  return {
    format = 'ldlua evaluation 1', n = n, k = o.k, sampler = o.sampler, seed = o.seed, weights = o.weights,
    run = o.run, images = o.images,
    features = {what = 'pooled features of a latent classifier', hash = judge.hash, d = real.shape[2],
                path = judge.path},
    data = {source = store.name, source_hash = a.source_hash, vae_hash = store.vae_hash,
            pixel_range = store.pixel_range, size = a.size, transform = a.transform, count = store.count,
            shape = store.shape},
    judge_of_loss = loss == nil and 'unknown' or loss == false and 'none' or loss == judge.hash and 'the same'
      or 'another',
    values = distances(real, made, o.k), floor = distances(real, real_features(judge, store, n, n), o.k),
  }
end

-- ---- records --------------------------------------------------------------------------------------------------------

--- write_record(path, r), read_record(path): as JSON.
function record.write_record(path, r)
  core.make_dirs(path:match('^(.*)/[^/]*$') or '.')
  core.write_file(path, core.json_encode(r) .. '\n')
end

function record.read_record(path)
  local f, why = io.open(path, 'rb')
  if not f then core.fail(('metrics: cannot read %s: %s'):format(path, why)) end
  local words = f:read('*a')
  f:close()
  local r = words and core.json_decode(words)
  if type(r) ~= 'table' or r.format ~= 'ldlua evaluation 1' then
    core.fail(('metrics: %s is no record of an evaluation'):format(path))
  end
  return r
end

-- What must be equal, in words.
local function conditions(r)
  return {{'N', text(r.n)}, {'k', text(r.k)}, {'features', ('%d of classifier %s'):format(r.features.d,
    r.features.hash:sub(1, 12))}, {'sampler', text(r.sampler)}, {'data', text(r.data)}}
end

--- check_comparable(records): an error that names what differs, unless N, k, features, sampler and data are the same.
function record.check_comparable(records)
  local first = conditions(records[1])
  for i = 2, #records do
    local different = {}
    for k, c in ipairs(conditions(records[i])) do
      if c[2] ~= first[k][2] then
        different[#different + 1] = ('%s (%s; %s)'):format(c[1], first[k][2], c[2])
      end
    end
    if #different > 0 then
      core.fail(('metrics: %s and %s cannot be compared, they differ in %s'):format(records[1].run or 'record 1',
        records[i].run or 'record ' .. i, table.concat(different, ' and ')))
    end
  end
end

local warnings = {
  ['the same'] = 'warning: the loss was computed by the very classifier that judges here: its numbers favour that run; '
    .. 'judge by another one',
  unknown = 'note: the run does not say by which classifier its loss was computed',
}

local function row(width, name, v, images)
  return ('%-' .. width .. 's %-10s %10.4g %12.4g +- %-8.2g %9.3f %9.3f'):format(name, images or '', v.frechet, v.kid,
    v.kid_error, v.precision, v.recall)
end

--- summary(records): comparable records as a table in text, the floor first.
function record.summary(records)
  record.check_comparable(records)
  local r, names, width = records[1], {}, 24
  for i, x in ipairs(records) do
    names[i] = (x.run or '') .. ' ' .. (x.weights or '')
    width = math.max(width, #names[i])
  end
  local lines = {
    ('N = %d generated against %d real latents; %d features pooled by the latent classifier %s (%s)'):format(r.n, r.n,
      r.features.d, r.features.hash:sub(1, 12), r.features.path),
    ("data: %s; sampler: %s; k = %d. Not comparable with FID and KID by Inception's features"):format(r.data.source,
      text(r.sampler), r.k),
    '',
    ('%-' .. width .. 's %-10s %10s %12s    %-8s %9s %9s'):format('', 'images', 'Frechet', 'KID', '', 'precision',
      'recall'),
    row(width, 'real against other real', r.floor),
  }
  for i, x in ipairs(records) do lines[#lines + 1] = row(width, names[i], x.values, x.images and text(x.images)) end
  if r.n <= r.features.d then
    lines[#lines + 1] = ('warning: N is not above the %d features: the Frechet distance says little; look at KID')
      :format(r.features.d)
  end
  for _, x in ipairs(records) do
    local w = warnings[x.judge_of_loss]
    if w then lines[#lines + 1] = w .. ' (' .. (x.run or '') .. ')' end
  end
  return table.concat(lines, '\n')
end

return record
