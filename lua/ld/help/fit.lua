-- Text as wide as the terminal: lines that are longer go on below what they say.

-- Where what a line says begins: behind the name in front of it, where it has one.
local function margin(line, width)
  local from = #line:match('^%s*')
  local _, behind = line:find('^%s*%S+%s%s+%S')
  local at = behind and behind - 1 or from + (line:match('^%S') and 4 or 0)
  return at <= width / 2 and at or math.min(from + 4, math.floor(width / 3))
end

--- fit(text, width): the text with its lines broken at blanks. Examples, which stand four blanks in, stay as they are,
-- so that they can be copied.
return function(text, width)
  if not width then return text end
  local out, example = {}, false
  for line in (text .. '\n'):gmatch('([^\n]*)\n') do
    example = line:match('^  example') ~= nil or (example and line:match('^    ') ~= nil)
    local at = margin(line, width)
    while not example and #line >= width do
      local cut
      for i = width, at + 2, -1 do
        if line:sub(i, i) == ' ' and line:sub(1, i - 1):find('%S') then
          cut = i
          break
        end
      end
      cut = cut or line:find(' ', width + 1, true) -- a word that is wider than the terminal
      if not cut then break end
      out[#out + 1] = line:sub(1, cut - 1):gsub('%s+$', '')
      line = (' '):rep(at) .. line:sub(cut + 1):gsub('^%s+', '')
    end
    out[#out + 1] = line
  end
  return table.concat(out, '\n')
end
