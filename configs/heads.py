"""Domain heads: small networks that read images before and after restoration.

    python -m gen_jax.main --config=configs/heads.py:head=segmentation --workdir=runs/segments

`head` is segmentation, change, landmarks or plates; `data=DIR` takes your own data. Each has a
trunk of 300,000 parameters and 2,000 steps of 16 images of 64 x 64 pixels (plates 128 x 32): a
tenth of a CPU second per step. Measured: mIoU 0.71 on held-out cut-outs over held-out photographs
(1,500 steps), NME 4.1% on held-out people (600), F1 0.80 of changed pixels (400), each with its
data in docs/heads.md; plates are not yet measured.
"""

from gen_jax.common.errors import UserError
from gen_jax.configs import common
from gen_jax.data.prepare.sources import EMBEDDED, LABELED


def get_config(arg=None):
    arg = common.parse_arg(arg, head="segmentation", data="", debug=False)
    if arg.head not in RECIPES:
        raise UserError(f"head={arg.head}: expected {', '.join(RECIPES)}")
    config = common.base()
    with config.unlocked():
        config.task = dict(
            name="heads",
            trunk=dict(widths=(16, 32, 64, 96), blocks=1),
            head=dict(name=arg.head),
            image_size=64,
        )
    config.training.update(num_steps=2000, batch_size=16, ema=0.99, checkpoint_every=500)
    config.optimizer.model.update(learning_rate=2e-3, warmup_steps=100, weight_decay=0.02)
    default = RECIPES[arg.head](config)
    data = arg.data or default
    is_embedded = data in (*EMBEDDED, *LABELED)
    config.data.source, config.data.dir = (data, "") if is_embedded else ("", data)
    if arg.debug:
        _debug(config)
    return config.lock()


def _segmentation(config):
    with config.unlocked():
        config.task.head = dict(name="segmentation", classes=2, width=32, dice_weight=1.0)
        config.evaluators = dict(segmentation=dict(count=500, batch_size=50))
        config.data.transform = common.transform("labeled_crops")
    config.data.image_size = 64
    return "composites"


def _change(config):
    with config.unlocked():
        config.task.head = dict(name="change", classes=2, width=32, dice_weight=1.0)
        config.evaluators = dict(change=dict(count=400, batch_size=50))
        config.data.transform = common.transform("changed_pairs")
    config.data.image_size = 64
    return "photos"


def _plates(config):
    with config.unlocked():
        config.task.head = dict(name="plates", width=48)
        config.evaluators = dict(plates=dict(count=1000, batch_size=100))
        config.data.transform = common.transform("plates")
    config.task.image_size = config.data.image_size = 128
    return "plates"


def _landmarks(config):
    with config.unlocked():
        config.task.head = dict(
            name="landmarks", points=5, width=32, spread=1.0, heatmap_weight=0.2
        )
        config.evaluators = dict(landmarks=dict(count=500, batch_size=50))
        config.data.transform = common.transform("landmarks")
    config.data.image_size = 64
    return "data/face_landmarks"


RECIPES = dict(segmentation=_segmentation, change=_change, landmarks=_landmarks, plates=_plates)


def _debug(config):
    config.task.trunk.update(widths=(8, 8, 16), blocks=1)
    config.task.image_size = config.data.image_size = 32
    config.data.num = 200
    config.training.update(num_steps=4, batch_size=8, log_every=1, checkpoint_every=0)
    config.optimizer.model.warmup_steps = 1
    for evaluator in config.evaluators.values():
        evaluator.update(count=8, batch_size=8)
