"""Photographs, saturated wallpapers, captions, pages and clip art as one folder for `prepare`.

    python -m benchmarks.restoration_data --photos=../shared/data/bsds432_train_color.zip \
        --wallpapers=wallpapers --archive=../shared/data/captioned_cutouts.zip \
        --out=data/restoration_images
    python -m gen_jax.prepare --source=data/restoration_images --out=data/restoration \
        --test_fraction=0 --val_fraction=0.04

The packaged restorer is finished on this folder. Photographs alone teach a restorer that
saturated texture, sharp text and flat areas are noise. Wallpapers are free images of any size
(Debian: plasma-workspace-wallpapers, gnome-backgrounds, mate-backgrounds, lomiri-wallpapers), of
which crops at a half and at a quarter of their size are taken, without the noise and the
compression of the file.
"""

import argparse
import pathlib
import zipfile
from collections.abc import Iterator

import numpy as np
from PIL import Image

from benchmarks import rendered_pages
from benchmarks.cutout_data import on_white
from gen_jax.common import image_folder

_CROP = (480, 320)
_SEED = 0


def photographs(archive: pathlib.Path) -> Iterator[tuple[str, bytes]]:
    """Yields (name, encoded file) of each image in an archive."""
    with zipfile.ZipFile(archive) as file:
        for name in sorted(file.namelist()):
            if name.lower().endswith((".jpg", ".jpeg", ".png")):
                yield name.replace("/", "_"), file.read(name)


def wallpaper_crops(
    folder: pathlib.Path, per_image: int, rng: np.random.Generator
) -> Iterator[Image.Image]:
    """Yields crops of reduced wallpapers that are not nearly flat."""
    for path in image_folder.scan(folder).paths:
        with Image.open(path) as opened:
            image = opened.convert("RGB")
        if min(image.size) < 720:
            continue
        for k in range(per_image):
            factor = max(2, round(min(image.size) / (1080, 540)[k % 2]))
            small = image.reduce(factor)
            width, height = (min(a, b) for a, b in zip(_CROP, small.size))
            for _ in range(8):  # an area with something in it
                left = int(rng.integers(small.width - width + 1))
                top = int(rng.integers(small.height - height + 1))
                crop = small.crop((left, top, left + width, top + height))
                if np.asarray(crop.convert("L"), np.float32).std() > 12:
                    break
            yield crop


def sheets(archive: pathlib.Path, count: int, rng: np.random.Generator) -> Iterator[Image.Image]:
    """Yields sheets of clip art on a plain background."""
    with zipfile.ZipFile(archive) as file:
        names = sorted(n for n in file.namelist() if n.startswith("clipart96/"))
        for _ in range(count):
            sheet = Image.new("RGB", _CROP, "white")
            for top in range(0, _CROP[1], 96):
                for left in range(0, _CROP[0], 96):
                    sheet.paste(on_white(file.read(names[rng.integers(len(names))])), (left, top))
            yield sheet


def main() -> None:
    """Writes the folder."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--photos", type=pathlib.Path, required=True, help="archive of photographs")
    parser.add_argument("--wallpapers", type=pathlib.Path, required=True, help="folder of images")
    parser.add_argument("--archive", type=pathlib.Path, required=True, help="clip art")
    parser.add_argument("--out", type=pathlib.Path, required=True)
    parser.add_argument("--crops", type=int, default=2, help="crops per wallpaper")
    parser.add_argument("--captioned", type=int, default=50, help="photographs with captions")
    parser.add_argument("--pages", type=int, default=80, help="screenshots and documents")
    parser.add_argument("--sheets", type=int, default=15, help="sheets of clip art")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(_SEED)
    photos = list(photographs(args.photos))
    for name, encoded in photos:
        (args.out / name).write_bytes(encoded)
    chosen = rng.choice(len(photos), args.captioned, replace=False)
    names = [photos[i][0] for i in chosen]
    kinds = {
        "captioned": (rendered_pages.caption(Image.open(args.out / n), rng) for n in names),
        "wallpaper": wallpaper_crops(args.wallpapers, args.crops, rng),
        "page": (rendered_pages.page(rng, _CROP) for _ in range(args.pages)),
        "clip_art": sheets(args.archive, args.sheets, rng),
    }
    print(f"{args.out}: {len(photos)} photographs")
    for kind, images in kinds.items():
        count = 0
        for count, image in enumerate(images, 1):
            image.save(args.out / f"{kind}_{count:03d}.png")
        print(f"{args.out}: {count} of the kind {kind}")


if __name__ == "__main__":
    main()
