-- What a newcomer gets wrong: each call must raise an error at the line that was written, naming what was called, what
-- is and what was needed; and the program goes on.
local t = dofile 'tests/lua/harness.lua'
local ld = require 'ld'
local nn = ld.nn

local x, y = ld.ones(2, 3), ld.ones(4)
local image = ld.ones(1, 3, 8, 8)
local weight = ld.ones(16, 3, 3, 3)
local leaf = ld.ones({2}, {requires_grad = true})
local integers = ld.tensor({1, 2}, {dtype = 'i64'})
local released = ld.ones(1)
released:release()
local linear = nn.linear{in_features = 3, out_features = 2}
local unet = ld.models.unet{channels = {16, 32}, layers = 1}
local classifier = ld.models.classifier{channels = {8, 8}, blocks = {1}}
local optim = ld.optim.adamw(linear:parameters(), {lr = 1e-3})
local model = ld.diffusion.cosine(unet, {scale = 0.2})
local sampler = ld.sampler.ddim{steps = 10}
local pictures = 'tests/fixtures/images'

-- name, the wrong call on one line, texts its message must have. (A call in a `return` leaves no frame of its own.)
local cases = {
  -- shapes
  {'add', function() local _ = x + y end, 'shapes do not broadcast', '(2,3) f32 cpu', '(4) f32 cpu'},
  {'matmul', function() local _ = x:matmul(x) end, '(2,3) f32 cpu', 'inner sizes 3 and 2 differ'},
  {'matmul', function() local _ = x:matmul(ld.tensor(1)) end, 'both need a dimension'},
  {'linear', function() linear(ld.ones(2, 5)) end, '(2,5)', 'last size', '3'},
  {'conv2d', function() ld.conv2d(ld.ones(1, 4, 8, 8), weight) end, 'x has 4 channels', 'takes 3'},
  {'conv2d', function() ld.conv2d(ld.ones(3, 8, 8), weight) end, 'x has 3 dimensions, 4 are needed'},
  {'conv2d', function() ld.conv2d(ld.ones(1, 3, 2, 2), weight) end, 'a kernel of 3 x 3 does not fit into (1,3,2,2)'},
  {'conv2d', function() ld.conv2d(image, weight, ld.ones(3)) end, 'bias is (3)', '(16) is needed'},
  {'reshape', function() x:reshape(4, 2) end, '(2,3)', '6 elements', '(4,2)'},
  {'expand', function() x:expand(5, 3) end, '(2,3)', '(5,3)'},
  {'permute', function() x:permute(2, 1, 3) end, '3 dimensions named', 'has 2'},
  {'concat', function() ld.concat({x, y}, 1) end, 'tensor 2 is (4)', 'the first is (2,3)'},
  {'stack', function() ld.stack{y, ld.ones(5)} end, 'tensor 2 is (5)', 'the first is (4)'},
  {'mse', function() ld.mse(x, y) end, '(2,3)', '(4)', 'equal shapes are needed'},
  {'cross_entropy', function() ld.cross_entropy(ld.ones(2, 3), integers[{{1}}]) end, 'classes is (1)', '(2) is needed'},
  {'group_norm', function() ld.group_norm(image, 2) end, '2 groups do not divide the 3 channels'},
  {'batch_norm', function() nn.batch_norm{channels = 4}(image) end, 'weight is (4)', '(3) is needed'},
  {'attention', function() ld.attention(ld.ones(1, 2, 4), ld.ones(1, 2, 6), ld.ones(1, 2, 6)) end, '(N,S,C)'},
  {'chunk', function() y:chunk(3) end, 'does not divide into 3 parts'},
  {'unet', function() unet(ld.ones(1, 4, 6, 7), ld.zeros(1)) end, '(1,4,6,7)', 'sides that divide by 2'},
  {'tensor', function() ld.tensor{{1, 2}, {3}} end, 'rows differ in length: 2', '1 found'},
  {'copy_', function() x[1] = y end, '(4) f32 cpu', '(3) f32 cpu'},
  -- misspelt options and names
  {'zeros', function() ld.zeros({2}, {dytpe = 'f32'}) end, "unknown option 'dytpe'", 'known: dtype device'},
  {'nn.conv2d', function() nn.conv2d{in_channel = 3, out_channels = 4, kernel = 3} end, "unknown option 'in_channel'"},
  {'conv2d', function() ld.conv2d(image, weight, nil, {pad = 1}) end, "unknown option 'pad'", 'known: stride padding'},
  {'adamw', function() ld.optim.adamw(linear:parameters(), {learning_rate = 1}) end, "'learning_rate'", 'known: lr'},
  {'models.unet', function() ld.models.unet{chanels = {8}} end, "unknown option 'chanels'", 'channels'},
  {'ddim', function() ld.sampler.ddim{step = 10} end, "unknown option 'step'", 'known: steps eta'},
  {'schedule.one_cycle', function() ld.schedule.one_cycle{maximum = 1} end, "unknown option 'maximum'", 'max'},
  {'diffusion.cosine', function() ld.diffusion.cosine(unet, {scal = 1}) end, "unknown option 'scal'", 'scale'},
  {'sample', function() model:sample{count = 3} end, "unknown option 'count'", ' n '},
  {'loss', function() model:loss(ld.ones(1, 4, 8, 8), {sed = 1}) end, "unknown option 'sed'", 'seed'},
  {'mse', function() ld.mse(x, x, {reduction = 'average'}) end, "unknown reduction 'average'", 'mean none sum'},
  {'nn', function() nn.conv3d{} end, "has no 'conv3d'", 'conv2d'},
  {'ld.sampler', function() ld.sampler.euler{} end, "has no 'euler'", 'ddim'},
  {'ld.optim', function() ld.optim.lion{} end, "has no 'lion'", 'adamw'},
  {'ld.models', function() ld.models.resnet{} end, "has no 'resnet'", 'unet'},
  {'ld.schedule', function() ld.schedule.linear{} end, "has no 'linear'", 'cosine'},
  {'ld.diffusion', function() ld.diffusion.linear(unet) end, "has no 'linear'", 'cosine'},
  {'ld.init', function() ld.init.xavier_(x) end, "has no 'xavier_'", 'kaiming_normal_'},
  {'ld', function() ld.zeroes(3) end, "has no 'zeroes'"},
  {'activation', function() nn.activation{kind = 'swish'} end, "unknown kind 'swish'", 'silu'},
  {'models.unet', function() ld.models.unet{norm = 'layer'} end, "unknown norm 'layer'", 'batch group'},
  {'transform', function() ld.images(pictures, {size = 32, transform = 'squash'}):read{1} end, "'squash'", 'stretch'},
  {'images', function() ld.images('no/such/folder', {size = 32}) end, 'no/such/folder'},
  {'memory', function() ld.memory 'free' end, "unknown word 'free'", 'trim'},
  {'nn.relu', function() nn.relu{inplace = true} end, "unknown option 'inplace'", 'none'},
  {'gradcheck', function() ld.gradcheck(ld.sum, {x:f64()}, {epsilon = 1}) end, "unknown option 'epsilon'", 'eps tol'},
  -- missing and mistaken arguments
  {'linear', function() nn.linear{in_features = 3} end, "option 'out_features' is needed"},
  {'conv2d', function() nn.conv2d(3, 16, 3) end, 'options must be a table, not number'},
  {'full', function() ld.full({2, 2}) end, 'the value must be a number, not no value'},
  {'full', function() ld.full(2, 2, 5) end, 'sizes in a table and one value', 'full({2, 3}, 0.5)'},
  {'zeros', function() ld.zeros(2, 3, 'f64') end, 'options must be a table, not string'},
  {'zeros', function() ld.zeros{2, 3, dtype = 'f64'} end, "'dtype' stands among the numbers", 'a table of their own'},
  {'tensor', function() ld.tensor{1, 2, dtype = 'f64'} end, "'dtype' stands among the numbers"},
  {'tensor', function() ld.tensor 'abc' end, 'nested tables of numbers were expected, not string'},
  {'tensor', function() ld.tensor(x, {dtype = 'f64'}) end, 'is a tensor already', ':to(dtype)'},
  {'add', function() local _ = x + 'one' end, 'must be a tensor, not string'},
  {'mul', function() local _ = x * nil end, 'must be a tensor, not nil'},
  {'matmul', function() x:matmul() end, 'argument 2 must be a tensor, not no value'},
  {'linear', function() linear() end, 'x must be a tensor, not nil'},
  {'linear', function() linear{1, 2, 3} end, 'x must be a tensor, not table'},
  {'softmax', function() ld.softmax({1, 2}) end, 'argument 1 must be a tensor, not table'},
  {'argmax', function() x:argmax() end, 'the dimension must be a number, not no value'},
  {'item', function() x:item() end, '(2,3) f32 cpu has 6 elements; one was needed'},
  {'concat', function() ld.concat(x, y) end, 'a table of tensors was expected, not userdata'},
  {'scope', function() ld.scope() end, 'a function was expected, not no value'},
  {'no_grad', function() ld.no_grad(x) end, 'a function was expected, not userdata'},
  {'nn.sequential', function() nn.sequential(linear, linear) end, 'one table of modules', 'nn.sequential{a, b}'},
  {'adamw', function() ld.optim.adamw(linear, {lr = 1}) end, 'a list of tensors', 'net:parameters()'},
  {'adamw', function() ld.optim.adamw({1, 2}, {lr = 1}) end, 'entry 1 of the list is number, not a tensor'},
  {'adamw', function() optim.lr = 'fast' end, 'lr must be a number, not string'},
  {'adamw', function() optim.rate = 1 end, "'rate' cannot be set", 'lr'},
  {'pad', function() x:pad(1) end, 'a table of pairs {left, right'},
  {'ema', function() ld.ema.of(nn.batch_norm{channels = 2}):use(print) end, 'batch norm', 'runs it on data'},
  {'seed', function() ld.seed(1.5) end, 'must be a whole number, not 1.5'},
  -- dtypes
  {'to', function() x:to 'float32' end, "'float32'"},
  {'zeros', function() ld.zeros({1}, {dtype = 'float'}) end, "unknown dtype 'float'", 'f32 bf16 f16'},
  {'add', function() local _ = integers + ld.ones(2) end, 'dtypes differ', 'i64', 'f32', ':to()'},
  {'add', function() local _ = integers + 0.5 end, '0.5', 'i64', ':f32()'},
  {'exp', function() ld.exp(integers) end, 'i64', 'a float is needed', ':f32()'},
  {'mean', function() integers:mean() end, 'i64', 'a float is needed'},
  {'conv2d', function() ld.conv2d(image:i64(), weight) end, 'i64', 'f32 or f64 is needed'},
  {'cross_entropy', function() ld.cross_entropy(ld.ones(2, 3), ld.ones(2)) end, 'the classes are', 'i64 is needed'},
  {'gather', function() ld.gather(x, ld.ones(1)) end, 'f32', 'i64 is needed'},
  {'where', function() ld.where(x, x, x) end, 'the condition is (2,3) f32', 'u8 is needed'},
  {'requires_grad_', function() integers:requires_grad_() end, 'only floats', 'i64'},
  {'randn', function() ld.randn({2}, {dtype = 'u8'}) end, 'u8; a float dtype is needed'},
  {'linear', function() linear:to 'bf16' end, 'bf16; layers take f32 and f64'},
  -- devices
  {'device', function() ld.zeros({1}, {device = 'gpu'}) end, "there is no 'gpu'", 'known: cpu'},
  {'device', function() x:to 'cpu:9' end, "there is no 'cpu:9'"},
  {'device', function() linear:to 'tpu' end, "there is no 'tpu'"},
  -- out of range
  {'index', function() local _ = x[3] end, 'position 3 of dimension 1; it has 2', 'counted from 1'},
  {'index', function() local _ = x[0] end, 'position 0'},
  {'index', function() local _ = x[{1, 2, 3}] end, '3 indices for (2,3)'},
  {'index', function() local _ = x[{{1, 5}}] end, 'position 5 of dimension 1'},
  {'index', function() x[-3] = 0 end, 'position -3'},
  {'index', function() local _ = x[nil] end, 'by a number, a table or a name, not nil'},
  {'sum', function() x:sum(3) end, 'dimension 3; the tensor has 2', 'counted from 1'},
  {'softmax', function() ld.softmax(x, 0) end, 'dimension 0'},
  {'cross_entropy', function() ld.cross_entropy(ld.ones(2, 2), integers) end, 'entry 2 is 2', '0 to 1'},
  {'gather', function() ld.gather(x, integers) end, 'entry 2 is 2; 0 to 1 are possible'},
  {'gather', function() nn.embedding{count = 2, features = 3}(integers) end, '2', '0 to 1'},
  {'step', function() sampler:t(11) end, 'step 11; there are 10'},
  {'dropout', function() ld.dropout(x, 1.5) end, '1.5', '0 <= p < 1'},
  {'zeros', function() ld.zeros(2, -1) end, 'size -1', 'negative'},
  {'zeros', function() ld.zeros(1e6, 1e6, 1e6) end, 'more than 2^48 elements'},
  {'zeros', function() ld.zeros(1, 1, 1, 1, 1, 1, 1, 1, 1) end, 'more than 8 dimensions'},
  {'threads', function() ld.threads(0) end, '0; 1 to 1024 are possible'},
  {'features', function() classifier:features{2} end, 'stage 2; there are 1'},
  -- states
  {'add', function() local _ = released + 1 end, 'argument 1 is a released tensor'},
  {'add', function() x:add_(released) end, 'argument 2 is a released tensor'},
  {'index', function() local _ = released.shape end, 'a released tensor'},
  {'linear', function() linear(released) end, 'a released tensor'},
  {'add_', function() leaf:add_(1) end, 'requires a gradient', 'no_grad'},
  {'fill_', function() leaf[1] = 5 end, 'requires a gradient'},
  {'mul_', function() ld.ones(2):mul_(leaf) end, 'meets one that requires one'},
  {'add_', function() ld.ones(1):expand(4):add_(1) end, 'is expanded', ':clone()'},
  {'backward', function() x:backward() end, 'has no history'},
  {'backward', function() (leaf * 2):backward() end, '(2) f32 cpu has more than one element'},
  {'backward', function() (leaf * 2):backward(ld.ones(3)) end, 'the gradient (3) f32 cpu does not fit (2)'},
  {'requires_grad_', function() (leaf * 2):requires_grad_() end, 'a result, not a leaf'},
  {'batch_norm', function() ld.batch_norm(x) end, 'running_mean and running_var are needed'},
  {'batch_norm', function() nn.batch_norm{channels = 3}(ld.ones(1, 3)) end, '1 value a channel', 'two or more'},
  {'max', function() ld.zeros(0):max() end, 'nothing to choose from'},
  -- fields that are not there, and nil
  {"'colour'", function() local _ = x.colour end, 'a tensor has no field or method'},
  {"'multiply'", function() x:multiply(2) end, 'a tensor has no field or method'},
  {"'grad'", function() leaf.grad:sum() end, 'nil value'},
  {"'shape'", function() x.shape = {3, 2} end, 'cannot be set'},
  {"'proj'", function() local net = {} net.proj(x) end, 'nil value'},
  {'adamw', function() optim:stop() end, "no field or method 'stop'"},
  -- modules and files
  {'load_state', function() linear:load_state{weight = ld.ones(2, 3)} end, '1 missing: bias'},
  {'load_state', function() linear:load_state{weight = ld.ones(3, 2), bias = y} end, 'needed (2,3)', 'bias is (4)'},
  {'nn.sequential', function() nn.sequential{linear, ld.ones(1)} end, 'entry 2 is a userdata, not a module'},
  {'thing', function() nn.class('thing')()(x) end, 'has no forward'},
  {'json_encode', function() ld.json_encode{x} end, 'userdata has no place in JSON'},
  {'read', function() ld.load_image 'no/such.png' end, 'no/such.png'},
  {'read', function() ld.models.unet.load 'no/such.h5' end, 'no/such.h5'},
  {'vae', function() ld.vae.load 'no/such.safetensors' end, 'no/such.safetensors', 'data/README.md'},
}

-- The error of a case: at the line it stands on, with all its texts.
for i, case in ipairs(cases) do
  local name, f = case[1], case[2]
  local line = debug.getinfo(f, 'S').linedefined
  t.test(('%d %s, line %d'):format(i, name, line), function()
    local before = x:sum():item()
    local message = t.raises(f)
    local at, text = message:match '^(.-:%d+): (.*)$'
    t.eq(at, ('tests/lua/test_errors.lua:%d'):format(line), message)
    for k = 1, #case do
      if k ~= 2 then t.ok(text:find(case[k], 1, true), ('%q in %q'):format(case[k], message)) end
    end
    t.ok(#message < 500 and not message:find '\n', 'one sentence: ' .. message)
    t.eq(x:sum():item(), before, 'nothing was changed')
  end)
end

t.test('the interpreter is as before', function()
  t.eq(ld.grad_enabled(), true)
  t.eq(leaf, {1, 1})
  t.eq(leaf.grad, nil)
  local loss = model:loss(ld.noise({2, 4, 8, 8}, {seed = 1}))
  loss:backward()
  t.ok(loss:item() > 0)
  t.ok(unet:parameters()[1].grad)
  t.ok(#cases >= 40)
end)

t.test('an error in a coroutine names its line', function()
  local line = debug.getinfo(1, 'l').currentline + 1
  local co = coroutine.create(function() local _ = x + y end)
  local ok, message = coroutine.resume(co)
  t.eq(ok, false)
  t.ok(message:find('tests/lua/test_errors.lua:' .. line .. ': add', 1, true), message)
end)

t.test('an error below library functions names the user\'s line', function()
  local Net = nn.class('net', function(self) self.body = nn.sequential{nn.sequential{linear}} end)
  function Net:forward(v) return self.body(v) end
  local net = Net()
  local line = debug.getinfo(1, 'l').currentline + 2
  local message = t.raises(function()
    local _ = net(ld.ones(2, 7))
  end)
  t.ok(message:find('test_errors.lua:' .. line .. ': linear: ', 1, true), message)
  t.ok(message:find('(2,7)', 1, true), message)
end)

t.finish()
