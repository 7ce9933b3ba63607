"""Are the codes of a picture likelier with its own words than with one of them turned round?"""

import dataclasses

import numpy as np

from gen_jax.data.text import art_attributes, art_words
from gen_jax.evaluation.base import Data, Evaluator, Predictor, Reads, Result, held_out
from gen_jax.metrics.interval import of_mean

_WORDS = 3  # of a picture's caption, the surest


@dataclasses.dataclass(frozen=True)
class WordMargins(Evaluator):
    """Likelihoods of held-out pictures with true captions and with the surest word's opposite.

    Both are of the same hidden codes. A model that hears nothing is right half the time.

    Attributes:
      split: the split to read.
      count: pictures at most.
      batch_size: pictures at once.
    """

    split: str = "val"
    count: int = 256
    batch_size: int = 32

    def reads(self) -> tuple[Reads, ...]:
        return (Reads(self.split, self.count, is_optional=True),)

    def __call__(self, predict: Predictor, data: Data) -> Result:
        """Metrics `swapped_margin`, by how many nats a code the true caption is better, with its
        interval, and `swapped_accuracy`, the share of pictures for which it is.
        """
        batch, warnings = held_out(data, self.split, self.count)
        pairs = [_captions(image) for image in batch["image"]]
        rows = [i for i, pair in enumerate(pairs) if pair is not None]
        if not rows:
            return Result({}, warnings=warnings)
        nll = []
        for side in (0, 1):
            asked = data.tokenize([pairs[i][side] for i in rows])
            found = {"image": batch["image"][rows], **asked}
            nll.append(predict.batched("score", found, self.batch_size)["nll"])
        margin = nll[1] - nll[0]
        metrics = of_mean(margin).named("swapped_margin")
        metrics["swapped_accuracy"] = float(np.mean((margin > 0) + 0.5 * (margin == 0)))
        return Result(metrics, warnings=warnings)


def _captions(image: np.ndarray) -> tuple[str, str] | None:
    """What is true of a picture, and the same with the surest word's opposite; None if nothing is
    sure.
    """
    names = list(art_words.suggest(art_attributes.measure(image)))[:_WORDS]
    if not names:
        return None
    first, *rest = names
    opposite = art_words.load().adjectives[first].opposite
    return ", ".join(names), ", ".join([opposite, *(n for n in rest if n != opposite)])
