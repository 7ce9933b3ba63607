"""Recipes by file or by name: `configs/ldm.py`, or `ldm` from any folder."""

import difflib
import importlib
import os
import pathlib

from gen_jax.common import paths
from gen_jax.common.errors import UserError

_NOT_RECIPES = ("__init__", "common")


def packaged() -> dict[str, pathlib.Path]:
    """Returns name -> file of the recipes that come with the package."""
    folders = importlib.import_module("gen_jax.configs").__path__
    files = [path for folder in folders for path in pathlib.Path(folder).glob("*.py")]
    return {path.stem: path for path in sorted(files) if path.stem not in _NOT_RECIPES}


def resolve(source: str, name: str = "config") -> str:
    """Returns FILE or FILE:ARG with the file that `source` means.

    A file that exists is taken as it is. Otherwise `ldm`, `ldm.py` and `configs/ldm.py` mean the
    recipe that comes with the package.

    Args:
      source: What a user wrote: a file or the name of a recipe, `:` and an argument or neither.
      name: What it is called in the error message.

    Raises:
      UserError: There is neither such a file nor such a recipe.
    """
    file, colon, argument = source.partition(":")
    path = pathlib.Path(paths.expand(file))
    if not path.is_file():
        path = _by_name(file, f"{name}={source}")
    return f"{path}{colon}{argument}"


def _by_name(file: str, where: str) -> pathlib.Path:
    known = packaged()
    recipe = file.removeprefix(f"configs{os.sep}").removesuffix(".py")
    if recipe in known:
        return known[recipe]
    near = difflib.get_close_matches(pathlib.Path(recipe).name, known, 1)
    hint = f"did you mean {near[0]}?" if near else f"the recipes are {', '.join(known)}"
    raise UserError(f"{where}: no such file and no recipe of that name; {hint}")
