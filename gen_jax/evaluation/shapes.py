"""Whether generated scenes of the procedural world are what their prompts state."""

import dataclasses

import numpy as np

from gen_jax.common import pictures
from gen_jax.common.errors import UserError
from gen_jax.data.prepare.sources import shapes
from gen_jax.evaluation import controls
from gen_jax.evaluation.base import Data, Evaluator, Predictor, Reads, Result, SplitData


@dataclasses.dataclass(frozen=True)
class ShapesAccuracy(Evaluator):
    """Reads color, shape and more back from pixels and compares with the prompt's facts.

    `reader_accuracy` tells how far the reader can be trusted, the controls whether it is the text
    that the scores come from (`controls`).

    Attributes:
      count: Number of samples of single objects, which the headline is about.
      others: Number of samples each of groups and relations, and of pairs that training never
        showed.
      batch_size: Number of samples generated at once.
      shown: Number of samples in the picture.
      seed: Seed of the prompts and of the shuffled ones.
      controls: Number of single objects of each control, the first ones generated again.
    """

    count: int = 256
    others: int = 128
    batch_size: int = 64
    shown: int = 36
    seed: int = 0
    controls: int = 64

    def reads(self) -> tuple[Reads, ...]:
        return (Reads("val", self.count),)

    def check(self, data: SplitData) -> None:
        if data.source != "shapes":
            raise UserError(f"needs the data source 'shapes', this is {data.source!r}")

    def __call__(self, predict: Predictor, data: Data) -> Result:
        """Returns shares of samples.

        `color_accuracy`, `shape_accuracy`, `pair_accuracy` and, of the prompts that state it,
        `size_`, `position_` and `background_accuracy`; the same after `multi_` for several objects
        and `heldout_` for unseen pairs. `prompt_accuracy` is `pair_accuracy`; it, `color_accuracy`
        and `shape_accuracy` have the controls `_shuffled` (color and shape both change) and
        `_empty`, and `prompt_chance`, `color_chance` and `shape_chance`. `reader_accuracy` is that
        of the reader on real scenes.
        """
        single = shapes.prompts(self.count, self.seed, kinds=("single",))
        multi = shapes.prompts(self.others, self.seed + 1, kinds=("group", "relation"))
        unseen = shapes.prompts(self.others, self.seed + 2, heldout=True, kinds=("single",))
        wanted = [*single, *multi, *unseen]
        batch = data.tokenize([p.text for p in wanted])
        images = predict.batched("generate", batch, self.batch_size)["image"]
        readings = [shapes.read_scene(image) for image in images]

        first, second = len(single), len(single) + len(multi)
        metrics = _accuracies("", single, readings[:first])
        metrics |= _accuracies("multi_", multi, readings[first:second])
        metrics |= _accuracies("heldout_", unseen, readings[second:])
        metrics["prompt_accuracy"] = metrics["pair_accuracy"]
        metrics["prompt_chance"] = 1.0 / len(shapes.TRAIN_PAIRS)
        metrics["color_chance"] = 1.0 / len(shapes.COLORS)
        metrics["shape_chance"] = 1.0 / len(shapes.SHAPES)
        notes = {}
        rows = np.arange(min(self.controls, len(single)))
        facts = np.array([(o["color"], o["shape"]) for p in wanted for o in p.facts["objects"][:1]])
        others = controls.generate(
            predict, data, batch, facts, rows, self.batch_size, seed=self.seed
        )
        for control, samples in others.items():
            again = [shapes.read_scene(image) for image in samples]
            found = _accuracies("", single[: len(rows)], again)
            for name, of in (("prompt", "pair"), ("color", "color"), ("shape", "shape")):
                metrics[f"{name}_accuracy_{control}"] = found[f"{of}_accuracy"]
                notes[f"{name}_accuracy_{control}"] = controls.NOTES[control]
        metrics["reader_accuracy"] = self._reader_accuracy(data)
        shown = np.linspace(0, len(wanted) - 1, min(self.shown, len(wanted))).astype(int)
        texts = [wanted[i].text for i in shown]
        sheet = pictures.grid(images[shown], texts)
        return Result(metrics, {"prompts": sheet}, notes, prompts={"prompts": texts})

    def _reader_accuracy(self, data: Data) -> float:
        """Returns the share of real single objects that the reader gets right, color and shape."""
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
    """Returns the share of right answers by kind of fact, over the prompts that state it."""
    answers: dict[str, list[bool]] = {}
    for prompt, reading in zip(prompts, readings, strict=True):
        for name, right in shapes.score(prompt.facts, reading).items():
            answers.setdefault(name, []).append(right)
    return {f"{prefix}{name}_accuracy": float(np.mean(v)) for name, v in answers.items()}
