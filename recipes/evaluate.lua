-- Evaluate trained runs by a latent classifier: Frechet distance, KID, precision and recall of generated latents
-- against real ones, with real against real beside. Nothing is decoded.
--   ldlua recipes/evaluate.lua runs/celeba --judge runs/other-classifier/best.h5 --n 1000
--   ldlua recipes/evaluate.lua runs/a runs/b runs/c/evaluation/ema-00064000.json
--   judge   a classifier other than that of the loss; a record (.json) is shown without being computed again
--   look    RUN/evaluation/<weights>-<images>.json; refuses to compare what differs in N, features, sampler or data
local ld = require 'ld'

local opt = ld.options{'runs...',
  runs = {},
  judge = 'runs/imagenet-classifier/best.h5', -- latent classifier whose features are compared; not that of the loss
  n = 10000,                                -- generated latents; twice as many real ones are needed
  k = 3, seed = 0, batch = 64,
  sampler = 'ddim', steps = 100, eta = 1, weights = 'ema', sigma_rel = 0, store = '',
}

if #opt.runs == 0 then ld.fail('name one or more runs: ldlua recipes/evaluate.lua runs/celeba') end
local samplers = {ddim = function() return ld.sampler.ddim{steps = opt.steps, eta = opt.eta} end,
                  ancestral = function() return ld.sampler.ancestral{steps = opt.steps} end}
local make = samplers[opt.sampler] or ld.fail("unknown sampler '%s'; known: ddim ancestral", opt.sampler)

local judge -- loaded for the first run that needs it
local function evaluate(folder)
  local trained = ld.trained(folder, {weights = opt.weights, sigma_rel = opt.sigma_rel, store = opt.store,
                                      decode = false})
  if not ld.file_kind(opt.judge) then
    ld.fail('there is no classifier %s: make one with recipes/imagenet_classifier.lua, or name it with --judge',
      opt.judge)
  end
  judge = judge or ld.metrics.judge(opt.judge)
  local record, x, store, model = trained.record, trained.extra, trained.store, trained.model
  local weights, how = trained.weights, trained.how
  if how then print(('%s: %s from %d averages, profile error %.2g'):format(folder, weights, how.count, how.error)) end
  local n = math.min(opt.n, math.floor(store.count / 2))
  if n < opt.n then print(('%s has %d latents: N is %d'):format(store.path, store.count, n)) end
  local r = ld.metrics.evaluate{
    judge = judge, store = store, n = n, k = opt.k, seed = opt.seed, weights = weights, run = folder,
    images = record.images, loss_judge = x.judge,
    sampler = {name = opt.sampler, steps = opt.steps, eta = opt.sampler == 'ddim' and opt.eta or nil},
    draw = function(count)
      return model:sample{n = count, seed = opt.seed, batch = opt.batch, sampler = make(), channels = x.latent[1],
                          size = x.latent[2], split = true}
    end}
  if ld.ranks.rank() > 0 then return r end -- all ranks draw, the first one writes
  local name = ('%s/evaluation/%s-%08d.json'):format(folder, weights:gsub(' ', '-'), record.images)
  ld.metrics.write_record(name, r)
  print(name)
  return r
end

local records = {}
for i, run in ipairs(opt.runs) do
  records[i] = run:match('%.json$') and ld.metrics.read_record(run) or evaluate(run)
  if i > 1 then ld.metrics.check_comparable(records) end
end
if ld.ranks.rank() == 0 then print('\n' .. ld.metrics.summary(records)) end
