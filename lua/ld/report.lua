-- A run as one page, report.html, and several runs side by side (report_compare.lua). All of it comes from the run's
-- folder: log.jsonl and the pictures it names; so a run that goes on, or that another program trains, can be read too.
local core = require 'ld.core'
local page = require 'ld.report_page'
local picture = require 'ld.report_picture'
local plot = require 'ld.plot'
local reading = require 'ld.report_read'

local report = {}

local function whole(n)
  local text = ('%d'):format(n)
  local at = #text % 3
  return (text:sub(1, at) .. text:sub(at + 1):gsub('(%d%d%d)', ' %1')):gsub('^ ', '')
end

local function state_of(run)
  local total, ago = run.data.total_images, core.clock() - run.last
  if run.state == 'finished' then return 'finished' end
  if run.state == 'stopped' then return 'stopped; the same command resumes it' end
  return ('%s%s'):format(ago < 900 and 'running' or 'no sign of life for ' .. page.duration(ago),
    total and run.seen < total and (', %.0f %% done'):format(100 * run.seen / total) or '')
end

local function header(run)
  local last = run.steps[#run.steps] or {}
  local function mean(key, form)
    local v = reading.final(run, key)
    return v and (form or plot.number)(v)
  end
  local tiles = {}
  local function tile(value, label, alert)
    if value then tiles[#tiles + 1] = {value, label, alert} end
  end
  tile(whole(run.seen), run.data.count and ('images seen, %.3g epochs'):format(run.seen / run.data.count)
    or 'images seen')
  tile(mean('loss'), 'loss, last tenth')
  for _, m in ipairs(reading.measured(run)) do
    if #tiles < 5 then tile(plot.number(m.y[#m.y]), m.name:gsub('_', ' ') .. ', last') end
  end
  tile(mean('images_per_second'), 'images a second')
  tile(page.duration(run.seconds), 'at work')
  tile(mean('data_wait', function(v) return ('%.1f %%'):format(100 * v) end), 'of it waiting for data')
  tile(last.skipped and tostring(last.skipped), 'steps skipped', (last.skipped or 0) > 0)
  tile(tostring(#reading.positions(run, 'outlier')), 'outliers', #reading.positions(run, 'outlier') > 0)
  return {('<h1>%s</h1>'):format(page.escape(run.name)),
          ('<p class="soft">%s; written %s</p>'):format(page.escape(state_of(run)),
            os.date('!%Y-%m-%d %H:%M UTC', run.last)), page.tiles(tiles)}
end

-- Series of several fields, with names for people.
local function fields(run, ...)
  local out = {}
  for _, pair in ipairs{...} do
    local s = reading.series(run, pair[1])
    if s then
      s.label, s.colour = pair[2], #out % 8 + 1
      out[#out + 1] = s
    end
  end
  return out
end

local function scaled(list, factor)
  for _, s in ipairs(list) do
    for i, v in ipairs(s.y) do s.y[i] = v * factor end
  end
  return list
end

local function loss_charts(run)
  local parts, levels = reading.parts(run)
  local loss, out = fields(run, {'loss', 'loss'}), {}
  if loss[1] then loss[1].marks = reading.positions(run, 'outlier') end
  out[1] = page.chart('Loss', loss, {both = true, note = loss[1] and #loss[1].marks > 0
    and 'Means between log lines, faint, and smoothed. Triangles: steps that stood out.'
    or 'Means between log lines, faint, and smoothed.'})
  local pairs_of, names = {}, {'least noise', 'second quarter', 'third quarter', 'most noise'}
  for k, key in ipairs(levels) do pairs_of[k] = {key, #levels == 4 and names[k] or key} end
  out[#out + 1] = page.chart('Loss by noise level', fields(run, unpack(pairs_of)),
    {both = true, log = true, note = 'Squared error of the predicted noise, by quarter of the time range.'})
  for _, key in ipairs(parts) do
    out[#out + 1] = page.chart('Part of the loss: ' .. key:gsub('_', ' '), fields(run, {key, key:gsub('_', ' ')}),
      {both = true})
  end
  for _, m in ipairs(reading.measured(run)) do
    m.label = m.name:gsub('_', ' ')
    out[#out + 1] = page.chart('Measured: ' .. m.label, {m}, {both = m.name:find('loss') or m.name:find('mse')})
  end
  return out
end

local function health_charts(run)
  return {
    page.chart('Gradient norm', fields(run, {'gradient_norm', 'before clipping'}), {both = true, log = true}),
    page.chart('Learning rate', fields(run, {'lr', 'learning rate'}), {zero = true, smooth = 0, both = true}),
    page.chart('Perceptual term', fields(run, {'share', 'share of the loss'}, {'gradient_cosine',
      'cosine between its gradient and that of MSE'}, {'gradient_ratio', 'norm of its gradient over that of MSE'}),
      {zero = true}),
    page.chart('Throughput', fields(run, {'images_per_second', 'images a second'}), {zero = true}),
    page.chart('Waiting and card', scaled(fields(run, {'data_wait', 'time spent waiting for data, %'},
      {'gpu_use', 'card busy, %'}), 100), {zero = true}),
    page.chart('Memory, MiB', scaled(fields(run, {'memory_live', 'tensors'}, {'memory_peak', 'tensors, peak'},
      {'memory_resident', 'process'}, {'gpu_memory', 'card'}), 1 / 2 ^ 20), {zero = true, smooth = 0}),
  }
end

-- At most n of a list, first and last among them, evenly spread.
local function spread(list, n)
  if #list <= n then return list end
  local out = {}
  for k = 0, n - 1 do out[#out + 1] = list[math.floor(k * (#list - 1) / (n - 1) + 0.5) + 1] end
  return out
end

local function pictures(run)
  local out, names = {}, {}
  for name in pairs(run.pictures) do names[#names + 1] = name end
  table.sort(names)
  for _, name in ipairs(names) do
    local list = spread(run.pictures[name], 8)
    local strip = {}
    for k, e in ipairs(list) do
      local side = k == #list and 640 or 300
      local source = picture.source(run.folder .. '/' .. e.file, e.width, e.height, side)
      if source then
        local small = math.max(1, math.ceil(math.max(e.width, e.height) / side))
        table.insert(strip, 1, page.figure(source, whole(e.images) .. ' images seen', math.floor(e.width / small)))
      end
    end
    if #strip > 0 then
      out[#out + 1] = ('<h2>%s</h2>\n<p class="soft">Newest first%s.</p>\n<div class="strip">%s</div>'):format(
        page.escape(name), #list < #run.pictures[name] and (', %d of %d'):format(#list, #run.pictures[name]) or '',
        table.concat(strip, '\n'))
    end
  end
  return out
end

local told = {started = 'started', resumed = 'resumed', stopped = 'stopped', finished = 'finished',
              find_lr = 'learning rate searched', skipped = 'step skipped: not finite', outlier = 'step that stood out'}

local function events(run)
  local rows = {}
  for i = #run.events, 1, -1 do
    local e = run.events[i]
    if told[e.event] and #rows < 40 then
      local more = (e.event == 'outlier' or e.event == 'skipped') and ('loss %s, gradient norm %s'):format(
        page.value(e.loss), page.value(e.gradient_norm)) or e.suggestion and page.value(e.suggestion) or e.why or ''
      rows[#rows + 1] = ('<tr><td class="k">%s</td><td class="n">%s</td><td>%s</td><td>%s</td></tr>'):format(
        os.date('!%Y-%m-%d %H:%M:%S', e.time), whole(e.images), told[e.event], page.escape(more))
    end
  end
  if #rows == 0 then return '' end
  return '<div class="wide"><table><tr><th>time (UTC)</th><th class="n">images</th><th>event</th><th></th></tr>'
    .. table.concat(rows, '\n') .. '</table></div>'
end

local function section(body, title, text)
  if text ~= '' then body[#body + 1] = ('<h2>%s</h2>\n%s'):format(title, text) end
end

-- Fields of an event that are facts of the run.
local function without(e, ...)
  local out = {}
  for key, value in pairs(e) do out[key] = value end
  for _, key in ipairs{'event', 'time', 'images', ...} do out[key] = nil end
  return out
end

--- read(folder): a run as report_read.lua reads it, with `seen`, the images of its last sign of life.
function report.read(folder)
  local run = reading.read(folder)
  run.seen = 0
  for _, list in ipairs{run.steps, run.events} do
    for i = #list, 1, -1 do
      if list[i].event ~= 'data' then
        run.seen = math.max(run.seen, list[i].images)
        break
      end
    end
  end
  return run
end

report.spread, report.whole, report.state_of = spread, whole, state_of

--- page(folder): the report as text.
function report.page(folder)
  local run = report.read(folder)
  local body = header(run)
  section(body, 'Losses', page.cards(loss_charts(run)))
  for _, strip in ipairs(pictures(run)) do body[#body + 1] = strip end
  section(body, 'Health', page.cards(health_charts(run)))
  section(body, 'Events', events(run))
  local data, facts = without(run.data), without(run.facts, 'options', 'environment', 'model')
  facts.model = run.facts.model and run.facts.model.name
  facts.parameters = run.facts.model and whole(run.facts.model.parameters)
  local tables = {}
  for _, t in ipairs{{'Options', run.facts.options}, {'Data', data}, {'Model and run', facts},
                     {'Environment', run.facts.environment}} do
    tables[#tables + 1] = t[2] and next(t[2]) and ('<section class="card"><h3>%s</h3>%s</section>'):format(t[1],
      page.facts(t[2])) or ''
  end
  section(body, 'Configuration', page.cards(tables))
  return page.document(run.name .. ' - ldlua', body)
end

--- write(folder, path = folder/report.html): the report of a run, written so that readers see the old version or the
-- new.
function report.write(folder, path)
  path = path or folder .. '/report.html'
  core.write_file(path, report.page(folder))
  return path
end

--- compare(folders, path): several runs on one page; see report_compare.lua.
function report.compare(...) return require('ld.report_compare').write(...) end

--- table(folders): several runs as lines of text.
function report.table(...) return require('ld.report_compare').table(...) end

return report
