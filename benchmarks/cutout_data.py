"""The captioned cutouts of ../shared/data as a folder for `prepare`, a sub-folder a class.

    python -m benchmarks.cutout_data --archive=../shared/data/captioned_cutouts.zip \
        --out=data/cutout_pictures
    python -m gen_jax.prepare --source=data/cutout_pictures --size=96 --out=data/cutouts

A class is the first two tags of a picture. Its caption names the class and says what its own says:
"animals, birds: a blackbird". Pictures are laid on white.
"""

import argparse
import io
import json
import pathlib
import re
import zipfile
from collections.abc import Iterator
from typing import Any

from PIL import Image

from gen_jax.common import strict_json


def described(line: dict[str, Any]) -> tuple[str, str]:
    """Class, as a folder's name, and caption of a line of captions.jsonl."""
    tags = [tag.replace("_", " ") for tag in line.get("tags", [])][:2] or ["unsorted"]
    words = re.sub(r"[_\d]+", " ", line["caption"]).strip(" .")
    words = words[:1].lower() + words[1:]
    return "-".join(tags).replace(" ", "_"), f"{', '.join(tags)}: {' '.join(words.split())}"


def on_white(data: bytes) -> Image.Image:
    """Returns the image of a file in the middle of a white square."""
    drawn = Image.open(io.BytesIO(data)).convert("RGBA")
    side = max(drawn.size)
    sheet = Image.new("RGBA", (side, side), "white")
    sheet.alpha_composite(drawn, ((side - drawn.width) // 2, (side - drawn.height) // 2))
    return sheet.convert("RGB")


def cutouts(archive: pathlib.Path) -> Iterator[tuple[str, Image.Image, str]]:
    """(path in the folder, picture, caption) of each."""
    with zipfile.ZipFile(archive) as file:
        for text in file.read("captions.jsonl").decode().splitlines():
            line = strict_json.loads(text)
            folder, caption = described(line)
            name = pathlib.PurePosixPath(line["file"]).stem
            yield f"{folder}/{name}.png", on_white(file.read(line["file"])), caption


def main() -> None:
    """Writes the folder."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--archive", type=pathlib.Path, required=True)
    parser.add_argument("--out", type=pathlib.Path, required=True)
    args = parser.parse_args()
    lines, classes = [], set()
    for path, picture, caption in cutouts(args.archive):
        place = args.out / path
        place.parent.mkdir(parents=True, exist_ok=True)
        picture.save(place)
        lines.append(json.dumps({"file": path, "caption": caption}))
        classes.add(place.parent.name)
    (args.out / "captions.jsonl").write_text("\n".join(lines) + "\n")
    print(f"{args.out}: {len(lines)} pictures of {len(classes)} classes")


if __name__ == "__main__":
    main()
