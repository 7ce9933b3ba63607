"""Which axes of a kernel are the rows of the matrix that it multiplies its inputs by."""

import re

_TO_HEADS = re.compile(r"(query|key|value)/kernel$")


def row_axes(name: str, ndim: int) -> int:
    """Returns how many leading axes of a kernel are the rows of its matrix.

    Args:
      name: Path of the parameter, such as `encoder/attention/query/kernel`.
      ndim: Number of its dimensions, at least 2.
    """
    # flax's projections to heads are [in, heads, d], all others [..., out].
    return 1 if _TO_HEADS.search(name) else ndim - 1
