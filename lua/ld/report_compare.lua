-- Runs side by side: one page, and lines of text for a terminal.
local core = require 'ld.core'
local page = require 'ld.report_page'
local picture = require 'ld.report_picture'
local plot = require 'ld.plot'
local reading = require 'ld.report_read'
local report = require 'ld.report'

local compare = {}

local function read_all(folders)
  if #folders == 0 then core.fail('report: name the folder of a run, such as runs/celeba') end
  local runs, names = {}, {}
  for i, folder in ipairs(folders) do
    if not core.file_kind(folder .. '/log.jsonl') then
      core.fail(('report: there is no run in %s (no log.jsonl)'):format(folder))
    end
    runs[i] = report.read(folder)
    names[runs[i].name] = (names[runs[i].name] or 0) + 1
  end
  for _, run in ipairs(runs) do
    if names[run.name] > 1 then run.name = run.folder end
  end
  return runs
end

-- ---- figures --------------------------------------------------------------------------------------------------------

local function final(key, factor)
  return function(run)
    local v = reading.final(run, key)
    return v and plot.number(v * (factor or 1)) or '-'
  end
end

-- Rows of the table: what is said of each run. Measured numbers follow: the last and the best of each.
local function rows_of(runs)
  local rows = {
    {'state', report.state_of}, {'images seen', function(run) return report.whole(run.seen) end},
    {'parameters', function(run) return run.facts.model and report.whole(run.facts.model.parameters) or '-' end},
    {'loss, last tenth', final('loss')},
  }
  local keys, seen = {}, {}
  for _, run in ipairs(runs) do
    local parts, levels = reading.parts(run)
    for _, list in ipairs{parts, levels} do
      for _, key in ipairs(list) do
        if not seen[key] then
          seen[key] = true
          keys[#keys + 1] = key
        end
      end
    end
  end
  for _, key in ipairs(keys) do rows[#rows + 1] = {key .. ', last tenth', final(key)} end
  local measured = {}
  for k, run in ipairs(runs) do
    for _, m in ipairs(reading.measured(run)) do
      if not measured[m.name] then
        measured[m.name] = {}
        rows[#rows + 1] = {m.name .. ', last (lowest, highest)', function(r)
          local s = measured[m.name][r]
          if not s then return '-' end
          local low, high = math.huge, -math.huge
          for _, v in ipairs(s.y) do low, high = math.min(low, v), math.max(high, v) end
          return ('%s (%s, %s)'):format(plot.number(s.y[#s.y]), plot.number(low), plot.number(high))
        end}
      end
      measured[m.name][runs[k]] = m
    end
  end
  for _, row in ipairs{{'images a second', final('images_per_second')},
                       {'waiting for data, %', final('data_wait', 100)},
                       {'at work', function(run) return page.duration(run.seconds) end},
                       {'steps skipped', function(run) return tostring((run.steps[#run.steps] or {}).skipped or 0) end},
                       {'outliers', function(run) return tostring(#reading.positions(run, 'outlier')) end}} do
    rows[#rows + 1] = row
  end
  return rows
end

-- Options by name: {name, values by run, whether they differ}, those that differ first.
local function options_of(runs)
  local names, out = {}, {}
  for _, run in ipairs(runs) do
    for key in pairs(run.facts.options or {}) do names[key] = true end
  end
  for name in pairs(names) do
    local row = {name = name, values = {}}
    for i, run in ipairs(runs) do
      local v = (run.facts.options or {})[name]
      row.values[i] = v == nil and '-' or page.value(v)
      row.differs = row.differs or row.values[i] ~= row.values[1]
    end
    out[#out + 1] = row
  end
  table.sort(out, function(a, b)
    if (a.differs or false) ~= (b.differs or false) then return a.differs or false end
    return a.name < b.name
  end)
  return out
end

-- ---- text -----------------------------------------------------------------------------------------------------------

-- A word that does not disturb a terminal.
local function clean(s) return (tostring(s):gsub('%c', '?')) end

--- table(folders): lines of text, a column a run: figures, then the options that differ.
function compare.table(folders)
  local runs, lines = read_all(folders), {}
  local grid = {{''}}
  for _, run in ipairs(runs) do table.insert(grid[1], clean(run.name)) end
  local function add(name, values)
    local row = {name}
    for _, v in ipairs(values) do row[#row + 1] = clean(v) end
    grid[#grid + 1] = row
  end
  for _, row in ipairs(rows_of(runs)) do
    local values = {}
    for i, run in ipairs(runs) do values[i] = row[2](run) end
    add(row[1], values)
  end
  for _, row in ipairs(options_of(runs)) do
    if row.differs then add('--' .. row.name, row.values) end
  end
  local widths = {}
  for _, row in ipairs(grid) do
    for i, cell in ipairs(row) do widths[i] = math.max(widths[i] or 0, #cell) end
  end
  for _, row in ipairs(grid) do
    local cells = {}
    for i, cell in ipairs(row) do cells[i] = cell .. (' '):rep(i < #row and widths[i] - #cell or 0) end
    lines[#lines + 1] = table.concat(cells, '  ')
  end
  return table.concat(lines, '\n')
end

-- ---- the page -------------------------------------------------------------------------------------------------------

-- One field of all runs, smoothed.
local function chart(runs, title, key, o)
  local list = {}
  for i, run in ipairs(runs) do
    local s = reading.series(run, key)
    if s then
      s.label, s.name, s.colour = run.name, run.name, (i - 1) % 8 + 1
      list[#list + 1] = s
    end
  end
  return page.chart(title, list, o)
end

local function charts(runs)
  local out = {chart(runs, 'Loss', 'loss', {both = true})}
  local done = {}
  for _, run in ipairs(runs) do
    local parts, levels = reading.parts(run)
    for _, list in ipairs{levels, parts} do
      for _, key in ipairs(list) do
        if not done[key] then
          done[key] = true
          out[#out + 1] = chart(runs, list == levels and 'Loss, noise quarter ' .. key:match('%d+')
            or 'Part of the loss: ' .. key, key, {both = true})
        end
      end
    end
  end
  local measured, order = {}, {}
  for i, run in ipairs(runs) do
    for _, m in ipairs(reading.measured(run)) do
      local name = m.name
      if not measured[name] then
        measured[name] = {}
        order[#order + 1] = name
      end
      m.label, m.name, m.colour = run.name, run.name, (i - 1) % 8 + 1
      table.insert(measured[name], m)
    end
  end
  for _, name in ipairs(order) do out[#out + 1] = page.chart('Measured: ' .. name, measured[name], {}) end
  out[#out + 1] = chart(runs, 'Gradient norm', 'gradient_norm', {both = true, log = true})
  out[#out + 1] = chart(runs, 'Learning rate', 'lr', {zero = true, smooth = 0})
  out[#out + 1] = chart(runs, 'Images a second', 'images_per_second', {zero = true})
  return out
end

-- A table with a column a run; rows: {name, values, whether they differ}.
local function columns(runs, rows)
  local out = {'<div class="wide"><table><tr><th></th>'}
  for _, run in ipairs(runs) do out[#out + 1] = '<th>' .. page.escape(run.name) .. '</th>' end
  out[#out + 1] = '</tr>'
  for _, row in ipairs(rows) do
    out[#out + 1] = ('<tr%s><td class="k">%s</td>'):format(row[3] and ' class="differs"' or '', page.escape(row[1]))
    for _, v in ipairs(row[2]) do out[#out + 1] = '<td>' .. page.escape(v) .. '</td>' end
    out[#out + 1] = '</tr>'
  end
  out[#out + 1] = '</table></div>'
  return table.concat(out, '\n')
end

local function figures(runs)
  local rows = {}
  for k, row in ipairs(rows_of(runs)) do
    rows[k] = {row[1], {}}
    for i, run in ipairs(runs) do rows[k][2][i] = row[2](run) end
  end
  return columns(runs, rows)
end

local function options(runs)
  local rows = {}
  for k, row in ipairs(options_of(runs)) do rows[k] = {row.name, row.values, row.differs} end
  if #rows == 0 then return '' end
  return '<h2>Options</h2>\n<p class="soft">Those that differ come first.</p>\n' .. columns(runs, rows)
end

-- Pictures of one name: the newest of each run, and up to three before.
local function pictures(runs)
  local out, names, seen = {}, {}, {}
  for _, run in ipairs(runs) do
    for name in pairs(run.pictures) do
      if not seen[name] then names[#names + 1] = name end
      seen[name] = true
    end
  end
  table.sort(names)
  for _, name in ipairs(names) do
    out[#out + 1] = '<h2>' .. page.escape(name) .. '</h2>'
    for _, run in ipairs(runs) do
      local strip, list = {}, report.spread(run.pictures[name] or {}, 4)
      for k = #list, 1, -1 do
        local e = list[k]
        local source = picture.source(run.folder .. '/' .. e.file, e.width, e.height, 300)
        local small = math.max(1, math.ceil(math.max(e.width, e.height) / 300))
        if source then
          strip[#strip + 1] = page.figure(source, report.whole(e.images) .. ' images seen', math.floor(e.width / small))
        end
      end
      if #strip > 0 then
        out[#out + 1] = ('<p>%s</p><div class="strip">%s</div>'):format(page.escape(run.name),
          table.concat(strip, '\n'))
      end
    end
  end
  return table.concat(out, '\n')
end

--- write(folders, path): a page that compares runs; returns path. Runs that go on are read as they are.
function compare.write(folders, path)
  local runs = read_all(folders)
  local body = {('<h1>%d runs</h1>'):format(#runs), figures(runs), '<h2>Curves</h2>', page.cards(charts(runs)),
                pictures(runs), options(runs)}
  core.write_file(path, page.document(('%d runs - ldlua'):format(#runs), body))
  return path
end

return compare
