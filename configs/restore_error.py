"""Expected error of a restorer: where its images can be trusted, as a map.

    python -m gen_jax.main --config=configs/restore_error.py --workdir=runs/restore_error
    python -m gen_jax.restore photo.jpg --maps --error_run=runs/restore_error

A head of 0.2M parameters sees the degraded and the restored image and predicts the absolute error
of each pixel, by the Laplace likelihood of the errors that the frozen restorer makes on held-out
kinds and strengths of damage (preset `broad`). `:first_stage=RUN` takes another restorer,
`:data=DIR` shards of your own, `:degradation=NAME` another preset.

The map is a prediction. `python -m gen_jax.evaluate --calibrate` finds up to which expected error
pixels can be trusted, with a guarantee for images like the calibration's.
"""

from gen_jax.configs import common, restore_text

# What the contract tests train.
CONTRACT_ARGS = ("debug",)


def get_config(arg=None):
    arg = common.parse_arg(
        arg, data="photos", degradation="broad", first_stage="package:restore", debug=False
    )
    config = common.base()
    with config.unlocked():
        config.task = dict(
            name="restore_error",
            image_size=96,
            head=dict(channels=(32, 64), layers=(1, 3), embed_dim=64, dtype="float32"),
        )
        config.evaluators = dict(
            restoration_error=dict(split="val", count=128, batch_size=16, shown=8)
        )
        config.frozen.first_stage = arg.first_stage
    config.data.image_size = 96
    config.data.transform = common.transform("restoration", degradation=arg.degradation, gray=False)
    config.training.update(num_steps=600, batch_size=8, ema=0.99, eval_every=600)
    config.optimizer.model.update(learning_rate=2e-3, warmup_steps=30, clip_norm=1.0)
    common.set_data(config, arg.data)
    if arg.debug:
        _debug(config)
    return config.lock()


def _debug(config):
    with config.unlocked():
        config.frozen.first_stage = ""
        config.requires.first_stage = restore_text.get_config("debug")
    config.task.head.update(channels=(8, 16), layers=(1, 2), embed_dim=8)
    config.task.image_size = 16
    config.data.update(image_size=16, num=256)
    config.training.update(num_steps=4, batch_size=8, log_every=1, eval_every=0)
    config.optimizer.model.warmup_steps = 1
    config.evaluators.restoration_error.update(count=16, batch_size=8, shown=2)
