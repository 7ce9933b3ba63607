"""Whether samples of an image's caption look like images of its class."""

import dataclasses
from collections import Counter

import numpy as np

from gen_jax.common import pictures
from gen_jax.evaluation import controls
from gen_jax.evaluation.base import Data, Evaluator, Predictor, Reads, Result, held_out
from gen_jax.evaluation.judge import features_by

_LEAST = 3  # training pictures that a class is known by


@dataclasses.dataclass(frozen=True)
class ClassRetrieval(Evaluator):
    """R@k: the share of samples whose prompt's class is among the k nearest of all classes.

    A class lies at the mean feature of its training images; the prompt is a caption of such an
    image. Chance is k over the number of classes.

    Attributes:
      count: Number of samples at most.
      train: Number of training images at most that class means are taken of.
      k: Number of nearest classes among which the prompt's class counts as retrieved.
      batch_size: Number of samples generated at once.
      encoder: Encoder whose features are compared, "NAME:WEIGHTS"; "" is an untrained network.
      shown: Number of classes in the picture.
      controls: Number of samples of each control, the first ones generated again.
    """

    count: int = 256
    train: int = 4096
    k: int = 10
    batch_size: int = 32
    encoder: str = ""
    shown: int = 16
    controls: int = 64

    def reads(self) -> tuple[Reads, ...]:
        return (Reads("train", self.train), Reads("val", self.count, is_optional=True))

    def encoders(self) -> tuple[str, ...]:
        return (self.encoder,)

    def __call__(self, predict: Predictor, data: Data) -> Result:
        """Returns `retrieval` (R@k) with its controls `retrieval_shuffled` and `retrieval_empty`
        (`controls`), and `retrieval_chance`; `retrieval_reconstructed`, the R@k of the prompts' own
        images through the codes, which is the most that a prior over them can reach;
        `retrieval_real`, the R@k of held-out images. Picture `classes`: those retrieved best and
        worst, a training image and its caption's sample.
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
        place = _places(features_of(made), centres, truth)
        metrics = {
            "retrieval": self._recall(place),
            "retrieval_chance": self.k / len(classes),
            "retrieval_reconstructed": self._recall(_places(features_of(coded), centres, truth)),
        }
        notes = {}
        again = np.arange(min(self.controls, len(rows)))
        others = controls.generate(predict, data, asked, truth, again, self.batch_size)
        for control, images in others.items():
            name = f"retrieval_{control}"
            metrics[name] = self._recall(_places(features_of(images), centres, truth[again]))
            notes[name] = controls.NOTES[control]
        real, warnings = held_out(data, "val", self.count)
        if len(of := np.flatnonzero(np.isin(real["label"], classes))):
            place_of_real = _places(
                features_of(real["image"][of]), centres, np.searchsorted(classes, real["label"][of])
            )
            metrics["retrieval_real"] = self._recall(place_of_real)
        shown = self._picture(mine, made, place, truth)
        return Result(metrics, {"classes": shown}, notes, warnings)

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
