"""What is exported is finite, fits its type and reads back as it was written."""

import pathlib

import numpy as np
import pytest

from gen_jax.common.errors import UserError
from gen_jax.runs import export, weights

RUN = pathlib.Path("runs/x")


def test_weights_that_do_not_fit_are_named():
    tree = {"a": np.float32([1, -65519]), "b": {"c": np.float32([65504]), "n": np.int32([3])}}
    half = export.cast(tree, "float16", RUN)
    assert half["a"].dtype == np.float16 and half["b"]["n"].dtype == np.int32
    assert np.isfinite(half["a"]).all()
    tree["b"]["c"] = np.float32([0, -65520])  # the least that becomes infinity
    assert export.cast(tree, "float32", RUN)["b"]["c"][1] == -65520
    with pytest.raises(UserError, match="runs/x: b/c holds 65520, and float16 ends at 65504"):
        export.cast(tree, "float16", RUN)
    for value in (np.nan, np.inf):
        tree["a"][1] = value
        with pytest.raises(UserError, match="runs/x: a is not finite"):
            export.cast(tree, None, RUN)


def test_a_file_that_does_not_read_back_is_named(tmp_path, monkeypatch):
    tree = {"a": {"b": np.float32([[1, 2]]), "c": np.zeros((), np.int32)}}
    export.save(tmp_path / "x.safetensors", tree)
    write = weights.save

    def flips_a_bit(path, tree, metadata):
        write(path, tree, metadata)
        data = bytearray(path.read_bytes())
        data[-1] ^= 1
        path.write_bytes(data)

    monkeypatch.setattr(weights, "save", flips_a_bit)
    with pytest.raises(UserError, match="does not read back as it was written"):
        export.save(tmp_path / "y.safetensors", tree)


def test_eight_bits_come_back_within_half_a_step(tmp_path):
    rng = np.random.default_rng(0)
    tree = {
        "layer": {"kernel": rng.normal(size=(3, 3, 5, 4)), "bias": rng.normal(size=4)},
        "embedding": rng.normal(size=(7, 6)) * rng.uniform(0.01, 10, (7, 1)),
    }
    tree["layer"] = {name: value.astype(np.float32) for name, value in tree["layer"].items()}
    tree["embedding"] = tree["embedding"].astype(np.float32)
    export.save(tmp_path / "x.safetensors", weights.rounded(tree))
    found = weights.load(tmp_path / "x.safetensors")
    np.testing.assert_array_equal(found["layer"]["bias"], tree["layer"]["bias"])
    for value, true, axes in (
        (found["layer"]["kernel"], tree["layer"]["kernel"], (0, 1, 2)),
        (found["embedding"], tree["embedding"], 1),
    ):
        assert value.dtype == np.float32
        step = np.abs(true).max(axes, keepdims=True) / 127  # per output channel, or per row
        assert np.abs(value - true).max() > 0 and (np.abs(value - true) <= 0.501 * step).all()
    assert (tmp_path / "x.safetensors").stat().st_size < 1000
