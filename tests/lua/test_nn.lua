-- Layers and modules: options, names, state, modes, dtypes, counts, trees; the networks' sizes.
local t = dofile 'tests/lua/harness.lua'
local ld = require 'ld'
local nn = ld.nn

-- "weight 3x2, bias 3 | running_mean 3"
local function names(net)
  local function list(entries)
    local out = {}
    for i, entry in ipairs(entries) do
      out[i] = entry[1] .. (entry[2].ndim > 0 and ' ' .. table.concat(entry[2].shape, 'x') or '')
    end
    return table.concat(out, ', ')
  end
  local buffers = list(net:named_buffers())
  return list(net:named_parameters()) .. (buffers ~= '' and ' | ' .. buffers or '')
end

-- ---- layers -------------------------------------------------------------------------------------------------------

t.test('names and shapes are PyTorch\'s', function()
  local running = 'running_mean 3, running_var 3, num_batches_tracked'
  t.eq(names(nn.conv2d{in_channels = 2, out_channels = 3, kernel = {3, 1}}), 'weight 3x2x3x1, bias 3')
  t.eq(names(nn.conv2d{in_channels = 2, out_channels = 3, kernel = 3, bias = false}), 'weight 3x2x3x3')
  t.eq(names(nn.conv_transpose2d{in_channels = 2, out_channels = 3, kernel = 3}), 'weight 2x3x3x3, bias 3')
  t.eq(names(nn.linear{in_features = 2, out_features = 3}), 'weight 3x2, bias 3')
  t.eq(names(nn.linear{in_features = 2, out_features = 3, bias = false}), 'weight 3x2')
  t.eq(names(nn.batch_norm{channels = 3}), 'weight 3, bias 3 | ' .. running)
  t.eq(names(nn.batch_norm{channels = 3, affine = false}), ' | ' .. running)
  t.eq(names(nn.group_norm{channels = 4, groups = 2}), 'weight 4, bias 4')
  t.eq(names(nn.layer_norm{features = 4, affine = false}), '')
  t.eq(names(nn.attention{channels = 4, heads = 2}),
    'norm.weight 4, norm.bias 4, qkv.weight 12x4, qkv.bias 12, proj.weight 4x4, proj.bias 4')
  t.eq(names(nn.embedding{count = 5, features = 3}), 'weight 5x3')
end)

t.test('what layers compute', function()
  local conv = nn.conv2d{in_channels = 1, out_channels = 1, kernel = 3, stride = 2, padding = {1, 0, 0, 1},
                         bias = false}
  ld.init.constant_(conv:parameters()[1], 1)
  t.eq(conv(ld.ones(1, 1, 4, 4)), {{{{6, 4}, {9, 6}}}}) -- rows 0..2 of a picture with one row above, one column right
  t.eq(nn.linear{in_features = 2, out_features = 3}(ld.ones(5, 4, 2)).shape, {5, 4, 3})
  t.eq(nn.conv_transpose2d{in_channels = 2, out_channels = 1, kernel = 3, stride = 2, padding = 1, output_padding = 1}(
    ld.ones(1, 2, 5, 5)).shape, {1, 1, 10, 10})
  t.eq(nn.avg_pool2d{kernel = 2}(ld.arange(4):reshape(1, 1, 2, 2)), {{{{1.5}}}})
  t.eq(nn.avg_pool2d{kernel = 2, stride = 1, ceil = true}(ld.ones(1, 1, 3, 3)).shape, {1, 1, 2, 2})
  t.eq(nn.adaptive_avg_pool2d{size = {1, 2}}(ld.ones(1, 2, 5, 6)).shape, {1, 2, 1, 2})
  t.eq(nn.upsample{scale = 3}(ld.ones(1, 2, 2, 2)).shape, {1, 2, 6, 6})
  t.eq(nn.flatten()(ld.ones(2, 3, 4)).shape, {2, 12})
  t.eq(nn.embedding{count = 4, features = 3}(ld.tensor({{0, 3}}, {dtype = 'i64'})).shape, {1, 2, 3})
  t.eq(nn.attention{channels = 8, head_width = 2}(ld.ones(1, 8, 3, 5)).shape, {1, 8, 3, 5})
  local x = ld.tensor{-1, 2}
  t.eq(nn.identity()(x), {-1, 2})
  t.eq(nn.relu()(x), {0, 2})
  t.near(nn.leaky_relu{slope = 0.5}(x), {-0.5, 2}, 0)
  t.near(nn.general_relu()(x), {-0.5, 1.6}, 1e-6)
  t.near(nn.general_relu{slope = 0.5, sub = 1}(x), {-1.5, 1}, 0)
  for _, kind in ipairs{'silu', 'gelu', 'tanh', 'sigmoid'} do t.eq(nn[kind]()(x), ld[kind](x), kind) end
end)

t.test('initial weights', function()
  ld.seed(1)
  local w = nn.linear{in_features = 100, out_features = 200}:parameters()[1]
  local bound = 1 / math.sqrt(100)
  t.ok(w:max():item() <= bound and w:max():item() > 0.99 * bound)
  t.near(ld.std(w):item(), bound / math.sqrt(3), 0.002)
  local conv = nn.conv2d{in_channels = 4, out_channels = 64, kernel = 3}:parameters()
  t.ok(conv[1]:max():item() <= 1 / 6 and conv[1]:max():item() > 0.16) -- 1/sqrt(4*9)
  t.ok(conv[2]:max():item() <= 1 / 6)
  ld.init.kaiming_normal_(conv[1], 0.1)
  t.near(ld.std(conv[1]):item(), math.sqrt(2 / (1.01 * 36)), 0.02)
  local norm = nn.batch_norm{channels = 2}:state()
  t.eq({norm.weight:tolist(), norm.bias:tolist(), norm.running_mean:tolist(), norm.running_var:tolist(),
        norm.num_batches_tracked:item()}, {{1, 1}, {0, 0}, {0, 0}, {1, 1}, 0})
  ld.seed(1)
  t.eq(nn.linear{in_features = 100, out_features = 200}:parameters()[1], w, 'the same seed, the same weights')
end)

t.test('wrong options', function()
  local conv = {in_channels = 2, out_channels = 3, kernel = 3}
  local function with(key, value)
    local o = {}
    for k, v in pairs(conv) do o[k] = v end
    o[key] = value
    return o
  end
  local wrong = {
    {'conv2d', {in_channels = 2, out_channels = 3}, "nn.conv2d: option 'kernel' is needed"},
    {'conv2d', nil, "nn.conv2d: option 'in_channels' is needed"},
    {'conv2d', 3, 'nn.conv2d: options must be a table, not number; known: in_channels out_channels kernel'},
    {'conv2d', with('kernels', 3), "nn.conv2d: unknown option 'kernels'; known: in_channels"},
    {'conv2d', with('in_channels', 0), 'conv2d: 0 channels in, 3 out; both must be at least 1'},
    {'conv2d', with('in_channels', 2.5), 'in_channels must be a whole number, not 2.5'},
    {'conv2d', with('kernel', '3'), 'kernel must be a number, not string'},
    {'conv2d', with('kernel', {3, 3, 3}), 'kernel has 3 numbers; at most 2'},
    {'conv2d', with('padding', {1, 2, 3}), 'padding is a number, {height, width} or {top, bottom, left, right}'},
    {'conv2d', with('stride', 0), 'stride 0 x 0; both must be at least 1'},
    {'conv2d', with('padding', -1), 'none may be negative'},
    {'conv2d', with('bias', 1), 'bias must be true or false, not number'},
    {'conv2d', with('dtype', 'f16'), 'dtype f16; layers take f32 and f64'},
    {'conv2d', with('dtype', 'float'), "unknown dtype 'float'; known: f32"},
    {'conv2d', with('device', 'gpu'), "there is no 'gpu'"},
    {'conv_transpose2d', with('output_padding', 1), 'output_padding 1; it must be 0 .. 0'},
    {'linear', {in_features = 2, out_features = -1}, '2 features in, -1 out'},
    {'batch_norm', {channels = 5, eps = -1}, 'batch_norm: eps -1; it must be above 0'},
    {'batch_norm', {channels = 5, momentum = 2}, 'momentum 2; it must be 0 .. 1'},
    {'group_norm', {channels = 5, groups = 2}, 'group_norm: 2 groups do not divide 5 channels'},
    {'group_norm', {channels = 5}, "nn.group_norm: option 'groups' is needed"},
    {'layer_norm', {features = 0}, 'at least 1 is needed'},
    {'attention', {channels = 5, heads = 2}, 'attention: 2 heads do not divide 5 channels'},
    {'attention', {channels = 5, head_width = 2}, 'head_width 2 does not divide 5 channels'},
    {'attention', {channels = 4, head_width = 2, heads = 1}, 'give one of heads and head_width'},
    {'embedding', {count = 0, features = 1}, 'embedding: 0 rows of 1'},
    {'dropout', {p = 1}, 'dropout: p 1; it must be at least 0 and below 1'},
    {'activation', {kind = 'swish'}, "unknown kind 'swish'; known: identity relu"},
    {'avg_pool2d', {}, "nn.avg_pool2d: option 'kernel' is needed"},
    {'adaptive_avg_pool2d', {size = 0}, 'size 0 x 0; both must be at least 1'},
    {'upsample', {scale = 0}, 'scale 0; it must be at least 1'},
    {'flatten', {first = 2}, "nn.flatten: unknown option 'first'; known: none"},
    {'relu', {inplace = true}, "nn.relu: unknown option 'inplace'; known: none"},
    {'leaky_relu', {slop = 1}, "nn.leaky_relu: unknown option 'slop'; known: slope"},
    {'general_relu', {slope = '1'}, 'nn.general_relu: slope must be a number, not a string'},
  }
  for _, case in ipairs(wrong) do t.raises(function() return nn[case[1]](case[2]) end, case[3]) end
  t.raises(function() return nn.conv3d{} end, "nn has no 'conv3d'; known: activation adaptive_avg_pool2d")
end)

t.test('wrong inputs', function()
  local linear = nn.linear{in_features = 3, out_features = 2}
  t.raises(function() return linear(ld.ones(2, 4)) end, 'x is (2,4) f32 cpu')
  t.raises(function() return linear(nil) end, 'linear: x must be a tensor, not nil')
  t.raises(function() return linear(ld.ones({2, 3}, {dtype = 'f64'})) end, 'linear: dtypes differ')
  t.raises(function() return nn.embedding{count = 3, features = 2}(ld.ones(1)) end, 'i64 is needed')
  t.raises(function() return nn.batch_norm{channels = 3}(ld.ones(1, 3)) end, 'has 1 value a channel')
end)

-- ---- modules ------------------------------------------------------------------------------------------------------

local Net = nn.class('net', function(self, o)
  self.body = nn.sequential{nn.linear{in_features = 4, out_features = o.width}, nn.batch_norm{channels = o.width}}
  self.heads = nn.list{nn.linear{in_features = o.width, out_features = 1}}
  self.scale = ld.full({1}, 2, {requires_grad = true})
  self.offset = ld.zeros(1)
end)
function Net:forward(x)
  return self.heads[1](self.body(x)) * self.scale + self.offset
end

t.test('a network of one\'s own', function()
  local net = Net{width = 3}
  t.eq(names(net), 'scale 1, body.0.weight 3x4, body.0.bias 3, body.1.weight 3, body.1.bias 3, heads.0.weight 1x3, ' ..
    'heads.0.bias 1 | offset 1, body.1.running_mean 3, body.1.running_var 3, body.1.num_batches_tracked')
  t.eq(net(ld.randn(5, 4)).shape, {5, 1})
  t.eq({net:count()}, {26, 7, 7})
  t.eq(#net:parameters(), 7)
  t.eq(#net:buffers(), 4)
  local paths = {}
  for path, m in net:modules() do paths[#paths + 1] = path .. ':' .. (m.name or '') end
  t.eq(table.concat(paths, ' '), ':net body:sequential body.0:layer body.1:layer heads:list heads.0:layer')
  t.raises(function() return nn.class('bare')()(1) end, 'bare has no forward')
end)

t.test('tree', function()
  t.eq(tostring(Net{width = 3}), table.concat({'net  26',
    '  body: sequential  21',
    '    0: linear(4, 3)  15',
    '    1: batch_norm(3, eps 1e-05, momentum 0.1)  6',
    '  heads: list  4',
    '    0: linear(3, 1)  4',
    '  scale: tensor (1) f32 cpu',
    '  offset: tensor (1) f32 cpu'}, '\n'))
  local big = nn.linear{in_features = 1000, out_features = 1000}
  t.eq(tostring(big), 'linear(1000, 1000)  1 001 000')
end)

t.test('gradients reach every parameter', function()
  local net = Net{width = 3}
  ld.sum(ld.square(net(ld.randn(5, 4)))):backward()
  for _, entry in ipairs(net:named_parameters()) do t.ok(entry[2].grad, entry[1]) end
  net:zero_grad()
  for _, entry in ipairs(net:named_parameters()) do t.eq(entry[2].grad, nil, entry[1]) end
end)

t.test('freezing', function()
  local net = Net{width = 3}
  t.eq(net:freeze(), net)
  t.eq(net.training, false)
  for _, entry in ipairs(net:named_parameters()) do t.eq(entry[2].requires_grad, false, entry[1]) end
  t.eq(#net:parameters(), 7, 'frozen parameters are parameters still')
  t.eq(net(ld.randn(2, 4)).requires_grad, false)
  net:requires_grad_()
  for _, entry in ipairs(net:named_parameters()) do t.eq(entry[2].requires_grad, true, entry[1]) end
  t.eq(net.offset.requires_grad, false)
end)

t.test('state and load_state', function()
  local a, b = Net{width = 3}, Net{width = 3}
  ld.no_grad(function() for _, x in ipairs(a:parameters()) do x:normal_() end end)
  t.eq(b:load_state(a:state()), b)
  local sa, sb = a:state(), b:state()
  for path, x in pairs(sa) do t.eq(sb[path], x, path) end
  t.eq(ld.same_storage(sa.scale, a.scale), true, 'state shares memory')
  t.eq(ld.same_storage(sb.scale, sa.scale), false, 'loading copies')
  local x = ld.randn(5, 4)
  t.eq(a(x), b(x))
end)

t.test('a state that does not fit changes nothing', function()
  local net = Net{width = 3}
  local before = net.scale:item()
  local function state(change)
    local s = Net{width = 3}:state()
    s.scale = ld.tensor{99}
    change(s)
    return s
  end
  local function load(change, options) return function() net:load_state(state(change), options) end end
  t.raises(load(function(s) s['body.0.bias'] = nil end),
    'load_state: the state does not fit the network; 1 missing: body.0.bias')
  t.raises(load(function(s) s.extra = ld.ones(1) end, {name = 'old.h5'}),
    'load_state: old.h5 does not fit the network; 1 unexpected: extra')
  t.raises(load(function(s) s['body.0.bias'] = ld.ones(4) end), '1 misshapen: body.0.bias is (4), needed (3)')
  local message = t.raises(function() net:load_state{} end, '10 missing: body.0.bias, body.0.weight')
  t.ok(message:find(', ...', 1, true) and message:find 'test_nn.lua:%d+: load_state', message)
  t.raises(function() net:load_state(nil) end, 'load_state: tensors by path are needed, not nil')
  t.raises(function() net:load_state{scale = 2} end, 'load_state: scale is a number, not a tensor')
  t.raises(function() net:load_state({}, {strikt = false}) end, "load_state: unknown option 'strikt'; known: ignore")
  t.eq(net.scale:item(), before)
end)

t.test('a state that fits in part', function()
  local net = Net{width = 3}
  net:load_state({scale = ld.tensor{5}, other = ld.ones(7)}, {strict = false})
  t.eq(net.scale:item(), 5)
  local s = net:state()
  s['body.1.num_batches_tracked'] = nil -- older files lack it
  net:load_state(s)
  s['heads.0.bias'] = nil
  net:load_state(s, {ignore = '^heads%.'})
  t.raises(function() net:load_state({scale = ld.ones(2)}, {strict = false}) end, 'misshapen')
end)

t.test('train and eval', function()
  ld.seed(2)
  local net = nn.sequential{nn.dropout{p = 0.5}, nn.batch_norm{channels = 3}}
  local x = ld.randn(8, 3)
  t.eq(net.training, true)
  net(x)
  t.eq(net:state()['1.num_batches_tracked']:item(), 1)
  t.eq(net:eval(), net)
  t.eq(net[1].training, false)
  t.eq(net(x), net(x), 'no dropout')
  t.eq(net:state()['1.num_batches_tracked']:item(), 1)
  net:train()
  local zeros = net[1](ld.ones(1000)):eq(0):to('f32'):mean():item()
  t.near(zeros, 0.5, 0.08) -- 5 standard errors
  t.eq(net[1](ld.ones(1000)):max():item(), 2)
end)

t.test('to another dtype', function()
  local net = Net{width = 3}
  local before = net.body:parameters()[1]
  net:to('f64')
  for path, x in pairs(net:state()) do
    t.eq(x.dtype, path:match 'tracked$' and 'i64' or 'f64', path)
  end
  t.eq(before.dtype, 'f64', 'the same object')
  t.eq(net.scale.requires_grad, true)
  t.eq(#net:parameters(), 7)
  t.eq(net(ld.randn({2, 4}, {dtype = 'f64'})).dtype, 'f64')
  t.eq(net:to('f32'):to('cpu').scale.dtype, 'f32')
  t.raises(function() net:to('f16') end, 'layers take f32 and f64')
  t.raises(function() net:to('gpu:7') end, "there is no 'gpu:7'")
  t.raises(function() net:to() end, 'to: the dtype or device must be a string, not nil')
end)

-- act(norm(u)) one after another, beside nn.norm_act and nn.sequential: results, gradients, running statistics. f64:
-- the formulas differ in rounding alone.
t.test('a norm and the activation behind it are one operation', function()
  local x, film = ld.randn({3, 4, 5, 5}, {dtype = 'f64'}), ld.randn({3, 8}, {dtype = 'f64'})
  local g = ld.randn({3, 4, 5, 5}, {dtype = 'f64'})
  local function outcome(norm, f)
    local a, m = x:clone():requires_grad_(), film:clone():requires_grad_()
    norm:zero_grad()
    local y = f(a, m)
    y:backward(g)
    local out = {y:detach(), a.grad:clone(), m.grad and m.grad:clone() or ld.zeros(1)}
    for _, p in ipairs(norm:parameters()) do out[#out + 1] = p.grad:clone() end
    for _, b in ipairs(norm:buffers()) do out[#out + 1] = b:clone() end
    return out
  end
  local function same(p, q)
    t.eq(#p, #q)
    for i = 1, #p do t.near(p[i], q[i], 1e-12) end
  end
  for _, kind in ipairs{'batch', 'eval', 'group'} do
    for _, act in ipairs{nn.silu(), nn.relu(), nn.general_relu(), nn.gelu(), nn.identity()} do
      local function norm()
        local n = kind == 'group' and nn.group_norm{channels = 4, groups = 2} or nn.batch_norm{channels = 4}
        return n:to('f64'):train(kind ~= 'eval')
      end
      local a, b = norm(), norm()
      same(outcome(a, function(v, m)
        local scale, shift = m:reshape(3, 8, 1, 1):chunk(2, 2)
        return act(a(v * (scale + 1) + shift))
      end), outcome(b, function(v, m) return nn.norm_act(b, act, v, m) end))
      same(outcome(a, function(v) return act(a(v)) end), outcome(b, nn.sequential{b, act}))
    end
  end
  t.near(nn.norm_act(nn.group_norm{channels = 2, groups = 2, affine = false}, nil, ld.tensor{{{1, 3}, {5, 5}}}),
    {{{-1, 1}, {0, 0}}}, 1e-4)
end)

t.test('a norm and an activation that are not one operation', function()
  local calls = 0
  local own = nn.relu()
  rawset(own, 'forward', function(_, x) -- a layer whose forward was replaced is called
    calls = calls + 1
    return x * 0
  end)
  t.eq(nn.sequential{nn.group_norm{channels = 2, groups = 1}, own}(ld.randn{1, 2}), {{0, 0}})
  t.eq(calls, 1)
  t.eq(nn.sequential{nn.group_norm{channels = 2, groups = 1}}(ld.ones{1, 2}), {{0, 0}})
  t.raises(function() nn.norm_act(nn.list(), nn.silu(), ld.ones(1)) end, 'nn.norm_act: the norm is a list, not a layer')
  t.raises(function() nn.norm_act(nn.flatten(), nn.silu(), ld.ones(1)) end,
    'norm_act: the first layer is flatten; batch_norm or group_norm is needed')
  t.raises(function() nn.norm_act(nn.batch_norm{channels = 1}, print, ld.ones(1)) end,
    'nn.norm_act: the activation is a function, not a layer')
  t.raises(function() nn.norm_act(nn.batch_norm{channels = 3}, nn.silu(), ld.ones{2, 3}, ld.ones{2, 3}) end,
    'batch_norm: film is (2,3) f32 cpu; (N,2C) = (2,6) is needed')
end)

t.test('sequential, list, func', function()
  local net = nn.sequential{nn.func(function(x) return x * 2 end), nn.sequential{}, nn.relu()}
  t.eq(net(ld.tensor{-1, 3}), {0, 6})
  local list = nn.list()
  t.eq(list:append(nn.relu()):append(nn.silu()):size(), 2)
  t.raises(function() list:append(5) end, 'nn.list: append takes a module, not a number')
  t.raises(function() return nn.sequential(nn.relu(), nn.relu()) end, 'nn.sequential: one table of modules')
  t.raises(function() return nn.sequential{nn.relu(), print} end, 'nn.sequential: entry 2 is a function, not a module')
  t.raises(function() return nn.sequential{nn.relu(), nil, nn.relu()} end, 'nn.sequential: entry 2 is nil')
  t.raises(function() return nn.sequential{first = nn.relu()} end, "nn.sequential: 'first' is no position")
  t.raises(function() return nn.list(5) end, 'nn.list: one table of modules was expected')
  t.raises(function() return nn.func(5) end, 'nn.func: a function was expected, not a number')
end)

t.test('a child that is replaced keeps its place', function()
  local net = Net{width = 3}
  net.body = nn.linear{in_features = 4, out_features = 3}
  t.eq(net:named_parameters()[2][1], 'body.weight')
  net.body = nil
  t.eq(net:named_parameters()[2][1], 'heads.0.weight')
  t.ok(not tostring(net):find 'body')
end)

-- ---- the networks -------------------------------------------------------------------------------------------------

-- One network at a time: the largest takes 640 MB.
local function counts(make, parameters, tensors, running)
  local n, count, buffers = make():count()
  t.eq({n, count, buffers}, {parameters, tensors, running})
  collectgarbage()
  collectgarbage()
  ld.memory 'trim'
  t.ok(ld.memory().live < 2 ^ 24, 'the network is gone')
end

t.test('size of the U-Net', function() counts(function() return ld.models.unet{} end, 160808832, 353, 45568) end)
t.test('size of the U-Net without attention', function()
  t.eq((ld.models.unet{attention_from = 0}:count()), 142412672)
end)
t.test('size of the classifier', function()
  counts(function() return ld.models.classifier{} end, 71246000, 103, 25296)
end)
t.test('size of the KL autoencoder', function()
  local net = ld.models.kl_autoencoder{}
  t.eq({net:count()}, {83653863, 248, 0})
  t.eq({net.encoder:count()}, {34163592, 106, 0})
  t.eq({net.quant_conv:count()}, {72, 2, 0})
  t.eq({net.decoder:count()}, {49490179, 138, 0})
  t.eq({net.post_quant_conv:count()}, {20, 2, 0})
end)
t.test('size of the small autoencoder', function()
  local net = ld.models.small_autoencoder{}
  t.eq({net.encoder:count()}, {1222532, 67, 0})
  t.eq({net.decoder:count()}, {1222531, 67, 0})
end)

t.test('small networks of the same kinds run forward and backward', function()
  local unet = ld.models.unet{channels = {16, 32}, layers = 1, attention_from = 2, attention_width = 8}
  local y = unet(ld.randn(2, 4, 8, 8), ld.tensor{0.1, 0.9})
  t.eq(y.shape, {2, 4, 8, 8})
  ld.mean(ld.square(y)):backward()
  for _, entry in ipairs(unet:named_parameters()) do t.ok(entry[2].grad, entry[1]) end
  local group = ld.models.unet{channels = {16, 32}, layers = 1, norm = 'group', groups = 8}
  t.eq(#group:named_buffers(), 0)
  local classifier = ld.models.classifier{channels = {8, 16, 16}, blocks = {1, 1}, classes = 5}
  t.eq(classifier(ld.randn(3, 4, 16, 16)).shape, {3, 5})
  local pool, stages = classifier:features{2}(ld.randn(3, 4, 16, 16))
  t.eq(pool.shape, {3, 16})
  t.eq(stages[2].shape, {3, 16, 4, 4})
  local kl = ld.models.kl_autoencoder{block_out_channels = {8, 16}, layers_per_block = 1, norm_num_groups = 4}
  local mean, logvar = kl:moments(ld.randn(1, 3, 8, 8))
  t.eq({mean.shape, logvar.shape}, {{1, 4, 4, 4}, {1, 4, 4, 4}})
  t.eq(kl:decode(mean).shape, {1, 3, 8, 8})
  local small = ld.models.small_autoencoder{width = 8, blocks = 1}
  t.eq(small:encode(ld.rand(1, 3, 16, 24)).shape, {1, 4, 2, 3})
  t.eq(small(ld.rand(1, 3, 16, 24)).shape, {1, 3, 16, 24})
end)

t.test('wrong options and inputs of the networks', function()
  t.raises(function() return ld.models.unet{widht = 4} end, "models.unet: unknown option 'widht'; known: att")
  t.raises(function() return ld.models.unet{norm = 'instance'} end, "unknown norm 'instance'; known: batch group")
  t.raises(function() return ld.models.unet{channels = 64} end, 'models.unet: channels must be a table, not a number')
  t.raises(function() return ld.models.classifier{channels = {8, 16}, blocks = {1, 1}} end,
    '2 channels need 1 stages of blocks, not 2')
  t.raises(function() return ld.models.resnet{} end,
    "ld.models has no 'resnet'; known: classifier dcgan kl_autoencoder")
  local small = ld.models.small_autoencoder{width = 8, blocks = 1}
  t.raises(function() return small:encode(ld.rand(1, 3, 17, 16)) end, 'sides that divide by 8 was needed')
  local unet = ld.models.unet{channels = {16, 32}, layers = 1}
  t.raises(function() return unet(ld.randn(1, 4, 7, 8), ld.tensor{0.5}) end, 'unet: x is (1,4,7,8) f32 cpu; (N,4,H,W)')
  t.raises(function() return unet(ld.randn(1, 3, 8, 8), ld.tensor{0.5}) end, 'unet: x is (1,3,8,8) f32 cpu; (N,4,H,W)')
  t.raises(function() return unet(ld.randn(1, 4, 8, 8)) end, 'time_embedding: argument 1 must be a tensor, not nil')
end)

t.finish()
