-- A run that trains, asked from outside: `ldlua attach runs/celeba`. The run looks between two steps whether anything
-- was asked (attach.serve) and answers at once; requests are lines of text, answers lines of JSON {ok, text, picture}.
--
-- A learning rate that was set is a change {serial, images, lr | factor | back}: it holds from so many images seen on.
-- Changes are lines of log.jsonl and stand in every checkpoint, so that a run that resumes from before one makes it
-- again at the same clock.
local core = require 'ld.core'
local ranks = require 'ld.ranks'
local host = package.loaded['ld.host'] or {}

local attach = {}

local now = core.clock

-- ---- changes of the learning rate -----------------------------------------------------------------------------------

-- A change takes the place of those that would come after it.
local function add(changes, change)
  while changes[1] and changes[#changes].images > change.images do table.remove(changes) end
  changes[#changes + 1] = change
end

local function text_of(change)
  if change.lr then return ('learning rate %.6g'):format(change.lr) end
  if change.factor then return ('learning rate times %.6g'):format(change.factor) end
  return "learning rate as the recipe's"
end

-- The changes of a checkpoint and those that the log has after them.
local function read_changes(kept, log_path)
  local changes, serial = {}, 0
  for _, change in ipairs(kept or {}) do
    changes[#changes + 1], serial = change, math.max(serial, change.serial)
  end
  local f = io.open(log_path)
  if not f then return changes, serial end
  for line in f:lines() do
    local ok, entry = false, nil
    if line:find('"learning_rate"', 1, true) then ok, entry = pcall(core.json_decode, line) end
    if ok and type(entry) == 'table' and entry.event == 'learning_rate' and type(entry.serial) == 'number'
      and entry.serial > serial then
      add(changes, {serial = entry.serial, images = entry.images, lr = entry.set, factor = entry.factor})
      serial = entry.serial
    end
  end
  f:close()
  return changes, serial
end

--- attach.learning_rate(run): the optimiser's rate for the step that begins, where it was changed.
function attach.learning_rate(run)
  local change
  for _, c in ipairs(run.changes) do
    if c.images <= run.images then change = c end
  end
  if not change then return end
  local own = run.schedule and run.optim.lr or run.own_rate -- the schedule has set it in this step
  run.optim.lr = change.lr or own * (change.factor or 1)
end

local function change_rate(run, change)
  change.serial, change.images = run.serial + 1, run.images
  core.append_file(run.log_path, core.json_encode{event = 'learning_rate', serial = change.serial,
    images = change.images, set = change.lr, factor = change.factor, time = now()} .. '\n')
  run.serial = change.serial
  add(run.changes, change)
  return {text = ('%s from %d images on'):format(text_of(change), run.images)}
end

-- ---- the run's side -------------------------------------------------------------------------------------------------

--- attach.open(run): the socket in the run's folder, and the changes that are to be made again.
function attach.open(run)
  run.own_rate = run.optim.lr
  run.changes, run.serial = read_changes(run.before and run.before.changes, run.log_path)
  for _, change in ipairs(run.changes) do
    if change.images >= run.images then
      run:say('%s from %d images on, as it was asked for (%s)', text_of(change), change.images, run.log_path)
    end
  end
  if not run.attach or not host.attach_listen or ranks.rank() > 0 then return end
  local why
  run.server, why = host.attach_listen(run.folder)
  if not run.server then run:say('warning: nobody can attach to this run: %s', why) end
end

function attach.close(run)
  if run.server then run.server:close() end
  run.server = nil
end

-- Last lines of a file, at most 32 KiB of it.
local function tail(path, count)
  local f = io.open(path, 'rb')
  if not f then return '' end
  f:seek('set', math.max(0, f:seek('end') - 32768))
  local lines = {}
  for line in f:read('*a'):gmatch('[^\n]+') do lines[#lines + 1] = line end
  f:close()
  return table.concat(lines, '\n', math.max(1, #lines - count + 1))
end

local requests, usage = {}, {}

-- A request: its name, how it is written, what it does, and whether it changes the training.
local function request(name, arguments, what, changes, f)
  requests[name] = {f = f, changes = changes}
  usage[#usage + 1] = ('%-22s %s'):format(name .. (arguments ~= '' and ' ' .. arguments or ''), what)
end

local function refuse(text, ...) error({refused = text:format(...)}, 0) end

local function whole(text, otherwise, what, least, most)
  if text == '' then return otherwise end
  local n = tonumber(text)
  if not (n and n % 1 == 0 and n >= least and n <= most) then
    refuse("%s is '%s'; a whole number from %d to %d is needed", what, text, least, most)
  end
  return n
end

request('loss', '', 'clock, loss, learning rate, speed', false, function(run)
  local s, mean = run.sums, run.mean
  local value = s.n > 0 and s.loss / s.n or mean and mean.loss
  return {text = ('%d of %d images, epoch %d, %s, learning rate %.6g, %.1f images/s, %d steps skipped%s'):format(
    run.images, run.total_images, math.floor(run.images / run.n) + 1,
    value and ('loss %.6g (mean of %d steps)'):format(value, s.n > 0 and s.n or run.log_every) or 'no loss yet',
    run.optim.lr, run:speed(), run.skipped, run.paused and ', paused' or '')}
end)

request('log', '[N]', 'the last N (5) lines of log.jsonl', false, function(run, rest)
  return {text = tail(run.log_path, whole(rest, 5, 'log: the count', 1, 100))}
end)

request('sample', '[N] [live]', 'N pictures (16) by the averaged weights, or those of now', false, function(run, rest)
  if not run.drawing then refuse('sample: this recipe has not said how pictures are drawn, with run:draws(f)') end
  local count, live = rest:match('^(%d*)%s*(%a*)$')
  if not count or (live ~= '' and live ~= 'live' and live ~= 'ema') then
    refuse("sample: '%s'; a number, `ema` or `live` are known", rest)
  end
  local n = whole(count, 16, 'sample: the count', 1, 1024)
  local f, ema = function() return run.drawing.f(n, false) end, run.ema
  if live == 'live' then run.ema = nil end
  local done, path = pcall(function()
    return run:image(run.ema and 'attach-ema' or 'attach-live', run:averaged(f, run.drawing.batches))
  end)
  run.ema = ema
  if not done then error(path, 0) end
  return {text = path, picture = path:sub(#run.folder + 2)}
end)

request('lr', 'RATE | *F | recipe', "another learning rate; the recipe's times F; the recipe's again", true,
  function(run, rest)
    if rest == '' then return {text = ('learning rate %.6g'):format(run.optim.lr)} end
    if rest == 'recipe' then return change_rate(run, {back = true}) end
    local factor = rest:match('^%*%s*(.+)$')
    local v = tonumber(factor or rest)
    if not (v and v >= 0 and v < math.huge) then
      refuse("lr: '%s'; a number from 0 on, such as 1e-4, or *0.5, or recipe is needed", rest)
    end
    return change_rate(run, factor and {factor = v} or {lr = v})
  end)

request('pause', '', 'wait after this step; `go` goes on', true, function(run)
  run.paused = true
  return {text = ('paused at %d images'):format(run.images)}
end)

request('go', '', 'go on after `pause`', true, function(run)
  run.paused = nil
  return {text = ('going on at %d images'):format(run.images)}
end)

request('checkpoint', '', 'write last.h5 now', false, function(run)
  if run.in_a_row > 0 then
    refuse('checkpoint: the last step was skipped: the weights may be what makes the loss not finite')
  end
  run:save()
  return {text = ('%s at %d images'):format(run.last, run.images)}
end)

request('stop', '', 'checkpoint, then end the run', true, function(run)
  run.stop_asked, run.paused = 'asked through attach', nil
  return {text = ('stopping at %d images; run the same command again to resume'):format(run.images)}
end)

-- What an expression sees; nothing in it can be assigned to.
local function names(run)
  local seen = {run = run, net = run.model, ema = run.ema, optim = run.optim, ld = require 'ld', math = math,
                string = string, table = table, tostring = tostring, tonumber = tonumber, pairs = pairs,
                ipairs = ipairs, type = type, select = select, unpack = unpack}
  return setmetatable({}, {
    __index = function(_, key)
      if seen[key] == nil then error(("there is no '%s' here; there are run, net, ema, optim, ld"):format(key), 0) end
      return seen[key]
    end,
    __newindex = function(_, key) error(("'%s' cannot be set: expressions only look"):format(tostring(key)), 0) end,
  })
end

-- f's results as text; weights and buffers of the network that it has changed are put back.
local function looked(run, f)
  local kept, own = {}, {}
  for _, list in ipairs{run.parameters, run.model:buffers()} do
    for _, x in ipairs(list) do own[#own + 1], kept[#kept + 1] = x, x:detach():to('cpu'):clone() end
  end
  local before, lr = core.ranks.sum(own), run.optim.lr
  local out = {pcall(f)}
  local after, changed = core.ranks.sum(own), false
  for i, word in ipairs(before) do changed = changed or word ~= after[i] end
  if changed then
    for i, x in ipairs(own) do x:detach():copy_(kept[i]:to(x.device)) end
  end
  run.optim.lr = lr
  if not out[1] then error(out[2], 0) end
  local text = {}
  for i = 2, math.max(2, table.maxn(out)) do text[#text + 1] = require('ld').repr(out[i]):sub(1, 16384) end
  if changed then text[#text + 1] = 'the expression has changed weights of the network; they are put back' end
  return table.concat(text, '\n')
end

request('eval', 'EXPRESSION', 'a value, e.g. eval net:count(); run, net, ema, optim and ld are there', false,
  function(run, rest)
    local f, why = loadstring('return ' .. rest, '=expression')
    if not f then refuse('eval: %s', why) end
    return {text = looked(run, setfenv(f, names(run)))}
  end)

request('help', '', 'this', false, function()
  return {text = table.concat(usage, '\n')}
end)

-- One request; whatever it does, generator, mode and tape are as they were.
local function answer(run, line)
  local name, rest = line:match('^%s*(%S+)%s*(.-)%s*$')
  local r = name and requests[name]
  if not r then return {ok = false, text = ("unknown request '%s'; help lists them"):format(name or '')} end
  if rest ~= '' and r.changes and name ~= 'lr' then
    return {ok = false, text = ('%s takes nothing more'):format(name)}
  end
  if r.changes and ranks.count() > 1 and not (name == 'lr' and rest == '') then
    return {ok = false, text = ('%s: this run has %d ranks; what changes the training is refused'):format(name,
      ranks.count())}
  end
  local seed, draws = core.seed()
  local training = run.model.training
  local done, result = pcall(core.scope, function()
    return core.no_grad(function() return r.f(run, rest) end)
  end)
  core.seed(seed, draws)
  if run.model.training ~= training then run.model:train(training) end
  if done then
    result.ok = true
    return result
  end
  return {ok = false, text = type(result) == 'table' and result.refused or tostring(result)}
end

-- The requests that have come, a few at most: the training goes on.
local function serve_some(run)
  for _ = 1, 16 do
    local client, line = run.server:poll()
    if not client then return end
    run:settle() -- answers are of all steps so far
    run.server:answer(client, core.json_encode(answer(run, line)))
  end
end

--- attach.serve(run): between two steps.
function attach.serve(run)
  serve_some(run)
  if not run.paused then return end
  local began = now()
  run:say('paused at %d images; `ldlua attach %s go` goes on', run.images, run.folder)
  while run.paused and not run.stop_asked and not (host.stop_requested and host.stop_requested()) do
    run.server:wait(0.2)
    serve_some(run)
  end
  run.started = run.started + (now() - began) -- the speed is of the time that trained
  if not run.stop_asked then run:say('going on') end
end

-- ---- the asking side ------------------------------------------------------------------------------------------------

local function ask(connection, line)
  if not connection:send(line) then return nil end
  local reply = connection:receive()
  return reply and core.json_decode(reply)
end

local function tell(folder, reply)
  if reply.text and reply.text ~= '' then print(reply.text) end
  if reply.picture and core.terminal() then require('ld').show(folder .. '/' .. reply.picture) end
  io.stdout:flush()
end

local own_help = 'curve [KEY]            the loss, or another number of log.jsonl, as a curve\n'
  .. 'quit                   end attach (Ctrl-D too); the run goes on'

-- One line as it was typed; false when it was refused, nil when the run is gone.
local function one(connection, folder, line)
  local name, rest = line:match('^%s*(%S+)%s*(.-)%s*$')
  if name == 'curve' then
    local done, why = pcall(require('ld').show, folder, {key = rest ~= '' and rest or nil})
    if not done then print(why) end
    return done
  end
  local reply = ask(connection, line)
  if not reply then return nil end
  tell(folder, reply)
  if name == 'help' and reply.ok then print(own_help) end
  return reply.ok
end

--- attach.client(folder, words): asks the run that trains in a folder: the words, or what is typed. True when nothing
-- was refused.
function attach.client(folder, words)
  folder = folder:match('^(.-)/*$')
  local connection, why = host.attach_connect(folder == '' and '/' or folder)
  if not connection then error('attach: ' .. why, 0) end
  if #words > 0 then
    local ok = one(connection, folder, table.concat(words, ' '))
    if ok == nil then error(('attach: the run in %s has ended, or does not answer this user'):format(folder), 0) end
    return ok
  end
  local good = true
  while true do
    local line = host.read_line(('attach %s> '):format(folder))
    if not line or line:match('^%s*quit%s*$') or line:match('^%s*exit%s*$') then break end
    if line:match('%S') then
      local ok = one(connection, folder, line)
      if ok == nil then error(('attach: the run in %s has ended, or does not answer this user'):format(folder), 0) end
      good = good and ok
    end
  end
  connection:close()
  return good or core.terminal()
end

return attach
