"""Strengths by hand, exact sizes, names beside the images, animations, and few programs."""

import json
import subprocess
import sys

import cv2
import jax
import numpy as np
import pytest
from absl import flags
from absl.testing import flagsaver
from PIL import Image

from gen_jax import restore
from gen_jax.common.errors import UserError
from gen_jax.data.text import instruction_parser
from gen_jax.pipelines import restore_estimate, restore_instruction, restore_settings
from gen_jax.pipelines.restoration import Restorer
from gen_jax.runs import reader
from tests import tiny_restorer
from tests.test_restore import picture, pixels, save

if not flags.FLAGS.is_parsed():
    flags.FLAGS.mark_as_parsed()


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return tiny_restorer.make(tmp_path_factory.mktemp("runs") / "text", text=True)


@pytest.fixture
def command(run, capsys):
    """Calls the command; gives its status, what it printed, and its errors."""

    def call(*inputs, **values):
        with flagsaver.flagsaver(**{"run": run, "compare": False, **values}):
            status = restore.main(["restore", *map(str, inputs)])
        return status, *capsys.readouterr()

    return call


def test_strengths_by_hand_replace_the_estimates(command, tmp_path):
    source, found = save(tmp_path / "a.png", picture()), []
    for index, given in enumerate(({}, {"noise": 20.0, "blur": 1.5, "jpeg": 30.0})):
        _, said, _ = command(source, out=str(tmp_path / f"{index}.png"), **given)
        facts = json.loads((tmp_path / f"{index}.png.json").read_text())
        assert facts["given"] == given
        found.append((facts["estimates"], pixels(tmp_path / f"{index}.png")))
    (estimates, before), (given, after) = found
    assert (given["sigma"], given["blur"], given["jpeg"], given["shot"]) == (20.0, 1.5, 70.0, 0.0)
    assert given["scale"] == estimates["scale"] and given["error"] > 20
    assert np.abs(before - after).max() > 0
    for words in ("noise 20.0/255 by hand", "blur 1.5 px by hand", "JPEG quality 30 by hand"):
        assert words in said
    none = {"noise": 0.0, "blur": 0.0, "jpeg": 100.0}
    command(source, out=str(tmp_path / "none.png"), **none)
    np.testing.assert_array_equal(pixels(tmp_path / "none.png"), picture())


def test_the_error_follows_what_is_given_by_hand():
    estimate = {"sigma": 10.0, "shot": 6.0, "blur": 0.0, "jpeg": 0.0, "scale": 0.0, "error": 12.0}
    part = picture(192, 192) / np.float32(255)
    noisier = restore_estimate.with_given(estimate, {"sigma": 40.0}, [part])
    assert noisier["error"] == pytest.approx(
        np.sqrt(12**2 - 100 - 36 * part.mean() + 1600), abs=0.1
    )
    worse = [
        restore_estimate.with_given(estimate, {"jpeg": v}, [part])["error"] for v in (20.0, 90.0)
    ]
    softer = [
        restore_estimate.with_given(estimate, {"blur": v}, [part])["error"] for v in (1.0, 3.0)
    ]
    assert 12 < worse[0] < worse[1] and 12 < softer[0] < softer[1]
    middle = restore_estimate.middle([{"sigma": v} for v in (1.0, 9.0, 2.0)])
    assert middle == {"sigma": 2.0}
    asked = instruction_parser.EVERYTHING
    known = {"sigma": 0.0, "blur": 0.0, "scale": 1.0}
    assert restore_instruction.without_absent(asked, known).remove == ("blur", "jpeg")


def test_a_run_that_is_not_conditioned_on_a_strength_refuses_it(tmp_path, command):
    dncnn = tiny_restorer.make(tmp_path / "dncnn", "debug,variant=dncnn,gray")
    source = save(tmp_path / "a.png", picture())
    for values, word in (
        ({"noise": 5.0}, "noise: .* not conditioned"),
        ({"prompt": "x"}, "no text"),
    ):
        with pytest.raises(UserError, match=word):
            command(source, out=str(tmp_path / "b.png"), run=dncnn, **values)
    with pytest.raises(UserError, match="not conditioned"):
        Restorer(reader.load(dncnn))(picture(), given={"sigma": 5.0})


def test_any_size_up_to_four_times(command, tmp_path):
    source = save(tmp_path / "a.png", np.dstack([picture(), picture(channels=1)]))
    for size, scale, note in (
        ("112x80", 2, ""),
        ("140x100", 3, ""),
        ("28x20", 1, ""),
        ("100x100", 3, "changes its proportions"),
    ):
        status, said, _ = command(source, out=str(tmp_path / "b.png"), size=size, overwrite=True)
        width, height = map(int, size.split("x"))
        assert status == 0 and pixels(tmp_path / "b.png").shape == (height, width, 4)
        assert json.loads((tmp_path / "b.png.json").read_text())["scale"] == scale
        assert (note in said) if note else "note" not in said
    status, _, errors = command(source, out=str(tmp_path / "c.png"), size="300x200")
    assert status == 1 and "size=300x200 is more than 4 times its 56x40 pixels" in errors
    assert not (tmp_path / "c.png").exists()
    command(source, out=str(tmp_path / "c.png"), scale=3)
    assert pixels(tmp_path / "c.png").shape == (120, 168, 4)


def test_results_beside_their_images_and_nothing_else(command, tmp_path):
    save(tmp_path / "a.png", picture())
    save(tmp_path / "b_clean.jpg", picture())
    for _ in range(2):  # results are no inputs of a second call
        status, said, _ = command(
            tmp_path, suffix="_clean", manifest=False, overwrite=True, strength=0.5
        )
        assert status == 0 and "restored 2 of 2" in said
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["a.png", "a_clean.png", "b_clean.jpg", "b_clean_clean.jpg"]
    for values, word in (
        ({"suffix": "_x", "out": "c.png"}, "suffix=_x: .*leave out out"),
        ({"suffix": "x/y"}, "without a slash"),
    ):
        with pytest.raises(UserError, match=word):
            command(tmp_path / "a.png", **values)


@pytest.mark.parametrize("kind", ["gif", "png", "webp", "avif"])
def test_every_frame_is_restored_by_one_estimate(command, run, tmp_path, monkeypatch, kind):
    source, out = tmp_path / f"a.{kind}", tmp_path / f"a_restored.{kind}"
    frames = [Image.fromarray(np.roll(picture(), 5 * i, 1)) for i in range(7)]
    durations = [50, 100, 100, 200, 40, 80, 100]
    options = {} if kind == "avif" else {"loop": 3}
    frames[0].save(source, save_all=True, append_images=frames[1:], duration=durations, **options)
    looked, look = [], Restorer.look

    def counted(self, *args):
        looked.append(look(self, *args))
        return looked[-1]

    monkeypatch.setattr(Restorer, "look", counted)
    status, said, _ = command(source)
    assert status == 0 and "56x40, 7 frames" in said and len(looked) == 5
    facts = json.loads((tmp_path / f"a_restored.{kind}.json").read_text())
    middle = np.median([estimate["sigma"] for estimate in looked])
    assert facts["frames"] == 7 and facts["estimates"]["sigma"] == pytest.approx(middle, abs=1e-4)
    with Image.open(source) as before, Image.open(out) as after:
        assert after.n_frames == 7 and after.info.get("loop") == before.info.get("loop")
        for index in range(7):
            before.seek(index), after.seek(index)
            before.load(), after.load()
            assert after.info["duration"] == durations[index]
            change = np.asarray(after.convert("RGB")).astype(int) - before.convert("RGB")
            assert np.abs(change).mean() > 1, "this frame was not restored"
    command(source, out=str(tmp_path / "still.jpg"))
    assert Image.open(tmp_path / "still.jpg").size == (56, 40)


def test_pages_keep_their_sizes_and_depths(command, tmp_path):
    deep = picture(30, 20, dtype=np.uint16)
    pages = [picture()[..., ::-1], deep[..., ::-1], picture(24, 24, 1)[..., 0]]
    cv2.imwritemulti(str(tmp_path / "a.tif"), pages)
    status, said, _ = command(tmp_path / "a.tif", strength=0.0)
    assert status == 0 and "3 pages" in said
    _, written = cv2.imreadmulti(str(tmp_path / "a_restored.tif"), flags=cv2.IMREAD_UNCHANGED)
    for meant, page in zip(pages, written, strict=True):
        np.testing.assert_array_equal(page, meant)
    status, said, _ = command(tmp_path / "a.tif", out=str(tmp_path / "b.png"))
    assert status == 0 and "has 3 pages: PNG holds the first" in said


def test_thirty_sizes_compile_at_most_four_programs(command, run, tmp_path):
    rng = np.random.default_rng(0)
    for index in range(30):
        height, width = (int(v) for v in rng.integers(20, 250 + 100 * (index % 5 == 0), 2))
        height, width = (530, width) if index == 7 else (height, width + 200 * (index == 8))
        save(tmp_path / "in" / f"{index}.png", picture(height, width))
    restorer, compiled = Restorer(reader.load(run)), []

    def listen(name, seconds, **_):
        if name == "/jax/core/compile/backend_compile_duration":
            compiled.append(seconds)

    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        for path in sorted((tmp_path / "in").iterdir()):
            image = np.asarray(Image.open(path))
            assert restorer(image, prompt="denoise").pixels.shape == image.shape
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)
    assert 2 <= len(compiled) <= 4
    small = picture(250, 201)
    estimate = restorer.estimate(small)
    whole, padded = (restorer(small, tile=t, estimate=estimate).pixels for t in (0, None))
    assert np.abs(whole.astype(int) - padded).max() <= 1


def test_heic_becomes_png_or_avif(command, tmp_path):
    pytest.importorskip("pillow_heif").register_heif_opener()
    source = save(tmp_path / "a.heic", picture(64, 64), quality=95)
    status, said, errors = command(source)
    assert status == 0 and not errors and "a_restored.png" in said
    status, said, _ = command(source, out=str(tmp_path / "b.avif"), strength=0.0)
    assert status == 0 and Image.open(tmp_path / "b.avif").format == "AVIF"
    assert np.abs(pixels(tmp_path / "b.avif") - pixels(source)).mean() < 3
    # Where the extra is missing, one line says what to install.
    code = (
        "import sys; sys.modules['pillow_heif'] = None\n"
        "from gen_jax import restore; from absl import flags\n"
        "print(restore.main(flags.FLAGS(sys.argv)), 'jax' in sys.modules)"
    )
    call = [sys.executable, "-c", code, str(source), f"--out={tmp_path}/c.png"]
    done = subprocess.run(call, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["1", "False"] and len(done.stderr.splitlines()) == 1
    assert "holds HEIC" in done.stderr and "pip install pillow-heif" in done.stderr


def test_the_estimate_is_at_least_the_compression_that_a_file_states(command, tmp_path):
    found = {}
    for name, options in {"a.jpg": {"quality": 30}, "b.png": {}}.items():
        Image.fromarray(picture()).save(tmp_path / name, **options)
        command(tmp_path / name, out=str(tmp_path / f"out_{name}.png"))
        command(tmp_path / name, out=str(tmp_path / f"by_hand_{name}.png"), jpeg=60.0)
        for place in (f"out_{name}", f"by_hand_{name}"):
            found[place] = json.loads((tmp_path / f"{place}.png.json").read_text())["estimates"]
    assert found["out_a.jpg"]["jpeg"] == 70.0 and found["out_b.png"]["jpeg"] != 70.0
    assert found["by_hand_a.jpg"]["jpeg"] == found["by_hand_b.png"]["jpeg"] == 40.0
    assert found["out_a.jpg"]["error"] > found["out_b.png"]["error"]


def test_the_blur_of_sampling_is_no_blur_of_the_image():
    kept = restore_estimate.without_aperture({"blur": 0.28, "sigma": 3.0})
    assert kept == {"blur": 0.0, "sigma": 3.0}
    one, two = (restore_estimate.without_aperture({"blur": 1.0}, k)["blur"] for k in (0, 1))
    assert one == pytest.approx((1 - 1 / 12) ** 0.5) and two == pytest.approx((1 - 1 / 3) ** 0.5)
    assert restore_estimate.without_aperture({"sigma": 1.0}) == {"sigma": 1.0}


def test_symmetries_are_averaged_and_replayed(command, run, tmp_path):
    source = save(tmp_path / "a.png", picture())
    found = []
    for count in ("1", "8"):
        out = tmp_path / f"{count}.png"
        command(source, out=str(out), symmetries=count)
        facts = json.loads(out.with_name(f"{count}.png.json").read_text())
        assert facts["symmetries"] == int(count)
        assert restore_settings.how_of(facts).symmetries == int(count)
        found.append(pixels(out))
    assert np.abs(np.float32(found[0]) - found[1]).max() > 0
    with pytest.raises(UserError, match="symmetries=3: expected one of 1, 2, 4, 8"):
        Restorer(reader.load(run))(picture(), symmetries=3)
