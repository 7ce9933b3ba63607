"""Whether generated faces show what their prompts say, judged by a probe fitted to real faces."""

import cv2
import jax
import numpy as np
from jaxtyping import Float, UInt8

from gen_jax.common import pictures
from gen_jax.data.text import face_words
from gen_jax.evaluation import controls
from gen_jax.evaluation.base import Data, Predictor, Result
from gen_jax.losses.hog import hog
from gen_jax.metrics.kernel_probe import fit_kernel_probe

_SIDE, _CELL, _SMALL = 64, 4, 16  # pixels
_ROWS = 2000  # labeled faces that a probe is fitted to
_LEAST = 200  # faces of each value, or the attribute is left out: the probe would be unreliable
_READ = 6000
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
    predict: Predictor,
    data: Data,
    split: str,
    per_value: int,
    batch_size: int,
    seed: int = 0,
    controls_per_value: int = 32,
) -> tuple[Result, UInt8[np.ndarray, "n h w 3"]]:
    """Generates from prompts of one attribute at a time and classifies the samples.

    Args:
      predict: Predictor of a task that generates from prompts.
      data: Data with "facts" of its faces.
      split: Split whose faces the probe is tested on.
      per_value: Number of samples of each value.
      batch_size: Number of samples generated at once.
      seed: Seed of the wording and of the shuffled prompts.
      controls_per_value: Number of samples of each value in each control, at most `per_value`.

    Returns:
      Metrics, each the mean over an attribute's values, and all samples of the main score.
      `attribute_accuracy/NAME` is the share of samples classified as their prompt says, with the
      controls `attribute_accuracy_shuffled/NAME` and `attribute_accuracy_empty/NAME` (`controls`);
      `attribute_chance/NAME` is one over the number of values; `attribute_real/NAME` is the share
      of held-out real faces classified right. Picture `asked` has a row per value. Values that
      hardly any face is known to have are left out.
    """
    train, held_out = data.read("train", _READ), data.read(split, _READ)
    rng, metrics, notes = np.random.default_rng(seed), {}, {}
    rows, captions, samples = [], [], []
    for place, name in enumerate(face_words.ATTRIBUTES):
        values = _known_values(train["facts"][:, place])
        if len(values) < 2:
            continue
        probe = _fitted(train, place, values)
        # Values in turn, so that the first rows, which the controls repeat, have all of them.
        labels = np.tile(values, per_value)
        words = [face_words.ATTRIBUTES[name][v] for v in labels]
        texts = [face_words.say({name: word}, rng) for word in words]
        batch = {**data.tokenize(texts), "seed": np.arange(len(texts), dtype=np.uint32)}
        images = predict.batched("generate", batch, batch_size)["image"]
        metrics[f"attribute_accuracy/{name}"] = _balanced(probe(probe_features(images)), labels)
        metrics[f"attribute_chance/{name}"] = 1.0 / len(values)
        again = np.arange(min(per_value, controls_per_value) * len(values))
        others = controls.generate(predict, data, batch, labels, again, batch_size, seed=seed)
        for control, made in others.items():
            key = f"attribute_accuracy_{control}/{name}"
            metrics[key] = _balanced(probe(probe_features(made)), labels[again])
            notes[key] = controls.NOTES[control]
        real = np.isin(held_out["facts"][:, place], values)
        if real.any():
            predicted = probe(probe_features(held_out["image"][real]))
            metrics[f"attribute_real/{name}"] = _balanced(predicted, held_out["facts"][real, place])
        for value in values:
            chosen = np.flatnonzero(labels == value)[:_SHOWN]
            rows.append(images[chosen])
            captions += [texts[i] for i in chosen]
        samples.append(images)
    if not samples:
        return Result({}), np.zeros((0, *train["image"].shape[1:]), np.uint8)
    sheet = pictures.grid(np.concatenate(rows), captions, columns=min(_SHOWN, per_value))
    result = Result(metrics, {"asked": sheet}, notes, prompts={"asked": captions})
    return result, np.concatenate(samples)


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
