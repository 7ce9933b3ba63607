"""Whether generated scenes of the procedural world are what their prompts state."""

import dataclasses

import numpy as np

from gen_jax.common import pictures
from gen_jax.common.errors import UserError
from gen_jax.data.sources import shapes
from gen_jax.evaluation.base import Data, Predictor, Result


@dataclasses.dataclass(frozen=True)
class ShapesAccuracy:
    """Reads colour, shape and more back from pixels and compares with the prompt's facts.

    Attributes:
      count: samples of single objects, which the headline is about.
      others: samples each of groups and relations, and of pairs that training never showed.
      batch_size: samples at once.
      shown: samples in the picture.
      seed: of the prompts.
    """

    count: int = 256
    others: int = 128
    batch_size: int = 64
    shown: int = 36
    seed: int = 0

    def __call__(self, predict: Predictor, data: Data) -> Result:
        """Metrics, each a share of samples.

        `color_accuracy`, `shape_accuracy`, `pair_accuracy` and `size_`, `position_`,
        `background_accuracy` where stated; the same after `multi_` for several objects and
        `heldout_` for unseen pairs; `prompt_accuracy_shuffled` is `pair_accuracy` under shuffled
        prompts; `reader_accuracy` is that of the reader on real scenes.
        """
        if data.source != "shapes":
            raise UserError(
                "config.evaluators: 'shapes_accuracy' needs the data source 'shapes', this is "
                f"{data.source!r}"
            )
        single = shapes.prompts(self.count, self.seed, kinds=("single",))
        multi = shapes.prompts(self.others, self.seed + 1, kinds=("group", "relation"))
        unseen = shapes.prompts(self.others, self.seed + 2, heldout=True, kinds=("single",))
        wanted = [*single, *multi, *unseen]
        tokens = data.tokenize([p.text for p in wanted])
        images = predict.batched("generate", tokens, self.batch_size)["image"]
        readings = [shapes.read_scene(image) for image in images]

        first, second = len(single), len(single) + len(multi)
        metrics = _accuracies("", single, readings[:first])
        metrics |= _accuracies("multi_", multi, readings[first:second])
        metrics |= _accuracies("heldout_", unseen, readings[second:])
        shuffled = np.random.default_rng(self.seed).permutation(len(single))
        control = _accuracies("", [single[i] for i in shuffled], readings[:first])
        metrics["prompt_accuracy"] = metrics["pair_accuracy"]
        metrics["prompt_accuracy_shuffled"] = control["pair_accuracy"]
        metrics["color_accuracy_shuffled"] = control["color_accuracy"]
        metrics["shape_accuracy_shuffled"] = control["shape_accuracy"]
        metrics["reader_accuracy"] = self._reader_accuracy(data)
        shown = np.linspace(0, len(wanted) - 1, min(self.shown, len(wanted))).astype(int)
        sheet = pictures.grid(images[shown], [wanted[i].text for i in shown])
        return Result(metrics, {"prompts": sheet})

    def _reader_accuracy(self, data: Data) -> float:
        """Share of real single objects that the reader gets right, colour and shape."""
        batch = data.read("val", self.count)
        records = data.records("val", batch["index"])
        right = []
        for image, record in zip(batch["image"], records):
            scene = record.attributes
            if scene["kind"] == "single":
                facts = {"objects": [{k: scene["objects"][0][k] for k in ("shape", "color")}]}
                right.append(shapes.score(facts, shapes.read_scene(image))["pair"])
        return float(np.mean(right)) if right else float("nan")


def _accuracies(prefix: str, prompts, readings) -> dict[str, float]:
    """Share of right answers by kind of fact, over the prompts that state it."""
    found: dict[str, list[bool]] = {}
    for prompt, reading in zip(prompts, readings, strict=True):
        for name, right in shapes.score(prompt.facts, reading).items():
            found.setdefault(name, []).append(right)
    return {f"{prefix}{name}_accuracy": float(np.mean(v)) for name, v in found.items()}
