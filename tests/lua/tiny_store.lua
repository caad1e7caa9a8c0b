-- Tiny stores for the tests of encoding and of what is encoded: autoencoders, pictures, files.
--
--   local tiny = dofile('tests/lua/tiny_store.lua')(tmp)    -- the folder `tmp` must be there
local ld = require 'ld'
local t = dofile 'tests/lua/harness.lua'

-- Everything in an HDF5 file: data sets, strings and attributes of the root.
local function content(path)
  local f, out = ld.h5_open(path), {}
  for _, name in ipairs(f:list()) do
    out[name] = f:shape(name) and f:read(name):tolist() or f:read_strings(name)
  end
  for _, key in ipairs(f:attributes()) do out['@' .. key] = f:attribute('/', key) end
  f:close()
  return out
end

local function read(path, name)
  local f = ld.h5_open(path)
  local x = f:read(name)
  f:close()
  return x
end

return function(tmp)
  local tiny = {}

  -- Autoencoders with weights of chance, whose round trip is no better than chance either.
  ld.seed(11)
  ld.checkpoint.write(tmp .. '/small.h5', {model = ld.models.small_autoencoder{width = 8, blocks = 1},
                                           record = {name = 'tiny'}})
  ld.checkpoint.write(tmp .. '/other.h5', {model = ld.models.small_autoencoder{width = 8, blocks = 1},
                                           record = {name = 'tiny'}})
  tiny.small = ld.vae.load(tmp .. '/small.h5')

  -- A folder of three classes of four pictures, numbers 6 (cut) and 9 (none) damaged: its path, the pictures' names in
  -- order, the bytes of number 6 before they were cut.
  function tiny.folder(path)
    local names = {}
    for _, class in ipairs{'ants', 'bees', 'cats'} do
      ld.make_dirs(path .. '/' .. class)
      for i = 1, 4 do
        local name = ('%s/%d.png'):format(class, i)
        names[#names + 1] = name
        ld.save_image(ld.faces(1, {size = 24, seed = 7, first = #names})[1], path .. '/' .. name)
      end
    end
    local whole = t.get(path .. '/bees/2.png')
    t.put(path .. '/bees/2.png', whole:sub(1, 300))
    t.put(path .. '/cats/1.png', 'no picture at all')
    return path, names, whole
  end

  -- Synthetic faces, drawn once: drawing takes longer than all the rest here.
  local drawn = ld.faces(22, {size = 16, seed = 3})
  function tiny.faces(n)
    local set = ld.images.synthetic_faces{n = n or 22, size = 16, seed = 3}
    function set.read(_, list)
      local at = {}
      for i, k in ipairs(list) do at[i] = k - 1 end
      return ld.gather(drawn, ld.tensor(at, {dtype = 'i64', device = drawn.device})), {}
    end
    return set
  end

  -- The path of a store that is not there yet, in a folder that is not there at first.
  local serial = 0
  function tiny.fresh()
    serial = serial + 1
    return ('%s/new/store-%d.h5'):format(tmp, serial)
  end

  function tiny.encode(vae, set, path, more)
    local o = {least_psnr = -1000, quiet = true, batch = 4}
    for key, value in pairs(more or {}) do o[key] = value end
    local store = ld.latents.encode(vae, set, path, o) -- no tail call, so that errors have this line
    return store
  end

  tiny.content, tiny.read = content, read
  return tiny
end
