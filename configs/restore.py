"""Restoration of degraded images.

    python -m gen_jax.main --config=configs/restore.py --workdir=runs/restore

`:degradation=NAME` takes any preset of gen_jax/data/degradations/presets.py (default `photograph`:
noise, JPEG, blur, shrinking, the camera's own, and mixtures), `:gray` one channel, `:data=DIR`
shards of your own, which gen_jax.prepare wrote. Crops are the images' own pixels: prepare them
larger than the crop.

Laptop recipe (default): a Swin-UNet of 3.9M parameters on crops of 96 pixels, with an estimator of
what was done and a gate on how much to do about it. `:degradation=denoise25,gray,data=DIR` with
`--config.training.num_steps=1800` takes some 20 minutes on 2 CPU cores and, on Train400, gives
28.90 dB on BSD68. configs/restore_text.py adds instructions, and is what the packaged restorer is
trained by.

`:variant=large` is that network at 14.1M parameters in bfloat16, on crops of 128, for a GPU: on an
H200 that another training shared, 4,110 steps of 64 (54 ms each; 1,889 of them with the rate going
to nought) took 7 minutes, compilation included, and gave 29.18 dB on BSD68 by the same
`denoise25,gray` on 414 photographs of BSDS. Its 20,000 steps are not yet measured.

`:adversarial` adds a patch discriminator, which trades PSNR for texture; a perceptual term comes by
`--config.task.perceptual_weight`. Not yet measured.

`:variant=scunet` is SCUNet as published (arXiv:2203.13278, 17.95M parameters) on crops of 128
pixels, 800,000 steps of 24; one H200. Not yet measured. `:variant=ffdnet` (arXiv:1710.04026) and
`:variant=dncnn` (arXiv:1608.03981) are smaller.
"""

from gen_jax.common.build import class_of
from gen_jax.common.errors import UserError
from gen_jax.common.fields import defaults_of
from gen_jax.configs import common

# The contract tests train this task by configs/restore_text.py.
CONTRACT_ARGS = ()


def get_config(arg=None):
    arg = common.parse_arg(
        arg,
        variant="swin",
        data="photos",
        degradation="photograph",
        gray=False,
        adversarial=False,
        debug=False,
    )
    channels = 1 if arg.gray else 3
    config = common.base()
    with config.unlocked():
        config.task = dict(
            name="restore",
            network=_swin(channels),
            estimator=dict(widths=(32, 64, 96), dtype="float32"),
            image_size=96,
            channels=channels,
            l1_weight=1.0,
            l2_weight=0.0,
            charbonnier_weight=0.0,
            ssim_weight=0.0,
            frequency_weight=0.0,
            perceptual="",
            perceptual_encoder="",
            perceptual_weight=0.0,
            perceptual_ranges=dict(),
            perceptual_every=1,
            discriminator=None,
            adversarial_weight=0.0,
            adversarial_start=0,
            estimate_weight=0.1,
            gate_weight=0.01,
            estimator_only=False,
            teacher_forcing_prob=0.25,
        )
        config.evaluators = dict(
            restored_crops=dict(split="val", count=128, batch_size=32, shown=8)
        )
    config.data.image_size = 96
    config.data.transform = common.transform(
        "restoration", degradation=arg.degradation, gray=arg.gray
    )
    config.training.update(
        num_steps=3000,
        batch_size=8,
        ema=0.999,
        eval_every=1000,
        best_metric="restore/psnr",
        best_mode="max",
    )
    config.optimizer.model.update(name="muon", learning_rate=1.5e-3, ns_steps=3, warmup_steps=100)
    common.set_data(config, arg.data)
    if arg.variant in VARIANTS:
        VARIANTS[arg.variant](config, channels)
    else:
        _other_network(config, arg.variant, channels)
    if arg.adversarial:
        _adversarial(config)
    if arg.debug:
        _debug(config)
    return config.lock()


def _swin(channels):
    return dict(
        name="swin_unet",
        in_channels=channels,
        out_channels=channels,
        block_out_channels=(48, 96, 160),
        depths=(2, 2, 3, 2, 2),
        attention_levels=(1, 2),
        head_dim=32,
        window_size=4,
        mlp_ratio=2,
        skip="add",
        residual=True,
        residual_scale=1.0,
        embed_dim=128,
        text=(),
        text_stages=("body", "decoder"),
        gate="block",
        remat=False,
        dtype="float32",
    )


def _ffdnet(config, channels):
    depth, width = (15, 64) if channels == 1 else (12, 96)
    config.task.image_size = config.data.image_size = 64
    config.training.batch_size = 16
    _set_network(
        config,
        name="ffdnet",
        depth=depth,
        width=width,
        channels=channels,
        residual=True,
        dtype="float32",
    )
    _remove_estimator(config)


def _large(config, channels):
    config.task.network.update(block_out_channels=(96, 192, 320), window_size=8, dtype="bfloat16")
    config.task.image_size = config.data.image_size = 128
    config.training.update(num_steps=20_000, batch_size=64, eval_every=2000, checkpoint_every=2000)
    config.optimizer.model.warmup_steps = 200


def _scunet(config, channels):
    _set_network(
        config,
        name="scunet",
        in_channels=channels,
        out_channels=channels,
        depths=(4,) * 7,
        dim=64,
        head_dim=32,
        window_size=8,
        drop_path_rate=0.1,
        remat=True,
        dtype="bfloat16",
    )
    _remove_estimator(config)
    _published_schedule(config)


def _dncnn(config, channels):
    depth = 17 if channels == 1 else 20
    _set_network(config, name="dncnn", depth=depth, width=64, channels=channels, dtype="float32")
    _remove_estimator(config)
    _published_schedule(config)


def _other_network(config, name, channels):
    """Takes a network of `tasks.restore.NETWORKS` without a recipe of its own, at its defaults."""
    from gen_jax.tasks.restore import NETWORKS

    if name not in NETWORKS:
        known = ", ".join([*VARIANTS, *(n for n in NETWORKS if n not in VARIANTS)])
        raise UserError(f"variant={name}: expected one of {known}")
    kind = class_of(NETWORKS, name, "variant")
    network = defaults_of(kind) | {"name": name}
    channel_fields = {"channels", "in_channels", "out_channels"} & network.keys()
    _set_network(config, **network | dict.fromkeys(channel_fields, channels))
    if "degradation" not in kind().conditions:
        _remove_estimator(config)


def _set_network(config, **network):
    with config.unlocked():
        config.task.network = network


def _remove_estimator(config):
    with config.unlocked():
        del config.task.estimator


def _published_schedule(config):
    config.task.image_size = config.data.image_size = 128
    config.data.cache = False
    config.training.update(
        num_steps=800_000, batch_size=24, eval_every=10_000, checkpoint_every=5000, ema=0.9999
    )
    config.optimizer.model.update(
        name="adamw", learning_rate=1e-4, b2=0.999, warmup_steps=1000, clip_norm=1.0
    )


def _adversarial(config):
    with config.unlocked():
        config.task.discriminator = dict(name="patch", channels=32, num_layers=2)
        config.optimizer.disc = common.optimizer(learning_rate=2e-4, b1=0.5, warmup_steps=50)
    config.task.update(adversarial_weight=0.005, adversarial_start=1000)


def _debug(config):
    network = config.task.network
    if network.name == "scunet":
        network.update(
            depths=(1,) * 7, dim=8, head_dim=4, window_size=2, dtype="float32", remat=False
        )
    elif network.name == "swin_unet":
        network.update(
            block_out_channels=(8, 16),
            depths=(1, 1, 1),
            attention_levels=(1,),
            head_dim=8,
            window_size=2,
            embed_dim=8,
        )
        config.task.estimator.widths = (4, 8)
    elif network.name in VARIANTS:
        network.update(depth=3, width=16)
    config.task.image_size = config.data.image_size = 16
    config.data.num = 256
    config.training.update(num_steps=4, batch_size=8, log_every=1, eval_every=2)
    config.optimizer.model.warmup_steps = 1
    config.evaluators.restored_crops.update(count=16, batch_size=8)


VARIANTS = {
    "swin": lambda config, channels: None,
    "large": _large,
    "ffdnet": _ffdnet,
    "scunet": _scunet,
    "dncnn": _dncnn,
}
"""Value of `:variant=` -> what it changes. Any other network is taken at its defaults."""
