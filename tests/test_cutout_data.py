"""Cutouts become a folder of classes."""

import io
import json
import sys
import zipfile

import numpy as np
import pytest
from PIL import Image

from benchmarks import cutout_data


@pytest.mark.parametrize("line,folder,caption", [
    ({"caption": "A blackbird.", "tags": ["animals", "birds", "black"]},
     "animals-birds", "animals, birds: a blackbird"),
    ({"caption": "muffin1", "tags": ["food", "breads_and_carbs"]},
     "food-breads_and_carbs", "food, breads and carbs: muffin"),
    ({"caption": "thing"}, "unsorted", "unsorted: thing"),
])  # fmt: skip
def test_classes_and_captions(line, folder, caption):
    assert cutout_data.described(line) == (folder, caption)


def test_pictures_lie_on_white_in_the_middle(tmp_path, monkeypatch, capsys):
    drawn = np.zeros((4, 8, 4), np.uint8)
    drawn[1:3, 2:6] = (255, 0, 0, 255)
    data = io.BytesIO()
    Image.fromarray(drawn).save(data, "PNG")
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as file:
        file.writestr("s/one.png", data.getvalue())
        line = {"file": "s/one.png", "caption": "A box.", "tags": ["shapes"]}
        file.writestr("captions.jsonl", json.dumps(line) + "\n")
    options = [f"--archive={tmp_path}/a.zip", f"--out={tmp_path}/out"]
    monkeypatch.setattr(sys, "argv", ["x", *options])
    cutout_data.main()
    assert "1 pictures of 1 classes" in capsys.readouterr().out
    found = np.asarray(Image.open(tmp_path / "out" / "shapes" / "one.png"))
    assert found.shape == (8, 8, 3) and (found[:3] == 255).all() and (found[5:] == 255).all()
    assert (found[3:5, 2:6] == (255, 0, 0)).all()
    (line,) = (tmp_path / "out" / "captions.jsonl").read_text().splitlines()
    assert json.loads(line) == {"file": "shapes/one.png", "caption": "shapes: a box"}
