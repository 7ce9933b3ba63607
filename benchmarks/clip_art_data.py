"""Clip art and pictograms as one captioned folder for `prepare`, a sub-folder per category.

    python -m benchmarks.clip_art_data --archive=../shared/data/captioned_cutouts.zip \
        --out=data/clip_art_images
    python -m gen_jax.prepare --source=data/clip_art_images --size=64 --out=data/clip_art

The clip art is that of openclipart (public domain) in the archive, without its 283 stars of N
points, which no caption tells apart. The pictograms are scenes of the embedded source
`pictograms` (Fluent Emoji Flat, MIT): many views of few subjects beside one view of many. The
packaged model `cutouts` was trained on this folder.
"""

import argparse
import json
import pathlib
import re
import zipfile
from collections.abc import Iterator
from typing import Any

from PIL import Image

from benchmarks.cutout_data import on_white
from gen_jax.common import strict_json
from gen_jax.data.prepare.sources.pictograms import HELDOUT_SPLIT, PictogramsSource

_FOLDER = "clipart96/"
_LEFT_OUT = ["shapes", "stars"]
# Categories with fewer images are one, "other": a split must hold some of each.
_FEWEST = 5
_OTHER = "other"
# File names end with their authors' names.
_TITLE_WORDS = 3
_PICTOGRAMS = "pictogram"


def category(line: dict[str, Any]) -> str:
    """Returns the first tag of a line of captions.jsonl in plain words."""
    return (line.get("tags") or [_OTHER])[0].replace("_", " ")


def caption(line: dict[str, Any], name: str) -> str:
    """Returns the title's first words and the category, such as "bell pepper, food"."""
    words = [w for w in re.sub(r"[\W\d_]+", " ", line["caption"]).split() if len(w) > 1]
    return ", ".join(filter(None, [" ".join(words[:_TITLE_WORDS]).lower(), name]))


def clip_art(archive: pathlib.Path) -> Iterator[tuple[str, Image.Image, str]]:
    """Yields (path in the folder, image, caption)."""
    with zipfile.ZipFile(archive) as file:
        lines = map(strict_json.loads, file.read("captions.jsonl").decode().splitlines())
        kept = [
            line
            for line in lines
            if line["file"].startswith(_FOLDER) and line["tags"][:2] != _LEFT_OUT
        ]
        names = [category(line) for line in kept]
        for line, name in zip(kept, names, strict=True):
            if names.count(name) < _FEWEST or name == "unsorted":
                name = _OTHER
            stem = pathlib.PurePosixPath(line["file"]).stem
            image = on_white(file.read(line["file"]))
            yield f"{name.replace(' ', '_')}/{stem}.png", image, caption(line, name)


def pictograms(count: int) -> Iterator[tuple[str, Image.Image, str, str]]:
    """Yields (path in the folder, image, caption, split) of the first `count` scenes."""
    source = PictogramsSource(num=count)
    for index in range(count):
        split = source.describe(index).split
        if split == HELDOUT_SPLIT:
            continue
        scene = source.read(index)
        yield (
            f"{_PICTOGRAMS}/{index:05d}.png",
            Image.fromarray(scene.pixels),
            *(
                scene.captions[0],
                split or "train",
            ),
        )


def main() -> None:
    """Writes the folder."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--archive", type=pathlib.Path, required=True)
    parser.add_argument("--out", type=pathlib.Path, required=True)
    parser.add_argument("--pictograms", type=int, default=5000, help="scenes of pictograms")
    args = parser.parse_args()
    lines = []
    for path, image, text, *split in [*clip_art(args.archive), *pictograms(args.pictograms)]:
        target = args.out / path
        target.parent.mkdir(parents=True, exist_ok=True)
        image.save(target)
        lines.append({"file": path, "caption": text} | ({"split": split[0]} if split else {}))
    text = "".join(json.dumps(line) + "\n" for line in lines)
    (args.out / "captions.jsonl").write_text(text)
    folders = {line["file"].split("/")[0] for line in lines}
    print(f"{args.out}: {len(lines)} images of {len(folders)} categories")


if __name__ == "__main__":
    main()
