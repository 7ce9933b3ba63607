"""Cut-outs of ../shared/data over photographs, as a folder with masks for `prepare`.

    python -m benchmarks.composite_data --cutouts=../shared/data/captioned_cutouts.zip:stamps160 \
        --photographs=../shared/data/bsds432_train_color.zip --out=data/composite_pictures
    python -m gen_jax.prepare --source=data/composite_pictures --nonear_duplicates \
        --out=data/composites

A tenth of the photographs and a tenth of the cut-outs are held out: the split "val" shows these
alone, "train" none of them. Masks are white where a cut-out lies.
"""

import argparse
import hashlib
import io
import json
import pathlib
import zipfile

import numpy as np
from PIL import Image

from gen_jax.common import archives
from gen_jax.data import composites

_HELD_OUT = 10  # one in so many


def is_held_out(name: str) -> bool:
    """Whether a file is of the split "val", by its name."""
    return int(hashlib.sha256(name.encode()).hexdigest(), 16) % _HELD_OUT == 0


def members(spec: str) -> tuple[pathlib.Path, list[str]]:
    """Returns an archive and the images below a folder of it, of FILE.zip[:PREFIX]."""
    path, prefix = archives.split(spec) or (pathlib.Path(spec), "")
    with zipfile.ZipFile(path) as archive:
        chosen = (n for n in archive.namelist() if n.startswith(prefix))
        return path, sorted(n for n in chosen if n.lower().endswith((".png", ".jpg", ".webp")))


def opened(spec: str, mode: str) -> dict[bool, list[np.ndarray]]:
    """Returns the decoded images of an archive: whether they are held out -> images."""
    path, names = members(spec)
    groups: dict[bool, list[np.ndarray]] = {False: [], True: []}
    with zipfile.ZipFile(path) as archive:
        for name in names:
            with Image.open(io.BytesIO(archive.read(name))) as image:
                groups[is_held_out(name)].append(np.asarray(image.convert(mode)))
    return groups


def main() -> None:
    """Writes the folder."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cutouts", required=True)
    parser.add_argument("--photographs", required=True)
    parser.add_argument("--out", type=pathlib.Path, required=True)
    parser.add_argument("--num", type=int, default=6000)
    parser.add_argument("--val", type=int, default=500)
    parser.add_argument("--size", type=int, default=112)
    args = parser.parse_args()
    cutouts, photographs = opened(args.cutouts, "RGBA"), opened(args.photographs, "RGB")
    for name in ("images", "masks"):
        (args.out / name).mkdir(parents=True, exist_ok=True)
    lines = []
    for index in range(args.num + args.val):
        held_out = index >= args.num
        rng = np.random.default_rng((37, index))
        below = photographs[held_out][rng.integers(len(photographs[held_out]))]
        count = 1 + (rng.random() < 0.4)
        chosen = [cutouts[held_out][rng.integers(len(cutouts[held_out]))] for _ in range(count)]
        image, mask = composites.composite(below, chosen, args.size, rng)
        Image.fromarray(image).save(args.out / f"images/{index:05d}.jpg", quality=95, subsampling=0)
        Image.fromarray(mask.astype(np.uint8) * 255).save(args.out / f"masks/{index:05d}.png")
        split = "val" if held_out else "train"
        file, mask_file = f"images/{index:05d}.jpg", f"masks/{index:05d}.png"
        lines.append(json.dumps({"file": file, "mask": mask_file, "split": split}))
    (args.out / "captions.jsonl").write_text("\n".join(lines) + "\n")
    counts = [f"{len(g[False])} and {len(g[True])} held out" for g in (cutouts, photographs)]
    print(f"{args.out}: {len(lines)} images; cut-outs: {counts[0]}; photographs: {counts[1]}")


if __name__ == "__main__":
    main()
