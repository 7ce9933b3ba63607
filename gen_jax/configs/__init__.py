"""Stands for the recipes of a checkout, so that `from gen_jax.configs import ldm` works there.

A wheel holds the files of `configs/` in this place instead (pyproject.toml, package-dir).
"""

import pathlib

__path__.append(str(pathlib.Path(__file__).resolve().parent.parent.parent / "configs"))
