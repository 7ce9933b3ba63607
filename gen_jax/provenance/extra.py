"""The optional packages that signing and the ledger need."""

import importlib
from typing import Any

from gen_jax.common.errors import UserError

_INSTALL = 'pip install -e ".[provenance]" -c constraints.txt'


def load(name: str, purpose: str) -> Any:
    """Imports a module of the extra `provenance`.

    Args:
      name: Name of the module, such as "c2pa".
      purpose: What needs it, as the message begins.

    Raises:
      UserError: It is not installed.
    """
    try:
        return importlib.import_module(name)
    except ImportError:
        raise UserError(
            f"{purpose}: needs the optional packages of the extra provenance; run {_INSTALL}"
        ) from None
