"""Patch features as colours, a row of pictures each.

    python -m benchmarks.feature_pca --archives=../shared/data --out=docs/features_dino_tiny.png

Faces and clip art that the encoder never saw, at --size pixels. Under each row of
pictures: the first three principal components of that row's patches as red, green and blue, and the
same after the background, one side of the first component, is taken away (arXiv:2304.07193).
"""

import argparse
import pathlib

import numpy as np
from PIL import Image


def rows(archives: pathlib.Path, columns: int) -> list[np.ndarray]:
    """Pictures of one kind a row, uint8 [columns, 64, 64, 3]."""
    from benchmarks import probe

    portraits, clips = probe.faces(archives), probe.clipart(archives)
    people = portraits["glasses"]
    mixed = [people.images[people.labels == k] for k in (0, 1)]
    rng = np.random.default_rng(0)
    shown = [np.concatenate([m[rng.permutation(len(m))[: columns // 2]] for m in mixed])]
    for label in CLIPART:
        found = clips.images[clips.labels == label]
        shown.append(found[rng.permutation(len(found))[:columns]])
    return shown


CLIPART = (0, 9)  # animals and transportation, in the order of the alphabet


def main() -> None:
    """Draws and writes."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--archives", type=pathlib.Path, required=True, help="folder of the zips")
    parser.add_argument("--encoder", default="dino_tiny", help="a DINOv2 of gen_jax.encoders")
    parser.add_argument("--weights", default=None, help="as encoders.load takes them")
    parser.add_argument("--size", type=int, default=64, help="pixels that the tower sees")
    parser.add_argument("--columns", type=int, default=8, help="pictures in a row")
    parser.add_argument("--out", type=pathlib.Path, required=True, help="PNG to write")
    args = parser.parse_args()
    import jax.numpy as jnp

    from gen_jax import encoders
    from gen_jax.common import pictures
    from gen_jax.encoders.dinov2 import MEAN, STD
    from gen_jax.evaluation import feature_pca

    module, params = encoders.load(args.encoder, args.weights)
    cells = []
    for images in rows(args.archives, args.columns):
        large = np.stack([_resized(i, args.size, Image.Resampling.BICUBIC) for i in images])
        x = (large / 255.0 - np.array(MEAN)) / np.array(STD)
        patches = np.asarray(module.apply({"params": params}, jnp.float32(x))["patches"])
        chosen = feature_pca.foreground(patches)
        cells += list(large)
        for drawn in (feature_pca.colours(patches), feature_pca.colours(patches, chosen)):
            cells += [_resized(i, args.size, Image.Resampling.NEAREST) for i in drawn]
    pictures.save(args.out, pictures.grid(np.stack(cells), columns=args.columns, scale=2))
    print(f"wrote {args.out}")


def _resized(image: np.ndarray, size: int, how) -> np.ndarray:
    return np.asarray(Image.fromarray(image).resize((size, size), how))


if __name__ == "__main__":
    main()
