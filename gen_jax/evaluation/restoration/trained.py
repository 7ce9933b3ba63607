"""Restorers that this project trained: run directories of the stage `restore`."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from gen_jax.common.errors import UserError
from gen_jax.data.degradations import as_vector
from gen_jax.evaluation.restoration.benchmarks import Given
from gen_jax.models.ffdnet import FFDNet
from gen_jax.pipelines import windows
from gen_jax.runs import reader


def build_run(folder: str, given: Given) -> Callable[[np.ndarray], np.ndarray]:
    """The best checkpoint of a run, which is told what is given.

    Raises:
      UserError: no finished run of that stage; when called, pictures of other channels.
    """
    model = reader.load(folder)
    task = model.task
    if "restore" not in task.predict_fns():
        raise UserError(
            f"--restorer={folder}: a run of the stage {model.config.task.name!r}, which restores "
            "nothing; name a run of configs/restore.py"
        )
    if isinstance(task.network, FFDNet) and given.sigma is None:
        raise UserError(f"--restorer={folder}: its FFDNet needs --sigma, a benchmark of noise")
    told = {"sigma": given.sigma, "jpeg": None if given.quality is None else 100 - given.quality}
    vector = jnp.asarray(as_vector({k: v for k, v in told.items() if v is not None}))[None]
    rngs = {name: jax.random.key(0) for name in task.rng_streams}

    @jax.jit
    def compiled(variables, image):
        batch = {"degraded": image, "degradation": vector}
        return task.predict_fns()["restore"](variables, batch, rngs, model.frozen)["restored"]

    def forward(image):
        return compiled(model.variables, image)

    def restore(image: np.ndarray) -> np.ndarray:
        if image.shape[-1] != task.channels:
            raise UserError(
                f"--restorer={folder}: trained on {task.channels} channels, these pictures have "
                f"{image.shape[-1]}"
            )
        reach = getattr(task.network, "reach", None)
        if reach is None:  # what attention sees has no such bound
            return np.asarray(forward(image[None]))[0]
        return windows.apply(forward, image, reach)

    return restore
