"""Nearest neighbours as a classifier of features."""

import numpy as np
from jaxtyping import Array, Float, Integer

from gen_jax.common.errors import UserError


def knn_votes(
    features: Float[Array | np.ndarray, "n d"],
    labels: Integer[Array | np.ndarray, "n"],
    queries: Float[Array | np.ndarray, "m d"],
    *,
    k: int = 20,
    temperature: float = 0.07,
    balanced: bool = False,
) -> Float[np.ndarray, "m classes"]:
    """Each query's votes for each class, as DINO weighs them (arXiv:2104.14294, section 4.1).

    Args:
        features: of the labelled rows.
        labels: 0 to classes - 1.
        queries: rows to classify.
        k: neighbours by cosine, both sides centred by the mean of `features`.
        temperature: a neighbour of cosine s votes with exp(s / temperature).
        balanced: divides the votes by the size of the class, for balanced accuracy.

    Returns:
        Votes; `argmax(1)` is the class said.

    Raises:
        UserError: fewer labelled rows than neighbours.
    """
    labels = np.asarray(labels)
    if len(labels) < k:
        raise UserError(f"k={k} neighbours of {len(labels)} rows: give more rows or a smaller k")
    features, queries = np.asarray(features, np.float32), np.asarray(queries, np.float32)
    mean = features.mean(0)
    cosine = _unit(queries - mean) @ _unit(features - mean).T
    nearest = np.argpartition(-cosine, k - 1, axis=1)[:, :k]
    weight = np.exp(np.take_along_axis(cosine, nearest, 1) / temperature)
    votes = np.stack(
        [(weight * (labels[nearest] == c)).sum(1) for c in range(int(labels.max()) + 1)], axis=1
    )
    return votes / np.maximum(np.bincount(labels), 1) if balanced else votes


def balanced_accuracy(
    labels: Integer[Array | np.ndarray, "n"], said: Integer[Array | np.ndarray, "n"]
) -> float:
    """The mean over the classes of the share of their rows that is said right."""
    labels, said = np.asarray(labels), np.asarray(said)
    return float(np.mean([(said[labels == c] == c).mean() for c in np.unique(labels)]))


def _unit(x):
    return x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12)
