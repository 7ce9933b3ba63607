"""How close undegraded images stay to themselves: screenshots, documents, art, saturated texture.

    python -m benchmarks.restore_clean --images=FOLDER --run=package:restore

Each image of the folder is cut to its middle, and as many pages (screenshots, documents, charts and
drawings) are drawn with `--pages`. Every image is restored by the restorer's own estimate. The
lines are sorted: the worst comes first.
"""

import argparse
import pathlib

import numpy as np
from PIL import Image

from gen_jax.common import image_folder, strict_json

_SEED = 1000  # pages that no training has seen
_EQUAL = 99.0  # dB of an image that comes back as it was


def middles(folder: pathlib.Path, size: int, largest: int) -> dict[str, np.ndarray]:
    """Returns the middle of each image, uint8 RGB, reduced first if it is larger than `largest`."""
    images = {}
    for path in image_folder.scan(folder).paths:
        with Image.open(path) as opened:
            image = opened.convert("RGB")
        image = image.reduce(max(1, round(min(image.size) / largest)))
        pixels = np.asarray(image)
        top, left = (max(0, (side - size) // 2) for side in pixels.shape[:2])
        images[path.name] = np.ascontiguousarray(pixels[top : top + size, left : left + size])
    return images


def main() -> None:
    """Measures, prints, writes."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--run", default="package:restore", help="run of the stage restore")
    parser.add_argument("--images", type=pathlib.Path, required=True, help="folder of clean images")
    parser.add_argument("--pages", type=int, default=12, help="pages to draw")
    parser.add_argument("--size", type=int, default=320, help="side of the middles in pixels")
    parser.add_argument("--largest", type=int, default=720, help="short side that images keep")
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("restore_clean.json"))
    args = parser.parse_args()

    from benchmarks import rendered_pages
    from gen_jax.parallel import compilation
    from gen_jax.pipelines.restoration import Restorer
    from gen_jax.runs import reader

    compilation.set_up()
    restorer = Restorer(reader.load(args.run))
    images = middles(args.images, args.size, args.largest)
    for index in range(args.pages):
        page = rendered_pages.page(np.random.default_rng([_SEED, index]), (args.size, args.size))
        images[f"page {index}"] = np.asarray(page)
    rows = []
    for name, x in images.items():
        result = restorer(x)
        error = np.mean((np.float64(x) - result.pixels) ** 2)
        psnr = min(_EQUAL, 10 * np.log10(255**2 / max(error, 1e-9)))
        estimates = {k: round(v, 2) for k, v in result.told.items()}
        rows.append({"name": name, "psnr": psnr, "gate": result.gate, "estimates": estimates})
    rows.sort(key=lambda row: row["psnr"])
    for row in rows:
        noise, jpeg = row["estimates"]["sigma"], 100 - row["estimates"]["jpeg"]
        print(f"{row['psnr']:6.2f} dB  noise {noise:5.2f}  JPEG {jpeg:5.1f}  {row['name']}")
    values = [row["psnr"] for row in rows]
    print(f"{len(rows)} images: median {np.median(values):.2f} dB, worst {min(values):.2f} dB")
    args.out.write_text(strict_json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
