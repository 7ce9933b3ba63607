"""The golden files made again by the published code that is installed: `pytest -m nightly`.

The quick and slow tests compare this package with the golden files. Here the golden files are
compared with their origins, so that both together compare this package with those.
"""

import json

import numpy as np
import pytest

from tests.tiny_text import golden_script

pytestmark = pytest.mark.nightly

# Script -> the modules that it imports beside torch.
SCRIPTS = {
    "make_convolutional": ("torchvision", "lpips", "pytorch_fid", "stlpips_pytorch"),
    "make_diffusers": ("diffusers",),
    "make_diffusion": ("diffusers",),
    "make_edits": ("diffusers", "transformers"),
    "make_lora": ("diffusers", "peft", "transformers"),
    "make_schedulers": ("diffusers",),
    "make_pipelines": ("diffusers", "transformers"),
    "make_scunet": ("spandrel",),
    "make_transformers": ("transformers",),
}
TOLERANCE = 1e-4  # of the largest value of an array, as for the ports


@pytest.fixture(autouse=True)
def one_thread():
    """Has PyTorch add in one order: the deepest maps differ by 1e-5 between one thread and two."""
    torch = pytest.importorskip("torch")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def archive(shared):
    return str(shared / "weights_small.zip")


def made_by(name, modules):
    """Returns the script, or skips with the name of what is missing."""
    for module in modules:
        pytest.importorskip(module, exc_type=ImportError)
    return golden_script(name)


def relative_difference(got, want):
    assert got.shape == want.shape
    scale = max(float(np.abs(want).max(initial=0)), 1e-30)
    return float(np.abs(got.astype(np.float64) - want).max(initial=0)) / scale


@pytest.mark.parametrize("name", SCRIPTS)
def test_published_code_computes_what_is_stored(name):
    script = made_by(name, SCRIPTS[name])
    for file, arrays in script.golden_files().items():
        with np.load(script.pathlib.Path(script.__file__).with_name(f"{file}.npz")) as stored:
            worst = 0.0
            for key, got in arrays.items():
                if stored[key].dtype.kind == "U":
                    assert json.loads(str(got)) == json.loads(str(stored[key])), key
                    continue
                worst = max(worst, relative_difference(got, stored[key]))
                assert worst <= TOLERANCE, (key, worst)
        print(f"{file}: {len(arrays)} arrays, worst relative difference {worst:.1e}")


def test_published_tokenizers_give_the_stored_ids(archive):
    script = made_by("make_tokenizers", ("open_clip", "transformers"))
    made = script.golden_files(archive)["tokenizers"]
    with np.load(script.HERE / "tokenizers.npz") as stored:
        # Which code points have a name depends on Python's version: so do the strings.
        if not np.array_equal(made["text"], stored["text"]):
            pytest.skip("this Python has other Unicode tables than the one that drew the strings")
        for key, got in made.items():
            np.testing.assert_array_equal(got, stored[key], err_msg=key)


def test_the_published_face_detector_gives_the_stored_boxes(archive):
    script = made_by("make_mtcnn", ("facenet_pytorch",))
    made, stored = script.detected(archive), json.loads(script.FILE.read_text())
    for got, want in zip(made, stored, strict=True):
        for key in ("boxes", "points"):
            np.testing.assert_allclose(got[key], want[key], atol=1e-3)
