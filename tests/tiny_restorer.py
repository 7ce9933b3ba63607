"""Run directories of the stage `restore` that were never trained."""

import pathlib

import jax
import numpy as np

from configs import restore, restore_text
from gen_jax.common import config as config_lib
from gen_jax.data.text import instructions
from gen_jax.data.text.tokenizer import train_tokenizer
from gen_jax.runs import layout, weights
from gen_jax.tasks import build_task


def make(folder: pathlib.Path, arg: str = "debug", *, text: bool = False, size=0.3) -> str:
    """A run of the debug config, with normal numbers of about `size` / sqrt(fan) as parameters."""
    folder.mkdir(parents=True)
    config = (restore_text if text else restore).get_config(arg)
    (folder / layout.CONFIG).write_text(config_lib.to_json(config))
    if text:
        train_tokenizer(instructions.vocabulary(), 512).save(folder / layout.TOKENIZER)
    task = build_task(config.task.to_dict())
    spec = {k: np.zeros((1, *v.shape), v.dtype) for k, v in task.batch_spec().items()}
    params, _ = jax.eval_shape(task.init, jax.random.key(0), spec)
    rng = np.random.default_rng(0)

    def fill(s):
        fan = max(1, int(np.prod(s.shape[:-1])))
        return np.float32(size * rng.normal(size=s.shape) / np.sqrt(fan))

    weights.save(folder / layout.WEIGHTS, {"params": jax.tree.map(fill, params)})
    return str(folder)
