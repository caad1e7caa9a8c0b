-- Building blocks of report pages: HTML that is also well-formed XML, one file, no script, nothing fetched.
local plot = require 'ld.plot'

local page = {}

local escape = plot.escape
page.escape = escape

local style = [[
*{box-sizing:border-box}html{color-scheme:light dark}
body{margin:0 auto;max-width:1180px;padding:28px 20px 60px;background:var(--ground);color:var(--ink);
font:15px/1.5 system-ui,-apple-system,"Segoe UI",sans-serif}
h1{font-size:1.5rem;margin:0;font-weight:650}h2{font-size:1.05rem;margin:2.2rem 0 .7rem;font-weight:650}
p{margin:.3rem 0}.soft{color:var(--soft)}.alert{color:var(--alert)}
.tiles{display:grid;grid-template-columns:repeat(auto-fit,minmax(128px,1fr));gap:10px;margin:1.2rem 0}
.tile,.card{background:var(--card);border:1px solid var(--rule);border-radius:8px;padding:10px 14px}
.tile b{display:block;font-size:1.2rem;font-weight:600;font-variant-numeric:tabular-nums}
.tile span{color:var(--soft);font-size:.8rem}
.cards{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,460px),1fr));gap:14px}
.card h3{font-size:.92rem;margin:0;font-weight:600}.card p{font-size:.82rem;color:var(--soft);margin:.15rem 0 .5rem}
.legend{display:flex;flex-wrap:wrap;gap:2px 14px;font-size:.82rem;margin:.1rem 0 .5rem}
.legend i{display:inline-block;width:14px;height:3px;border-radius:2px;margin-right:6px;vertical-align:middle}
.head{display:flex;justify-content:space-between;gap:12px}.head input{position:absolute;opacity:0;width:1px}
.toggle{font-size:.78rem;white-space:nowrap}
.toggle label{color:var(--soft);cursor:pointer;padding:1px 6px;border-radius:5px}
.card .log{display:none}
.card:has(.pick-log:checked) .log{display:block}.card:has(.pick-log:checked) .lin{display:none}
.card:has(.pick-log:checked) .for-log,.card:not(:has(.pick-log:checked)) .for-lin{
background:var(--rule);color:var(--ink)}
.toggle:has(:focus-visible){outline:2px solid var(--c1);border-radius:6px}
.strip{display:flex;flex-wrap:wrap;gap:12px;align-items:flex-start}
figure{margin:0}figure img{display:block;max-width:100%;border-radius:6px;border:1px solid var(--rule)}
figcaption{color:var(--soft);font-size:.8rem;margin-top:3px}
.wide{overflow-x:auto}table{border-collapse:collapse;font-size:.86rem;min-width:50%}
.card table{width:100%;margin-top:.4rem}
th,td{text-align:left;padding:4px 16px 4px 0;border-bottom:1px solid var(--rule);vertical-align:top}
td{overflow-wrap:anywhere}
th{font-weight:600}td.n,th.n{text-align:right;font-variant-numeric:tabular-nums}
td.k{color:var(--soft);white-space:nowrap}tr.differs td{font-weight:600}
@media print{body{max-width:none}.card,.tile{break-inside:avoid}}
]]

--- document(title, body): the whole page.
function page.document(title, body)
  return ('<!DOCTYPE html>\n<html xmlns="http://www.w3.org/1999/xhtml" lang="en">\n<head>\n<meta charset="utf-8"/>\n'
    .. '<meta name="viewport" content="width=device-width,initial-scale=1"/>\n<title>%s</title>\n'
    .. '<style>\n%s%s</style>\n</head>\n<body>\n%s\n</body>\n</html>\n'):format(escape(title), plot.style, style,
    table.concat(body, '\n'))
end

--- value(v): plain values as a reader wants them.
function page.value(v)
  if type(v) == 'table' then
    local out, keys = {}, {}
    for key in pairs(v) do keys[#keys + 1] = key end
    table.sort(keys, function(a, b) return tostring(a) < tostring(b) end)
    if #v > 0 then
      for i, x in ipairs(v) do out[i] = page.value(x) end
    else
      for i, key in ipairs(keys) do out[i] = ('%s = %s'):format(tostring(key), page.value(v[key])) end
    end
    return table.concat(out, ', ')
  end
  return type(v) == 'number' and ('%.6g'):format(v) or tostring(v)
end

function page.duration(seconds)
  if seconds < 90 then return ('%d s'):format(seconds) end
  if seconds < 5400 then return ('%d min'):format(seconds / 60 + 0.5) end
  if seconds < 172800 then return ('%.1f h'):format(seconds / 3600) end
  return ('%.1f days'):format(seconds / 86400)
end

--- tiles{{value, label, alert}, ...}
function page.tiles(list)
  local out = {'<div class="tiles">'}
  for _, tile in ipairs(list) do
    out[#out + 1] = ('<div class="tile"><b%s>%s</b><span>%s</span></div>'):format(tile[3] and ' class="alert"' or '',
      escape(tile[1]), escape(tile[2]))
  end
  out[#out + 1] = '</div>'
  return table.concat(out)
end

--- facts(t): a table of names and values, in order of the names.
function page.facts(t)
  local keys, out = {}, {'<div class="wide"><table>'}
  for key in pairs(t) do keys[#keys + 1] = key end
  table.sort(keys)
  for _, key in ipairs(keys) do
    out[#out + 1] = ('<tr><td class="k">%s</td><td>%s</td></tr>'):format(escape(key), escape(page.value(t[key])))
  end
  out[#out + 1] = '</table></div>'
  return table.concat(out, '\n')
end

local function legend(series)
  local out = {'<div class="legend">'}
  for k, s in ipairs(series) do
    out[#out + 1] = ('<span><i style="background:var(--c%d)"></i>%s</span>'):format(s.colour or (k - 1) % 8 + 1,
      escape(s.label or s.name))
  end
  out[#out + 1] = '</div>'
  return table.concat(out)
end

local charts = 0

--- chart(title, series, {note, both (a switch between linear and logarithmic), log (logarithmic first), zero, smooth}):
-- a card, or '' when there is nothing to draw.
function page.chart(title, series, o)
  local function draw(log)
    return plot(series, {title = title, x_label = 'images seen', log_y = log, zero = o.zero or false,
                         smooth = o.smooth or 0.04})
  end
  local linear, log = draw(false), o.both and draw(true)
  if not linear then return '' end
  charts = charts + 1
  local switch = ''
  if log then
    switch = ('<span class="toggle"><input type="radio" name="s%d" id="a%d"%s/><label class="for-lin" for="a%d">linear'
      .. '</label><input class="pick-log" type="radio" name="s%d" id="b%d"%s/><label class="for-log" for="b%d">log'
      .. '</label></span>'):format(charts, charts, o.log and '' or ' checked="checked"', charts, charts, charts,
      o.log and ' checked="checked"' or '', charts)
  end
  return table.concat({'<section class="card">',
    ('<div class="head"><h3>%s</h3>%s</div>'):format(escape(title), switch),
    ('<p>%s</p>'):format(escape(o.note or '')), legend(series), '<div class="lin">', linear, '</div>',
    log and '<div class="log">' .. log .. '</div>' or '', '</section>'}, '\n')
end

function page.cards(list)
  local some = {}
  for _, card in ipairs(list) do
    if card ~= '' then some[#some + 1] = card end
  end
  return #some > 0 and '<div class="cards">\n' .. table.concat(some, '\n') .. '\n</div>' or ''
end

--- figure(source, caption, width)
function page.figure(source, caption, width)
  return ('<figure style="width:%dpx;max-width:100%%"><img src="%s" alt="%s"/><figcaption>%s</figcaption></figure>')
    :format(width, source, escape(caption), escape(caption))
end

return page
