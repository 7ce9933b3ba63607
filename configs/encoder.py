"""A vision transformer that learns from images alone.

    python -m benchmarks.encoder_data --archives=../shared/data --out=data/encoder_pictures
    python -m gen_jax.prepare --source=data/encoder_pictures --out=data/encoder
    python -m gen_jax.main --config=configs/encoder.py:data=data/encoder --workdir=runs/encoder

Laptop recipe (default): a DINOv2 encoder of 1,831,296 parameters, patches of 8 pixels, masked
feature prediction. The weights in gen_jax/weights/dino_tiny came from it, in 23 minutes on 2 CPU
cores shared with other work. Nearest neighbors of its patches classify 54.5% of clip art, 82.6% of
glasses and 78.4% of genders correctly (balanced; raw pixels 43.8, 62.2 and 67.3;
docs/results/encoders.md). Without `data` it learns from the embedded photographs, which are too few
for more than a trial.

`:variant=small` is a ViT-S/14 with DINO, iBOT and KoLeo for your own images (`data=DIR`, 256 pixels
or more), 125,000 steps of 512 on one H200. Not yet measured.
"""

from gen_jax.common.errors import UserError
from gen_jax.configs import common

# What the contract tests train: both tasks.
CONTRACT_ARGS = ("debug", "variant=small,debug")


def get_config(arg=None):
    arg = common.parse_arg(arg, variant="tiny", data="photos", debug=False)
    config = common.base()
    with config.unlocked():
        config.task = dict(
            name="mask_feat",
            encoder=_encoder(
                hidden_size=192,
                num_hidden_layers=4,
                num_attention_heads=3,
                hidden_act="relu",  # the exact GELU takes a third of the step on a CPU
                image_size=64,
                patch_size=8,
            ),
            views=_views(48, (0.35, 0.8)),
            image_size=96,
            mask_ratio=0.35,
            mask_prob=0.25,
            masked_weight=0.25,
            color_weight=0.5,
            layout_weight=0.5,
        )
    # Views are drawn on the device: the loader hands whole pictures over.
    config.data.image_size = 96
    config.data.transform.crop_scale = (1.0, 1.0)
    config.training.update(num_steps=2500, batch_size=64, ema=0.99, checkpoint_every=250)
    config.optimizer.model.update(
        name="muon", learning_rate=3e-2, ns_steps=3, warmup_steps=50, weight_decay=0.04
    )
    common.set_data(config, arg.data)
    if arg.variant == "small":
        _small(config)
    elif arg.variant != "tiny":
        raise UserError(f"variant={arg.variant}: expected tiny or small")
    if arg.debug:
        _debug(config)
    return config.lock()


def _encoder(**changes):
    same = dict(
        mlp_ratio=4,
        use_mask_token=True,
        num_register_tokens=0,
        antialias=False,
        remat=False,
        dtype="float32",
    )
    return same | changes


def _views(size, scale):
    return dict(
        size=size,
        scale=scale,
        aspect=4 / 3,
        flip=0.5,
        jitter=0.8,
        brightness=0.4,
        contrast=0.4,
        saturation=0.2,
        hue=0.1,
        grayscale=0.2,
        blur=0.3,
        blur_sigma=(0.003, 0.02),
        solarize=0.1,
    )


def _small(config):
    with config.unlocked():
        config.task = dict(
            name="dino",
            encoder=_encoder(
                hidden_size=384,
                num_hidden_layers=12,
                num_attention_heads=6,
                hidden_act="gelu",
                image_size=224,
                patch_size=14,
                remat=True,
                dtype="bfloat16",
            ),
            head=dict(hidden=2048, bottleneck=256, prototypes=65536, layers=3),
            global_views=_views(224, (0.32, 1.0)),
            local_views=_views(98, (0.05, 0.32)),
            num_local=8,
            image_size=256,
            dino_weight=1.0,
            ibot_weight=1.0,
            koleo_weight=0.1,
            mask_ratio=0.3,
            student_temperature=0.1,
            teacher_temperature=0.05,
            momentum=0.994,
            momentum_steps=125_000,
        )
    config.data.update(image_size=256, cache=False)
    # The teacher is the moving average.
    config.training.update(num_steps=125_000, batch_size=512, ema=0.0, checkpoint_every=1000)
    config.optimizer.model.update(
        name="adamw", learning_rate=1e-3, warmup_steps=10_000, b2=0.999, clip_norm=3.0
    )


def _debug(config):
    config.task.encoder.update(
        hidden_size=16, num_hidden_layers=1, num_attention_heads=2, image_size=16, patch_size=4,
        dtype="float32", remat=False,
    )  # fmt: skip
    config.task.image_size = 16
    if config.task.name == "dino":
        config.task.head.update(hidden=16, bottleneck=8, prototypes=16)
        config.task.global_views.update(size=16)
        config.task.local_views.update(size=8)
        config.task.update(num_local=1, momentum_steps=4)
    else:
        config.task.views.update(size=16)
    config.data.update(image_size=16, num=256)
    config.training.update(num_steps=4, batch_size=8, log_every=1, checkpoint_every=0)
    config.optimizer.model.warmup_steps = 1
