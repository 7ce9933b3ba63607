"""A linear probe: which class do these features say, and how surely.

It measures adherence to a prompt whose attributes are known: fit on features of
labelled real images, read generated ones.
"""

import dataclasses
from typing import NamedTuple

import numpy as np
from jaxtyping import Array, Float, Integer

from gen_jax.common.errors import UserError

_RIDGES = 10.0 ** np.arange(-4, 3)  # as shares of the mean eigenvalue
_TEMPERATURES = 2.0 ** np.arange(0, 8, 0.5)


class Prediction(NamedTuple):
    """For each row of features: the class said, and its probability in [0, 1]."""

    label: np.ndarray
    confidence: np.ndarray


@dataclasses.dataclass(frozen=True, eq=False)
class LinearProbe:
    """A fitted probe; call it on features [n, d].

    Attributes:
        classes: [k] the labels it knows.
        mean: [d] of the features fitted to.
        scale: [d] their standard deviation.
        weights: [d, k], for standardised features.
        bias: [k].
        temperature: by which scores are multiplied before the softmax.
        left_out_accuracy: share of the rows fitted to that it gets right when
            each is left out: an honest figure of how far to trust it.
    """

    classes: np.ndarray
    mean: np.ndarray
    scale: np.ndarray
    weights: np.ndarray
    bias: np.ndarray
    temperature: float
    left_out_accuracy: float

    def __call__(self, features: Float[Array | np.ndarray, "n d"]) -> Prediction:
        """Label and confidence of each row."""
        rows = (np.asarray(features, np.float64) - self.mean) / self.scale
        probability = _softmax(self.temperature * (rows @ self.weights + self.bias))
        best = probability.argmax(1)
        return Prediction(self.classes[best], probability.max(1))


def _softmax(scores):
    e = np.exp(scores - scores.max(1, keepdims=True))
    return e / e.sum(1, keepdims=True)


def _decomposed(a):
    """The thin singular value decomposition, by the Gram matrix where rows are few: minutes less
    for thousands of columns, and ridges are far above what squaring loses.
    """
    if len(a) >= a.shape[1]:
        return np.linalg.svd(a, full_matrices=False)
    values, u = np.linalg.eigh(a @ a.T)
    kept = values > values[-1] * 1e-12
    u, s = u[:, kept], np.sqrt(values[kept])
    return u, s, (u / s).T @ a


def fit_linear_probe(
    features: Float[Array | np.ndarray, "n d"],
    labels: Integer[Array | np.ndarray, "n"],
    *,
    balanced: bool = False,
) -> LinearProbe:
    """Ridge regression of one-hot labels on standardised features, in closed form.

    The ridge and the softmax's temperature are those with the best likelihood
    when each row is left out in turn, which for ridge regression needs no
    refitting (Golub, Heath and Wahba 1979).

    Args:
        features: at least two rows.
        labels: whole numbers, any values, at least two different ones.
        balanced: every class weighs the same, however many rows it has.
    """
    x, labels = np.asarray(features, np.float64), np.asarray(labels)
    classes, index = np.unique(labels, return_inverse=True)
    if len(classes) < 2:
        raise UserError("labels: expected at least two different classes to fit a probe")
    weight = 1.0 / np.bincount(index)[index] if balanced else np.ones(len(x))
    weight *= len(x) / weight.sum()
    mean = np.average(x, 0, weight)
    scale = np.sqrt(np.average((x - mean) ** 2, 0, weight))
    scale = np.where(scale > 1e-8 * (np.abs(mean) + 1), scale, 1.0)
    root = np.sqrt(weight)[:, None]
    one_hot = np.eye(len(classes))[index]
    bias = np.average(one_hot, 0, weight)
    u, s, vt = _decomposed(root * (x - mean) / scale)
    projected = u.T @ (root * (one_hot - bias))

    best = None
    for ridge in _RIDGES * np.mean(s**2):
        shrink = s**2 / (s**2 + ridge)
        fitted = bias + u @ (shrink[:, None] * projected) / root
        # The bias, too, is fitted: a row's share of all weight is its own.
        leverage = (u**2) @ shrink + weight / len(x)
        leverage = np.minimum(leverage, 1 - 1e-6)[:, None]
        left_out = (fitted - leverage * one_hot) / (1 - leverage)
        for temperature in _TEMPERATURES:
            probability = _softmax(temperature * left_out)[np.arange(len(x)), index]
            loss = -np.average(np.log(np.maximum(probability, 1e-30)), weights=weight)
            if best is None or loss < best[0]:
                accuracy = float((left_out.argmax(1) == index).mean())
                best = (loss, ridge, temperature, accuracy)
    _, ridge, temperature, accuracy = best
    weights = vt.T @ ((s / (s**2 + ridge))[:, None] * projected)
    return LinearProbe(classes, mean, scale, weights, bias, float(temperature), accuracy)
