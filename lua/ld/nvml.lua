-- How busy an NVIDIA card is, by the driver's own library, which is loaded when first asked for and need not be there.
local ok, ffi = pcall(require, 'ffi')

local nvml = {}

local declared

local function declare()
  ffi.cdef[[
    typedef struct ld_nvml_device *ld_nvml_device;
    typedef struct { unsigned int gpu, memory; } ld_nvml_use;
    typedef struct { unsigned long long total, free, used; } ld_nvml_memory;
    int nvmlInit_v2(void);
    int nvmlDeviceGetHandleByIndex_v2(unsigned int index, ld_nvml_device *device);
    int nvmlDeviceGetHandleByUUID(const char *uuid, ld_nvml_device *device);
    int nvmlDeviceGetUtilizationRates(ld_nvml_device device, ld_nvml_use *use);
    int nvmlDeviceGetMemoryInfo(ld_nvml_device device, ld_nvml_memory *memory);
    int nvmlDeviceGetName(ld_nvml_device device, char *name, unsigned int length);
  ]]
  declared = true
end

-- The card that the program calls number i, as CUDA_VISIBLE_DEVICES has it: a number or the beginning of a UUID.
local function word_of(i)
  local list = os.getenv('CUDA_VISIBLE_DEVICES')
  if not list then return tostring(i) end
  local k = 0
  for word in list:gmatch('[^,%s]+') do
    if k == i then return word end
    k = k + 1
  end
end

--- open(i, library): card i (from 0) as an object, or nil. card.read(): {use = share of the last second in which it
-- computed, memory = bytes in use, total = bytes}; card.name. Numbers count in the order of the bus, which is CUDA's
-- with CUDA_DEVICE_ORDER=PCI_BUS_ID and wherever all cards are of one kind.
function nvml.open(i, library)
  if not ok then return nil end
  if not declared then declare() end
  local found, lib = pcall(ffi.load, library or 'libnvidia-ml.so.1')
  if not found then return nil end
  local card, word = ffi.new('ld_nvml_device[1]'), word_of(i)
  if not word or lib.nvmlInit_v2() ~= 0 then return nil end
  local index = tonumber(word)
  local bad = index and lib.nvmlDeviceGetHandleByIndex_v2(index, card)
              or not index and lib.nvmlDeviceGetHandleByUUID(word, card)
  if bad ~= 0 then return nil end
  local self, name = {}, ffi.new('char[96]')
  if lib.nvmlDeviceGetName(card[0], name, 96) == 0 then self.name = ffi.string(name) end
  function self.read()
    local use, memory, out = ffi.new('ld_nvml_use[1]'), ffi.new('ld_nvml_memory[1]'), {}
    if lib.nvmlDeviceGetUtilizationRates(card[0], use) == 0 then out.use = use[0].gpu / 100 end
    if lib.nvmlDeviceGetMemoryInfo(card[0], memory) == 0 then
      out.memory, out.total = tonumber(memory[0].used), tonumber(memory[0].total)
    end
    return out
  end
  return self
end

return nvml
