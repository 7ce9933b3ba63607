"""The real plate crops of ../shared/data/misc_tasks.zip as a folder for `prepare` and `evaluate`.

    python -m benchmarks.plate_data --archive=../shared/data/misc_tasks.zip --out=data/plate_crops
    python -m gen_jax.prepare --source=data/plate_crops --min_side=8 --nonear_duplicates \
        --out=data/real_plates
    python -m gen_jax.evaluate --run=runs/plates --data=data/real_plates --out=plates.json

All crops but one are in the split "val"; none is for training. They are AGPL-3.0
(openalpr/benchmarks): for measurements, not for weights that ship.
"""

import argparse
import csv
import io
import json
import pathlib
import zipfile

from gen_jax.data.text.plate_characters import CHARACTERS, MAX_LENGTH, normalized


def main() -> None:
    """Writes the folder."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--archive", type=pathlib.Path, required=True)
    parser.add_argument("--out", type=pathlib.Path, required=True)
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    lines, left_out = [], 0
    with zipfile.ZipFile(args.archive) as archive:
        table = io.StringIO(archive.read("plates/plates.csv").decode())
        for row in csv.DictReader(table):
            text = normalized(row["text"])
            if not 0 < len(text) <= MAX_LENGTH or set(text) - set(CHARACTERS):
                left_out += 1
                continue
            file = pathlib.PurePosixPath(row["crop"]).name
            (args.out / file).write_bytes(archive.read(row["crop"]))
            # A data set has a split "train", which a run's data is opened by.
            split = "val" if lines else "train"
            line = {"file": file, "caption": "a number plate", "text": text, "split": split}
            lines.append(json.dumps({**line, "country": row["country"]}))
    (args.out / "captions.jsonl").write_text("\n".join(lines) + "\n")
    print(f"{args.out}: {len(lines)} plates; left out: {left_out} with other characters")


if __name__ == "__main__":
    main()
