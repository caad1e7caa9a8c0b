-- What a training leaves behind when the device fails under it.
--
--   ldlua --device cuda:0 tests/cuda/faults.lua fault FOLDER     a kernel writes where the program has nothing, and the
--                                                                context is lost (the fake device: LD_FAKE_FAULT)
--   ldlua --device cuda:0 tests/cuda/faults.lua memory FOLDER    a step wants more memory than the card has
--   ldlua tests/cuda/faults.lua whole FOLDER                     the last checkpoint is whole; this takes no device
--   ldlua --device cuda:0 tests/cuda/faults.lua on FOLDER        a new process goes on from it, to the end
--
-- fault and memory end with status 0 when the error is the right one and the process is of use afterwards.
local ld = require 'ld'

local what, folder = arg[1], arg[2]
local STEPS, AT = 24, 12
local FAULT = [[
.version 7.0
.target sm_80
.address_size 64
.visible .entry fault()
{
  .reg .b64 %p;
  .reg .b32 %v;
  mov.u64 %p, 16;
  mov.u32 %v, 1;
  st.global.u32 [%p], %v;
  ret;
}
]]

-- A kernel of one thread that writes to address 16, by the driver that the plug-in has loaded.
local function lose_the_context()
  local ffi = require 'ffi'
  ffi.cdef[[
    int cuModuleLoadData(void **module, const void *image);
    int cuModuleGetFunction(void **f, void *module, const char *name);
    int cuLaunchKernel(void *f, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by, unsigned bz,
                       unsigned shared, void *stream, void **arguments, void **extra);
  ]]
  local driver, module, f = ffi.load('libcuda.so.1'), ffi.new('void *[1]'), ffi.new('void *[1]')
  assert(driver.cuModuleLoadData(module, FAULT) == 0, 'the driver takes no PTX')
  assert(driver.cuModuleGetFunction(f, module[0], 'fault') == 0)
  assert(driver.cuLaunchKernel(f[0], 1, 1, 1, 1, 1, 1, 0, nil, nil, nil) == 0)
end

local function train(at_step)
  ld.seed(2)
  local net = ld.models.small_autoencoder{width = 8, blocks = 1}
  local run = ld.run(folder, {model = net, optim = ld.optim.adamw(net:parameters(), {lr = 1e-3}), save_minutes = 0,
                              quiet = true})
  local data = {count = 8, name = 'faces', get = function(_, indices)
    return {x = ld.faces(#indices, {size = 32, seed = indices[1]})}
  end}
  local n = 0
  for batch in run:batches(data, 8, STEPS) do
    n = n + 1
    run:step(function()
      if n == AT and at_step then at_step() end
      local x = batch.x:to(net:device()):f32() * (1 / 255)
      return ld.mse(net(x), x)
    end)
  end
  run:finish()
  print(('to the end: %d images'):format(run.images))
end

local function expect(error_text, at_step)
  local ok, why = pcall(train, at_step)
  print(why)
  if ok then ld.fail('the training did not end in an error') end
  if not tostring(why):find(error_text, 1, true) then ld.fail("the error does not say '%s'", error_text) end
  local host = ld.ones({1000}, {device = 'cpu'})
  if host:sum():item() ~= 1000 then ld.fail('the host no longer computes') end
end

if what == 'fault' then
  expect('is lost', ld.core.default_device():match('^cuda') and lose_the_context or nil)
  local ok, why = pcall(function() return ld.ones(3):sum():item() end)
  local lost = not ok and tostring(why):find('is lost', 1, true)
  if not lost then ld.fail('the device answers after it was lost: %s', tostring(why)) end
elseif what == 'memory' then
  local held = {}
  expect('out of memory on', function() for i = 1, 1e6 do held[i] = ld.keep(ld.zeros(1024, 1024, 64)) end end)
  for i, x in ipairs(held) do
    x:release()
    held[i] = nil
  end
  collectgarbage()
  collectgarbage()
  if ld.ones(1000):sum():item() ~= 1000 then ld.fail('the device does not go on') end
elseif what == 'whole' then
  local c, n = ld.checkpoint.open(folder .. '/last.h5'), 0
  for name, x in pairs(ld.checkpoint.read_group(c, 'model')) do
    local sum = x:f64():sum():item()
    if sum ~= sum then ld.fail('%s holds a NaN', name) end
    n = n + 1
  end
  if n == 0 or c.record.images == 0 then ld.fail('an empty checkpoint') end
  print(('%d tensors, %d images'):format(n, c.record.images))
elseif what == 'on' then
  train()
else
  ld.fail('faults: fault, memory, whole or on, not %s', tostring(what))
end
