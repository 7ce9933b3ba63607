"""The published files of DnCNN and FFDNet: their spelling, and what does not fit."""

import itertools
import zipfile

import jax
import numpy as np
import pytest
from safetensors.numpy import save, save_file

from gen_jax.common.errors import UserError
from gen_jax.encoders import files
from gen_jax.encoders.denoiser_files import load_dncnn, load_ffdnet


def state(depth=12, width=4, first=1, last=1):
    rng = np.random.default_rng(0)
    sizes = [first, *[width] * (depth - 1), last]
    out = {}
    for i, (a, b) in enumerate(itertools.pairwise(sizes)):
        out[f"conv{i:02d}.kernel_hwio"] = rng.normal(size=(3, 3, a, b)).astype(np.float32)
        out[f"conv{i:02d}.bias"] = rng.normal(size=b).astype(np.float32)
    return out


def test_sizes_and_kernels_are_the_files(tmp_path):
    weights = state()
    save_file(weights, tmp_path / "a.safetensors")
    module, params = load_dncnn(tmp_path / "a.safetensors")
    assert (module.depth, module.width, module.channels) == (12, 4, 1)
    np.testing.assert_array_equal(params["conv_0"]["kernel"], weights["conv00.kernel_hwio"])
    np.testing.assert_array_equal(params["conv_11"]["bias"], weights["conv11.bias"])
    save_file(state(3, 5, 13, 12), tmp_path / "b.safetensors")
    module, _ = load_ffdnet(tmp_path / "b.safetensors")
    assert (module.depth, module.width, module.channels) == (3, 5, 3)


def test_a_member_of_a_zip_is_a_file(tmp_path):
    weights = state(2)
    with zipfile.ZipFile(tmp_path / "w.zip", "w") as archive:
        archive.writestr("in/a.safetensors", save(weights))
        archive.writestr("cut.safetensors", save(weights)[:-4])
        archive.writestr("tiny.safetensors", b"123")
    found = files.find(f"{tmp_path}/w.zip:in/a.safetensors").state
    assert found.keys() == weights.keys()
    for key, value in weights.items():
        np.testing.assert_array_equal(found[key], value)
    for member, word in (
        ("b.safetensors", "it has cut.safetensors, in/a.safetensors"),
        ("cut.safetensors", "cut short or damaged"),
        ("tiny.safetensors", "cut short"),
        ("in/a.pth", "holds no"),
    ):
        with pytest.raises(UserError, match=word):
            files.find(f"{tmp_path}/w.zip:{member}")


def change(**changes):
    return {k: v for k, v in {**state(4), **changes}.items() if v is not None}


@pytest.mark.parametrize(
    "load,weights,word",
    [
        (load_dncnn, {"model.0.weight": np.zeros(3)}, "holds model.0.weight: expected the weights"),
        (load_dncnn, change(**{"conv02.kernel_hwio": None}), "1 keys missing: conv02.kernel_hwio"),
        (load_dncnn, change(extra=np.zeros(2)), "1 keys unexpected: extra"),
        (load_dncnn, change(**{"conv01.bias": np.zeros(7)}), r"conv01.bias \(7,\), not \(4,\)"),
        (load_dncnn, state(4, 4, 5, 4), r"conv00.kernel_hwio \(3, 3, 5, 4\), not \(3, 3, 4, 4\)"),
        (load_ffdnet, state(4), r"conv00.kernel_hwio \(3, 3, 1, 4\), not \(3, 3, 5, 4\)"),
    ],
)
def test_what_does_not_fit_is_named(load, weights, word, tmp_path):
    save_file(weights, tmp_path / "a.safetensors")
    with pytest.raises(UserError, match=word):
        load(tmp_path / "a.safetensors")


PUBLISHED = {
    "dncnn_gray_sigma25": (17, 64, 1, 555_137),
    "dncnn_color_blind": (20, 64, 3, 668_227),
    "ffdnet_gray": (15, 64, 1, 485_316),
    "ffdnet_color": (12, 96, 3, 852_108),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_files_load(shared, name):
    load = load_ffdnet if name.startswith("ffdnet") else load_dncnn
    module, params = load(f"{shared}/weights_small.zip:{name}.safetensors")
    count = sum(v.size for v in jax.tree.leaves(params))
    assert (module.depth, module.width, module.channels, count) == PUBLISHED[name]
    assert all(np.isfinite(v).all() for v in jax.tree.leaves(params))
