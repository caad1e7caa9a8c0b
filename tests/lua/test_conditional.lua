-- Networks that know classes, guidance, drawing on from a picture or a given noise, pixels, a GAN's networks.
local ld = require 'ld'
local t = dofile 'tests/lua/harness.lua'

local tmp = os.getenv 'TEST_TMP' or '/tmp/ldlua-test-conditional'
os.execute('mkdir -p ' .. tmp)

local function unet(classes)
  ld.seed(3)
  return ld.models.unet{in_channels = 2, out_channels = 2, channels = {8, 16}, layers = 1, attention_from = 0,
                        norm = 'group', groups = 4, classes = classes}
end

local function ids(...) return ld.tensor({...}, {dtype = 'i64'}) end

t.test('labels change what the network says, and have a gradient', function()
  local net = unet(3)
  for _, entry in ipairs(net:named_parameters()) do -- the second convolutions begin at zero: then nothing gets through
    if entry[1]:match('conv2%.2%.weight$') then ld.init.normal_(entry[2], 0, 0.1) end
  end
  local x, times = ld.randn(2, 2, 8, 8), ld.tensor{0.3, 0.6}
  local a, b = net(x, times, ids(0, 1)), net(x, times, ids(0, 2))
  t.eq(a[1]:tolist(), b[1]:tolist(), 'the same label')
  t.ok((a[2] - b[2]):abs():max():item() > 1e-6, 'another label')
  net(x, times, ids(0, 3)):square():sum():backward()
  local g = net.class_emb:parameters()[1].grad
  t.eq(g.shape, {4, 32})
  t.ok(g[1]:abs():sum():item() > 0 and g[4]:abs():sum():item() > 0, 'rows that were used')
  t.eq(g[2]:abs():sum():item(), 0, 'a row that was not')
  t.raises(function() net(x, times) end, 'labels (2) i64 are needed, 0 to 2, or 3 for none')
  t.raises(function() unet(0)(x, times, ids(0, 1)) end, 'the network knows no classes')
end)

t.test('a share of the labels is left out, by the number of the picture', function()
  local seen = {}
  local net = setmetatable({options = {classes = 7}}, {__call = function(_, x, _, label)
    for _, v in ipairs(label:tolist()) do seen[#seen + 1] = v end
    return x * 0
  end})
  local model = ld.diffusion.cosine(net, {scale = 1})
  local n = 400
  local label = ld.full({n}, 2, {dtype = 'i64'})
  model:loss(ld.zeros(n, 1, 2, 2), {seed = 5, first = 0, label = label, drop = 0.25})
  local whole, none = seen, 0
  for _, v in ipairs(whole) do
    t.ok(v == 2 or v == 7)
    none = none + (v == 7 and 1 or 0)
  end
  t.ok(none > 100 - 35 and none < 100 + 35, 'a quarter; four standard deviations are 35') -- sqrt(400/4*3/4) = 8.7
  seen = {}
  model:loss(ld.zeros(100, 1, 2, 2), {seed = 5, first = 300, label = label:slice(1, 1, 100), drop = 0.25})
  local tail = {}
  for i = 301, 400 do tail[#tail + 1] = whole[i] end
  t.eq(seen, tail, 'the same pictures in another batch')
  seen = {}
  model:loss(ld.zeros(n, 1, 2, 2), {seed = 5, label = label, drop = 0})
  for _, v in ipairs(seen) do t.eq(v, 2) end
end)

-- A network whose noise is its label, everywhere.
local function label_net(classes)
  return setmetatable({options = {classes = classes}, training = false, eval = function() end, train = function() end,
                       device = function() return 'cpu' end},
    {__call = function(_, x, _, label)
      return ld.zeros(x.shape) + label:f32():reshape(x.shape[1], 1, 1, 1)
    end})
end

t.test('guidance goes from no label through the label and beyond', function()
  local model, x = ld.diffusion.cosine(label_net(10), {scale = 1}), ld.zeros(3, 1, 2, 2)
  local eps = model:predict(x, 0.5, ids(1, 2, 3), 4)
  for i = 1, 3 do t.eq(eps[{i, 1, 1, 1}]:item(), 10 + 4 * (i - 10)) end
  eps = model:predict(x, 0.5, ids(1, 2, 3), 1)
  t.eq(eps[{2, 1, 1, 1}]:item(), 2)
end)

t.test('samples by label, whatever the batch', function()
  local net = unet(3):eval()
  local model = ld.diffusion.cosine(net, {scale = 1})
  local o = {n = 5, channels = 2, size = 8, seed = 4, label = {0, 1, 2, 0, 1}, guidance = 2,
             sampler = ld.sampler.ddim{steps = 4, eta = 1}}
  local function draw(more)
    local p = {}
    for key, value in pairs(o) do p[key] = value end
    for key, value in pairs(more) do p[key] = value end
    return model:sample(p)
  end
  local whole = draw{}
  t.near(draw{batch = 2}, whole, 1e-5)
  t.near(draw{n = 1, first = 2, label = 2}[1], whole[3], 1e-5)
  t.raises(function() draw{label = {1, 2}} end, 'sample: 2 labels for 5 samples')
end)

t.test('from a picture, and from given noise', function()
  local net = unet(0):eval()
  local model = ld.diffusion.cosine(net, {scale = 0.5, shift = {1, -1}})
  local sampler = ld.sampler.ddim{steps = 20, eta = 0}
  local z = ld.noise({3, 2, 8, 8}, {seed = 8})
  local steps = 0
  local near = model:sample{n = 3, image = z, strength = 0.1, seed = 1, sampler = sampler,
                             each = function() steps = steps + 1 end}
  t.eq(steps, 3, 'steps at 0.1, 0.05 and 0')
  local far = model:sample{n = 3, image = z, strength = 1, seed = 1, sampler = sampler}
  local function distance(a) return (a - z):square():mean():item() end
  t.ok(distance(near) < 0.3 and distance(near) < 0.2 * distance(far), 'weak noise stays near the picture')
  local noise = ld.diffusion.sampler_noise({3, 2, 8, 8}, {seed = 9, first = 0, step = 0})
  t.eq(model:sample{n = 3, noise = noise, seed = 77, sampler = sampler}:tolist(),
       model:sample{n = 3, channels = 2, size = 8, seed = 9, sampler = sampler}:tolist(), 'the noise of a seed')
  t.raises(function() model:sample{n = 2, image = z} end, 'sample: image is (3,2,8,8) f32 cpu; (2,C,h,w) was needed')
  t.raises(function() model:sample{n = 3, image = z, strength = 0} end, 'strength 0; above 0 and at most 1')
end)

t.test('pictures in memory', function()
  local faces = ld.faces(6, {size = 16, seed = 2})
  for i = 1, 6 do
    ld.make_dirs(('%s/set/class-%d'):format(tmp, i % 2))
    ld.save_image(faces[i], ('%s/set/class-%d/%d.png'):format(tmp, i % 2, i))
  end
  t.put(tmp .. '/set/class-0/bad.png', 'no picture')
  local set = ld.images.open(tmp .. '/set', {size = 16})
  local data = ld.pixels(set)
  t.eq(data.count, 6)
  local batch = data:get({1, 4, 6}, 0)
  t.eq(batch.label:tolist(), {0, 1, 1})
  t.eq(batch.x.shape, {3, 3, 16, 16})
  t.near(batch.x[1], faces[2]:f32() * (2 / 255) - 1, 1e-6)
  local flipped = ld.pixels(set, {flip = true, seed = 1})
  local mirrored = 0
  for first = 0, 19 do
    local x = flipped:get({1}, first).x
    local same = (x - batch.x:slice(1, 1, 1)):abs():max():item() == 0
    if not same then t.eq(x:tolist(), ld.flip(batch.x:slice(1, 1, 1), 4):tolist()) end
    mirrored = mirrored + (same and 0 or 1)
  end
  t.ok(mirrored > 2 and mirrored < 18)
  local one = ld.images.picture(tmp .. '/set/class-1/3.png', {size = 16})
  t.eq(one[1]:tolist(), faces[3]:tolist())
  t.raises(function() ld.images.picture(tmp .. '/absent.png') end, 'there is no file')
  t.raises(function() ld.images.picture(tmp .. '/set/class-0/bad.png', {size = 16}) end, 'bad.png: ')
end)

t.test("the GAN's networks", function()
  ld.seed(1)
  local gan = ld.models.dcgan{size = 32, width = 8, latent = 10}
  local z = gan:noise(3, {seed = 1, first = 5})
  t.eq(z.shape, {3, 10, 1, 1})
  t.eq(gan:noise(2, {seed = 1, first = 6}):tolist(), z:slice(1, 2, 3):tolist())
  local x = gan.generator(z)
  t.eq(x.shape, {3, 3, 32, 32})
  t.ok(x:abs():max():item() <= 1)
  t.eq(gan.critic(x).shape, {3, 1, 1, 1})
  gan:clip(0.01)
  for _, w in ipairs(gan.critic:parameters()) do t.ok(w:abs():max():item() <= 0.01 + 1e-9) end
  t.ok(gan.generator:parameters()[1]:abs():max():item() > 0.02, 'the generator is as it was')
  ld.checkpoint.write(tmp .. '/gan.h5', {model = gan})
  local back = ld.models.dcgan.load(tmp .. '/gan.h5')
  t.eq(back:eval().generator(z):tolist(), gan:eval().generator(z):tolist())
  t.raises(function() ld.models.dcgan{size = 48} end, 'size 48; a power of two, at least 16')
end)

t.finish()
