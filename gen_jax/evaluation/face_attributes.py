"""Whether generated faces are what their sentences ask for, by a probe fitted to real faces."""

import cv2
import jax
import numpy as np
from jaxtyping import Float, UInt8

from gen_jax.common import pictures
from gen_jax.data import face_words
from gen_jax.evaluation.base import Data, Predictor, Result
from gen_jax.losses.hog import hog
from gen_jax.metrics.kernel_probe import fit_kernel_probe

_SIDE, _CELL, _SMALL = 64, 4, 16  # pixels
_ROWS = 2000  # labelled faces that a probe is fitted to
_LEAST = 200  # of them of each value, or it is not asked about: the probe would know too few
_READ = 6000
_ORDERS = 100  # of sentences, that "shuffled" is the mean over
_SHOWN = 8


def probe_features(images: UInt8[np.ndarray, "n h w 3"]) -> Float[np.ndarray, "n d"]:
    """What the probe sees: gradients by direction and gray pixels, each of unit size.

    No tower: none that guides may judge, and of real faces these tell more than MobileNetV2's.
    """
    gray = images.astype(np.float32).mean(-1) / 255.0
    big = np.stack([cv2.resize(v, (_SIDE, _SIDE), interpolation=cv2.INTER_CUBIC) for v in gray])
    small = big.reshape(len(big), _SMALL, _SIDE // _SMALL, _SMALL, -1).mean((2, 4))
    parts = [_gradients(big), small.reshape(len(big), -1)]
    parts = [v - v.mean(1, keepdims=True) for v in parts]
    parts = [v / np.maximum(np.linalg.norm(v, axis=1, keepdims=True), 1e-6) for v in parts]
    return np.concatenate(parts, 1)


def attribute_accuracy(
    predict: Predictor, data: Data, split: str, per_value: int, batch_size: int, seed: int = 0
) -> tuple[Result, UInt8[np.ndarray, "n h w 3"]]:
    """Asks for one attribute at a time, and lets a probe name what came.

    Args:
      predict: of a task that generates from sentences.
      data: with "facts" of its faces.
      split: whose faces tell how right the probe is.
      per_value: samples of each value.
      batch_size: samples at once.
      seed: of the sentences.

    Returns:
      metrics, each the mean over an attribute's values: `attribute_accuracy/NAME`, the share of
      samples named as asked; `attribute_shuffled/NAME`, the same with sentences exchanged;
      `attribute_real/NAME`, the share of held-out real faces named right. Picture `asked`, a row a
      value. Values that hardly any face is known to have are left out. And all the samples.
    """
    train, held_out = data.read("train", _READ), data.read(split, _READ)
    rng, metrics, rows, below, samples = np.random.default_rng(seed), {}, [], [], []
    for place, name in enumerate(face_words.ATTRIBUTES):
        values = _known_values(train["facts"][:, place])
        if len(values) < 2:
            continue
        probe = _fitted(train, place, values)
        asked = np.repeat(values, per_value)
        words = [face_words.ATTRIBUTES[name][v] for v in asked]
        texts = [face_words.say({name: word}, rng) for word in words]
        batch = {**data.tokenize(texts), "seed": np.arange(len(texts), dtype=np.uint32)}
        made = predict.batched("generate", batch, batch_size)["image"]
        named = probe(probe_features(made))
        real = np.isin(held_out["facts"][:, place], values)
        metrics[f"attribute_accuracy/{name}"] = _balanced(named, asked)
        others = [_balanced(named, rng.permutation(asked)) for _ in range(_ORDERS)]
        metrics[f"attribute_shuffled/{name}"] = float(np.mean(others))
        if real.any():
            said = probe(probe_features(held_out["image"][real]))
            metrics[f"attribute_real/{name}"] = _balanced(said, held_out["facts"][real, place])
        for value in values:
            chosen = np.flatnonzero(asked == value)[:_SHOWN]
            rows.append(made[chosen])
            below += [texts[i] for i in chosen]
        samples.append(made)
    if not samples:
        return Result({}), np.zeros((0, *train["image"].shape[1:]), np.uint8)
    sheet = pictures.grid(np.concatenate(rows), below, columns=min(_SHOWN, per_value))
    return Result(metrics, {"asked": sheet}), np.concatenate(samples)


def _known_values(facts):
    values, count = np.unique(facts[facts != face_words.UNKNOWN], return_counts=True)
    return values[count >= min(_LEAST, len(facts) // 20)]


def _fitted(train, place, values):
    """A probe of as many faces of each value, or as many as there are."""
    facts = train["facts"][:, place]
    chosen = [np.flatnonzero(facts == v)[: _ROWS // len(values)] for v in values]
    chosen = np.concatenate(chosen)
    return fit_kernel_probe(probe_features(train["image"][chosen]), facts[chosen])


def _balanced(named, truth):
    return float(np.mean([(named[truth == v] == v).mean() for v in np.unique(truth)]))


_hog = jax.jit(lambda images: hog(images[..., None].repeat(3, -1), _CELL))


def _gradients(big, at_once: int = 256):
    parts = [np.asarray(_hog(big[i : i + at_once])) for i in range(0, len(big), at_once)]
    return np.concatenate(parts).reshape(len(big), -1)
