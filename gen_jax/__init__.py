"""Generative image models in JAX: one trainer, from a laptop to a pod.

import gen_jax
model = gen_jax.load("package:engravings")
images = model.generate("a horse", num=4)
"""

import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gen_jax.pipelines.python_api import Model

__all__ = ["load"]
__version__ = "0.1.0"


def load(source: str | os.PathLike, step: str = "best", **settings: Any) -> "Model":
    """Reads a trained model: a run directory, `package:NAME`, or a released pipeline's folder.

    See `gen_jax.pipelines.python_api.load`; JAX is imported when this is called.
    """
    from gen_jax.pipelines import python_api

    return python_api.load(source, step, **settings)
