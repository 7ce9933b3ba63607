"""Faces brought to one place."""

import io
import json
import zipfile

import cv2
import numpy as np
import pytest
from PIL import Image

from gen_jax.common import folder_lock
from gen_jax.common.errors import UserError
from gen_jax.pipelines import face_alignment


def scene(angle=0.0, scale=1.0, shift=(0.0, 0.0), size=200):
    """A picture with five discs of different gray, and where they are."""
    points = face_alignment._POINTS - 0.5
    turn = np.deg2rad(angle)
    matrix = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    points = 80 * scale * points @ matrix.T + size / 2 + np.array(shift)
    image = np.full((size, size, 3), 128, np.uint8)
    y, x = np.mgrid[:size, :size] + 0.5
    for (px, py), gray in zip(points, (0, 40, 90, 200, 255)):
        image[(x - px) ** 2 + (y - py) ** 2 < (5 * scale) ** 2] = gray
    return image, points.astype(np.float32)


@pytest.mark.parametrize("margin", [0.0, 0.3])
@pytest.mark.parametrize(
    "how", [dict(), dict(angle=30.0), dict(scale=2.0), dict(angle=-15.0, scale=0.5, shift=(20, -9))]
)
def test_points_come_to_one_place(how, margin):
    made = face_alignment.align(*scene(**how), 64, margin).astype(float)[..., 0]
    where = 64 * (face_alignment._POINTS + margin) / (1 + 2 * margin)
    for (x, y), gray in zip(where, (0, 40, 90, 200, 255)):
        assert made[int(y), int(x)] == pytest.approx(gray, abs=12)
    upright = face_alignment.align(*scene(), 64, margin).astype(float)[..., 0]
    assert np.abs(made - upright).mean() < 3.0


def test_a_warp_to_fewer_pixels_does_not_alias():
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 256, (800, 800, 3)).astype(np.uint8)
    points = (800 * face_alignment._POINTS).astype(np.float32)
    made = face_alignment.align(noise, points, 32, 0.0)
    assert made.std() < 10 and made.mean() == pytest.approx(127.5, abs=2)


@pytest.fixture
def folder(shared, tmp_path):
    """Three faces, turned and off the middle, and two pictures without."""
    source = tmp_path / "in"
    (source / "sub").mkdir(parents=True)
    with zipfile.ZipFile(shared / "faces.zip") as file:
        names = sorted(n for n in file.namelist() if n.startswith("faces256/"))[:3]
        faces = [np.asarray(Image.open(io.BytesIO(file.read(n))).convert("RGB")) for n in names]
    for i, face in enumerate(faces):
        wide = np.pad(face, ((40, 160), (150, 20), (0, 0)), mode="edge")
        turn = cv2.getRotationMatrix2D((250, 180), 20 * (i - 1), 1.0)
        wide = cv2.warpAffine(wide, turn, wide.shape[1::-1], borderMode=cv2.BORDER_REPLICATE)
        Image.fromarray(wide).save(source / "sub" / f"{i}.jpg", quality=95)
    Image.fromarray(np.full((100, 80, 3), 90, np.uint8)).save(source / "plain.png")
    (source / "broken.png").write_bytes(b"no picture")
    lines = [
        {"file": "sub/0.jpg", "caption": "a face", "glasses": "with"},
        {"file": "plain.png", "caption": "a wall"},
    ]
    (source / "captions.jsonl").write_text("\n".join(map(json.dumps, lines)))
    return source


def test_files_of_one_name_do_not_take_each_others_place(tmp_path, monkeypatch):
    monkeypatch.setattr(face_alignment, "FaceDetector", lambda weights: None)
    points = np.float32(40 * face_alignment._POINTS)
    monkeypatch.setattr(face_alignment, "_points", lambda detector, pixels: points)
    source = tmp_path / "in"
    source.mkdir()
    for ending, value in (("bmp", 90), ("png", 200)):
        Image.new("RGB", (40, 40), (value,) * 3).save(source / f"a.{ending}")
    (source / "._a.png").write_bytes(b"Mac OS X")
    # Inside the source: what is made is not read.
    for _ in range(2):
        left_out = face_alignment.align_folder(source, source / "out", "", 16, 0.0)
    assert left_out == {"hidden": ["._a.png"]}
    made = {p.name: np.asarray(Image.open(p)).mean() for p in (source / "out").glob("*.png")}
    assert made == {"a.png": 90, "a.png.png": 200}
    assert not (source / "out" / face_alignment.LOCK).exists()


def test_two_at_once_are_kept_apart(tmp_path):
    source, out = tmp_path / "in", tmp_path / "out"
    for folder in (source, out):
        folder.mkdir()
    cv2.imwrite(str(source / "a.png"), np.zeros((40, 40, 3), np.uint8))
    refused = r"out is being written by pid \d+ .* another out$"
    with (
        folder_lock.held(out, out / face_alignment.LOCK),
        pytest.raises(UserError, match=refused),
    ):
        face_alignment.align_folder(source, out, "", 16, 0.0)
    assert not list(out.iterdir())


def test_real_faces_are_found_and_aligned(folder, shared, tmp_path):
    from gen_jax.data import images
    from gen_jax.encoders.face_detector import FaceDetector

    weights, out = f"{shared}/weights_small.zip:mtcnn_pnet.safetensors", tmp_path / "out"
    left_out = face_alignment.align_folder(folder, out, weights, 128, 0.3)
    assert left_out["no face"] == ["plain.png"] and ["broken.png"] in left_out.values()
    made = sorted(out.glob("sub/*.png"))
    assert len(made) == 3
    pixels = np.stack([images.decode_fast(p.read_bytes()) for p in made])
    where = 128 * (face_alignment._POINTS + 0.3) / 1.6
    for faces in FaceDetector(weights)(pixels):
        assert np.abs(faces[0].points - where).max() < 9  # of 128 pixels
    (line,) = map(json.loads, (out / "captions.jsonl").read_text().splitlines())
    assert line == {"file": "sub/0.png", "captions": ["a face"], "glasses": "with"}
    # What stands is not made again, and not mixed with what is made otherwise.
    made[0].unlink()
    assert face_alignment.align_folder(folder, out, weights, 128, 0.3) == left_out
    assert not made[0].exists()
    with pytest.raises(UserError, match="aligned otherwise"):
        face_alignment.align_folder(folder, out, weights, 64, 0.3)
