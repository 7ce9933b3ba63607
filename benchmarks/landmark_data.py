"""The 64-pixel faces of ../shared/data/faces.zip with their landmarks, as a folder for `prepare`.

    python -m benchmarks.landmark_data --archive=../shared/data/faces.zip --out=data/face_points
    python -m gen_jax.prepare --source=data/face_points --nonear_duplicates \
        --out=data/face_landmarks

All faces of a person are in one split, a tenth of the people in "val". The five points are a face
mesh's (mediapipe), not a person's annotation.
"""

import argparse
import hashlib
import io
import json
import pathlib
import re
import zipfile

import numpy as np
from PIL import Image

_HELD_OUT = 10  # one person in so many


def person(name: str) -> str:
    """Returns the name of a person, of "Ann_Lee_0001.jpg"."""
    return re.sub(r"_\d+$", "", pathlib.PurePath(name).stem)


def main() -> None:
    """Writes the folder."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--archive", type=pathlib.Path, required=True)
    parser.add_argument("--out", type=pathlib.Path, required=True)
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(args.archive) as archive:
        table = np.load(io.BytesIO(archive.read("faces64.npz")))
    lines, people = [], {"train": set(), "val": set()}
    for name, pixels, points in zip(table["name"], table["images"], table["landmarks5"]):
        who = person(str(name))
        is_held_out = int(hashlib.sha256(who.encode()).hexdigest(), 16) % _HELD_OUT == 0
        split = "val" if is_held_out else "train"
        people[split].add(who)
        file = f"{pathlib.PurePath(str(name)).stem}.png"
        Image.fromarray(pixels).save(args.out / file)
        values = [[round(float(v), 5) for v in point] for point in points]
        line = {"file": file, "caption": "a face", "landmarks": values, "split": split}
        lines.append(json.dumps(line))
    (args.out / "captions.jsonl").write_text("\n".join(lines) + "\n")
    counts = ", ".join(f"{len(group)} people in {split}" for split, group in people.items())
    print(f"{args.out}: {len(lines)} faces; {counts}")


if __name__ == "__main__":
    main()
