"""Whether a restorer follows instructions: the same images under right and other ones."""

import dataclasses

import numpy as np

from gen_jax.data.degradations.base import to_bytes
from gen_jax.data.text import instructions
from gen_jax.evaluation.base import Data, Evaluator, Predictor, Reads, Result
from gen_jax.evaluation.restored_crops import crops_psnr

ASKED = tuple(k for k in instructions.KINDS if k != instructions.KEEP)
"""Kinds that ask for something; to keep a picture is to give it back, which no mean of dB bears."""


@dataclasses.dataclass(frozen=True)
class Instructed(Evaluator):
    """PSNR to what each instruction asks for, under that instruction, none, and wrong ones.

    Reads crops with a prompt whose request is one of `ASKED` and restores each crop once per
    instruction. "wrong" is the opposite request. "shuffled" permutes the prompts of all crops, so
    that some keep a request of their own kind. A restorer that ignores its prompts scores the same
    under all four.

    Attributes:
      split: Split to read.
      count: Number of crops at most, before those with a request are picked.
      batch_size: Number of crops at once.
      seed: Seed of the permutation and of the words of wrong prompts.
    """

    split: str = "val"
    count: int = 256
    batch_size: int = 32
    seed: int = 0

    def reads(self) -> tuple[Reads, ...]:
        return (Reads(self.split, self.count),)

    def __call__(self, predict: Predictor, data: Data) -> Result:
        """Metrics `psnr_matching`, `psnr_empty`, `psnr_wrong`, `psnr_shuffled`, `psnr_degraded`,
        and each but the last for every kind, as `psnr_empty_sharpen`.
        """
        batch = data.read(self.split, self.count)
        kinds = np.asarray([instructions.KINDS[k] for k in batch["kind"]])
        chosen = np.isin(kinds, ASKED) & (batch["token_mask"].sum(1) > 2)
        batch, kinds = {k: v[chosen] for k, v in batch.items()}, kinds[chosen]
        if not len(kinds):
            return Result({}, notes={"psnr_matching": "no request among the crops"})
        rng = np.random.default_rng(self.seed)
        wrong = [instructions.instruct(instructions.OPPOSITE[k], {}, rng) for k in kinds]
        order = rng.permutation(len(kinds))
        matching = {k: batch[k] for k in ("tokens", "token_mask")}
        prompts = {
            "matching": matching,
            "empty": data.tokenize([""] * len(kinds)),
            "wrong": data.tokenize(wrong),
            "shuffled": {k: v[order] for k, v in matching.items()},
        }
        seen = {"degraded": batch["degraded"]}
        told = predict.batched("estimate", seen, self.batch_size)["estimate"]
        metrics = {
            "psnr_degraded": float(crops_psnr(batch["image"], to_bytes(batch["degraded"])).mean())
        }
        for name, tokens in prompts.items():
            given = {**seen, "degradation": told, **tokens}
            restored = predict.batched("restore", given, self.batch_size)["restored"]
            found = crops_psnr(batch["image"], to_bytes(restored))
            metrics[f"psnr_{name}"] = float(found.mean())
            for kind in sorted(set(kinds)):
                metrics[f"psnr_{name}_{kind}"] = float(found[kinds == kind].mean())
        return Result(metrics)
