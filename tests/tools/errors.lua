-- Wrong calls as newcomers type them, and what the prompt answers. `make docs` writes docs/errors.md from it;
-- tests/lua/test_prompt_errors.lua compares. All are typed at one prompt, which must live on.
--
-- {title, {line, varies = a part of the answer that holds on every machine} or line, ...}; a line without an error is
-- what the ones behind it need.
local groups = {
  {'Shapes', 'x, y = ld.zeros(2, 3), ld.zeros(4)', 'x + y', 'x:matmul(x)',
    'nn.linear{in_features = 3, out_features = 2}(y)',
    'ld.conv2d(ld.zeros(1, 4, 8, 8), ld.zeros(16, 3, 3, 3))', 'ld.conv2d(ld.zeros(3, 8, 8), ld.zeros(16, 3, 3, 3))',
    'x:reshape(4, 2)', 'ld.concat({x, y}, 1)', 'ld.mse(x, y)', 'x[3]', 'x[0]', 'x:sum(3)',
    'ld.models.unet{channels = {8, 16}, layers = 1}(ld.zeros(1, 4, 5, 5), ld.zeros(1))'},
  {'Misspelt names and options', 'ld.zeroes(3)', 'nn.conv3d{}', 'ld.optim.adamW({})', 'x:multiply(2)', 'zeros(3)',
    "ld.zeros({2}, {dytpe = 'f32'})", 'nn.conv2d{in_channel = 3, out_channels = 4, kernel = 3}',
    "x:to 'float32'", "nn.activation{kind = 'swish'}"},
  {'Forgotten or mistaken arguments', 'nn.linear{in_features = 3}', 'nn.conv2d(3, 16, 3)', 'ld.full(2, 2, 5)',
    'ld.zeros{2, 3, dtype = "f64"}', 'x:item()', 'x:add()', 'x + "one"',
    'ld.optim.adamw(nn.linear{in_features = 1, out_features = 1}, {lr = 1})', "ld.images('no/such/folder')",
    "ld.load_image 'no/such.png'", "ld.vae.load 'no/such.safetensors'"},
  {'Dtypes and devices', "x + ld.ones({2, 3}, {dtype = 'i64'})", "ld.ones({2}, {dtype = 'i64'}):mean()",
    {"ld.zeros({1}, {device = 'gpu'})", varies = "there is no 'gpu'"}, {"x:to 'cuda:99'", varies = 'cuda'}},
  {'Gradients and state', 'r = ld.zeros(2) r:release()', 'r + 1', 'x:backward()',
    'w = ld.ones({2}, {requires_grad = true})', '(w * 2):backward()', 'w:add_(1)', 'w.grad:sum()',
    'nn.batch_norm{channels = 3}(ld.zeros(1, 3))'},
  {'Memory', 'ld.memory_limit(2 ^ 26)', {'ld.zeros(64, 1024, 1024)', varies = 'out of memory on cpu'},
    'ld.memory_limit(0)', 'ld.zeros(1e6, 1e6, 1e6)'},
}

local errors = {}

-- Types every line at one prompt: {{title, {line, answer, varies} ...} ...}, and whether it lived to the end.
function errors.run(ldlua, folder)
  local lines, wanted = {}, {}
  for _, g in ipairs(groups) do
    for i = 2, #g do
      local line = type(g[i]) == 'table' and g[i][1] or g[i]
      lines[#lines + 1] = line
      lines[#lines + 1] = 'print "----"'
      wanted[#wanted + 1] = line
    end
  end
  lines[#lines + 1] = 'print("alive " .. 40 + 2)'
  local input = folder .. '/typed'
  local f = assert(io.open(input, 'w'))
  f:write(table.concat(lines, '\n'), '\n')
  f:close()
  local p = assert(io.popen(('%s -i <%s 2>&1'):format(ldlua, input)))
  local text = p:read('*a')
  p:close()
  local out, k, at = {}, 0, 1
  for _, g in ipairs(groups) do
    local group = {g[1]}
    for i = 2, #g do
      k = k + 1
      local from, to = text:find('----\n', at, true)
      local answer = from and text:sub(at, from - 1) or '(the prompt is gone)'
      at = (to or #text) + 1
      local varies = type(g[i]) == 'table' and g[i].varies
      group[#group + 1] = {wanted[k], answer:gsub('^prompt:1: ', ''):gsub('\n.*$', ''), varies,
                           answer:match('^prompt:1: ') ~= nil}
    end
    out[#out + 1] = group
  end
  return out, text:find('alive 42\n', at, true) ~= nil
end

local function cell(text) return '`' .. text:gsub('|', '\\|') .. '`' end

--- The document.
function errors.markdown(answers)
  local out = {'# Wrong calls, and what the prompt answers', '',
    'Typed as newcomers type them, at one prompt, which goes on after each. `make docs` writes this page from ' ..
    '`tests/tools/errors.lua`;', 'a test types them again and compares. In scripts the message begins with the ' ..
    'file and the line. `ldlua -v` shows every frame.', ''}
  for _, g in ipairs(answers) do
    out[#out + 1] = ('## %s\n\n| typed | answer |\n|---|---|'):format(g[1])
    for i = 2, #g do
      local line, answer, varies, wrong = unpack(g[i], 1, 4)
      if wrong then
        out[#out + 1] = ('| %s | %s |'):format(cell(line), cell(varies and '... ' .. varies .. ' ...' or answer))
      else
        out[#out + 1] = ('| %s | |'):format(cell(line))
      end
    end
    out[#out + 1] = ''
  end
  return table.concat(out, '\n')
end

return errors
