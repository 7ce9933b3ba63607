"""The pictures that `configs/encoder.py` learns from, as a folder of PNG files.

    python -m benchmarks.encoder_data --archives=../shared/data --out=data/encoder_pictures
    python -m gen_jax.prepare --source=data/encoder_pictures --out=data/encoder

Photographs (BSDS500 less CBSD68, wallpapers and paintings, PolyU's clean pictures, scikit-image's)
are cut into squares of their short side and of half of it; faces (LFW, CelebA-HQ's references)
stay whole; 1500 drawn scenes (`shapes`) are added. Whoever is on a picture of `benchmarks.probe` is
on none of these: all pictures of the 992 people in faces256.csv are left out, and nothing of
captioned_cutouts.zip is read.
"""

import argparse
import csv
import io
import pathlib
import zipfile
from collections.abc import Iterator

import numpy as np
from PIL import Image

SIZE = 96  # pixels a side; the recipe's views are smaller
SCENES = 1500  # of the procedural world: flat colours and firm outlines
PHOTOGRAPHS = {
    "bsds432_train_color.zip": lambda name: name.endswith(".jpg"),
    "art_abstract.zip": lambda name: name.endswith((".jpg", ".png")),
    "real_noise.zip": lambda name: name.startswith("PolyU") and "_mean" in name,
}


def person(file: str) -> str:
    """Who is on LFW's picture NAME_0001.jpg."""
    return pathlib.PurePath(file).stem.rpartition("_")[0]


def squares(image: Image.Image) -> Iterator[Image.Image]:
    """Squares of the short side and of half of it that cover the picture."""
    short = min(image.size)
    for side in (short, short // 2):
        lefts, tops = (_starts(length, side) for length in image.size)
        for top in tops:
            for left in lefts:
                yield image.crop((left, top, left + side, top + side))


def _starts(length: int, side: int) -> list[int]:
    """Where squares of `side` begin: in the middle where there is one, else from end to end."""
    number = max(1, round(length / side))
    at = np.linspace(0, 1, number) if number > 1 else [0.5]
    return [int(share * (length - side)) for share in at]


def pictures(archives: pathlib.Path) -> Iterator[tuple[str, Image.Image]]:
    """(name, picture) of all of them."""
    from gen_jax.data.prepare.sources import photos
    from gen_jax.data.prepare.sources.photo_list import PHOTOS
    from gen_jax.data.prepare.sources.shapes import ShapesSource

    for archive, wanted in PHOTOGRAPHS.items():
        with zipfile.ZipFile(archives / archive) as file:
            for name in filter(wanted, sorted(file.namelist())):
                yield from _cut(name, Image.open(io.BytesIO(file.read(name))).convert("RGB"))
    for photo in PHOTOS:
        yield from _cut(f"photos/{photo.file}", Image.fromarray(photos.load(photo.file)))
    scenes = ShapesSource(num=SCENES, size=SIZE)
    for index in range(len(scenes)):
        yield f"shapes/{index:04d}", Image.fromarray(scenes.read(index).pixels)
    with zipfile.ZipFile(archives / "faces.zip") as file:
        rows = csv.DictReader(io.StringIO(file.read("faces256.csv").decode()))
        probed = {person(row["file"]) for row in rows}
        for name in sorted(n for n in file.namelist() if n.startswith("celebahq_rgb")):
            yield name, Image.open(io.BytesIO(file.read(name))).convert("RGB")
        small = np.load(io.BytesIO(file.read("faces64.npz")))
        for name, pixels in zip(small["name"], small["images"]):
            if person(str(name)) not in probed:
                yield f"faces64/{name}", Image.fromarray(pixels).convert("RGB")


def _cut(name: str, image: Image.Image) -> Iterator[tuple[str, Image.Image]]:
    for index, square in enumerate(squares(image)):
        yield f"{name}_{index}", square


def main() -> None:
    """Writes the folder."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--archives", type=pathlib.Path, required=True, help="folder of the zips")
    parser.add_argument("--out", type=pathlib.Path, required=True, help="folder to write")
    args = parser.parse_args()
    count = 0
    for name, image in pictures(args.archives):
        path = args.out / pathlib.PurePath(name).parent / f"{pathlib.PurePath(name).name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        image.resize((SIZE, SIZE), Image.Resampling.LANCZOS).save(path)
        count += 1
    print(f"wrote {count} pictures of {SIZE}x{SIZE} to {args.out}")


if __name__ == "__main__":
    main()
