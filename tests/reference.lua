-- Recorded numbers of another implementation against this one:
--
--   ./ldlua tests/reference.lua FOLDER
--
-- from the repository's root. FOLDER holds safetensors files of the form of tests/fixtures/reference (its README says
-- what is in them); networks are built by the files' metadata, so other sizes and seeds do as well. Prints one line a
-- group of quantities with its worst tensor; the error is relative to the largest recorded value of that tensor. The
-- exit status is 1 when one is above its limit: 1e-5 for outputs, losses and running statistics, 1e-4 for gradients,
-- 1e-6 for schedules and for trajectories of optimisers and of samplers (of up to 10 steps, 3e-6 for 100), 1e-8 for
-- metrics in f64.
--
-- Convolutions are computed directly, which rounds least: the recorded numbers are f32 themselves, up to 7e-6 from f64
-- in a decoder of 128 channels, so that little is left of the limit. LD_CONV=winograd (blocked, folded, rule, auto)
-- compares another way.
local ffi = require 'ffi'
ffi.cdef 'int setenv(const char *name, const char *value, int overwrite);'
if not os.getenv('LD_CONV') then ffi.C.setenv('LD_CONV', 'direct', 1) end
local reference = dofile 'tests/reference/init.lua'

local folder = arg[1]
if not folder or not io.open(folder) then
  io.stderr:write(folder and 'no folder ' .. folder or 'usage: ldlua tests/reference.lua FOLDER', '\n')
  os.exit(2)
end

local report = reference.run(folder)
for _, name in ipairs(report.unused) do print('not compared: ' .. name) end
print('convolutions: ' .. os.getenv('LD_CONV'))
print(('%d tensors in %d groups, %d failed, %d skipped'):format(report.tensors, report.groups, #report.failed,
  #report.skipped))
os.exit(#report.failed == 0 and report.groups > 0 and 0 or 1, true)
