-- Ranks: processes that train one network together, started by `mpirun -np 4 ldlua recipe.lua` or srun. Every rank
-- runs the whole recipe and comes to the same calls; each computes its share of every batch. Rank 0 alone writes and
-- prints.
local core = require 'ld.core'
local host = package.loaded['ld.host'] or {}

local ranks = {}

--- rank(): the number of this process, from 0.
ranks.rank = core.ranks.rank

--- count(): how many ranks there are; 1 for a program that was started by itself.
ranks.count = core.ranks.count

--- start(): begins the messages between ranks, where there are several; runs do so by themselves.
function ranks.start()
  if ranks.count() == 1 then return end
  if host.stop_requested then core.ranks.on_stop(function() return host.stop_requested() ~= nil end) end
  core.ranks.start()
end

--- gather{numbers}: a list, by rank, of what each rank gave; every rank gives equally many.
function ranks.gather(numbers)
  ranks.start()
  return core.ranks.gather(numbers)
end

--- first(f): f() on rank 0 while the others wait; then f() on them: for work that leaves a file.
function ranks.first(f)
  if ranks.count() == 1 then return f() end
  local results
  if ranks.rank() == 0 then results = {f()} end
  ranks.gather{}
  if ranks.rank() > 0 then results = {f()} end
  return unpack(results, 1, table.maxn(results))
end

--- equal(tensors, what): an error unless every rank has the same bytes in them.
function ranks.equal(tensors, what)
  if ranks.count() == 1 then return end
  local all = ranks.gather(core.ranks.sum(tensors))
  for rank, sum in ipairs(all) do
    for i, word in ipairs(sum) do
      if word ~= all[1][i] then
        core.fail(('ranks: the %s of rank %d is not that of rank 0; do all ranks run the same recipe, with the same '
          .. 'options, program and files?'):format(what, rank - 1))
      end
    end
  end
end

--- split(n, f): f(first, count) computes items first .. first + count - 1 (from 0) as a tensor with `count` rows; every
-- rank does its share and gets all n rows. A share may go beyond n, so that all are of one size.
function ranks.split(n, f)
  local count = ranks.count()
  if count == 1 then return f(0, n) end
  ranks.start()
  local share = math.ceil(n / count)
  local mine = f(ranks.rank() * share, share)
  return core.scope(function()
    local all = core.ranks.gather_tensor(mine):to(mine.device)
    local shape = {count * share}
    for i = 2, #mine.shape do shape[i] = mine.shape[i] end
    return all:reshape(shape):slice(1, 1, n):clone()
  end)
end

return ranks
