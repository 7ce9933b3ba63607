"""Do samples of a picture's caption look like pictures of its class?"""

import dataclasses
from collections import Counter

import numpy as np

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
    """

    count: int = 256
    train: int = 4096
    k: int = 10
    batch_size: int = 32
    encoder: str = ""

    def __call__(self, predict: Predictor, data: Data) -> Result:
        """Metrics `retrieval` (R@k), `retrieval_chance`, `retrieval_shuffled`, with prompts of
        other samples, and `retrieval_real`, of held-out pictures in place of samples.
        """
        known = data.read("train", self.train)
        often = [c for c, n in Counter(known["label"].tolist()).items() if c >= 0 and n >= _LEAST]
        classes = np.array(sorted(often))
        if len(classes) <= self.k:
            return Result({}, warnings=(f"{len(classes)} classes: too few for R@{self.k}",))
        features = _unit(features_by(self.encoder, predict, known["image"]))
        centres = _unit(np.stack([features[known["label"] == c].mean(0) for c in classes]))
        rows = np.flatnonzero(np.isin(known["label"], classes))[: self.count]
        asked = {name: known[name][rows] for name in ("tokens", "token_mask")}
        asked["seed"] = np.arange(len(rows), dtype=np.uint32)
        made = predict.batched("generate", asked, self.batch_size)["image"]
        found = _unit(features_by(self.encoder, predict, made))
        truth = np.searchsorted(classes, known["label"][rows])
        turned = np.random.default_rng(0).permutation(truth)
        metrics = {
            "retrieval": self._recall(found, centres, truth),
            "retrieval_chance": self.k / len(classes),
            "retrieval_shuffled": self._recall(found, centres, turned),
        }
        real, warnings = held_out(data, "val", self.count)
        metrics |= self._of_real(predict, real, classes, centres)
        return Result(metrics, warnings=warnings)

    def _of_real(self, predict, real, classes, centres):
        rows = np.flatnonzero(np.isin(real["label"], classes))
        if not len(rows):
            return {}
        features = _unit(features_by(self.encoder, predict, real["image"][rows]))
        truth = np.searchsorted(classes, real["label"][rows])
        return {"retrieval_real": self._recall(features, centres, truth)}

    def _recall(self, features, centres, truth):
        nearest = np.argsort(-(features @ centres.T), axis=1)[:, : self.k]
        return float((nearest == truth[:, None]).any(1).mean())


def _unit(x):
    return x / np.maximum(np.linalg.norm(x, axis=-1, keepdims=True), 1e-12)
