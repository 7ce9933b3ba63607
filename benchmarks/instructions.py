"""Does the text do something, does the gate know? A restorer that reads, on a folder of pictures.

    python -m benchmarks.instructions --run=runs/restore_text --images=restore_color.zip:CBSD68

Every picture's middle gets contradictory faults for each kind of request, and is restored under the
matching instruction, none, a wrong one, and one shuffled among all; PSNR is to what the matching
instruction asks for. Then all pictures go through each `--degradation`: errors of the estimator,
and the rank correlation of the gate with the true distance from the clean picture. Last, the clean
pictures under a foreign instruction: how far they drift.
"""

import argparse
import pathlib

import numpy as np

from gen_jax.common import strict_json
from gen_jax.data.text import tokenizer_file


class Pictures:
    """Middles of pictures as a run's data reads them, degraded by `how`: what evaluators ask of."""

    label_names, captions, source, folder = (), {}, "pictures", pathlib.Path()

    def __init__(self, crops, how, tokenizer, max_length: int, repeats: int = 1, seed: int = 0):
        self._crops, self._how, self._repeats, self._seed = crops, how, repeats, seed
        self._tokenizer, self._length = tokenizer, max_length

    def tokenize(self, texts):
        """Tokens and their mask."""
        found = self._tokenizer.encode(texts, self._length)
        return {"tokens": found.ids, "token_mask": found.mask}

    def detokenize(self, tokens):
        """Returns the texts of tokens [n, length]."""
        return [self._tokenizer.decode(ids) for ids in tokens]

    def records(self, split, indices):
        """None: these pictures are no records."""
        return []

    def read(self, split: str, count: int):
        """All of them, each `repeats` times."""
        from gen_jax.data.load import steps

        step, wide = steps.instruct(self._how), steps.to_rgb("image", "degraded")
        made = []
        for index, crop in enumerate(self._crops):
            for again in range(self._repeats):
                rng = np.random.default_rng([self._seed, index, again])
                made.append(wide(step({"image": crop}, rng), rng))
        keys = ("image", "degraded", "degradation", "kind")
        batch = {k: np.stack([m[k] for m in made]) for k in keys}
        return batch | self.tokenize([m["caption"] for m in made])


def middles(spec: str, size: int) -> list[np.ndarray]:
    """The middle square of each picture, of one channel or three."""
    from gen_jax.data.load import steps
    from gen_jax.evaluation.restoration import pictures

    cut = steps.native_crop(size, train=False)
    rng = np.random.default_rng(0)
    return [cut({"image": p.pixels()}, rng)["image"] for p in pictures.listed(spec)]


def measure(args) -> dict:
    """All numbers."""
    from gen_jax.data import degradations
    from gen_jax.data.degradations.instructed import Instructions
    from gen_jax.evaluation import Predictor
    from gen_jax.evaluation.instructed import ASKED, Instructed
    from gen_jax.evaluation.restored_crops import RestoredCrops
    from gen_jax.parallel import compilation
    from gen_jax.parallel.mesh import make_mesh
    from gen_jax.runs import layout, reader

    compilation.set_up()
    model = reader.load(args.run)
    tokenizer = tokenizer_file.load(model.path / layout.TOKENIZER)
    length = model.task.text_encoder.max_length
    predict = Predictor(model.task, model.variables, model.frozen, make_mesh({"fsdp": -1}))
    crops = middles(args.images, args.size)
    found = {}
    how = Instructions(1.0, None, kinds=ASKED)
    asked = Pictures(crops, how, tokenizer, length, repeats=args.repeats)
    found["instructions"] = dict(Instructed(batch_size=8)(predict, asked).metrics)
    for name in args.degradations:
        how = Instructions(0.0, degradations.build(name), prompt_prob=0.0)
        blind = Pictures(crops, how, tokenizer, length)
        found[name] = dict(RestoredCrops(batch_size=8)(predict, blind).metrics)
    found["drift"] = drift(predict, crops, asked)
    return found


def drift(predict, crops, data: Pictures) -> dict[str, float]:
    """PSNR of clean pictures to themselves under instructions that do not apply to them."""
    from gen_jax.data.degradations.base import from_bytes, to_bytes
    from gen_jax.data.text import instructions
    from gen_jax.evaluation.restored_crops import crops_psnr

    crops = [np.broadcast_to(c, (*c.shape[:2], 3)) for c in crops]
    x = np.stack([from_bytes(c) for c in crops])
    told = predict.batched("estimate", {"degraded": x}, 8)["estimate"]
    rng, found = np.random.default_rng(0), {}
    for kind in (*instructions.KINDS, ""):
        texts = [instructions.instruct(kind, {}, rng) if kind else "" for _ in crops]
        given = {"degraded": x, "degradation": told, **data.tokenize(texts)}
        out = predict.batched("restore", given, 8)
        same = crops_psnr(np.stack(crops), to_bytes(out["restored"]))
        found[kind or "empty"] = float(same.mean())
    found["gate"] = float(out["gate"].mean())
    return found


def main() -> None:
    """Measures, prints, writes."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--run", default="package:restore", help="run of configs/restore_text.py")
    parser.add_argument("--images", required=True, help="folder or FILE.zip[:PREFIX]")
    parser.add_argument("--size", type=int, default=192, help="side of the middles, pixels")
    parser.add_argument("--repeats", type=int, default=3, help="requests a picture")
    parser.add_argument(
        "--degradations",
        nargs="*",
        default=("denoise_blind", "dejpeg", "deblur", "photograph"),
        help="presets for the estimator and the gate",
    )
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("instructions.json"))
    args = parser.parse_args()
    found = measure(args)
    for group, values in found.items():
        print(group)
        for name, value in sorted(values.items()):
            print(f"  {name:<28} {value:8.3f}")
    args.out.write_text(strict_json.dumps(found, indent=1) + "\n")
    print(f"wrote {args.out}")


if __name__ == "__main__":
    main()
