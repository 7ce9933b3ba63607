"""Degradations of images, as a loader applies them: pure functions of an image and a generator.

`presets.build("blind")` or `presets.build({"name": "gaussian", "sigma": (5, 50)})` gives one.
"""

from gen_jax.data.degradations.base import PARAMETERS, Degradation, as_vector
from gen_jax.data.degradations.presets import PRESETS, build

__all__ = ["PARAMETERS", "PRESETS", "Degradation", "as_vector", "build"]
