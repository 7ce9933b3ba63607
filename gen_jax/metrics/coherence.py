"""Whether captions belong to their images, by a classifier of real images into words."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from gen_jax.metrics import captions as caption_metrics

_RIDGE = 0.3  # as a share of the mean eigenvalue
_TOP = 0.1  # share of the words that the classifier names for an image
_PERMUTATIONS = 2000


class Coherence(NamedTuple):
    """Agreement of captions with their images.

    Attributes:
      value: Share of the captions' words that the classifier names for their images.
      shuffled: The same with captions of other images: chance.
      p_value: Probability of such a value under shuffling, by a permutation test.
      pairs: Number of captions with a word that the classifier knows.
    """

    value: float
    shuffled: float
    p_value: float
    pairs: int


class WordClassifier:
    """Ridge regression from features of images to the words of their captions.

    Args:
      features: Features [n, d] of real images.
      captions: Caption of each.
      least: Occurrences that a word must have to be known.
    """

    def __init__(
        self, features: Float[np.ndarray, "n d"], captions: Sequence[str], least: int = 20
    ):
        sets = [set(caption_metrics.words(text)) for text in captions]
        count: dict[str, int] = {}
        for word in (word for words in sets for word in words - caption_metrics.STOP_WORDS):
            count[word] = count.get(word, 0) + 1
        self.words = sorted(word for word, times in count.items() if times >= least)
        known = {word: i for i, word in enumerate(self.words)}
        targets = np.zeros((len(sets), len(self.words)))
        for row, words in enumerate(sets):
            targets[row, [known[word] for word in words if word in known]] = 1.0
        features = features.astype(np.float64)
        self._mean, self._scale = features.mean(0), features.std(0) + 1e-6
        x = (features - self._mean) / self._scale
        # Every word has the same spread, so that frequent words are not named for every image.
        spread = np.sqrt(targets.mean(0) * (1.0 - targets.mean(0))) + 1e-9
        y = (targets - targets.mean(0)) / spread
        gram = x.T @ x
        ridge = _RIDGE * np.trace(gram) / len(gram)
        self._weights = np.linalg.solve(gram + ridge * np.eye(len(gram)), x.T @ y)
        self._known = known

    def named(self, features: Float[np.ndarray, "n d"]) -> np.ndarray:
        """Returns which words are among the best tenth for each image, bool [n, words]."""
        scores = ((features - self._mean) / self._scale) @ self._weights
        number = max(1, round(_TOP * len(self.words)))
        least = np.sort(scores, axis=1)[:, -number][:, None]
        return scores >= least

    def has(self, captions: Sequence[str]) -> np.ndarray:
        """Returns which known words each caption has, bool [n, words]."""
        out = np.zeros((len(captions), len(self.words)), bool)
        for row, caption in enumerate(captions):
            known = [self._known[w] for w in caption_metrics.words(caption) if w in self._known]
            out[row, known] = True
        return out


def coherence(
    classifier: WordClassifier,
    features: Float[np.ndarray, "n d"],
    captions: Sequence[str],
    seed: int = 0,
) -> Coherence:
    """Compares captions of their own images with captions of others.

    Args:
      classifier: Fitted to real images.
      features: Features of generated images, by the encoder of the classifier.
      captions: Caption of each.
      seed: Seed of the permutations.
    """
    has = classifier.has(captions)
    keep = has.any(1)
    has, named = has[keep].astype(np.float64), classifier.named(features)[keep].astype(np.float64)
    if len(has) < 2:
        return Coherence(0.0, 0.0, 1.0, len(has))
    # [image, caption]: share of the caption's words that are named for the image.
    agreement = named @ has.T / has.sum(1)[None]
    random, rows = np.random.RandomState(seed), np.arange(len(has))
    value = agreement.diagonal().mean()
    draws = [agreement[rows, random.permutation(len(rows))].mean() for _ in range(_PERMUTATIONS)]
    p_value = (1 + np.sum(np.array(draws) >= value)) / (1 + _PERMUTATIONS)
    return Coherence(float(value), float(np.mean(draws)), float(p_value), len(has))
