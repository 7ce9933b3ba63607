"""Whether generated images show what their prompts say, judged by a probe on real images."""

import dataclasses

import numpy as np

from gen_jax.common import pictures
from gen_jax.common.errors import UserError
from gen_jax.evaluation.base import Data, Predictor, Result
from gen_jax.evaluation.untrained import random_features
from gen_jax.metrics import frechet, kid
from gen_jax.metrics import probe as probe_lib


def probe_features(images: np.ndarray) -> np.ndarray:
    """What the probe sees of uint8 images `[n, h, w, 3]`: random features and 8x8 colours."""
    side = images.shape[1] // 8
    unit = images.astype(np.float32) / 255.0
    small = unit[:, : 8 * side, : 8 * side]
    small = small.reshape(len(images), 8, side, 8, side, 3).mean((2, 4)).reshape(len(images), -1)
    return np.concatenate([random_features(unit), small], axis=1)


@dataclasses.dataclass(frozen=True)
class PromptAccuracy:
    """Share of samples that a linear probe, fitted to real crops, names as their prompt's class.

    The control hands the same samples shuffled prompts: it must stay near chance, or the probe
    (not the text) explains the score.

    Attributes:
      count: samples; prompts go through the classes in turn.
      train_count: real crops that the probe is fitted to.
      val_count: held-out real crops that it is tested on, and that `fd` compares with.
      batch_size: samples at once.
      shown: samples in the picture.
      seed: of the choice of captions and of the shuffling.
    """

    count: int = 128
    train_count: int = 2048
    val_count: int = 512
    batch_size: int = 64
    shown: int = 36
    seed: int = 0

    def __call__(self, predict: Predictor, data: Data) -> Result:
        """Metrics `prompt_accuracy`, `prompt_accuracy_shuffled`, `probe_accuracy`, `fd`, `kid`."""
        if not data.captions:
            raise UserError(
                f"config.evaluators: 'prompt_accuracy' needs data with labels and captions, "
                f"which {data.source!r} does not have"
            )
        train, val = data.read("train", self.train_count), data.read("val", self.val_count)
        probe = probe_lib.fit_linear_probe(probe_features(train["image"]), train["label"])
        real = probe_features(val["image"])

        rng = np.random.default_rng(self.seed)
        classes = sorted(data.captions)
        labels = np.array([classes[i % len(classes)] for i in range(self.count)])
        prompts = [str(rng.choice(data.captions[label])) for label in labels]
        out = predict.batched("generate", data.tokenize(prompts), self.batch_size)["image"]
        fake = probe_features(out)
        named = np.asarray(probe(fake).label)
        shuffled = rng.permutation(labels)
        metrics = {
            "prompt_accuracy": float(np.mean(named == labels)),
            "prompt_accuracy_shuffled": float(np.mean(named == shuffled)),
            "prompt_chance": 1.0 / len(classes),
            "probe_accuracy": float(np.mean(np.asarray(probe(real).label) == val["label"])),
            "fd": float(frechet.frechet(real, fake)),
            "kid": float(kid.kernel_distance(real, fake).value),
        }
        # In steps through the classes, so that the picture shows many of them.
        chosen = np.arange(min(self.shown, self.count))
        sheet = pictures.grid(out[chosen], [prompts[i] for i in chosen])
        return Result(metrics, {"prompts": sheet})
