-- Operations element by element. Their entries differ in little more than a formula, so they are written as a table.
local one = { -- name, what it gives, parameters, source
  {'neg', '-x'}, {'abs', 'the absolute value'}, {'exp', 'e to the power of x'}, {'log', 'the natural logarithm'},
  {'sqrt', 'the square root'}, {'rsqrt', '1 / sqrt(x)'}, {'square', 'x times x'}, {'reciprocal', '1 / x'},
  {'sin', 'the sine, x in radians'}, {'cos', 'the cosine, x in radians'}, {'tan', 'the tangent, x in radians'},
  {'tanh', 'the hyperbolic tangent'}, {'sigmoid', '1 / (1 + exp(-x))'},
  {'silu', 'x sigmoid(x)', nil, 'Elfwing et al. 2018, arXiv:1702.03118'},
  {'gelu', 'x times the normal distribution function of x', nil, 'Hendrycks & Gimpel 2016, arXiv:1606.08415'},
  {'relu', 'max(x, 0)'},
  {'leaky_relu', 'x where it is above 0, slope x elsewhere', {{'slope', 'number, 0.01 when left out'}}},
  {'general_relu', 'leaky_relu(x, slope) - sub', {{'slope', 'number, 0.1 when left out'},
    {'sub', 'number, 0.4 when left out'}}, "fast.ai's GeneralReLU"},
  {'affine', 'scale x + shift', {{'scale', 'number, 1 when left out'}, {'shift', 'number, 0 when left out'}}},
  {'floor', 'the largest whole number not above x; its gradient is 0'},
  {'round', 'the nearest whole number, halves to the even one; its gradient is 0'},
  {'sign', '-1, 0 or 1; its gradient is 0'},
  {'clamp', 'x, not below low and not above high', {{'low', 'number, or nil for no bound'},
    {'high', 'number, or nil for no bound'}}},
}

local two = { -- name, what it gives, operator, whether there is one in place
  {'add', 'the sum', '+', true}, {'sub', 'the difference', '-', true}, {'mul', 'the product', '*', true},
  {'div', 'the quotient', '/', true}, {'pow', 'x to the power of y', '^', true},
  {'maximum', 'the larger of both', nil, true}, {'minimum', 'the smaller of both', nil, true},
  {'eq', '1 where equal, else 0, as u8'}, {'ne', '1 where not equal, else 0, as u8'},
  {'lt', '1 where x < y, else 0, as u8'}, {'le', '1 where x <= y, else 0, as u8'},
  {'gt', '1 where x > y, else 0, as u8'}, {'ge', '1 where x >= y, else 0, as u8'},
}

local out = {}
local function line(text, ...) out[#out + 1] = select('#', ...) > 0 and text:format(...) or text end

for _, e in ipairs(one) do
  local name, parameters = e[1], e[3] or {}
  local arguments, defaults = 'x', name == 'clamp' and ', 0, 1' or ''
  for _, p in ipairs(parameters) do arguments = arguments .. ', ' .. p[1] end
  if name ~= 'clamp' then line('ld.%s(%s)\nld.%s_(%s)', name, arguments, name, arguments)
  else line('ld.clamp(%s)\nx:clamp_(%s)', arguments, arguments:gsub('^x, ', '')) end
  line('  Element by element: %s; %s_ in place.', e[2], name)
  line('  x  tensor of floats')
  for _, p in ipairs(parameters) do line('  %s  %s', p[1], p[2]) end
  line('  returns  a tensor like x; %s_ gives x', name)
  line('  errors   whole numbers are refused where the result has none: convert with x:f32()')
  if e[4] then line('  source   %s', e[4]) end
  line('  example\n    local x = ld.tensor{0.25, 0.5, 2}\n    print(ld.%s(x%s), x:%s_(%s))\n', name, defaults, name,
    (defaults:gsub('^, ', '')))
end

for _, e in ipairs(two) do
  local name = e[1]
  line('ld.%s(x, y)', name)
  if e[4] then line('ld.%s_(x, y)', name) end
  line('  Element by element: %s%s%s. Shapes are broadcast as in NumPy.', e[2],
    e[3] and ('; also written x %s y'):format(e[3]) or '', e[4] and ('; %s_ in place, in x'):format(name) or '')
  line('  x  tensor, or a number when y is a tensor\n  y  tensor of the same dtype and device, or a number')
  line('  returns  a tensor of the broadcast shape%s', e[4] and ('; %s_ gives x'):format(name) or '')
  line('  errors   shapes that do not broadcast; dtypes or devices that differ')
  line('  example\n    local x = ld.tensor{1, 2, 3}\n    print(ld.%s(x, 2)%s)\n', name,
    e[4] and (', x:%s_(ld.ones(3))'):format(name) or '')
end

line [==[
ld.where(condition, x, y)
  x where the condition is not 0, y elsewhere; all broadcast.
  condition  tensor u8
  x          tensor
  y          tensor of x's dtype
  returns    a tensor of the broadcast shape
  example
    local x = ld.tensor{-1, 2}
    print(ld.where(x:gt(0), x, ld.zeros(2)))
]==]

local text = table.concat(out, '\n'):gsub('ld%.([%w_]+_)%(x, ?', 'x:%1('):gsub('ld%.([%w_]+_)%(x%)', 'x:%1()')
return {title = 'Element by element', text}
