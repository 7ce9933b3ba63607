"""The folder that the packaged restorer is trained on."""

import io
import sys
import zipfile

import numpy as np
import pytest
from PIL import Image

from benchmarks import rendered_pages, restoration_data


def _encoded(size, kind):
    pixels = np.random.default_rng(0).integers(0, 255, (*size[::-1], 3)).astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind)
    return buffer.getvalue()


@pytest.mark.parametrize("draw", rendered_pages.PAGES)
def test_pages_repeat_themselves_and_are_sharp(draw):
    sheets = []
    for seed in (3, 3, 4):
        canvas = Image.new("RGB", (240, 160))
        draw(canvas, rendered_pages.ImageDraw.Draw(canvas), np.random.default_rng(seed))
        sheets.append(np.asarray(canvas))
    np.testing.assert_array_equal(sheets[0], sheets[1])
    assert (sheets[0] != sheets[2]).any()
    assert np.abs(np.diff(np.float32(sheets[0]), axis=1)).max() > 60


def test_the_folder_holds_every_kind(tmp_path, monkeypatch, capsys):
    for archive, prefix, kind in (("photos", "a/", "JPEG"), ("art", "clipart96/", "PNG")):
        size = (120, 90) if kind == "JPEG" else (96, 96)
        with zipfile.ZipFile(tmp_path / f"{archive}.zip", "w") as file:
            for index in range(2):
                file.writestr(f"{prefix}{index}.{kind.lower()}", _encoded(size, kind))
    (tmp_path / "wallpapers").mkdir()
    (tmp_path / "wallpapers" / "a.png").write_bytes(_encoded((1600, 1100), "PNG"))
    (tmp_path / "wallpapers" / "small.png").write_bytes(_encoded((300, 200), "PNG"))
    options = {
        "photos": tmp_path / "photos.zip", "archive": tmp_path / "art.zip",
        "wallpapers": tmp_path / "wallpapers", "captioned": 1, "pages": 2, "sheets": 1,
    }  # fmt: skip
    for out in ("one", "two"):
        given = [f"--{k}={v}" for k, v in (options | {"out": tmp_path / out}).items()]
        monkeypatch.setattr(sys, "argv", ["x", *given])
        restoration_data.main()
    assert "2 photographs" in capsys.readouterr().out
    one, two = (sorted((tmp_path / out).iterdir()) for out in ("one", "two"))
    assert [p.read_bytes() for p in one] == [p.read_bytes() for p in two]
    kinds = [p.name.rsplit("_", 1)[0] for p in one]
    counts = {"a": 2, "captioned": 1, "clip_art": 1, "page": 2, "wallpaper": 2}
    assert {kind: kinds.count(kind) for kind in counts} == counts
    plain, written = (np.asarray(Image.open(one[kinds.index(k)])) for k in ("a", "captioned"))
    assert plain.shape == written.shape and not np.array_equal(plain, written)
