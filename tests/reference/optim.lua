-- OneCycle, and optimisers that follow it on recorded gradients.
local ld = require 'ld'

local LIMIT = 1e-6

-- What the recorded optimisers were made with beside the OneCycle.
local KINDS = {
  adamw = {options = {eps = 1e-5, weight_decay = 0.01}, momentum = 'beta1', peak = 'adam peak lr ([%d%.e%-]+)'},
  adam = {options = {eps = 1e-5}, momentum = 'beta1', peak = 'adam peak lr ([%d%.e%-]+)'},
  sgd = {options = {weight_decay = 1e-4}, momentum = 'momentum', peak = 'sgd peak ([%d%.e%-]+)'},
}

-- The peak is the first recorded value times OneCycle's div, 25.
local function check_one_cycle(report, source, steps)
  local prefix = ('one_cycle.%d.'):format(steps)
  local want_lr, want_beta1 = source:read(prefix .. 'lr'), source:read(prefix .. 'beta1')
  local schedule, lr, beta1 = ld.schedule.one_cycle{max = 25 * want_lr[1]:item()}, {}, {}
  for i = 1, steps do lr[i], beta1[i] = schedule(i - 1, steps) end
  local group = report:group(source.name .. ' one_cycle ' .. steps .. ' steps', LIMIT)
  group:check(prefix .. 'lr', ld.tensor(lr, {dtype = 'f64'}), want_lr, {each = true})
  group:check(prefix .. 'beta1', ld.tensor(beta1, {dtype = 'f64'}), want_beta1, {each = true})
  group:done()
end

local function check_optimiser(report, source, name)
  local kind, prefix = KINDS[name], 'optim.' .. name .. '.'
  local grads, total = source:read(prefix .. 'grads'), source:number_in('optim', 'over (%d+) steps')
  local w = source:read(prefix .. 'w0'):clone():requires_grad_()
  local schedule = ld.schedule.one_cycle{max = source:number_in('optim', kind.peak)}
  local optim = ld.optim[name]({w}, kind.options)
  local group = report:group(source.name .. ' optim ' .. name, LIMIT)
  for i = 1, grads.shape[1] do
    optim.lr, optim[kind.momentum] = schedule(i - 1, total)
    w.grad = grads[i]
    optim:step()
    local after = prefix .. 'w_after.' .. i
    if source:has(after) then group:check(after, w, source:read(after)) end
  end
  group:done()
end

return {
  title = 'optimisers and schedules',
  recognise = function(source) return source:any('^optim%.') or source:any('^one_cycle%.') end,
  check = function(report, source)
    for _, name in ipairs(source.list) do
      local steps, kind = name:match('^one_cycle%.(%d+)%.lr$'), name:match('^optim%.(%w+)%.w0$')
      if steps then check_one_cycle(report, source, tonumber(steps)) end
      if kind and KINDS[kind] then check_optimiser(report, source, kind) end
    end
  end,
}
