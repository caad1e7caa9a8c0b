-- A diffusion run that was trained, made ready to draw from: what recipes that use one begin with.
local core = require 'ld.core'
local take = require 'ld.take'

--- trained(folder, {weights = 'ema' or 'live', sigma_rel = 0, vae = '', store = '', decode = true}): the run's network
-- in a model, its weights those asked for, batch-norm statistics recomputed for averages. sigma_rel: width of the
-- average, 0 for the first that the run kept. vae, store: where autoencoder and latents lie, if they have moved.
-- decode = false: no autoencoder is wanted. Returns {unet, model, store, vae, record, extra (the recipe's part of the
-- record), weights (their name), how (a rebuilt average's count and error)}.
return function(folder, options)
  local ld = require 'ld'
  local o = take('trained', options, {weights = 'ema', sigma_rel = 0, vae = '', store = '', decode = true})
  local path = folder .. '/last.h5'
  if not core.file_kind(path) then
    core.fail(('there is no %s: train first, e.g. ldlua recipes/celeba.lua --demo'):format(path))
  end
  if o.weights ~= 'ema' and o.weights ~= 'live' then
    core.fail(("unknown weights '%s'; known: ema live"):format(o.weights))
  end
  local unet, record = ld.models.unet.load(path)
  local x = record.extra
  if not x.latent then core.fail(('%s was not trained on latents'):format(path)) end
  local self = {unet = unet, record = record, extra = x, weights = 'live'}
  local beside = folder .. '/latents.h5'
  self.store = ld.latents.open(o.store ~= '' and o.store or core.file_kind(beside) and beside or x.store or beside)
  if o.decode then
    self.vae = ld.vae.load(o.vae ~= '' and o.vae or x.vae, {range = x.range ~= 'own' and x.range or nil})
    self.store:check_vae(self.vae)
  end
  local model = ld.diffusion.cosine(unet, {scale = x.scale, shift = x.shift})
  self.model = model
  if o.weights == 'live' then return self end
  local averages
  averages, self.weights, self.how = ld.ema.weights(folder, o.sigma_rel > 0 and o.sigma_rel or nil)
  unet:load_state(averages, {strict = false})
  ld.ema.recalibrate(unet, model:statistics(self.store, 128, 1), 16)
  return self
end
