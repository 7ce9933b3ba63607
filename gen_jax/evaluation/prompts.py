"""Whether generated images show what their prompts say, judged by a probe on real images."""

import dataclasses

import numpy as np

from gen_jax.common import pictures, pixels
from gen_jax.common.errors import UserError
from gen_jax.evaluation import controls
from gen_jax.evaluation.base import Data, Evaluator, Predictor, Reads, Result, SplitData
from gen_jax.evaluation.untrained import random_features
from gen_jax.metrics import frechet, kid
from gen_jax.metrics import probe as probe_lib


def probe_features(images: np.ndarray) -> np.ndarray:
    """What the probe sees of uint8 images `[n, h, w, 3]`: random features and 8x8 colours."""
    side = images.shape[1] // 8
    unit = pixels.to_unit(images)
    small = unit[:, : 8 * side, : 8 * side]
    small = small.reshape(len(images), 8, side, 8, side, 3).mean((2, 4)).reshape(len(images), -1)
    return np.concatenate([random_features(unit), small], axis=1)


@dataclasses.dataclass(frozen=True)
class PromptAccuracy(Evaluator):
    """Share of samples that a linear probe, fitted to real crops, names as their prompt's class.

    `probe_accuracy` tells how far the probe can be trusted, `prompt_accuracy_shuffled` and
    `prompt_accuracy_empty` whether it is the text that the score comes from (`controls`).

    Attributes:
      count: Number of samples; prompts go through the classes in turn.
      train_count: Number of real crops that the probe is fitted to.
      val_count: Number of held-out real crops that it is tested on and that distances compare with.
      batch_size: Number of samples generated at once.
      shown: Number of samples in the picture.
      seed: Seed of the choice of captions and of the shuffled prompts.
      controls: Number of samples of each control, the first ones generated again.
    """

    count: int = 128
    train_count: int = 2048
    val_count: int = 512
    batch_size: int = 64
    shown: int = 36
    seed: int = 0
    controls: int = 64

    def reads(self) -> tuple[Reads, ...]:
        # Distances between sets need two images on each side.
        return (Reads("train", self.train_count, least=2), Reads("val", self.val_count, least=2))

    def check(self, data: SplitData) -> None:
        captioned = data.num_records("val") - data.num_without_caption("val")
        if not (data.label_names and captioned):
            raise UserError(
                f"needs data with labels and captions in split 'val', which {data.source!r} does "
                "not have"
            )

    def __call__(self, predict: Predictor, data: Data) -> Result:
        """Returns `prompt_accuracy` with its controls `prompt_accuracy_shuffled` and
        `prompt_accuracy_empty`, `prompt_chance`, `probe_accuracy`, `fd_untrained` and
        `kid_untrained`.
        """
        train, val = data.read("train", self.train_count), data.read("val", self.val_count)
        probe = probe_lib.fit_linear_probe(probe_features(train["image"]), train["label"])
        real = probe_features(val["image"])

        rng = np.random.default_rng(self.seed)
        classes = sorted(data.captions)
        labels = np.array([classes[i % len(classes)] for i in range(self.count)])
        prompts = [str(rng.choice(data.captions[label])) for label in labels]
        batch = data.tokenize(prompts)
        images = predict.batched("generate", batch, self.batch_size)["image"]
        fake = probe_features(images)
        metrics = {
            "prompt_accuracy": _share(probe(fake).label, labels),
            "prompt_chance": 1.0 / len(classes),
            "probe_accuracy": _share(probe(real).label, val["label"]),
            "fd_untrained": float(frechet.frechet(real, fake)),
            "kid_untrained": float(kid.kernel_distance(real, fake).value),
        }
        notes = {}
        rows = np.arange(min(self.controls, self.count))
        others = controls.generate(
            predict, data, batch, labels, rows, self.batch_size, seed=self.seed
        )
        for control, samples in others.items():
            name = f"prompt_accuracy_{control}"
            metrics[name] = _share(probe(probe_features(samples)).label, labels[rows])
            notes[name] = controls.NOTES[control]
        # Prompts go through the classes in turn, so that the picture shows many of them.
        shown = prompts[: self.shown]
        sheet = pictures.grid(images[: len(shown)], shown)
        return Result(metrics, {"prompts": sheet}, notes, prompts={"prompts": shown})


def _share(predicted, labels) -> float:
    """Returns the share of rows with the right label."""
    return float(np.mean(np.asarray(predicted) == labels))
