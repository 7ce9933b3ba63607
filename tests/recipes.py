"""All recipes in configs/, found by their files, so that a new one is tested without a list."""

import importlib
import types

from tests.processes import ROOT

_HELPERS = ("__init__", "common")


def modules() -> list[types.ModuleType]:
    """Returns the module of each recipe."""
    stems = sorted(p.stem for p in (ROOT / "configs").glob("*.py") if p.stem not in _HELPERS)
    return [importlib.import_module(f"configs.{stem}") for stem in stems]


def contract_configs() -> dict[str, tuple[types.ModuleType, str]]:
    """Returns task name -> the recipe and argument by which the contract tests train it.

    A recipe is trained by ":debug", unless its module names other arguments in CONTRACT_ARGS.
    """
    found = {}
    for module in modules():
        for arg in vars(module).get("CONTRACT_ARGS", ("debug",)):
            name = module.get_config(arg).task.name
            assert name not in found, f"{module.__name__}: {found[name]} trains {name} already"
            found[name] = (module, arg)
    return found
