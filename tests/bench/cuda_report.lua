-- Tables of `make bench-cuda` in Markdown: times, convolutions, goals. A result is {case, sides = Series by name,
-- said = the first process's lines by name, failures = reasons by name, errors, marked = why the comparison failed}.
local Series = dofile 'tests/bench/series.lua'
local markdown = dofile('tests/bench/report.lua').markdown

local report = {}
local NAMES = {ldlua = 'ldlua', bf16 = 'P1 eager bf16', bf16_compile = 'P2 compiled', bf16_max = 'P3 max-autotune',
               bf16_graph = 'P4 CUDA graph'}
local ORDER = {'ldlua', 'bf16', 'bf16_compile', 'bf16_max', 'bf16_graph'}
report.names, report.order = NAMES, ORDER

local function number(form, x) return x and form:format(x) or '' end

-- The value of a label in what a process said.
local function said(r, side, kind, label)
  for _, entry in ipairs(r.said[side] and r.said[side][kind] or {}) do
    if entry[1] == label then return entry[2] end
  end
  return nil
end

local function floor_of(case, card)
  for word, rate in pairs(case.floor or {}) do
    if card:find(word, 1, true) then return rate end
  end
  return nil
end

local function rate(r, side, label)
  local t = label and r.sides[side] and r.sides[side]:median(label)
  return t and r.case.images / t
end

-- ldlua's images a second over this side's; nothing where the comparison failed.
local function over(r, side, label)
  local own, other = rate(r, 'ldlua', label), rate(r, side, label)
  return own and other and not r.marked and own / other or nil
end

local function best_over(r, label)
  local least
  for _, side in ipairs{'bf16_compile', 'bf16_max', 'bf16_graph'} do
    local ratio = over(r, side, label)
    if ratio and (not least or ratio < least) then least = ratio end
  end
  return least
end

local function row(r, side, entry, card)
  local label, series, case = entry[1], r.sides[side], r.case
  local middle, least, most = Series.spread(series.times[label])
  local images, bound = case.images / middle, floor_of(case, card)
  local title = #case.series > 1 and case.title .. ', ' .. label or case.title
  if r.marked then title = title .. ' (' .. r.marked .. ')' end
  local first = said(r, side, 'first', label)
  local count = said(r, side, 'kernels', label) or said(r, side, 'operations', label)
  return {side == 'ldlua' and title or '', NAMES[side],
          ('%.2f (%.2f - %.2f)'):format(middle * 1e3, least * 1e3, most * 1e3),
          ('%.0f'):format(images), number('%.0f', entry[2] and images * entry[2] / 1e3),
          number('%.2f', bound and images / bound), number('%.2f', side ~= 'ldlua' and over(r, side, label) or nil),
          number('%.2f', series:largest('live', label) and series:largest('live', label) / 1e9),
          number('%.0f', count) .. (count and side == 'ldlua' and ' ops' or ''), number('%.1f', first)}
end

local function times(results, card)
  local rows = {{'case', 'side', 'ms (least - most)', 'images/s', 'TFLOP/s', 'of the floor', 'ldlua is times as fast',
                 'peak GB', 'kernels', 'first step s'}}
  for _, r in ipairs(results) do
    for _, entry in ipairs(r.case.kind == 'conv' and {} or r.case.series) do
      for _, side in ipairs(ORDER) do
        if r.sides[side] and r.sides[side].times[entry[1]] then
          rows[#rows + 1] = row(r, side, entry, card)
        elseif r.failures[side] and entry == r.case.series[1] then
          local why = ('%s: %s'):format(r.case.title, r.failures[side])
          rows[#rows + 1] = {why, NAMES[side], '-', '', '', '', '', '', '', ''}
        end
      end
    end
  end
  return #rows > 1 and markdown(rows) or nil
end

local function convolutions(results)
  local rows = {{'layer', 'side', 'forward', 'to the input', 'to the weight'}}
  for _, r in ipairs(results) do
    for _, shape in ipairs(r.case.shapes or {}) do
      for _, side in ipairs(ORDER) do
        local cells = {side == 'ldlua' and shape.name or '', NAMES[side]}
        for _, direction in ipairs{'forward', 'data', 'weight'} do
          local label = shape.name .. ' ' .. direction
          local per = rate(r, side, label)
          cells[#cells + 1] = per and ('%.1f'):format(per * 2 * shape.size ^ 2 * shape.channels * shape.out * 9 / 1e12)
        end
        if #cells == 5 then rows[#rows + 1] = cells end
      end
    end
  end
  return #rows > 1 and 'TFLOP/s of single convolutions:\n\n' .. markdown(rows) or nil
end

local function goal(rows, what, least, value, most)
  if not least and not most then return end
  local good = value and (least and value >= least or most and value <= most)
  rows[#rows + 1] = {what, least and ('at least %.2f'):format(least) or ('at most %.2f'):format(most),
                     value and ('%.2f'):format(value) or 'not measured', value and (good and 'met' or 'missed') or ''}
end

-- The distance of ldlua's stretches of a curve from PyTorch's f32, in f32 and in bf16.
local function curve_goals(rows, r)
  local apart = {}
  for _, entry in ipairs(r.apart or {}) do apart[entry[1]] = entry[2] end
  local function add(what, name, most)
    local value = apart[name]
    local verdict = value and (value <= most and 'met' or 'missed') or ''
    rows[#rows + 1] = {('%s, %s'):format(r.case.title, what), ('at most %g'):format(most),
                       value and ('%.1e'):format(value) or 'not measured', verdict}
  end
  local own = r.own and ('%.1e'):format(r.own) or 'not measured'
  add('f32, apart from PyTorch f32', 'curve', 1e-3)
  add(('bf16, apart from PyTorch f32 (PyTorch bf16: %s)'):format(own), 'half curve', 5e-3)
end

local function goals(results, card)
  local rows = {{'what', 'goal', 'measured', ''}}
  for _, r in ipairs(results) do
    local case, label, g = r.case, r.case.series[1] and r.case.series[1][1], r.case.goals or {}
    if case.kind == 'curve' then curve_goals(rows, r) end
    if case.cold then goal(rows, case.title .. ', first step, cold, s', nil, r.cold, case.cold) end
    local own, bound = rate(r, 'ldlua', label), floor_of(case, card)
    if r.marked then own = nil end
    if bound then goal(rows, case.title .. ', share of the floor', g[1], own and own / bound) end
    goal(rows, case.title .. ', over P1', g[2], over(r, 'bf16', label))
    goal(rows, case.title .. ', over the best of P2 to P4', g[3], best_over(r, label))
    local live = r.sides.ldlua and r.sides.ldlua:largest('live', label)
    local other = r.sides.bf16 and r.sides.bf16:largest('live', label)
    if case.memory then goal(rows, case.title .. ', peak GB', nil, live and live / 1e9, case.memory) end
    if live and other then goal(rows, case.title .. ', peak memory over P1', nil, live / other, 0.6) end
    if case.ratio_goal then
      local plain, more = rate(r, 'ldlua', 'plain step'), rate(r, 'ldlua', 'perceptual step')
      goal(rows, case.title .. ', time with the perceptual loss over without', nil, plain and more and plain / more,
           case.ratio_goal)
    end
  end
  return #rows > 1 and markdown(rows) or nil
end

local function heading(results, about, opt)
  local versions, ways, n = {}, {}, nil
  for _, r in ipairs(results) do
    for _, entry in ipairs(r.versions or {}) do versions[entry[1]] = entry[2] end
    n = n or r.case.series[1] and said(r, 'ldlua', 'steps', r.case.series[1][1])
    if r.errors and r.errors ~= '' then ways[#ways + 1] = ('               %s: %s'):format(r.case.name, r.errors) end
  end
  return ([[
    card       %s
    machine    %s
    commit     %s
    command    %s
    versions   PyTorch %s, its cuDNN %s
    precision  ldlua %s, PyTorch autocast to bf16; windows of %s steps or fewer, %d to a process
    relative L2 against PyTorch f32:
%s
]]):format(about.card, about.machine, about.commit, about.command or 'tests/bench/run', versions.torch or '(none)',
    versions.cuDNN or '(none)', opt.dtype, opt.window, opt.windows,
    #ways > 0 and table.concat(ways, '\n') or '               (not compared)')
end

--- Everything, for the terminal and for docs/results.md.
function report.text(results, about, opt)
  local out = {heading(results, about, opt)}
  for _, part in ipairs{times(results, about.card) or false, convolutions(results) or false,
                        goals(results, about.card) or false} do
    if part then out[#out + 1] = part end
  end
  return table.concat(out, '\n')
end

return report
