"""Restoration of degraded images.

    python -m gen_jax.main --config=configs/restore.py --workdir=runs/restore

`:degradation=NAME` takes any preset of gen_jax/data/degradations/presets.py (default `blind`:
noise, JPEG, blur, shrinking and mixtures), `:gray` one channel, `:data=DIR` shards of your own,
which gen_jax.prepare wrote. Crops are the images' own pixels: prepare them larger than the crop.

Laptop recipe (default): a SCUNet of 2.0M parameters on crops of 64 pixels, 2 CPU cores. Not yet
measured.

`:variant=scunet` is SCUNet as published (arXiv:2203.13278, 17.95M parameters) on crops of 128
pixels, 800,000 steps of 24; one H200. Not yet measured. `:variant=ffdnet` (arXiv:1710.04026) and
`:variant=dncnn` (arXiv:1608.03981) are smaller.
"""

from configs import common
from gen_jax.common.errors import UserError


def get_config(arg=None):
    arg = common.parse_arg(
        arg, variant="small", data="photos", degradation="blind", gray=False, debug=False
    )
    channels = 1 if arg.gray else 3
    config = common.base()
    with config.unlocked():
        config.task = dict(
            name="restore",
            network=dict(
                name="scunet",
                in_channels=channels,
                out_channels=channels,
                depths=(1, 1, 1, 2, 1, 1, 1),
                dim=32,
                head_dim=16,
                window_size=8,
                drop_path_rate=0.0,
                remat=False,
                dtype="float32",
            ),
            image_size=64,
            channels=channels,
            l1_weight=1.0,
            l2_weight=0.0,
            charbonnier_weight=0.0,
            ssim_weight=0.0,
            frequency_weight=0.0,
            perceptual="",
            perceptual_encoder="",
            perceptual_weight=0.0,
        )
        config.evaluators = dict(
            restored_crops=dict(split="val", count=128, batch_size=32, shown=8)
        )
    config.data.update(image_size=64, degradation=arg.degradation, gray=arg.gray)
    config.training.update(
        num_steps=4000,
        batch_size=16,
        ema=0.999,
        eval_every=1000,
        best_metric="restore/psnr",
        best_mode="max",
    )
    config.optimizer.model.update(name="muon", learning_rate=5e-3, ns_steps=3, warmup_steps=50)
    common.set_data(config, arg.data)
    if arg.variant == "ffdnet":
        _ffdnet(config, channels)
    elif arg.variant in ("scunet", "dncnn"):
        _published(config, arg.variant, channels)
    elif arg.variant != "small":
        raise UserError(f"variant={arg.variant}: expected small, ffdnet, scunet or dncnn")
    if arg.debug:
        _debug(config)
    return config.lock()


def _ffdnet(config, channels):
    depth, width = (15, 64) if channels == 1 else (12, 96)
    with config.unlocked():
        config.task.network = dict(
            name="ffdnet",
            depth=depth,
            width=width,
            channels=channels,
            residual=True,
            dtype="float32",
        )


def _published(config, variant, channels):
    if variant == "scunet":
        config.task.network.update(
            depths=(4,) * 7, dim=64, head_dim=32, drop_path_rate=0.1, remat=True, dtype="bfloat16"
        )
    else:
        depth = 17 if channels == 1 else 20
        with config.unlocked():
            config.task.network = dict(
                name="dncnn", depth=depth, width=64, channels=channels, dtype="float32"
            )
    config.task.image_size = config.data.image_size = 128
    config.data.cache = False
    config.training.update(
        num_steps=800_000, batch_size=24, eval_every=10_000, checkpoint_every=5000, ema=0.9999
    )
    config.optimizer.model.update(
        name="adamw", learning_rate=1e-4, b2=0.999, warmup_steps=1000, clip_norm=1.0
    )


def _debug(config):
    if config.task.network.name == "scunet":
        config.task.network.update(
            depths=(1,) * 7, dim=8, head_dim=4, window_size=2, dtype="float32", remat=False
        )
    else:
        config.task.network.update(depth=3, width=16)
    config.task.image_size = config.data.image_size = 16
    config.data.num = 256
    config.training.update(num_steps=4, batch_size=8, log_every=1, eval_every=2)
    config.optimizer.model.warmup_steps = 1
    config.evaluators.restored_crops.update(count=16, batch_size=8)
