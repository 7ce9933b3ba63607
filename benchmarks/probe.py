"""What an encoder's features know of labels that it never saw.

    python -m benchmarks.probe --archives=../shared/data
    python -m benchmarks.probe --archives=../shared/data --encoder=dinov2-small --size=224

Three sets of labels: the topmost category of the 1800 pieces of clip art (those with at least 30
pieces, "unsorted" left out: 1634 in 10 categories), and of the 1200 faces of faces256.csv glasses
(300 of 1200) and the gender that the first name suggests (317 female, 762 male, the rest unknown).
Every picture enters at 64x64 pixels, clip art on white.

Five folds, fixed by a seed: stratified for clip art; a person's pictures stay in one fold. Each
fold is told from the other four. Everything is balanced accuracy over the pooled folds, so that
chance is one over the number of classes. Classifiers: the 20 nearest neighbours of DINO (cosine of
centred features, votes weighted by exp(s / 0.07)), the same with votes divided by the size of the
class, and a ridge probe in which every class weighs the same. Features of a tower: all its patch
tokens in a row, place by place as raw pixels are, and its class token beside the mean of its
patches. They compete with the same tower untrained, with histograms of gradients and with raw
pixels.
"""

import argparse
import collections
import csv
import dataclasses
import io
import pathlib
import zipfile

import numpy as np
from PIL import Image

from benchmarks.encoder_data import person
from gen_jax.common import pixels, strict_json

SIZE, FOLDS, MINIMUM = 64, 5, 30
CLASSIFIERS = ("knn", "knn, balanced votes", "linear")


@dataclasses.dataclass(frozen=True, eq=False)
class Labelled:
    """Pictures with labels.

    Attributes:
      images: uint8 [n, 64, 64, 3].
      labels: [n], from 0 on.
      folds: [n], which of the folds a picture is in.
    """

    images: np.ndarray
    labels: np.ndarray
    folds: np.ndarray


def clipart(archives: pathlib.Path) -> Labelled:
    """Clip art by topmost category."""
    with zipfile.ZipFile(archives / "captioned_cutouts.zip") as file:
        rows = [
            strict_json.loads(line) for line in file.read("captions.jsonl").decode().splitlines()
        ]
        rows = [r for r in rows if r["file"].startswith("clipart96/") and r["tags"]]
        sizes = collections.Counter(r["tags"][0] for r in rows)
        rows = [r for r in rows if sizes[r["tags"][0]] >= MINIMUM and r["tags"][0] != "unsorted"]
        images = np.stack([_read(file.read(r["file"])) for r in rows])
    _, labels = np.unique([r["tags"][0] for r in rows], return_inverse=True)
    folds = np.zeros(len(labels), int)
    rng = np.random.default_rng(0)
    for label in np.unique(labels):
        members = rng.permutation(np.flatnonzero(labels == label))
        folds[members] = np.arange(len(members)) % FOLDS
    return Labelled(images, labels, folds)


def faces(archives: pathlib.Path) -> dict[str, Labelled]:
    """Faces by glasses and by gender."""
    with zipfile.ZipFile(archives / "faces.zip") as file:
        rows = list(csv.DictReader(io.StringIO(file.read("faces256.csv").decode())))
        images = np.stack([_read(file.read(f"faces256/{r['file']}")) for r in rows])
    people, who = np.unique([person(r["file"]) for r in rows], return_inverse=True)
    folds = (np.random.default_rng(0).permutation(len(people)) % FOLDS)[who]
    glasses = np.array([r["glasses_weak"] == "yes" for r in rows]).astype(int)
    gender = np.array([("male", "female", "unknown").index(r["gender_by_name"]) for r in rows])
    known = gender < 2
    return {
        "glasses": Labelled(images, glasses, folds),
        "gender": Labelled(images[known], gender[known], folds[known]),
    }


def _read(data: bytes) -> np.ndarray:
    image = Image.open(io.BytesIO(data)).convert("RGBA")
    white = Image.new("RGBA", image.size, "white")
    white.alpha_composite(image)
    return np.asarray(white.convert("RGB").resize((SIZE, SIZE), Image.Resampling.LANCZOS))


def accuracies(features: np.ndarray, data: Labelled) -> dict[str, float]:
    """Balanced accuracy of each classifier."""
    from gen_jax.metrics.knn import knn_votes
    from gen_jax.metrics.probe import fit_linear_probe

    return {
        "knn": neighbours(features, data),
        "knn, balanced votes": _pooled(
            lambda x, y, queries: knn_votes(x, y, queries, balanced=True).argmax(1), features, data
        ),
        "linear": _pooled(
            lambda x, y, queries: fit_linear_probe(x, y, balanced=True)(queries).label,
            features,
            data,
        ),
    }


def neighbours(features: np.ndarray, data: Labelled) -> float:
    """Balanced accuracy of DINO's nearest neighbours."""
    from gen_jax.metrics.knn import knn_votes

    return _pooled(lambda x, y, queries: knn_votes(x, y, queries).argmax(1), features, data)


def _pooled(classify, features, data):
    from gen_jax.metrics.knn import balanced_accuracy

    said = np.zeros(len(data.labels), int)
    for fold in range(FOLDS):
        test = data.folds == fold
        said[test] = classify(features[~test], data.labels[~test], features[test])
    return balanced_accuracy(data.labels, said)


def tower_tokens(module, params, size: int):
    """A function from uint8 pictures to `cls` [n, c] and `patches` [n, rows, columns, c]."""
    import jax
    import jax.numpy as jnp

    from gen_jax.encoders.dinov2 import MEAN, STD

    @jax.jit
    def encode(params, images):
        x = pixels.to_unit(images)
        x = jax.image.resize(x, (len(x), size, size, 3), "bicubic")
        mean, std = (jnp.asarray(v)[None, None, None] for v in (MEAN, STD))
        out = module.apply({"params": params}, (x - mean) / std)
        return {"cls": out["cls"], "patches": out["patches"]}

    def tokens(images):
        parts = [encode(params, images[i : i + 128]) for i in range(0, len(images), 128)]
        return {k: np.concatenate([np.asarray(p[k]) for p in parts]) for k in parts[0]}

    return tokens


FORMS = {
    "patches": lambda t: t["patches"].reshape(len(t["patches"]), -1),
    "class and mean": lambda t: np.concatenate([t["cls"], t["patches"].mean((1, 2))], axis=-1),
}


def contestants(name: str, weights: str | None, size: int):
    """Name -> a function from pictures to features, one for each form of a tower's."""
    import jax

    from gen_jax import encoders
    from gen_jax.tasks import towers

    module, params = encoders.load(name, weights)
    untrained = towers.first_parameters(module, jax.random.key(0))  # as the recipe starts
    found = {}
    for who, values in ((name, params), ("untrained", untrained)):
        tokens = tower_tokens(module, values, size)
        for form, shaped in FORMS.items():
            found[f"{who}, {form}"] = lambda images, f=shaped, t=tokens: f(t(images))
    return found | {"gradients": _gradients, "raw pixels": _raw_pixels}


def _raw_pixels(images):
    return pixels.to_unit(images.reshape(len(images), -1))


def _gradients(images):
    """Histograms of gradients in cells of 8 pixels: what `dino_tiny` learnt to tell, and more."""
    from gen_jax.losses.hog import hog

    parts = [hog(pixels.to_unit(images[i : i + 200]), 8) for i in range(0, len(images), 200)]
    return np.concatenate([np.asarray(p).reshape(len(p), -1) for p in parts])


def measure(archives: pathlib.Path, given) -> dict[str, dict[str, dict[str, float]]]:
    """Labels -> contestant -> classifier -> balanced accuracy."""
    sets = {"clip art": clipart(archives), **faces(archives)}
    return {
        labels: {name: accuracies(fn(data.images), data) for name, fn in given.items()}
        for labels, data in sets.items()
    }


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--archives", type=pathlib.Path, required=True, help="folder of the zips")
    parser.add_argument("--encoder", default="dino_tiny", help="a DINOv2 of gen_jax.encoders")
    parser.add_argument("--weights", default=None, help="as encoders.load takes them")
    parser.add_argument("--size", type=int, default=SIZE, help="pixels that the tower sees")
    parser.add_argument("--out", type=pathlib.Path, default=None, help="JSON file for the numbers")
    args = parser.parse_args()
    from gen_jax.parallel import compilation

    compilation.set_up()
    found = measure(args.archives, contestants(args.encoder, args.weights, args.size))
    print(f"{'balanced accuracy':44}" + "".join(f"{name:>21}" for name in CLASSIFIERS))
    for labels, rows in found.items():
        for name, values in rows.items():
            cells = "".join(f"{values[c]:21.3f}" for c in CLASSIFIERS)
            print(f"{labels:12}{name:32}{cells}")
    if args.out:
        args.out.write_text(strict_json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
