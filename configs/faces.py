"""A face generator that is guided by the features of a frozen vision transformer.

    python -m benchmarks.face_data --archive=../shared/data/faces.zip --out=data/face_pictures
    python -m gen_jax.prepare --source=data/face_pictures --out=data/faces
    python -m gen_jax.main --config=configs/faces.py:data=data/faces --workdir=runs/faces

`data` is a folder of images (gen_jax.prepare), whose features are computed into the run directory
the first time, or a folder of features with their images (gen_jax.featurize --keep_image). Without
it the generator learns crops of the embedded photographs, which are no faces.

`:res=16`, `32`, `64` (default), `128`, `256`; each may begin with the one before
(`--config.init_from=RUN --config.task.fade_steps=500`). `:objective=drifting` (default),
`paired` (`paired_gaussian` and `paired_normal` have no flow for a prior), `imle`, `adversarial`,
`projected`, `guided` (a discriminator and drifting). `:size=small` (1.1 million parameters),
`base` (default, 3.3), `large` (32, for accelerators), `huge` (54).

`paired` and `imle` take LPIPS besides: `--config.task.perceptual_weight=0.2
--config.task.perceptual_encoder=lpips-st-alex:FILE` (docs/encoders.md).

Laptop recipe: dino_tiny guides, 2 CPU cores. DINOv2 takes
`--config.task.features.encoder=dinov2-small:WEIGHTS` and grids of its own patch size.
"""

from gen_jax.common.errors import UserError
from gen_jax.configs import common

# Channels of 4, 8, ... 256 pixels, latent's and steering numbers, layers of the mapping network.
_SIZES = {
    "small": ((128, 96, 64, 48, 32, 16, 16), 128, 2),
    "base": ((256, 192, 128, 64, 32, 16, 16), 128, 2),
    "large": ((512, 512, 512, 512, 256, 128, 64), 512, 8),
    "huge": ((768, 768, 768, 512, 256, 128, 64), 512, 8),
}
# Fields of gen_jax/tasks/objectives.
_DRIFTING = dict(
    name="drifting",
    temperatures=(0.02, 0.05, 0.2),
    real_per_generated=4,
    samples_per_prompt=2,
    num_clusters=0,
    memory_bank_size=0,
    local_weight=1.0,
    pooled_weight=1.0,
    global_weight=1.0,
    joint_weight=1.0,
    pixel_weight=0.5,
    classifier_weight=0.0,
)
_PAIRED = dict(name="paired", prior="flow", hidden_size=512, jitter=0.2, pixel_weight=1.0)
_ADVERSARIAL = dict(
    name="adversarial",
    discriminator="patch",
    channels=32,
    r1_weight=1.0,
    range_weight=1.0,
    drifting_weight=0.0,
    classifier_weight=0.0,
)
_OBJECTIVES = {
    "drifting": _DRIFTING,
    "paired": _PAIRED,
    "paired_gaussian": _PAIRED | dict(prior="gaussian"),
    "paired_normal": _PAIRED | dict(prior="none"),
    "imle": dict(name="imle", samples_per_image=4, radius=0.5, distinct=True, pixel_weight=0.5),
    "adversarial": _ADVERSARIAL,
    "projected": _ADVERSARIAL | dict(discriminator="projected", channels=64),
    "guided": _ADVERSARIAL | dict(drifting_weight=0.02),
}


def get_config(arg=None):
    arg = common.parse_arg(
        arg, res=64, objective="drifting", size="base", data="photos", gray=False, debug=False
    )
    if arg.res not in (16, 32, 64, 128, 256):
        raise UserError(f"res={arg.res}: expected 16, 32, 64, 128 or 256")
    if arg.objective not in _OBJECTIVES:
        raise UserError(f"objective={arg.objective}: expected one of {', '.join(_OBJECTIVES)}")
    if arg.size not in _SIZES:
        raise UserError(f"size={arg.size}: expected one of {', '.join(_SIZES)}")
    channels, width, layers = _SIZES[arg.size]
    config = common.base()
    blocks = arg.res.bit_length() - 2
    fine = arg.res // 4 if arg.res <= 32 else arg.res // 8
    with config.unlocked():
        config.task = dict(
            name="faces",
            image_size=arg.res,
            fade_steps=0,
            perceptual="lpips",
            perceptual_encoder="lpips-st-alex",
            perceptual_weight=0.0,
            generator=dict(
                z_dim=width,
                w_dim=width,
                mapping_layers=layers,
                block_out_channels=channels[:blocks],
                out_channels=1 if arg.gray else 3,
                modulation="style",
                # Drifting turns noise by pixel into dots: FD at 16 pixels doubles.
                noise=False,
                remat=arg.size in ("large", "huge"),
                dtype="float32",
            ),
            # Patches of 8 pixels: a grid of n is what the tower sees of n * 8 pixels. Small
            # pictures are enlarged, so that a patch is smaller than an eye.
            features=dict(
                encoder="dino_tiny",
                layers="1,3",
                grids=(fine // 2, fine),
                store="int8",
            ),
            objective=dict(_OBJECTIVES[arg.objective]),
        )
        config.evaluators.faces = dict(
            split="val", count=256, batch_size=64, encoder="", detector=""
        )
        config.evaluators.memorisation = dict(count=256, train=2000, batch_size=64, encoder="")
        config.evaluators.interpolation = dict(pairs=4, frames=32, distance="", detector="")
    config.data.update(image_size=arg.res, cache=True)
    config.data.transform = common.transform("features")
    many = config.task.objective.get("real_per_generated", 1)
    config.training.update(
        num_steps=3000, batch_size=64 * many, ema=0.998, eval_every=1000, checkpoint_every=250
    )
    config.optimizer.model.update(learning_rate=1e-3, warmup_steps=50, b1=0.5, weight_decay=0.0)
    if config.task.objective.name == "adversarial":
        config.optimizer.model.update(schedule="constant", b1=0.0)
        with config.unlocked():
            config.optimizer.disc = common.optimizer(
                learning_rate=1e-3, b1=0.0, schedule="constant"
            )
    if config.task.objective.get("prior") == "flow":
        # Latents move while the prior learns them: it keeps to the moving average, too.
        with config.unlocked():
            config.optimizer.prior = common.optimizer(learning_rate=1e-3, warmup_steps=50)
        config.training.ema_groups = ("model", "prior")
    common.set_data(config, arg.data)
    if arg.debug:
        _debug(config)
    return config.lock()


def _debug(config):
    config.task.update(image_size=16)
    config.task.generator.update(z_dim=8, w_dim=8, block_out_channels=(8, 8, 8))
    config.task.features.update(layers="0", grids=(2,))
    if config.task.objective.name == "adversarial":
        config.task.objective.update(channels=8)
    if config.task.objective.name == "paired":
        with config.unlocked():
            config.task.objective.update(hidden_size=8)
            if "prior" in config.optimizer:
                config.optimizer.prior.warmup_steps = 1
    config.data.update(image_size=16, num=256)
    config.training.update(num_steps=4, batch_size=8, log_every=1, eval_every=2, checkpoint_every=0)
    config.optimizer.model.warmup_steps = 1
    config.evaluators.faces.update(count=16, batch_size=8)
    config.evaluators.memorisation.update(count=16, batch_size=8)
    config.evaluators.interpolation.update(pairs=1, frames=4)
