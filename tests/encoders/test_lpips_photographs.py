"""The shift-tolerant LPIPS with its published weights on photographs."""

import functools
import io
import zipfile

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.ndimage
from convolutional_cases import param_shapes, real_weights
from PIL import Image

from gen_jax.encoders import lpips_backbones as backbones
from gen_jax.encoders.lpips import LPIPS, PORTS
from gen_jax.encoders.weights import flax_from_torch


def degraded(photo, kind, strength):
    """A photograph, uint8, made worse; strengths 0 to 3."""
    if kind == "noise":
        noise = np.random.default_rng(0).standard_normal(photo.shape)
        bad = photo + (5, 15, 30, 60)[strength] * noise
    elif kind == "blur":
        sigma = (0.6, 1.2, 2.4, 4.8)[strength]
        bad = scipy.ndimage.gaussian_filter(photo.astype(np.float64), (sigma, sigma, 0))
    else:
        file = io.BytesIO()
        Image.fromarray(photo).save(file, "JPEG", quality=(80, 40, 15, 5)[strength])
        bad = np.asarray(Image.open(file))
    return np.clip(np.round(bad), 0, 255).astype(np.uint8)


@functools.cache
def distances():
    return jax.jit(LPIPS("st_alex").apply)


def orders_by_severity(shared, folder, number):
    """Of `number` photographs, the share of the steps to a worse copy that cost distance."""
    file = real_weights(shared, folder, "stlpips_alex_backbone")
    # The kernel that the code has as a constant is the file's.
    for key in (k for k in file if k.endswith(".filt")):
        row = np.array([1, 2, 1]) / 4
        np.testing.assert_allclose(file[key], np.broadcast_to(np.outer(row, row), file[key].shape))
    shift, scale = (file[f"scaling_layer.{k}"].reshape(1, 1, 1, 3) for k in ("shift", "scale"))
    grid = np.linspace(-1, 1, 12, dtype=np.float32).reshape(1, 2, 2, 3)
    want = (grid - shift) / scale
    np.testing.assert_allclose(backbones.scaled(jnp.asarray(grid)), want, rtol=1e-6)

    params = flax_from_torch(file, param_shapes(LPIPS("st_alex")), PORTS["st_alex"])
    distance = distances()
    right = {kind: [] for kind in ("noise", "blur", "jpeg")}
    with zipfile.ZipFile(shared / "bsds432_train_color.zip") as archive:
        names = sorted(n for n in archive.namelist() if "/train/" in n)[:number]
        assert len(names) == number
        for name in names:
            photo = np.asarray(Image.open(io.BytesIO(archive.read(name))).convert("RGB"))
            photo = photo[64:160, 96:192]
            for kind, results in right.items():
                worse = np.stack([degraded(photo, kind, s) for s in range(4)])
                both = [jnp.asarray(v / 127.5 - 1, jnp.float32) for v in (worse, worse * 0 + photo)]
                d = np.asarray(distance({"params": params}, *both))
                results.extend(np.diff(np.concatenate([[0], d])) > 0)
    shares = {kind: float(np.mean(results)) for kind, results in right.items()}
    print(f"st_alex on {number} photographs: {shares}")
    return shares


@pytest.mark.slow
def test_shift_tolerant_distance_orders_degraded_photographs(shared, tmp_path):
    assert orders_by_severity(shared, tmp_path, 4) == {"noise": 1, "blur": 1, "jpeg": 1}


@pytest.mark.nightly
def test_shift_tolerant_distance_orders_200_degraded_photographs(shared, tmp_path):
    assert min(orders_by_severity(shared, tmp_path, 200).values()) >= 0.99


@pytest.mark.slow
def test_shift_tolerant_distance_hardly_sees_a_shift(shared, tmp_path):
    file = real_weights(shared, tmp_path, "stlpips_alex_backbone")
    params = flax_from_torch(file, param_shapes(LPIPS("st_alex")), PORTS["st_alex"])
    with zipfile.ZipFile(shared / "bsds432_train_color.zip") as archive:
        photo = Image.open(io.BytesIO(archive.read("bsds432/train/100075.jpg"))).convert("RGB")
    photo = np.asarray(photo)
    still, moved = photo[64:160, 96:192], photo[64:160, 97:193]
    noisy = degraded(still, "noise", 2)
    x, y = (
        jnp.asarray(np.stack(v) / 127.5 - 1, jnp.float32)
        for v in ([still] * 4, [moved, noisy, still, still])  # four: the other test's program
    )
    shifted, spoilt, *equal = distances()({"params": params}, x, y)
    np.testing.assert_array_equal(equal, 0)
    print(f"one pixel {shifted:.4f}, noise {spoilt:.4f}")
    assert shifted < spoilt / 4
