"""What a model draws or gives back, by image metrics over frozen encoders."""

import dataclasses

from gen_jax.common.errors import UserError
from gen_jax.evaluation import image_metrics
from gen_jax.evaluation.base import (
    Data,
    Evaluator,
    Predictor,
    Reads,
    Result,
    SplitData,
    generated,
)
from gen_jax.evaluation.comparison import Comparison, Encoders
from gen_jax.evaluation.image_sets import ArrayImages


@dataclasses.dataclass(frozen=True)
class ImageQuality(Evaluator):
    """Metrics of `image_metrics` between held-out images and what the model makes.

    Attributes:
      metrics: names, such as ("fid", "kid", "lpips").
      encoder: "NAME[:WEIGHTS]", or several; each metric takes those that it has a use for.
      predict_fn: "generate" for images from the first caption of each held-out image, "reconstruct"
        for their reconstructions, or "" for the first of them that the task has.
      split: the split to read.
      count: images at most.
      batch_size: images at once.
    """

    metrics: tuple[str, ...] = ("fd",)
    encoder: str | tuple[str, ...] = ()
    predict_fn: str = ""
    split: str = "val"
    count: int = 1024
    batch_size: int = 64

    def reads(self) -> tuple[Reads, ...]:
        return (Reads(self.split, self.count),)

    def encoders(self) -> tuple[str, ...]:
        return (self.encoder,) if isinstance(self.encoder, str) else self.encoder

    def check(self, data: SplitData) -> None:
        image_metrics.check_names(self.metrics)
        Encoders.sorted_from(self.encoder)

    def __call__(self, predict: Predictor, data: Data) -> Result:
        """The metrics that are named, with notes; no picture."""
        encoders, known = Encoders.sorted_from(self.encoder), predict.task.predict_fns()
        of = self.predict_fn or next((n for n in ("generate", "reconstruct") if n in known), "")
        if of not in ("generate", "reconstruct"):
            raise UserError(
                f"config.evaluators.image_quality.predict_fn={self.predict_fn!r}: expected "
                "'generate' or 'reconstruct', of a model that has it; this one has "
                f"{', '.join(known)}"
            )
        batch = data.read(self.split, self.count)
        images, texts = batch["image"], None
        if of == "generate":
            made, texts = generated(predict, data, self.split, batch, self.batch_size)
        else:
            made = predict.batched(of, {"image": images}, self.batch_size)["image"]
        what = Comparison(
            ArrayImages(images), ArrayImages(made), encoders, of == "reconstruct", texts
        )
        found = image_metrics.measure(self.metrics, what)
        return Result(found.metrics, notes=found.notes)
