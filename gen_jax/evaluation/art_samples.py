"""Samples of a prior over codes beside what a VQ-VAE can do at best and at worst."""

import dataclasses

import numpy as np

from gen_jax.common import pictures
from gen_jax.data.text import art_words
from gen_jax.evaluation.base import Data, Evaluator, Predictor, Reads, Result, held_out
from gen_jax.evaluation.judge import features_by
from gen_jax.evaluation.untrained import suffix
from gen_jax.metrics import frechet, kid, prdc, vendi

_LEAST_ROWS = 8  # of which distances between sets are worth a number


@dataclasses.dataclass(frozen=True)
class ArtSamples(Evaluator):
    """Distances of samples to training images, beside those of random codes and of reconstructions.

    One half of the images is what all are compared with; the captions of the other half are the
    prompts, and its images are what is given back: a reconstruction is never compared with the
    image it was made of.

    Attributes:
      count: samples, and images of each half, at most.
      split: of held-out images, whose own distance shows how far two halves of the data can be.
      batch_size: samples at once.
      encoder: whose features are compared, "NAME:WEIGHTS"; "" is an untrained network.
      shown: pictures in the grid.
    """

    count: int = 512
    split: str = "val"
    batch_size: int = 32
    encoder: str = ""
    shown: int = 36

    def reads(self) -> tuple[Reads, ...]:
        return (
            Reads("train", 2 * self.count),
            Reads(self.split, self.count, is_optional=True),
        )

    def encoders(self) -> tuple[str, ...]:
        return (self.encoder,)

    def __call__(self, predict: Predictor, data: Data) -> Result:
        """Metrics `kid` with its interval, `kid_reconstructions`, `kid_random`, `kid_held_out`,
        their quotients `kid_over_random` and `kid_over_reconstructions`, `fd`, `precision`,
        `recall`, `density`, `coverage`, `diversity` (Vendi score; `diversity_real` of the images),
        with `_untrained` after `kid`, `fd` and so on if no encoder is named;
        pictures `samples`, with their prompts, `samples_worst`, those farthest from any training
        image, and `random_codes`.
        """
        both = data.read("train", 2 * self.count)
        count = len(both["image"]) // 2
        if count < _LEAST_ROWS:
            return Result({}, warnings=(f"{count} images: too few to compare samples with",))
        mine = {k: v[:count] for k, v in both.items()}
        real = both["image"][count:]
        seeds = np.arange(count, dtype=np.uint32)
        asked = {"tokens": mine["tokens"], "token_mask": mine["token_mask"], "seed": seeds}
        made = predict.batched("generate", asked, self.batch_size)["image"]
        fd, kd = (f"{name}{suffix(self.encoder)}" for name in ("fd", "kid"))
        found = {
            kd: made,
            f"{kd}_reconstructions": predict.batched(
                "reconstruct", {"image": mine["image"]}, self.batch_size
            )["image"],
            f"{kd}_random": predict.batched("random", {"seed": seeds}, self.batch_size)["image"],
        }
        batch, warnings = held_out(data, self.split, self.count)
        found[f"{kd}_held_out"] = batch["image"]
        target = features_by(self.encoder, predict, real)
        rows = {
            k: features_by(self.encoder, predict, v)
            for k, v in found.items()
            if len(v) >= _LEAST_ROWS
        }
        distances = {k: kid.kernel_distance(target, v) for k, v in rows.items()}
        metrics = distances[kd].named(kd) | {k: d.value for k, d in distances.items()}
        for name in ("random", "reconstructions"):
            metrics[f"{kd}_over_{name}"] = metrics[kd] / max(metrics[f"{kd}_{name}"], 1e-9)
        metrics[fd] = float(frechet.frechet(target, rows[kd]))
        spread = prdc.prdc(target, rows[kd])._asdict()
        metrics |= {f"{k}{suffix(self.encoder)}": v for k, v in spread.items()}
        metrics[f"diversity{suffix(self.encoder)}"] = vendi.vendi_score(rows[kd])
        metrics[f"diversity_real{suffix(self.encoder)}"] = vendi.vendi_score(target)
        far = np.sqrt(prdc.squared_distances(rows[kd], target).min(1))
        worst = np.argsort(-far)[: self.shown // 2]
        shown = min(self.shown, count)
        prompts = _prompts(data, {k: v[:shown] for k, v in mine.items()})
        shown_pictures = {
            "samples": pictures.grid(made[:shown], prompts, columns=6),
            "samples_worst": pictures.grid(
                made[worst], [f"{d:.1f}" for d in far[worst]], columns=6
            ),
            "random_codes": pictures.grid(found[f"{kd}_random"][:shown], columns=6),
        }
        return Result(metrics, shown_pictures, warnings=warnings, prompts={"samples": prompts})


def _prompts(data: Data, batch) -> list[str]:
    """The captions that the loader gave these images."""
    say, rng = art_words.describe(train=False), np.random.default_rng(0)
    records = data.records("train", batch["index"])
    return [
        say({"image": image, "captions": record.captions}, rng)["caption"]
        for image, record in zip(batch["image"], records, strict=True)
    ]
