-- Pages of things typed at the prompt, such as docs/tutorial.md. In ```console blocks a line that begins with `> ` is
-- typed, `>> ` goes on with it, and what follows is what the prompt answers. All blocks of a page are one session.
-- tests/lua/test_tutorial.lua types it again and compares; `make docs` renews answers that no longer hold.
local ld = require 'ld'

local tutorial = {}

--- parse(text): the statements of a page in order, {typed, answer, first, last}: line numbers of the answer, `last`
-- below `first` where there is none.
function tutorial.parse(text)
  local list, inside, number, s = {}, nil, 0, nil
  for line in text:gmatch('([^\n]*)\n') do
    number = number + 1
    local fence, typed, more = line:match('^```(.*)$'), line:match('^> (.*)$'), line:match('^>> (.*)$')
    if fence then
      inside, s = not inside and fence or nil, nil
    elseif inside == 'console' and typed then
      s = {typed = typed, answer = {}, first = number + 1, last = number}
      list[#list + 1] = s
    elseif inside == 'console' and more then
      if not s or #s.answer > 0 then error(('line %d: >> without a statement'):format(number), 0) end
      s.typed, s.first, s.last = s.typed .. '\n' .. more, number + 1, number
    elseif inside == 'console' then
      if not s then error(('line %d: an answer to nothing'):format(number), 0) end
      s.answer[#s.answer + 1], s.last = line, number
    end
  end
  return list
end

--- answers(ldlua, folder, list): what one prompt, started in the folder, answers to each: lists of lines.
function tutorial.answers(ldlua, folder, list)
  local lines, out = {}, {}
  for _, s in ipairs(list) do
    lines[#lines + 1] = s.typed
    lines[#lines + 1] = 'do print "----" end'
  end
  ld.write_file(folder .. '/typed', table.concat(lines, '\n') .. '\n')
  local p = assert(io.popen(("cd '%s' && '%s' -i <typed 2>&1"):format(folder, ldlua)))
  local text, at = p:read('*a'), 1
  p:close()
  for i = 1, #list do
    local from, to = text:find('----\n', at, true)
    local answer = {}
    for line in (from and text:sub(at, from - 1) or '(the prompt is gone)\n'):gmatch('([^\n]*)\n') do
      answer[#answer + 1] = (line:gsub('%s+$', ''))
    end
    out[i], at = answer, (to or #text) + 1
  end
  return out
end

-- A line's words with fractions left out, and the fractions.
local function apart(line)
  local numbers = {}
  local words = line:gsub('%-?%d+%.%d+e?%-?%d*', function(n)
    numbers[#numbers + 1] = tonumber(n)
    return '#'
  end)
  return words:gsub('%s+', ' '), numbers
end

-- Fractions differ from machine to machine in their last digits, and training makes that more.
local function same_line(wanted, got)
  local before, after = wanted:match('^(.-)%.%.%.(.*)$')
  if before then
    return got:sub(1, #before) == before and #got >= #before + #after and (after == '' or got:sub(-#after) == after)
  end
  local a, x = apart(wanted)
  local b, y = apart(got)
  if a ~= b then return false end
  for i, v in ipairs(x) do
    if math.abs(v - y[i]) > 0.02 * math.abs(v) + 0.005 then return false end
  end
  return true
end

--- same(wanted, got): whether lists of lines agree. `...` in a line is any text, a line of `...` any lines; fractions
-- agree to 2 % or 0.005, all else to the letter, white space apart.
function tutorial.same(wanted, got, i, k)
  i, k = i or 1, k or 1
  if i > #wanted then return k > #got end
  if wanted[i] == '...' then
    for after = k, #got + 1 do
      if tutorial.same(wanted, got, i + 1, after) then return true end
    end
    return false
  end
  return k <= #got and same_line(wanted[i], got[k]) and tutorial.same(wanted, got, i + 1, k + 1)
end

--- renewed(text, list, answers): the page with the answers that are given, where the old ones do not agree.
function tutorial.renewed(text, list, answers)
  local lines, out, at = {}, {}, 1
  for line in text:gmatch('([^\n]*)\n') do lines[#lines + 1] = line end
  for i, s in ipairs(list) do
    while at < s.first do out[#out + 1], at = lines[at], at + 1 end
    local answer = tutorial.same(s.answer, answers[i]) and s.answer or answers[i]
    for _, line in ipairs(answer) do out[#out + 1] = line end
    at = s.last + 1
  end
  while at <= #lines do out[#out + 1], at = lines[at], at + 1 end
  return table.concat(out, '\n') .. '\n'
end

return tutorial
