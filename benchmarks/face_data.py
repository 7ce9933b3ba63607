"""The faces of an archive such as ../shared/data/faces.zip as a folder for `prepare`.

    python -m benchmarks.face_data --archive=../shared/data/faces.zip --out=data/face_pictures
    python -m gen_jax.prepare --source=data/face_pictures --out=data/faces
    python -m gen_jax.featurize --data=data/faces --encoder=dino_tiny --layers=1,3 --grids=4,8 \
        --keep_image --out=features/faces

Writes PNG files and captions.jsonl with what the labels say. `--size=256` takes the larger set.
"""

import argparse
import csv
import io
import json
import pathlib
import zipfile
from collections.abc import Iterator

import numpy as np

_FEELINGS = {"happiness": "smiling", "surprise": "surprised", "neutral": "neutral"}


def caption(emotion: str, gender: str, glasses: str) -> str:
    """One plain sentence of what is known."""
    whose = {"male": "a man's", "female": "a woman's"}.get(gender, "a")
    feeling = _FEELINGS.get(emotion, "")
    wearing = {"yes": " with glasses", "no": " without glasses"}.get(glasses, "")
    return " ".join(w for w in (whose, feeling, "face") if w) + wearing


def faces(archive: pathlib.Path, size: int) -> Iterator[tuple[str, bytes, str]]:
    """(file name, its bytes, caption) of each face."""
    from PIL import Image

    with zipfile.ZipFile(archive) as file:
        if size == 64:
            table = np.load(io.BytesIO(file.read("faces64.npz")))
            keys = ("name", "images", "emotion", "gender_by_name", "glasses_weak")
            for name, pixels, *labels in zip(*(table[k] for k in keys), strict=True):
                out = io.BytesIO()
                Image.fromarray(pixels).save(out, "PNG")
                yield f"{pathlib.PurePath(str(name)).stem}.png", out.getvalue(), caption(*labels)
            return
        for row in csv.DictReader(io.StringIO(file.read("faces256.csv").decode())):
            labels = (row["emotion"], row["gender_by_name"], row["glasses_weak"])
            yield row["file"], file.read(f"faces256/{row['file']}"), caption(*labels)


def main() -> None:
    """Writes the folder."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--archive", type=pathlib.Path, required=True, help="faces.zip")
    parser.add_argument("--out", type=pathlib.Path, required=True, help="folder to write")
    parser.add_argument("--size", type=int, choices=(64, 256), default=64, help="pixels a side")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    lines = []
    for name, data, text in faces(args.archive, args.size):
        (args.out / name).write_bytes(data)
        lines.append(json.dumps({"file": name, "caption": text}))
    (args.out / "captions.jsonl").write_text("\n".join(lines) + "\n")
    print(f"wrote {len(lines)} faces of {args.size}x{args.size} to {args.out}")


if __name__ == "__main__":
    main()
