"""The door `restore`: files as people have them, one line each for those that cannot be read."""

import errno
import io
import json
import pathlib
import sys

import cv2
import numpy as np
import pytest
from absl import flags
from absl.testing import flagsaver
from PIL import Image, PngImagePlugin

from gen_jax import restore
from gen_jax.common import outputs
from gen_jax.common.errors import UserError
from gen_jax.data.photographs import writing
from gen_jax.pipelines import restore_inputs, restore_outputs
from gen_jax.pipelines.restoration import Restorer
from gen_jax.runs import reader
from tests import tiny_restorer
from tests.processes import call, one_line_error

if not flags.FLAGS.is_parsed():
    flags.FLAGS.mark_as_parsed()


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A restorer that reads, and does something to every picture."""
    return tiny_restorer.make(tmp_path_factory.mktemp("runs") / "text", text=True)


@pytest.fixture(scope="module")
def gray_run(tmp_path_factory):
    """A restorer of one channel that reads nothing."""
    folder = tmp_path_factory.mktemp("runs") / "gray"
    return tiny_restorer.make(folder, "debug,variant=dncnn,gray")


@pytest.fixture
def door(run, capsys):
    """Calls the command; gives its status, what it printed, and its errors."""

    def go(*inputs, **values):
        defaults = {"run": run, "compare": False, "overwrite": True}
        with flagsaver.flagsaver(**{**defaults, **values}):
            status = restore.main(["restore", *map(str, inputs)])
        return status, *capsys.readouterr()

    return go


def picture(height=40, width=56, channels=3, dtype=np.uint8):
    y, x = np.mgrid[:height, :width]
    waves = [np.sin(0.3 * x + c) * np.cos(0.2 * y) for c in range(channels)]
    return np.round((0.5 + 0.4 * np.stack(waves, -1)) * np.iinfo(dtype).max).astype(dtype)


def save(path, image, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image).save(path, **options)
    return path


def pixels(path):
    return np.asarray(Image.open(path)).astype(int)


def test_a_photograph_with_manifest_and_comparison(door, tmp_path):
    source = save(tmp_path / "a.png", picture())
    out = tmp_path / "new" / "b.png"
    status, said, _ = door(source, out=str(out), compare=True)
    assert status == 0 and f"restored {source} -> {out}  56x40" in said and "correction" in said
    assert pixels(out).shape == (40, 56, 3) and np.abs(pixels(out) - picture()).max() > 3
    facts = json.loads((tmp_path / "new" / "b.png.json").read_text())
    assert {"sigma", "jpeg", "blur", "scale", "error"} <= set(facts["estimates"])
    assert 0 < facts["gate"] < 1 and len(facts["weights_sha256"]) == 64
    assert facts["size"] == [56, 40] and facts["environment"]["packages"]
    assert pixels(tmp_path / "new" / "b.png.before_after.png").shape == (40, 112, 3)


def test_without_out_the_result_lies_beside_the_picture(door, tmp_path):
    source = save(tmp_path / "a.jpg", picture())
    assert door(source)[0] == 0 and (tmp_path / "a_restored.jpg").is_file()
    assert door(tmp_path)[0] == 0
    assert (tmp_path.parent / f"{tmp_path.name}_restored" / "a.jpg").is_file()


def test_strength_goes_from_nothing_to_all(door, run, tmp_path):
    source = save(tmp_path / "a.png", picture())
    found = []
    for strength in (0.0, 0.5, 1.0):
        door(source, out=str(tmp_path / "b.png"), strength=strength)
        found.append(pixels(tmp_path / "b.png"))
    np.testing.assert_array_equal(found[0], picture())
    inside = (found[2] > 0) & (found[2] < 255)  # the rest was clipped
    np.testing.assert_allclose(found[1][inside], (found[0] + found[2])[inside] / 2, atol=1.01)
    restorer = Restorer(reader.load(run))
    for strength in (1.01, -0.1, float("nan")):
        with pytest.raises(UserError, match=r"strength=.*: expected a number from 0 to 1"):
            restorer(picture(), strength=strength)


def test_the_instruction_is_followed_and_stated(door, gray_run, tmp_path):
    source, results = save(tmp_path / "a.png", picture()), []
    for prompt in ("", "sharpen it", "sharpen, " * 50 + "and brighten the zorp"):
        _, said, _ = door(source, out=str(tmp_path / "b.png"), prompt=prompt)
        results.append(pixels(tmp_path / "b.png"))
    assert np.abs(results[0] - results[1]).max() > 0
    np.testing.assert_array_equal(results[1], results[2])
    notes = [line for line in said.splitlines() if line.startswith("note")]
    unsupported = "not supported: brightness and contrast ('brighten'); this part has no effect"
    assert notes == [f"note: prompt: {unsupported}", "note: prompt: not understood: 'zorp'"]
    assert "(understood: remove blur)" in said
    facts = json.loads((tmp_path / "b.png.json").read_text())
    assert facts["understood"]["remove"] == ["blur"] and len(facts["understood"]["notes"]) == 2
    _, said, _ = door(source, out=str(tmp_path / "b.png"), prompt="do not remove the noise")
    np.testing.assert_array_equal(pixels(tmp_path / "b.png"), picture())
    assert "the image stays unchanged" in said and "(understood: keep noise)" in said
    with pytest.raises(UserError, match="reads no text"):
        door(source, out=str(tmp_path / "b.png"), prompt="sharpen", run=gray_run)


def test_enlarging_by_tiles_is_as_by_the_whole(door, tmp_path):
    source = save(tmp_path / "a.png", picture(150, 101))
    for name, tile in (("whole", "off"), ("tiles", "128")):
        door(source, out=str(tmp_path / f"{name}.png"), scale=2, tile=tile)
    whole, tiles = pixels(tmp_path / "whole.png"), pixels(tmp_path / "tiles.png")
    assert whole.shape == (300, 202, 3)
    assert np.abs(whole - tiles).mean() < 0.5
    told = json.loads((tmp_path / "whole.png.json").read_text())["estimates"]
    assert told["scale"] == 1.0


def test_depth_gray_and_alpha_are_kept(door, tmp_path):
    deep = picture(dtype=np.uint16)
    cv2.imwrite(str(tmp_path / "deep.png"), deep[..., ::-1])
    gray = save(tmp_path / "gray.png", picture(channels=1))
    alpha = np.dstack([picture(), np.arange(40 * 56).reshape(40, 56) % 256]).astype(np.uint8)
    clear = save(tmp_path / "alpha.png", alpha)
    status, _, errors = door(tmp_path / "deep.png", gray, clear, out=str(tmp_path / "out"))
    assert status == 0 and not errors
    found = cv2.imread(str(tmp_path / "out" / "deep.png"), cv2.IMREAD_UNCHANGED)
    assert found.dtype == np.uint16 and len(np.unique(found)) > 256
    assert Image.open(tmp_path / "out" / "gray.png").mode == "L"
    np.testing.assert_array_equal(pixels(tmp_path / "out" / "alpha.png")[..., 3], alpha[..., 3])


def test_transparency_is_enlarged_too_in_its_depth(door, tmp_path):
    deep = np.zeros((12, 10, 4), np.uint16)
    deep[..., :3], deep[:, 5:, 3] = 30000, 65535
    cv2.imwrite(str(tmp_path / "a.png"), deep)
    assert door(tmp_path / "a.png", out=str(tmp_path / "b.png"), scale=2)[0] == 0
    alpha = cv2.imread(str(tmp_path / "b.png"), cv2.IMREAD_UNCHANGED)[..., 3]
    assert alpha.dtype == np.uint16 and alpha.shape == (24, 20)
    assert (alpha[:, :7] == 0).all() and (alpha[:, 13:] == 65535).all()
    assert (np.diff(alpha.astype(int), axis=1) >= 0).all(), "overshoot is cut off, not wrapped"


def test_colour_keeps_its_colours_in_a_gray_model(door, gray_run, tmp_path):
    source = save(tmp_path / "a.png", np.clip(picture(), 60, 200))
    assert door(source, out=str(tmp_path / "b.png"), run=gray_run)[0] == 0
    change = pixels(tmp_path / "b.png") - pixels(source)
    assert np.abs(change).max() > 2
    inside = ((pixels(tmp_path / "b.png") % 255) > 0).all(-1)  # the rest was clipped
    assert np.ptp(change[inside], axis=-1).max() <= 1


@pytest.mark.parametrize("size", [(1, 1), (1, 37), (33, 31), (5, 200)])
def test_odd_sizes(door, tmp_path, size):
    source = save(tmp_path / "a.png", picture(*size))
    assert door(source, out=str(tmp_path / "b.png"))[0] == 0
    assert pixels(tmp_path / "b.png").shape == (*size, 3)


def test_bad_files_are_named_and_the_rest_is_done(door, tmp_path):
    folder = tmp_path / "in"
    save(folder / "good.png", picture())
    save(folder / "sub" / "good.jpg", picture())
    (folder / "empty.png").write_bytes(b"")
    (folder / "text.jpg").write_text("hello")
    cut = (folder / "good.png").read_bytes()
    (folder / "cut.png").write_bytes(cut[: len(cut) // 2])
    save(folder / "huge.png", np.zeros((300, 300, 3), np.uint8))
    Image.fromarray(picture()).convert("CMYK").save(folder / "print.jpg")
    frames = [Image.fromarray(picture() // k) for k in (1, 2)]
    frames[0].save(folder / "moves.gif", save_all=True, append_images=frames[1:])
    (folder / "notes.txt").write_text("no picture")
    status, said, errors = door(folder, out=str(tmp_path / "out"), max_pixels=80_000)
    assert status == 1
    lines = errors.splitlines()
    assert all(line.startswith("skipped ") for line in lines) and len(lines) == 4
    for name, word in (
        ("empty", "empty"),
        ("text", "not an image"),
        ("cut", "corrupt"),
        ("huge", "too large"),
    ):
        assert any(f"{name}." in line and word in line for line in lines), (name, lines)
    written = {str(p.relative_to(tmp_path / "out")) for p in (tmp_path / "out").rglob("*")}
    assert {"good.png", "sub/good.jpg", "print.jpg", "moves.gif"} <= written
    assert not any(n.startswith(("empty", "text", "cut", "huge", ".")) for n in written)
    assert "was CMYK" in said and "2 frames" in said and "restored 4 of 8" in said


def check(*pairs, out="", compare=True, overwrite=False):
    jobs = [restore_inputs.Job(*(p and pathlib.Path(p) for p in pair)) for pair in pairs]
    restore_outputs.check(jobs, str(out), compare=compare, overwrite=overwrite)


def test_no_file_is_overwritten_by_mistake(tmp_path):
    a, b, out = save(tmp_path / "a.png", picture()), tmp_path / "b.png", tmp_path / "out"
    (tmp_path / "link.png").symlink_to(a)
    save(b, picture())
    for overwrite in (False, True):  # inputs never are
        for job in ((a, a), (a, tmp_path / "link.png"), (b, a)):
            with pytest.raises(UserError, match=r"a\.png: an input, which would be overwritten"):
                check(job, (a, out / "a.png"), out=tmp_path, overwrite=overwrite)
    check((a, out / "c.png"))
    for name in ("c.png", "c.png.json", "c.png.before_after.png"):
        path = save(out / name, picture()) if name == "c.png" else out / name
        path.write_text("theirs")
        with pytest.raises(UserError, match=f"{name}: exists already; .*overwrite"):
            check((a, out / "c.png"))
        check((a, out / "c.png"), overwrite=True)
        path.unlink()
    (out / "c.png.before_after.png").write_text("theirs")
    check((a, out / "c.png"), compare=False)
    (out / "d.png").mkdir()
    with pytest.raises(UserError, match=r"d\.png: is a folder"):
        check((a, out / "d.png"), overwrite=True)
    check((None, None))


def test_results_that_share_a_file_are_refused(tmp_path):
    out = tmp_path / "out"
    for first, second in (
        ("x.png", "x.png"),
        ("x.png", "x.png.before_after.png"),
        ("x.png", "x.png.json"),
    ):
        with pytest.raises(UserError, match=r"a\.png and b\.png would both write"):
            check(("a.png", out / first), ("b.png", out / second), out=out, overwrite=True)


def test_a_place_that_cannot_be_written_to(tmp_path, monkeypatch):
    a, file = save(tmp_path / "a.png", picture()), tmp_path / "file"
    file.write_text("")
    with pytest.raises(UserError, match="file: is a file, expected a folder"):
        check((a, file / "b.png"))
    with pytest.raises(UserError, match="file: is a file; several images"):
        check((a, file / "b.png"), (a, file / "c.png"), out=file)
    with pytest.raises(UserError, match=r"new\.png: several images need a folder"):
        check((a, tmp_path / "new.png" / "b.png"), out=tmp_path / "new.png")
    check((a, tmp_path / "new.png" / "b.png"), out=f"{tmp_path}/new.png/")

    def refuse(**_):  # root may write anywhere
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(outputs.tempfile, "TemporaryFile", refuse)
    with pytest.raises(UserError, match=r"out=.*: cannot write there \(Permission denied\)"):
        check((a, tmp_path / "c" / "b.png"))
    assert not (tmp_path / "c").exists()


def test_what_is_not_written_as_meant_leaves_nothing(door, tmp_path, monkeypatch):
    source, out = save(tmp_path / "a.png", picture()), tmp_path / "out" / "b.png"

    def encode(*_):
        raise writing.NotWritten("the PNG file has other pixels than were written")

    with monkeypatch.context() as patch:
        patch.setattr(writing, "encode", encode)
        status, said, errors = door(source, out=str(out))
    assert status == 1 and "restored" not in said and len(errors.splitlines()) == 1
    assert "nothing written: the PNG file has other pixels" in errors
    with monkeypatch.context() as patch:  # a disk that loses the last byte
        write = pathlib.Path.write_bytes
        patch.setattr(pathlib.Path, "write_bytes", lambda path, data: write(path, data[:-1]))
        status, said, errors = door(source, out=str(out), compare=True)
    assert status == 1 and "restored" not in said and "differs from what was written" in errors
    assert not list((tmp_path / "out").iterdir())


def test_formats_notes_and_other_files(door, tmp_path):
    """CMYK, LZW of 16 bits, text: one note per file, and results that others open."""
    deep = picture(dtype=np.uint16)
    cv2.imwrite(str(tmp_path / "deep.tif"), deep[..., ::-1])
    rgb = Image.fromarray(picture())
    rgb.convert("CMYK").save(tmp_path / "print.tif")
    text = PngImagePlugin.PngInfo()
    text.add_text("parameters", "a cat")
    rgb.quantize(32).save(tmp_path / "palette.png", pnginfo=text, gamma=1.0)
    out = tmp_path / "out"
    inputs = [tmp_path / name for name in ("deep.tif", "print.tif", "palette.png")]
    status, said, errors = door(*inputs, out=str(out), strength=0.0)
    assert status == 0 and not errors
    assert [line for line in said.splitlines() if line.startswith("note")] == [
        f"note: {tmp_path}/print.tif: was CMYK: the result is RGB"
    ]
    found = cv2.imread(str(out / "deep.tif"), cv2.IMREAD_UNCHANGED)
    np.testing.assert_array_equal(found[..., ::-1], deep)
    for name in ("print.tif", "palette.png"):
        with Image.open(tmp_path / name) as image, Image.open(out / name) as result:
            np.testing.assert_array_equal(np.asarray(image.convert("RGB")), np.asarray(result))
    status, said, _ = door(inputs[2], out=str(tmp_path / "palette.jpg"))
    assert "palette.png: JPEG does not keep PNG text 'parameters'" in said and status == 0


def test_standard_input_to_standard_output(run, monkeypatch, capfdbinary):
    buffer = io.BytesIO()
    Image.fromarray(picture()).save(buffer, "JPEG")
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(buffer.getvalue())))
    with flagsaver.flagsaver(run=run, out="-"):
        assert restore.main(["restore", "-"]) == 0
    out, errors = capfdbinary.readouterr()
    assert Image.open(io.BytesIO(out)).size == (56, 40) and b"restored standard input" in errors


@pytest.mark.parametrize(
    "values,word",
    [
        ({"size": "100"}, "--size=100: expected WIDTHxHEIGHT"),
        ({"size": "100x100", "scale": 2}, "leave out --scale"),
        ({"suffix": "a/b"}, "leave out out"),
        ({"tile": "100"}, "--tile=100"),
        ({"tile": "\u00b2"}, "--tile="),
        ({"tile": "-128"}, "--tile=-128"),
        ({"run": "package:vae_photos"}, "restores nothing"),
        ({"run": "nowhere"}, "nowhere: no such folder"),
    ],
)
def test_mistakes_are_named(door, tmp_path, values, word):
    source = save(tmp_path / "a.png", picture())
    with pytest.raises(UserError, match=word):
        door(source, out=str(tmp_path / "b.png"), **values)


@pytest.mark.parametrize(
    "flag",
    [
        "strength=-1",
        "strength=1.5",
        "strength=nan",
        "strength=inf",
        "scale=0",
        "scale=5",
        "noise=-1",
        "blur=9",
        "jpeg=0",
        "scale=x",
        "max_pixels=0",
        "quality=101",
        "quality=0",
        "quality=nan",
    ],
)
def test_numbers_are_within_bounds(flag):
    with flagsaver.flagsaver(), pytest.raises(flags.Error, match=f"--{flag}: expected a "):
        flags.FLAGS(["restore", f"--{flag}"])


def test_the_command_line_takes_pictures():
    assert "name images to restore" in one_line_error(call("restore"))
