"""Restoration in latent space: a generative stage that adds detail to a restorer's images.

    python -m gen_jax.main --config=configs/restore_ldm.py --workdir=runs/restore_ldm

A UNet leads from the latent of the packaged restorer's image, with a little noise, to the latent of
the clean image in 1 to 4 steps (PMRF's path, arXiv:2410.00418, in latent space), behind the
packaged autoencoder. What the latent adds is decoded beside the restorer's image by a decoder that
is trained along. With LPIPS instead of gradients it draws finer detail:

    --config.task.perceptual=lpips --config.task.perceptual_encoder=lpips-st-alex:FILE
    --config.task.perceptual_weight=1 --config.task.perceptual_every=4

`:form=noise` predicts the noise of a diffusion that is conditioned on the restorer's latent, and
`:form=resshift` shifts the residual (arXiv:2307.12348), both at the same size and steps.

`:text` conditions the UNet on the states of the restorer's text encoder by cross-attention (its
crops come with instructions); without it the UNet is conditioned on the estimate of the
degradation. `:degradation=NAME` takes any preset of gen_jax/data/degradations/presets.py (default
`severe`), `:data=DIR` shards of your own. `:first_stage=RUN` and `:vae=RUN` take other models.

`:variant=sd` is the UNet of Stable Diffusion 1.5 (859,520,964 parameters and 16,640 more of
its inputs) on crops of 512 pixels behind its autoencoder, which `vae=DIR` names. Not yet measured.
"""

from gen_jax.common.errors import UserError
from gen_jax.configs import common, restore_text, vae
from gen_jax.diffusion.restoration_paths import FORMS

# What the contract tests train.
CONTRACT_ARGS = ("debug,text",)


def get_config(arg=None):
    arg = common.parse_arg(
        arg,
        variant="tiny",
        form="flow",
        text=False,
        data="photos",
        degradation="severe",
        first_stage="package:restore",
        vae="",
        debug=False,
    )
    if arg.form not in FORMS:
        raise UserError(f"form={arg.form}: expected one of {', '.join(FORMS)}")
    if arg.variant not in ("tiny", "sd"):
        raise UserError(f"variant={arg.variant}: expected tiny or sd")
    config = common.base()
    with config.unlocked():
        config.task = dict(
            name="restore_ldm",
            image_size=96,
            unet=dict(
                block_out_channels=(64, 128),
                down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
                up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
                layers_per_block=1,
                attention_head_dim=4,
                norm_num_groups=16,
                resnet_time_scale_shift="scale_shift",
                dtype="float32",
            ),
            path=dict(form=arg.form, source_noise=0.1, kappa=1.0, schedule="squaredcos_cap_v2"),
            reads_text=arg.text,
            condition_dropout_prob=0.1,
            color_correction=True,
            decoder=dict(channels=(96, 48), layers=(2, 3), dtype="float32"),
            l1_weight=2.0,
            perceptual="multiscale_gradient",
            perceptual_encoder="",
            perceptual_weight=0.5,
            perceptual_every=1,
            num_inference_steps=4,
            guidance_scale=1.0,
        )
        config.evaluators = dict(
            generative_restoration=dict(
                split="val", count=128, batch_size=16, shown=8, seeds=8, encoder=""
            )
        )
        config.frozen.first_stage = arg.first_stage
        config.frozen.vae = arg.vae or "package:vae_photos"
    config.data.image_size = 96
    # The packaged restorer reads 24 tokens.
    config.data.max_length = 24
    config.data.transform = common.transform(
        "instructed_restoration", degradation=arg.degradation, gray=False
    )
    if not arg.text:
        # Crops without an instruction are restored in full.
        config.data.transform = common.transform(
            "restoration", degradation=arg.degradation, gray=False
        )
    config.training.update(num_steps=2000, batch_size=16, ema=0.998, eval_every=1000)
    config.optimizer.model.update(name="muon", learning_rate=4e-3, ns_steps=3, schedule="linear")
    common.set_data(config, arg.data)
    if arg.variant == "sd":
        _stable_diffusion(config, arg)
    if arg.debug:
        _debug(config)
    return config.lock()


def _stable_diffusion(config, arg):
    from gen_jax.models import presets

    with config.unlocked():
        config.task.unet = dict(presets.SD15_UNET, dtype="bfloat16", remat=True)
        if not arg.vae:
            config.frozen.vae = ""
            config.requires.vae = vae.get_config(f"variant=sd,data={common.quoted(arg.data)}")
    config.task.image_size = config.data.image_size = 512
    config.task.decoder.update(channels=(256, 64), dtype="bfloat16")
    config.data.cache = False
    config.training.update(num_steps=100_000, batch_size=64, checkpoint_every=1000)
    config.optimizer.model.update(name="adamw", learning_rate=5e-5, warmup_steps=1000)


def _debug(config):
    with config.unlocked():
        config.task.unet = dict(
            config.task.unet,
            block_out_channels=(8,),
            down_block_types=("CrossAttnDownBlock2D",),
            mid_block_type=None,
            up_block_types=("CrossAttnUpBlock2D",),
            layers_per_block=1,
            norm_num_groups=4,
            attention_head_dim=2,
            dtype="float32",
            remat=False,
        )
        config.frozen.first_stage = config.frozen.vae = ""
        config.requires.first_stage = restore_text.get_config("debug")
        config.requires.vae = vae.get_config("debug")
    config.task.decoder.update(channels=(8, 8), layers=(1, 1))
    config.task.update(image_size=16, num_inference_steps=2)
    config.data.update(image_size=16, num=256, max_length=24)
    config.training.update(num_steps=4, batch_size=8, log_every=1, eval_every=0)
    config.optimizer.model.warmup_steps = 1
    config.evaluators.generative_restoration.update(count=16, batch_size=8, shown=2, seeds=2)
