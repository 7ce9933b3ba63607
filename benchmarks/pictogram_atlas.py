"""Draws the atlas of the source `pictograms` from the icons of Fluent Emoji Flat (MIT).

    npm pack @iconify-json/fluent-emoji-flat@1.2.6
    tar xzf iconify-json-fluent-emoji-flat-1.2.6.tgz
    pip install resvg_py==0.5.0
    python -m benchmarks.pictogram_atlas --icons=package/icons.json --out=atlas.png

Only needed to change the subjects: the package holds the atlas.
"""

import argparse
import io
import json
import pathlib

import numpy as np
from PIL import Image

from gen_jax.data.prepare.sources.pictogram_draw import COLUMNS, SIDE
from gen_jax.data.prepare.sources.pictogram_scene import SUBJECTS


def draw(icons: dict, name: str) -> np.ndarray:
    """Returns an icon of an Iconify collection as RGBA uint8 `[SIDE, SIDE, 4]`."""
    import resvg_py

    icon = icons["icons"][name]
    width, height = (icon.get(key, icons.get(key, 16)) for key in ("width", "height"))
    svg = (
        '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
        f'viewBox="0 0 {width} {height}">{icon["body"]}</svg>'
    )
    png = resvg_py.svg_to_bytes(svg_string=svg, width=SIDE, height=SIDE)
    return np.asarray(Image.open(io.BytesIO(bytes(png))).convert("RGBA"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--icons", required=True, type=pathlib.Path)
    parser.add_argument("--out", required=True, type=pathlib.Path)
    args = parser.parse_args()
    icons = json.loads(args.icons.read_text())
    sheet = Image.new("RGBA", (COLUMNS * SIDE, -(-len(SUBJECTS) // COLUMNS) * SIDE))
    for index, name in enumerate(SUBJECTS.values()):
        row, column = divmod(index, COLUMNS)
        sheet.paste(Image.fromarray(draw(icons, name)), (column * SIDE, row * SIDE))
    sheet.save(args.out, optimize=True)


if __name__ == "__main__":
    main()
