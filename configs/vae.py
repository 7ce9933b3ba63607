"""The autoencoder that latent models work behind.

    python -m gen_jax.main --config=configs/vae.py --workdir=runs/vae

Laptop recipe (default): a patchifying autoencoder of 0.7M parameters on crops of the embedded
photographs (`:data=shapes`, `:data=pictograms`: of drawn scenes) at 64x64, 2 CPU cores. The weights
in gen_jax/weights came from it: vae_photos in 18 minutes, 28.8 dB on held-out crops; vae_shapes
(2.0M parameters, a latent of 8x8x8 with a heavy KL term) in 13 minutes, 30.5 dB on held-out scenes;
vae_pictograms, 30.3 dB on the source's version 1, which had small pictograms, too (see its card).
`:recipe=pictograms,data=DIR` takes the pictograms' recipe for your own drawings.

`:variant=sd` is the autoencoder of Stable Diffusion 1.x (83,653,863 parameters) with a patch
discriminator and LPIPS-VGG as its perceptual term (arXiv 2112.10752), for 256x256 crops of your own
images (`data=DIR`, see gen_jax.prepare); one H200 or a TPU v5p slice. Not yet measured. The weights
of LPIPS are named with (docs/encoders.md says where they come from)

    --config.task.perceptual_encoder=lpips-vgg:vgg16.safetensors,lpips_lin_v0.1_vgg.safetensors
"""

from gen_jax.common.errors import UserError
from gen_jax.configs import common


def get_config(arg=None):
    arg = common.parse_arg(arg, variant="patch", data="photos", recipe="", debug=False)
    recipe = arg.recipe or (arg.data if arg.data in _RECIPES else "photos")
    if recipe not in _RECIPES:
        raise UserError(f"recipe={recipe}: expected {', '.join(_RECIPES)}")
    config = common.base()
    with config.unlocked():
        config.task = dict(
            name="vae",
            autoencoder=dict(
                name="patch",
                patch_size=4,
                channels=96,
                encoder_layers=1,
                decoder_layers=3,
                latent_channels=4,
            ),
            discriminator=None,
            image_size=64,
            l1_weight=1.0,
            l2_weight=1.0,
            kl_weight=5e-4,
            kl_warmup=0,
            gradient_weight=0.0,
            perceptual="multiscale_gradient",
            perceptual_encoder="",
            perceptual_weight=0.25,
            perceptual_crop=0,
            adversarial_weight=0.0,
            adversarial_start=0,
        )
        # `encoder`, an LPIPS tower and its weights, adds the row vae/lpips.
        config.evaluators = dict(
            reconstruction=dict(split="val", count=256, batch_size=64, encoder="")
        )
    config.data.transform.crop_scale = (0.7, 1.0)
    config.training.update(
        num_steps=3000,
        batch_size=16,
        ema=0.998,
        eval_every=1000,
        best_metric="vae/psnr",
        best_mode="max",
    )
    config.optimizer.model.update(learning_rate=2e-3, warmup_steps=50, clip_norm=1.0)
    common.set_data(config, arg.data)
    if arg.variant == "patch":
        _RECIPES[recipe](config)
    elif arg.variant == "sd":
        _stable_diffusion(config)
    else:
        raise UserError(f"variant={arg.variant}: expected patch or sd")
    if arg.debug:
        _debug(config)
    return config.lock()


def _photos(config):
    """The values that `get_config` begins with."""


def _shapes(config):
    # A scene is whole only uncropped, and its shapes are nothing but edges.
    if config.data.source:
        config.data.num = 20000
    config.data.transform.update(flip=False, crop_scale=(1.0, 1.0))
    # A latent short of room is one that a small UNet can learn: a scene takes some 210 nats, and
    # the decoder, used to noise of the latent's own size, draws firm outlines from rough ones.
    config.task.update(kl_weight=0.5, kl_warmup=500, perceptual_weight=1.0)
    config.task.autoencoder.update(
        patch_size=8, channels=128, encoder_layers=2, decoder_layers=4, latent_channels=8
    )
    config.optimizer.model.update(
        name="muon", learning_rate=6e-3, ns_steps=3, schedule="linear", warmup_steps=50
    )
    config.training.update(num_steps=3000, ema=0.995)


def _pictograms(config):
    # Drawings have no margin to spare.
    config.data.transform.update(flip=False, crop_scale=(1.0, 1.0))
    # Edges count; the heavier KL term leaves out what only noise could encode.
    config.task.update(kl_weight=0.02, kl_warmup=300, perceptual_weight=0.5)
    config.optimizer.model.update(name="muon", learning_rate=6e-3, ns_steps=3, schedule="linear")
    config.training.update(num_steps=1500, ema=0.995)


# That of the packaged `cutouts` is that of the pictograms.
_RECIPES = dict(cutouts=_pictograms, pictograms=_pictograms, photos=_photos, shapes=_shapes)


def _stable_diffusion(config):
    from gen_jax.models import presets

    with config.unlocked():
        config.task.autoencoder = dict(presets.SD15_VAE, name="kl", dtype="bfloat16", remat=True)
        config.task.discriminator = dict(name="patch")
        config.optimizer.disc = common.optimizer(learning_rate=4.5e-5, b1=0.5, b2=0.9)
    config.task.update(
        image_size=256,
        kl_weight=1e-6,
        adversarial_weight=0.1,
        adversarial_start=50_000,
        perceptual="lpips",
        perceptual_encoder="lpips-vgg",
        perceptual_weight=1.0,
    )
    config.data.update(image_size=256, cache=False)
    config.training.update(
        num_steps=250_000, batch_size=96, eval_every=5000, checkpoint_every=1000, ema=0.9999
    )
    config.optimizer.model.update(learning_rate=4.5e-5, b1=0.5, b2=0.9, schedule="constant")


def _debug(config):
    config.task.update(image_size=16, perceptual="multiscale_gradient")  # needs no weights
    config.task.autoencoder = dict(
        name="patch", channels=8, encoder_layers=1, decoder_layers=1, latent_channels=4
    )
    config.data.update(image_size=16, num=256)
    config.training.update(num_steps=4, batch_size=8, log_every=1, eval_every=2)
    config.optimizer.model.warmup_steps = 1
    config.evaluators.reconstruction.update(count=16, batch_size=8)
