-- The networks of the method.
return require 'ld.take'.names('ld.models', {
  classifier = require 'ld.models.classifier',
  unet = require 'ld.models.unet',
  kl_autoencoder = require 'ld.models.kl_autoencoder',
  dcgan = require 'ld.models.dcgan',
  small_autoencoder = require 'ld.models.small_autoencoder',
})
