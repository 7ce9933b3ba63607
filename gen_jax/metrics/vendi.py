"""The Vendi score: how many different things a set holds (arXiv 2210.02410)."""

import numpy as np
from jaxtyping import Array, Float

from gen_jax.common.errors import UserError


def vendi_score(features: Float[Array | np.ndarray, "n d"]) -> float:
    """Exp of the entropy of the eigenvalues of K / n, K being the cosines between rows.

    It needs no reference, and says nothing of quality: noise is diverse too.

    Args:
      features: of n samples; none may be zero.

    Returns:
      1 where all rows point the same way, up to min(n, d), where they are orthogonal.

    Raises:
      UserError: no rows, or a row of zeros.
    """
    x = np.asarray(features, np.float64)
    lengths = np.linalg.norm(x, axis=1, keepdims=True)
    if not len(x) or not lengths.all():
        raise UserError(f"vendi score of {len(x)} feature rows: expected some, none all zero")
    x = x / lengths
    # X X^T and X^T X have the same eigenvalues but for zeros: take the smaller.
    small = x @ x.T if len(x) <= x.shape[1] else x.T @ x
    values = np.linalg.eigvalsh(small) / len(x)
    values = values[values > 0]
    return float(np.exp(-(values * np.log(values)).sum()))
