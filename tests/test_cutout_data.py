"""Cutouts become a folder of classes."""

import io
import json
import sys
import zipfile

import numpy as np
import pytest
from PIL import Image

from benchmarks import clip_art_data, cutout_data


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


@pytest.mark.parametrize("title,tags,text", [
    ("bell pepper 02 jarno va", ["food", "vegetables"], "bell pepper jarno, food"),
    ("Éclair_b", ["signs_and_symbols"], "éclair, signs and symbols"),
    ("1", ["office"], "office"),
])  # fmt: skip
def test_captions_of_clip_art_are_title_and_category(title, tags, text):
    line = {"caption": title, "tags": tags}
    assert clip_art_data.caption(line, clip_art_data.category(line)) == text


def test_clip_art_and_pictograms_lie_in_a_folder_per_category(tmp_path, monkeypatch, capsys):
    data = io.BytesIO()
    Image.new("RGBA", (4, 4), (255, 0, 0, 255)).save(data, "PNG")
    files = {f"clipart96/a{i}.png": ["food"] for i in range(5)}
    files |= {"clipart96/b.png": ["science"], "clipart96/c.png": ["shapes", "stars"]}
    files |= {"stamps160/d.png": ["food"]}
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as file:
        for name in files:
            file.writestr(name, data.getvalue())
        lines = [{"file": name, "caption": "thing", "tags": tags} for name, tags in files.items()]
        file.writestr("captions.jsonl", "".join(json.dumps(line) + "\n" for line in lines))
    options = [f"--archive={tmp_path}/a.zip", f"--out={tmp_path}/out", "--pictograms=20"]
    monkeypatch.setattr(sys, "argv", ["x", *options])
    clip_art_data.main()
    assert "25 images of 3 categories" in capsys.readouterr().out  # one scene in 20 is held out
    written = [
        json.loads(x) for x in (tmp_path / "out" / "captions.jsonl").read_text().splitlines()
    ]
    assert [line["file"] for line in written[:6]] == [
        *(f"food/a{i}.png" for i in range(5)),
        "other/b.png",  # too few to be a category
    ]
    assert {line.get("split") for line in written} == {None, "train", "val", "test"}
    assert all((tmp_path / "out" / line["file"]).is_file() for line in written)
