-- Tables of a run in Markdown: times, convolutions, goals; and their place in docs/results.md.
local Series = dofile 'tests/bench/series.lua'

local report = {}
local NAMES = {ldlua = 'ldlua', eager = 'PyTorch f32', bf16 = 'PyTorch bf16', compile = 'PyTorch compiled'}
report.names, report.order = NAMES, {'ldlua', 'eager', 'bf16', 'compile'}

local function megabytes(bytes) return bytes and ('%.0f'):format(bytes / 2 ^ 20) or '' end
local function times(x) return x and ('%.2f'):format(x) or '' end
local function seconds(x) return x < 0.1 and ('%.1f'):format(x * 1e3) or ('%.0f'):format(x * 1e3) end

-- Rows of cells as a Markdown table with columns of one width; all but the first two columns to the right.
local function markdown(rows)
  local width = {}
  for _, row in ipairs(rows) do
    for i, cell in ipairs(row) do width[i] = math.max(width[i] or 3, #cell) end
  end
  local out = {}
  for r, row in ipairs(rows) do
    local cells = {}
    for i, cell in ipairs(row) do
      local gap = (' '):rep(width[i] - #cell)
      cells[i] = i <= 2 and cell .. gap or gap .. cell
    end
    out[#out + 1] = '| ' .. table.concat(cells, ' | ') .. ' |'
    if r == 1 then
      for i in ipairs(row) do cells[i] = ('-'):rep(width[i] - 1) .. (i <= 2 and '-' or ':') end
      out[#out + 1] = '| ' .. table.concat(cells, ' | ') .. ' |'
    end
  end
  return table.concat(out, '\n') .. '\n'
end
report.markdown = markdown

-- One row of the table of times. ratio: ldlua's throughput over this side's.
local function time_row(case, entry, side, run)
  local label, series = entry[1], run.sides[side]
  local middle, least, most = Series.spread(series.times[label])
  local own = run.sides.ldlua and run.sides.ldlua:median(label)
  local title = #case.series > 1 and case.title .. ', ' .. label or case.title
  return {side == 'ldlua' and title or '', NAMES[side], seconds(middle), seconds(least), seconds(most),
          ('%.2f'):format(case.images / middle), entry[2] and ('%.0f'):format(case.images * entry[2] / middle) or '',
          side ~= 'ldlua' and own and times(middle / own) or '', megabytes(series:largest('peaks', label)),
          megabytes(series:largest('above', label))}
end

--- All cases but convolutions: a row a side; a side that failed says why.
function report.times(runs)
  local rows = {{'case', 'side', 'ms', 'least', 'most', 'images/s', 'GFLOP/s', 'ldlua is times as fast', 'peak MB',
                 'above start MB'}}
  for _, run in ipairs(runs) do
    for _, entry in ipairs(run.case.kind == 'conv' and {} or run.case.series) do
      for _, side in ipairs(report.order) do
        local series = run.sides[side]
        if series and series.times[entry[1]] then
          rows[#rows + 1] = time_row(run.case, entry, side, run)
        elseif run.failures[side] then
          rows[#rows + 1] = {run.failures[side], NAMES[side], '-', '-', '-', '-', '', '', '', ''}
        end
      end
    end
  end
  return #rows > 1 and markdown(rows) or nil
end

local function rate(run, side, shape, direction, which)
  local label = shape.name .. ' ' .. direction
  local list = run.sides[side] and run.sides[side].times[label]
  if not list then return nil end
  local middle, least, most = Series.spread(list)
  local gflop = run.case.images * 2 * shape.size ^ 2 * shape.channels ^ 2 * 9 / 1e9
  return gflop / ({middle = middle, least = most, most = least})[which]
end

--- Convolutions: effective GFLOP/s by shape and direction, median (least - most), and PyTorch's medians.
function report.convolutions(runs)
  local rows = {{'channels and sides', 'side', 'batch', 'forward', 'to the input', 'to the weight'}}
  for _, run in ipairs(runs) do
    for _, shape in ipairs(run.case.shapes or {}) do
      for _, side in ipairs(report.order) do
        local row = {side == 'ldlua' and shape.name or '', NAMES[side], tostring(run.case.images)}
        for _, direction in ipairs{'forward', 'data', 'weight'} do
          local middle = rate(run, side, shape, direction, 'middle')
          row[#row + 1] = middle and ('%.0f (%.0f - %.0f)'):format(middle, rate(run, side, shape, direction, 'least'),
            rate(run, side, shape, direction, 'most'))
        end
        if #row == 6 then rows[#rows + 1] = row end
      end
    end
  end
  return #rows > 1 and markdown(rows) or nil
end

-- ---- goals ----

local function goal_row(rows, what, value, text, good)
  rows[#rows + 1] = {what, text, value and times(value) or 'not measured', value and (good and 'met' or 'missed') or ''}
end

local function case_goals(rows, run)
  local case, own, other = run.case, run.sides.ldlua, run.sides.eager
  local label = case.series[1][1]
  if case.goal then
    local ratio = own and other and other:median(label) and other:median(label) / own:median(label)
    goal_row(rows, case.title .. ', throughput over PyTorch f32', ratio, ('at least %.1f'):format(case.goal),
             ratio and ratio >= case.goal)
  end
  if case.memory_goal then
    for _, entry in ipairs{{'above', 'peak memory above the start'}, {'peaks', 'peak memory of the process'}} do
      local what, name = entry[1], entry[2]
      local a, b = own and own:largest(what, label), other and other:largest(what, label)
      local ratio = a and b and a / b
      goal_row(rows, ('%s, %s over PyTorch f32'):format(case.title, name), ratio,
               ('at most %.1f'):format(case.memory_goal), ratio and ratio <= case.memory_goal)
    end
    local live = own and own:largest('live', label)
    if live then
      rows[#rows + 1] = {case.title .. ', MB live in tensors and workspace of ldlua', '', megabytes(live), ''}
    end
  end
  if case.ratio_goal then
    for _, side in ipairs(report.order) do
      local series = run.sides[side]
      local plain = series and series:median 'plain step'
      local ratio = plain and series:median 'perceptual step' / plain
      if ratio then
        goal_row(rows, ('step with the perceptual loss over the plain step, %s'):format(NAMES[side]), ratio,
                 ('at most %.1f'):format(case.ratio_goal), ratio <= case.ratio_goal)
      end
    end
  end
end

local function conv_goal(rows, run)
  local count, good, least, where = 0, 0, math.huge, ''
  for _, shape in ipairs(run.case.shapes or {}) do
    for _, direction in ipairs{'forward', 'data', 'weight'} do
      local r = rate(run, 'ldlua', shape, direction, 'middle')
      if r then
        count = count + 1
        if r >= run.case.conv_goal then good = good + 1 end
        if r < least then least, where = r, shape.name .. ' ' .. direction end
      end
    end
  end
  if count == 0 then return end
  rows[#rows + 1] = {('%s, effective GFLOP/s; lowest at %s'):format(run.case.title, where),
                     ('at least %d'):format(run.case.conv_goal), ('%.0f; %d of %d reach it'):format(least, good, count),
                     good == count and 'met' or 'missed'}
end

--- Every goal with what was measured. startup: {seconds, program, archive} or nil.
function report.goals(runs, startup)
  local rows = {{'what', 'goal', 'measured', ''}}
  for _, run in ipairs(runs) do
    case_goals(rows, run)
    if run.case.conv_goal then conv_goal(rows, run) end
  end
  if startup then
    goal_row(rows, 'milliseconds from the start to the first statement, best of twenty', startup.seconds * 1e3,
             'at most 10', startup.seconds <= 0.010)
    for _, name in ipairs{'program', 'archive'} do
      local mb = startup[name] and startup[name] / 1e6
      goal_row(rows, ('megabytes of the %s, stripped'):format(name == 'program' and 'program' or 'core archive'), mb,
               'at most 5', mb and mb <= 5)
    end
  end
  return #rows > 1 and markdown(rows) or nil
end

-- ---- docs/results.md ----

--- Puts text between the markers of the file (`name` is the target of make); an error when they are not there.
function report.write(path, text, name)
  name = name or 'bench'
  local first, last = ('<!-- make %s: begin -->'):format(name), ('<!-- make %s: end -->'):format(name)
  local f = assert(io.open(path))
  local whole = f:read('*a')
  f:close()
  local a, b = whole:find(first, 1, true)
  local c = b and whole:find(last, b, true)
  if not c then error(('%s has no line %s with %s after it'):format(path, first, last), 0) end
  f = assert(io.open(path, 'w'))
  f:write(whole:sub(1, a - 1), first, '\n\n', text, '\n', whole:sub(c))
  f:close()
end

return report
