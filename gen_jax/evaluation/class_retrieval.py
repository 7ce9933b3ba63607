"""Do samples of a picture's caption look like pictures of its class?"""

import dataclasses
from collections import Counter

import numpy as np

from gen_jax.common import pictures
from gen_jax.evaluation.base import Data, Predictor, Result, held_out
from gen_jax.evaluation.judge import features_by

_LEAST = 3  # training pictures that a class is known by


@dataclasses.dataclass(frozen=True)
class ClassRetrieval:
    """R@k: the share of samples whose prompt's class is among the k nearest of all classes.

    A class lies at the mean feature of its training pictures; the prompt is a caption of such a
    picture. Chance is k over the number of classes.

    Attributes:
      count: samples at most.
      train: training pictures at most that classes are known by.
      k: of the nearest classes.
      batch_size: samples at once.
      encoder: whose features are compared, "NAME:WEIGHTS"; "" is an untrained network.
      shown: classes in the picture.
    """

    count: int = 256
    train: int = 4096
    k: int = 10
    batch_size: int = 32
    encoder: str = ""
    shown: int = 16

    def __call__(self, predict: Predictor, data: Data) -> Result:
        """Metrics `retrieval` (R@k), `retrieval_chance`, `retrieval_shuffled`, with prompts of
        other samples, `retrieval_reconstructed`, of the prompts' own pictures through the codes,
        which is as far as a prior over them can come, and `retrieval_real`, of held-out pictures;
        picture `classes`: those found best and worst, a training picture and its caption's sample.
        """
        known = data.read("train", self.train)
        often = [c for c, n in Counter(known["label"].tolist()).items() if c >= 0 and n >= _LEAST]
        classes = np.array(sorted(often))
        if len(classes) <= self.k:
            return Result({}, warnings=(f"{len(classes)} classes: too few for R@{self.k}",))

        def features_of(images):
            return _unit(features_by(self.encoder, predict, images))

        features = features_of(known["image"])
        centres = _unit(np.stack([features[known["label"] == c].mean(0) for c in classes]))
        rows = np.flatnonzero(np.isin(known["label"], classes))[: self.count]
        asked = {name: known[name][rows] for name in ("tokens", "token_mask")}
        asked["seed"] = np.arange(len(rows), dtype=np.uint32)
        mine = known["image"][rows]
        made = predict.batched("generate", asked, self.batch_size)["image"]
        coded = predict.batched("reconstruct", {"image": mine}, self.batch_size)["image"]
        truth = np.searchsorted(classes, known["label"][rows])
        found = features_of(made)
        place = _places(found, centres, truth)
        turned = np.random.default_rng(0).permutation(truth)
        metrics = {
            "retrieval": self._recall(place),
            "retrieval_chance": self.k / len(classes),
            "retrieval_shuffled": self._recall(_places(found, centres, turned)),
            "retrieval_reconstructed": self._recall(_places(features_of(coded), centres, truth)),
        }
        real, warnings = held_out(data, "val", self.count)
        if len(of := np.flatnonzero(np.isin(real["label"], classes))):
            place_of_real = _places(
                features_of(real["image"][of]), centres, np.searchsorted(classes, real["label"][of])
            )
            metrics["retrieval_real"] = self._recall(place_of_real)
        shown = self._picture(mine, made, place, truth)
        return Result(metrics, {"classes": shown}, warnings=warnings)

    def _recall(self, place) -> float:
        return float((place < self.k).mean())

    def _picture(self, real, made, place, truth):
        """Pairs of a training picture and a sample, one of a class, best and worst places."""
        order = np.argsort(place, kind="stable")
        _, first = np.unique(truth[order], return_index=True)
        order = order[np.sort(first)]
        best, worst = self.shown - self.shown // 2, len(order) - self.shown // 2
        chosen = order if len(order) <= self.shown else np.r_[order[:best], order[worst:]]
        pairs = np.stack([real[chosen], made[chosen]], 1).reshape(-1, *made.shape[1:])
        words = [w for p in place[chosen] for w in ("trained on", f"class found at {p + 1}")]
        return pictures.grid(pairs, words, columns=8)


def _places(features, centres, truth):
    """How many other classes lie as near to each row as its own does: ties find nothing."""
    likeness = features @ centres.T
    own = np.take_along_axis(likeness, truth[:, None], 1)
    return (likeness >= own).sum(1) - 1


def _unit(x):
    return x / np.maximum(np.linalg.norm(x, axis=-1, keepdims=True), 1e-12)
