"""Whether generated pictograms show what their prompts state, and their distance to real ones."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from gen_jax.common import pictures
from gen_jax.common.errors import UserError
from gen_jax.data.prepare.sources import pictogram_read, pictograms
from gen_jax.encoders.image_features import open_features
from gen_jax.evaluation import controls
from gen_jax.evaluation.base import Data, Evaluator, Predictor, Reads, Result, SplitData, generated
from gen_jax.metrics import interval, kid
from gen_jax.metrics.probe import LinearProbe, fit_linear_probe

_ENCODER = "dino_tiny"


@dataclasses.dataclass(frozen=True)
class PictogramAccuracy(Evaluator):
    """Generates from the captions of unseen images and compares with them and with the captions.

    The subject is named by a linear probe, fitted to training images, that sees 24x24 gray pixels
    of the square around the pictogram. Color and background are read from the pixels
    (`pictogram_read`). Each score has its counterpart on the real images of the same captions,
    which tells how far the probe and the readers can be trusted.

    Attributes:
      count: Number of samples from captions of the split "test", and of its images.
      heldout: Number of samples from captions of the split "heldout", whose pairs of subject and
        color training never showed.
      train_count: Number of training images that the probe is fitted to.
      real_count: Number of real images on each side of `kid_real`.
      batch_size: Number of samples generated at once.
      shown: Number of samples in the image sheets, each of another subject if there are as many.
      seed: Seed of the shuffled prompts and of the bootstrap.
      controls: Number of samples of each control, the first ones generated again.
    """

    count: int = 256
    heldout: int = 64
    train_count: int = 2560
    real_count: int = 512
    batch_size: int = 64
    shown: int = 36
    seed: int = 0
    controls: int = 64

    def reads(self) -> tuple[Reads, ...]:
        needs = (
            Reads("train", self.train_count, least=2),
            Reads("test", max(self.count, self.real_count), least=2),
            Reads("val", self.real_count, least=2),
        )
        return (*needs, Reads(pictograms.HELDOUT_SPLIT, self.heldout)) if self.heldout else needs

    def check(self, data: SplitData) -> None:
        if data.source != "pictograms":
            raise UserError(f"needs the data source 'pictograms', this is {data.source!r}")

    def __call__(self, predict: Predictor, data: Data) -> Result:
        """Returns shares of samples, distances, and the image sheets `prompts` and `real`.

        `subject_accuracy` and, of the prompts that state it, `color_accuracy` and
        `background_accuracy`; the same with `_real` of the real images, and after `heldout_`.
        `prompt_accuracy` is `subject_accuracy`; it has the controls `_shuffled` and `_empty` and
        `prompt_chance`. `kid` is the kernel distance of `dino_tiny`'s features to the split "test"
        with a 95% bootstrap interval, `kid_real` that of the split "val".
        """
        train = data.read("train", self.train_count)
        probe = fit_linear_probe(pictogram_read.shape_features(train["image"]), train["label"])
        real = data.read("test", max(self.count, self.real_count))
        batch = {name: rows[: self.count] for name, rows in real.items()}
        images, texts = generated(predict, data, "test", batch, self.batch_size)
        scenes = [record.attributes for record in data.records("test", batch["index"])]

        metrics = self._accuracies(probe, data, images, scenes, texts)
        of_real = self._accuracies(probe, data, batch["image"], scenes, texts)
        metrics |= {f"{name}_real": value for name, value in of_real.items()}
        if self.heldout:
            unseen = data.read(pictograms.HELDOUT_SPLIT, self.heldout)
            records = data.records(pictograms.HELDOUT_SPLIT, unseen["index"])
            samples, prompts = generated(
                predict, data, pictograms.HELDOUT_SPLIT, unseen, self.batch_size
            )
            attributes = [record.attributes for record in records]
            shares = self._accuracies(probe, data, samples, attributes, prompts)
            metrics |= {f"heldout_{name}": value for name, value in shares.items()}
        metrics["prompt_accuracy"] = metrics["subject_accuracy"]
        metrics["prompt_chance"] = 1.0 / len(data.label_names)
        others, notes = self._controls(predict, data, probe, scenes, texts)
        metrics |= others
        metrics |= self._distances(images, real["image"], data.read("val", self.real_count))
        shown = _different([scene["subject"] for scene in scenes], self.shown)
        captions = [texts[i] for i in shown]
        sheets = {
            "prompts": pictures.grid(images[shown], captions),
            "real": pictures.grid(batch["image"][shown], captions),
        }
        return Result(metrics, sheets, notes, prompts={"prompts": captions, "real": captions})

    def _accuracies(
        self,
        probe: LinearProbe,
        data: Data,
        images: np.ndarray,
        scenes: Sequence[Mapping[str, Any]],
        texts: Sequence[str],
    ) -> dict[str, float]:
        """Returns the share of right answers by kind of fact, over the captions that state it."""
        labels = np.array([data.label_names.index(scene["subject"]) for scene in scenes])
        named = probe(pictogram_read.shape_features(images)).label
        answers: dict[str, list[bool]] = {"subject": list(named == labels)}
        for image, scene, text in zip(images, scenes, texts, strict=True):
            if scene["background"] in text:
                right = pictogram_read.read(image).background == scene["background"]
                answers.setdefault("background", []).append(right)
            if scene["color"] is not None:
                color = pictogram_read.read_color(image, scene["subject"])
                answers.setdefault("color", []).append(color == scene["color"])
        return {f"{name}_accuracy": float(np.mean(right)) for name, right in answers.items()}

    def _controls(self, predict, data, probe, scenes, texts):
        labels = np.array([data.label_names.index(scene["subject"]) for scene in scenes])
        rows = np.arange(min(self.controls, len(texts)))
        samples = controls.generate(
            predict, data, data.tokenize(list(texts)), labels, rows, self.batch_size, seed=self.seed
        )
        metrics, notes = {}, {}
        for control, images in samples.items():
            named = probe(pictogram_read.shape_features(images)).label
            name = f"prompt_accuracy_{control}"
            metrics[name] = float(np.mean(named == labels[rows]))
            notes[name] = controls.NOTES[control]
        return metrics, notes

    def _distances(self, images, test, val) -> dict[str, float]:
        encode = open_features(_ENCODER, side=test.shape[1] - test.shape[1] % 8)
        fake, real = encode(images), encode(test)
        distance = interval.bootstrap(kid.mmd2, real, fake, seed=self.seed)
        of_real = kid.mmd2(real, encode(val["image"]))
        return {**distance.named("kid"), "kid_real": float(of_real)}


def _different(subjects: Sequence[str], count: int) -> list[int]:
    """Returns the first `count` rows, those first that show a subject for the first time."""
    first = sorted({subject: i for i, subject in reversed(list(enumerate(subjects)))}.values())
    return [*first, *(i for i in range(len(subjects)) if i not in set(first))][:count]
