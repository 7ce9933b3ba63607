r"""Fine detail for what a VQ-VAE gives back, and for samples of a prior over its codes.

    python -m gen_jax.main --config=configs/detail.py:data=data/art,res=128 \
        --config.frozen.vqvae=runs/vqvae --workdir=runs/detail
    python -m gen_jax.generate --run=runs/art --refiner=runs/detail --prompt="dark, fine" --out=out

A decoder that learns by distances blurs what its codes leave open; a flow draws it instead, given
what the decoder says (gen_jax/tasks/detail.py). It learns on windows of 64 pixels and draws whole
pictures in `--config.task.num_inference_steps` steps. `gen_jax.evaluate` takes `--refiner`, too.

`configs/detail.py` alone is the laptop's recipe on the embedded photographs; it trains a VQ-VAE
first. `size=small` (default) is for CPUs, `size=base` for an accelerator. The arguments of
configs/vqvae.py decide a VQ-VAE that is not given.

Measured (docs/results/art.md#residual-refiner): 1,700 steps, 17 minutes on 2 CPU cores:
nets are gone and edges are sharp, at 0.4 dB less; KID stays where it was. The whole recipe of 5,000
steps, some 40 minutes, is not yet measured, nor is `size=base`.
"""

from gen_jax.common.errors import UserError
from gen_jax.configs import common, vqvae


def get_config(arg=None):
    arg = common.parse_arg(
        arg,
        data="photos",
        res=64,
        quantizer="vector",
        codes=256,
        dim=4,
        size="small",
        debug=False,
    )
    config = common.base()
    with config.unlocked():
        config.requires.vqvae = vqvae.get_config(
            f"data={common.quoted(arg.data)},res={arg.res},size={arg.size},debug={arg.debug},"
            f"quantizer={arg.quantizer},codes={arg.codes},dim={arg.dim}"
        )
        config.frozen.vqvae = ""
        config.task = dict(
            name="detail",
            network=_network(arg.size),
            crop=min(64, arg.res),
            scale=dict(width=32, depth=3),
            num_inference_steps=4,
            noise=1.0,
        )
        config.evaluators = dict(
            detail=dict(split="val", count=256, batch_size=32, encoder="", features="")
        )
    config.data = config.requires.vqvae.data.copy_and_resolve_references()
    config.training.update(
        num_steps=5000,
        batch_size=16,
        ema=0.998,
        eval_every=1000,
        checkpoint_every=500,
        best_metric="detail/rkid_untrained",
    )
    config.optimizer.model.update(
        name="muon", learning_rate=1.5e-3, ns_steps=3, warmup_steps=100, clip_norm=1.0
    )
    if arg.size == "base":
        config.training.update(num_steps=20_000, batch_size=64, eval_every=5000, ema=0.999)
        config.optimizer.model.warmup_steps = 500
    if arg.debug:
        _debug(config)
    return config.lock()


def _network(size):
    fields = dict(
        block_out_channels=(48, 96, 160),
        depths=(2, 2, 2, 2, 2),
        attention_levels=(),
        gate="none",
        dtype="float32",
    )
    if size == "base":
        fields |= dict(block_out_channels=(96, 192, 320), depths=(3, 3, 4, 3, 3), dtype="bfloat16")
    elif size != "small":
        raise UserError(f"size={size}: expected small or base")
    return fields


def _debug(config):
    config.task.update(crop=8, num_inference_steps=2)
    config.task.network.update(block_out_channels=(8, 16), depths=(1, 1, 1))
    config.task.scale.update(width=8, depth=1)
    config.training.update(num_steps=4, batch_size=8, log_every=1, eval_every=2, checkpoint_every=0)
    config.optimizer.model.warmup_steps = 1
    config.evaluators.detail.update(count=16, batch_size=8)
