"""A second opinion on adjectives: probes on a tower's features in place of what is measured.

Whoever is trained on captions that are written from measurements may move the measurement alone.
A probe knows an adjective by real pictures that surely are what it says, and by such that are its
opposite.
"""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float, UInt8

from gen_jax.data.text import art_attributes, art_words
from gen_jax.evaluation.base import Data, Predictor, held_out
from gen_jax.evaluation.judge import features_by
from gen_jax.metrics.probe import LinearProbe, fit_linear_probe

_LEAST = 8  # pictures of each kind that a probe is fitted to


@dataclasses.dataclass(frozen=True)
class WordProbes:
    """Probes of adjectives; see `fit`.

    Attributes:
      encoder: whose features they read, "NAME:WEIGHTS"; "" is an untrained network.
      probes: name -> probe, which says 1 for the adjective and 0 for its opposite; an adjective
        that too few pictures show has none.
      held_out: name -> share of held-out pictures that its probe is right about.
      warnings: of the held-out pictures.
    """

    encoder: str
    probes: Mapping[str, LinearProbe]
    held_out: Mapping[str, float]
    warnings: tuple[str, ...] = ()

    def accuracy(
        self,
        predict: Predictor,
        asked: Mapping[str, UInt8[np.ndarray, "n h w 3"]],
        against: Mapping[str, UInt8[np.ndarray, "n h w 3"]],
    ) -> dict[str, float]:
        """Share of samples that show an adjective more than its opposite's samples do, row by row.

        Args:
          predict: of the task that is judged.
          asked: adjective -> samples of it.
          against: adjective -> samples of its opposite.
        """
        one, two = (_features(self.encoder, predict, images) for images in (asked, against))
        found = {}
        for name, probe in self.probes.items():
            more = _sureness(probe, one[name]) - _sureness(probe, two[name])
            found[name] = float(np.mean((more > 0) + 0.5 * (more == 0)))
        return found


def fit(
    adjectives: Sequence[art_words.Adjective],
    predict: Predictor,
    data: Data,
    *,
    encoder: str,
    count: int,
    split: str = "val",
) -> WordProbes:
    """Fits a probe of each adjective that enough training pictures, and its opposite, show."""
    images = data.read("train", count)["image"]
    real, warnings = held_out(data, split, count)
    features, names = features_by(encoder, predict, images), [_shown(i) for i in images]
    others, said = features_by(encoder, predict, real["image"]), [_shown(i) for i in real["image"]]
    probes, right = {}, {}
    for adjective in adjectives:
        rows, label = _pair(adjective, names)
        if min(np.sum(label == 0), np.sum(label == 1)) < _LEAST:
            continue
        probe = fit_linear_probe(features[rows], label, balanced=True)
        probes[adjective.name] = probe
        rows, label = _pair(adjective, said)
        if len(rows):
            right[adjective.name] = float(np.mean(probe(others[rows]).label == label))
    return WordProbes(encoder, probes, right, warnings)


def _shown(image) -> set[str]:
    return set(art_words.suggest(art_attributes.measure(image)))


def _pair(adjective, names):
    """Rows that show the adjective or its opposite, and 1 for the first, 0 for the second."""
    ends = (adjective.opposite, adjective.name)
    found = [(row, ends[1] in n) for row, n in enumerate(names) if (ends[0] in n) != (ends[1] in n)]
    rows, label = np.array(found, np.int64).reshape(-1, 2).T
    return rows, label


def _features(encoder, predict, images):
    """Name -> features; of all at once."""
    rows = features_by(encoder, predict, np.concatenate(list(images.values())))
    ends = np.cumsum([len(v) for v in images.values()])[:-1]
    return dict(zip(images, np.split(rows, ends), strict=True))


def _sureness(probe: LinearProbe, features: Float[np.ndarray, "n d"]) -> np.ndarray:
    """That it is the adjective, from 0 to 1."""
    said = probe(features)
    return np.where(said.label == 1, said.confidence, 1.0 - said.confidence)
