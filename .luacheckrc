-- Lua here is LuaJIT's; there are no globals but its own, in the library, the recipes and the tests alike.
std = 'luajit'
cache = false
max_line_length = 120
self = false
