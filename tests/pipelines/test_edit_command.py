"""The command that changes images, on a pipeline in diffusers' layout."""

import json

import numpy as np
import pytest
from PIL import Image

from gen_jax.common import checksum
from tests import tiny_pipelines
from tests.forks import call
from tests.processes import one_line_error


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tiny_pipelines.write(tmp_path_factory.mktemp("pipeline") / "sd1", "sd1")


def save(path, array):
    Image.fromarray(array).save(path)
    return path


def test_the_command_changes_images_and_says_of_what(folder, tmp_path):
    draw = np.random.default_rng(0)
    images = [
        save(tmp_path / f"{i}.png", draw.integers(0, 256, (16, 24, 3), np.uint8)) for i in range(2)
    ]
    white = np.zeros((16, 24), np.uint8)
    white[4:12, 8:16] = 255
    mask, out = save(tmp_path / "mask.png", white), tmp_path / "out"
    result = call(
        "generate",
        f"--run={folder}",
        "--prompt=a cat",
        *(f"--image={path}" for path in images),
        f"--mask={mask}",
        "--strength=0.5",
        "--size=24x16",
        "--num=2",
        "--seed=3",
        "--steps=2",
        f"--out={out}",
    )
    assert result.returncode == 0, result.stderr[-3000:]
    for index in range(4):
        manifest = json.loads((out / f"0000{index}.json").read_text())
        image = images[index // 2]
        assert (manifest["image"], manifest["mask"]) == (str(image), str(mask))
        assert manifest["image_sha256"] == checksum.of_file(image)
        assert manifest["mask_sha256"] == checksum.of_file(mask)
        assert (manifest["strength"], manifest["size"]) == (0.5, [24, 16])
        assert manifest["composite"] is True and manifest["seed"] == 3 + index
        changed, given = (np.asarray(Image.open(p)) for p in (out / f"0000{index}.png", image))
        np.testing.assert_array_equal(changed[white == 0], given[white == 0])
        assert np.abs(changed[white > 0].astype(int) - given[white > 0]).mean() > 10
    again = call("verify", str(out), "--replay")
    lines = again.stdout.splitlines()
    assert again.returncode == 0 and lines[-1] == "4 of 4 are valid", again.stdout + again.stderr
    assert sum("replay: bit-exact" in line for line in lines) >= 2


def test_the_command_refuses_a_strength_below_one_step(folder, tmp_path):
    image = save(tmp_path / "a.png", np.zeros((16, 16, 3), np.uint8))
    asked = ("--prompt=a cat", f"--image={image}", "--strength=0.1", "--steps=4")
    result = call("generate", f"--run={folder}", *asked, f"--out={tmp_path / 'out'}")
    assert "strength=0.1: less than one of the 4 steps" in one_line_error(result)
