-- A sum over all tensors of a run's last checkpoint: LDLUA tests/tools/sum_checkpoint.lua FOLDER
local ld = require 'ld'
local c, all = ld.checkpoint.open(arg[1] .. '/last.h5'), {}
for _, name in ipairs(c.file:list()) do all[#all + 1] = c.file:read(name) end
assert(#all > 20, 'a checkpoint of a network was needed')
print('sum ' .. table.concat(ld.core.ranks.sum(all), ' '))
