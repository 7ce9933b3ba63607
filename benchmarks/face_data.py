"""The faces of an archive such as ../shared/data/faces.zip as a folder for `prepare`.

    python -m benchmarks.face_data --archive=../shared/data/faces.zip --out=data/face_pictures
    python -m gen_jax.prepare --source=data/face_pictures --out=data/faces
    python -m gen_jax.featurize --data=data/faces --encoder=dino_tiny --layers=1,3 --grids=4,8 \
        --keep_image --out=features/faces

Writes PNG files and captions.jsonl with what the labels say, as a sentence and as attributes.
`--size=256` takes the larger set.
"""

import argparse
import csv
import io
import json
import pathlib
import zipfile
from collections.abc import Iterator

import numpy as np

_GENDERS = {"male": "man", "female": "woman"}
_FEELINGS = {"happiness": "smiling", "surprise": "surprised", "neutral": "neutral"}
_GLASSES = {"yes": "with", "no": "without"}


def facts(emotion: str, gender: str, glasses: str) -> dict[str, str]:
    """What is known, in the names and values of `gen_jax.data.text.face_words`."""
    found = {
        "gender": _GENDERS.get(gender),
        "expression": _FEELINGS.get(emotion),
        "glasses": _GLASSES.get(glasses),
    }
    return {name: value for name, value in found.items() if value}


def caption(known: dict[str, str]) -> str:
    """One plain sentence of it."""
    whose = f"a {known['gender']}'s" if "gender" in known else "a"
    wearing = f" {known['glasses']} glasses" if "glasses" in known else ""
    return " ".join(w for w in (whose, known.get("expression"), "face") if w) + wearing


def faces(archive: pathlib.Path, size: int) -> Iterator[tuple[str, bytes, dict[str, str]]]:
    """(file name, its bytes, facts) of each face."""
    from PIL import Image

    with zipfile.ZipFile(archive) as file:
        if size == 64:
            table = np.load(io.BytesIO(file.read("faces64.npz")))
            keys = ("name", "images", "emotion", "gender_by_name", "glasses_weak")
            for name, pixels, *labels in zip(*(table[k] for k in keys), strict=True):
                out = io.BytesIO()
                Image.fromarray(pixels).save(out, "PNG")
                yield f"{pathlib.PurePath(str(name)).stem}.png", out.getvalue(), facts(*labels)
            return
        for row in csv.DictReader(io.StringIO(file.read("faces256.csv").decode())):
            labels = (row["emotion"], row["gender_by_name"], row["glasses_weak"])
            yield row["file"], file.read(f"faces256/{row['file']}"), facts(*labels)


def main() -> None:
    """Writes the folder."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--archive", type=pathlib.Path, required=True, help="faces.zip")
    parser.add_argument("--out", type=pathlib.Path, required=True, help="folder to write")
    parser.add_argument("--size", type=int, choices=(64, 256), default=64, help="pixels a side")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    lines = []
    for name, data, known in faces(args.archive, args.size):
        (args.out / name).write_bytes(data)
        lines.append(json.dumps({"file": name, "caption": caption(known), **known}))
    (args.out / "captions.jsonl").write_text("\n".join(lines) + "\n")
    print(f"wrote {len(lines)} faces of {args.size}x{args.size} to {args.out}")


if __name__ == "__main__":
    main()
