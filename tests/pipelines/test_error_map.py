"""Maps of the expected error: beside the right restorer, of any size, and in the manifest."""

import dataclasses
import json
import shutil

import jax
import numpy as np
import pytest
from absl import flags
from absl.testing import flagsaver
from PIL import Image

from configs import restore_error
from gen_jax import restore
from gen_jax.common import config as config_lib
from gen_jax.common.errors import UserError
from gen_jax.pipelines import error_map
from gen_jax.pipelines.error_map import ErrorEstimator
from gen_jax.pipelines.restoration import Restorer
from gen_jax.provenance import maps
from gen_jax.runs import layout, reader, weights
from gen_jax.tasks import build_task
from tests import tiny_restorer
from tests.processes import call, one_line_error
from tests.test_restore import picture

if not flags.FLAGS.is_parsed():
    flags.FLAGS.mark_as_parsed()


def head_run(folder, first_stage):
    """Writes a run of random numbers behind a restorer."""
    folder.mkdir()
    config = restore_error.get_config("debug").unlock()
    config.requires = {}
    config.frozen.first_stage = str(first_stage)
    (folder / layout.CONFIG).write_text(config_lib.to_json(config))
    restorer = reader.load(str(first_stage)).task
    task = build_task(config.task.to_dict(), {"first_stage": restorer})
    spec = {k: np.zeros((1, *v.shape), v.dtype) for k, v in task.batch_spec().items()}
    params, _ = jax.jit(task.init)(jax.random.key(0), spec)
    weights.save(folder / layout.WEIGHTS, {"params": jax.device_get(params)})
    return str(folder)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    first = tiny_restorer.make(folder / "first", text=True)
    return first, head_run(folder / "head", first)


def test_the_map_is_that_of_the_whole_and_zero_where_nothing_changed(runs):
    restorer = Restorer(reader.load(runs[0]))
    estimator = ErrorEstimator(reader.load(runs[1]), restorer)
    image = np.random.default_rng(0).integers(0, 256, (40, 600, 3)).astype(np.uint8)
    result = restorer(image)
    error = estimator(image, result)
    assert error.shape == (40, 600) and (error > 0).all()
    gray = estimator(image[..., :1], restorer(image[..., :1], scale=2), scale=2)
    assert gray.shape == (80, 1200)
    part = dataclasses.replace(result, pixels=result.pixels[:, :96])
    np.testing.assert_allclose(estimator(image[:, :96], part)[:, :64], error[:, :64], atol=1e-3)
    assert not estimator(image, restorer(image, prompt="leave it as it is")).any()


def test_the_command_writes_it_beside_the_image(runs, tmp_path, capsys):
    Image.fromarray(picture()).save(tmp_path / "a.png")

    def write(**values):
        given = {"run": runs[0], "compare": False, "out": str(tmp_path / "out.png"), **values}
        with flagsaver.flagsaver(**given):
            return restore.main(["restore", str(tmp_path / "a.png")])

    assert write(maps=True, error_run=runs[1]) == 0, capsys.readouterr()
    facts = json.loads((tmp_path / "out.png.json").read_text())["maps"]
    assert facts["error"]["file"] == "out.png.error.png" and facts["error"]["mean"] > 0
    with Image.open(tmp_path / "out.png.error.png") as image:
        assert image.size == picture().shape[1::-1] and image.mode == "I;16"
    assert Image.open(tmp_path / "out.png.error_preview.png").mode == "RGB"
    assert json.loads((tmp_path / "out.png.json").read_text())["calibration"] is None
    assert "trusted" not in facts["error"]
    with pytest.raises(UserError, match="--error_run goes with --maps"):
        write(error_run=runs[1])


def test_a_calibration_belongs_to_its_weights(runs, tmp_path):
    model = reader.load(shutil.copytree(runs[1], str(tmp_path / "run")))
    restorer = Restorer(reader.load(runs[0]))
    assert ErrorEstimator(model, restorer).calibration is None
    path = tmp_path / "run" / error_map.CALIBRATION
    values = {"threshold": 2.0, "weights_sha256": model.digest}
    path.write_text(json.dumps(values))
    assert ErrorEstimator(model, restorer).calibration == values
    path.write_text(json.dumps({**values, "weights_sha256": "0" * 64}))
    with pytest.raises(UserError, match="a calibration of other weights"):
        ErrorEstimator(model, restorer)
    error = np.array([[1.0, 3.0]], np.float32)
    assert maps.error_maps(error, 2.0)[0].facts["trusted"] == 0.5


def test_evaluate_writes_a_calibration(runs, tmp_path):
    (tmp_path / "images").mkdir()
    for index in range(3):
        noise = np.random.default_rng(index).integers(0, 256, (40, 48, 3)).astype(np.uint8)
        Image.fromarray(noise).save(tmp_path / "images" / f"{index}.png")
    out = tmp_path / "calibration.json"
    given = ("--calibrate", f"--run={runs[1]}", f"--out={out}")
    images = f"--images={tmp_path / 'images'}"
    said = one_line_error(call("evaluate", *given, images))
    assert "n too small: alpha=0.1 needs at least 9 images" in said and not out.exists()
    done = call("evaluate", *given, images, "--alpha=0.4", "--degradation=denoise25")
    assert done.returncode == 0 and "threshold" in done.stdout, done.stderr
    written = json.loads(out.read_text())
    assert written["n"] == 3 and written["alpha"] == 0.4 and written["coverage"] is None
    assert written["weights_sha256"] == reader.load(runs[1]).digest
    assert "--calibrate needs" in one_line_error(call("evaluate", *given))


def test_another_restorer_or_stage_is_refused(runs, tmp_path):
    restorer = Restorer(reader.load(runs[0]))
    other = Restorer(reader.load(tiny_restorer.make(tmp_path / "other", text=True, size=0.2)))
    with pytest.raises(UserError, match="trained on the errors of another restorer"):
        ErrorEstimator(reader.load(runs[1]), other)
    with pytest.raises(UserError, match="a run of another stage, which expects no errors"):
        ErrorEstimator(reader.load(runs[0]), restorer)
