"""LPIPS and its backbones against lpips and stlpips, and on photographs with real weights."""

import functools
import io
import itertools
import zipfile

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.ndimage
from convolutional_cases import (
    check,
    count,
    golden,
    param_shapes,
    real_weights,
    script,
    seeded,
    torch_shapes,
)
from PIL import Image

from gen_jax.common.errors import UserError
from gen_jax.encoders import lpips_backbones as backbones
from gen_jax.encoders.lpips import BACKBONES, LPIPS, PORTS, unit
from gen_jax.encoders.weights import flax_from_torch

# Compiling whole towers takes minutes: with the slow tests.
pytestmark = pytest.mark.slow

PUBLISHED = {"alex": 2_469_696, "vgg": 14_714_688, "squeeze": 722_496, "st_alex": 2_469_696}


@functools.cache
def drawn(net):
    return seeded(LPIPS(net), PORTS[net], script().torchvision_name)


def pair(net):
    return (jnp.asarray(script().images(f"{net}.{which}", script().SIZE)) for which in "xy")


@functools.cache
def compiled(net):
    """(variables, x, y) -> taps of x, distances, and their slope by x."""

    @jax.jit
    def compute(variables, x, y):
        def total(x):
            distance = LPIPS(net).apply(variables, x, y)
            return distance.sum(), distance

        slope, distance = jax.grad(total, has_aux=True)(x)
        taps = BACKBONES[net]().apply({"params": variables["params"]["net"]}, x)
        return taps, distance, slope

    return compute


@pytest.mark.parametrize("net", BACKBONES)
def test_taps_distances_and_slopes_are_those_of_lpips(net):
    want = golden(net)
    taps, distance, slope = compiled(net)(drawn(net), *pair(net))
    assert tuple(tap.shape[-1] for tap in taps) == script().CHANNELS[net]
    assert BACKBONES[net].tap_channels == script().CHANNELS[net]
    for i, tap in enumerate(taps):
        check(f"{net}.tap{i}", script().thinned(np.asarray(tap)), want[f"tap{i}"], 1e-4)
    check(f"{net}.distance", distance, want["distance"], 1e-4)
    check(f"{net}.slope", script().thinned(np.asarray(slope)), want["slope"], 1e-3)


@pytest.mark.parametrize("net", PUBLISHED)
def test_parameter_counts_are_the_published_ones(net):
    assert count(BACKBONES[net]()) == (PUBLISHED[net], 0)
    heads = sum(BACKBONES[net].tap_channels)
    assert count(LPIPS(net)) == (PUBLISHED[net] + heads, 0)


def test_with_the_classifiers_they_are_the_whole_networks():
    dense = {"alex": (9216, 4096, 4096, 1000), "vgg": (25088, 4096, 4096, 1000)}
    whole = {"alex": 61_100_840, "vgg": 138_357_544, "squeeze": 1_235_496}
    dense["squeeze"] = (512, 1000)
    for net, sizes in dense.items():
        classifier = sum((a + 1) * b for a, b in itertools.pairwise(sizes))
        assert PUBLISHED[net] + classifier == whole[net]


def test_files_are_spelt_as_torchvisions():
    alex = torch_shapes(backbones.AlexNet(), backbones.TORCHVISION)
    assert alex["features.0.weight"] == (64, 3, 11, 11) and alex["features.10.bias"] == (256,)
    vgg = torch_shapes(backbones.VGG16(), backbones.TORCHVISION)
    places = [0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28]
    assert sorted(vgg) == sorted(f"features.{i}.{k}" for i in places for k in ("weight", "bias"))
    squeeze = torch_shapes(backbones.SqueezeNet(), backbones.TORCHVISION)
    assert squeeze["features.12.expand3x3.weight"] == (256, 64, 3, 3)
    assert len(squeeze) == 2 * (1 + 3 * 8)
    # A whole file of torchvision's loads, its classifier left aside.
    state = {k: np.zeros(s, np.float32) for k, s in squeeze.items()}
    state["classifier.1.weight"] = np.zeros((1000, 512, 1, 1), np.float32)
    shapes = param_shapes(backbones.SqueezeNet())
    flax_from_torch(state, shapes, backbones.TORCHVISION)


def test_a_distance_is_symmetric_zero_between_equals_and_each_pairs_own():
    variables, (x, y) = drawn("alex"), pair("alex")

    def distance(x, y):
        return np.asarray(compiled("alex")(variables, x, y)[1])

    there = distance(x, y)
    assert (there > 0).all()
    np.testing.assert_allclose(distance(y, x), there, rtol=1e-5)
    np.testing.assert_array_equal(distance(x, x), 0)
    np.testing.assert_allclose(distance(x[::-1], y[::-1]), there[::-1], rtol=1e-5)


def test_slopes_are_finite_where_all_features_are_zero():
    dead = jax.tree.map(np.zeros_like, drawn("alex"))
    _, distance, slope = compiled("alex")(dead, *pair("alex"))
    np.testing.assert_array_equal(distance, 0)
    np.testing.assert_array_equal(slope, 0)
    row = jnp.zeros((1, 1, 2, 3)).at[0, 0, 1].set(jnp.array([3.0, 0.0, 4.0]))
    np.testing.assert_allclose(unit(row)[0, 0], [[0, 0, 0], [0.6, 0, 0.8]], rtol=1e-6)
    assert np.isfinite(jax.grad(lambda v: unit(v).sum())(row)).all()


def test_mistakes_are_named():
    for net, tower in BACKBONES.items():
        with pytest.raises(UserError, match=f"at least {tower.least_size} pixels"):
            jax.eval_shape(LPIPS(net).init, jax.random.key(0), *2 * [jnp.zeros((1, 99, 8, 3))])
        param_shapes(LPIPS(net))  # the least size is enough
    with pytest.raises(UserError, match=r"LPIPS\.net='resnet'"):
        param_shapes(LPIPS("resnet"))


def test_published_heads_fit_their_towers(shared, tmp_path):
    for net in ("alex", "vgg", "squeeze"):
        heads = real_weights(shared, tmp_path, f"lpips_lin_v0.1_{net}")
        towers = torch_shapes(BACKBONES[net](), backbones.TORCHVISION)
        state = {k: np.broadcast_to(np.float32(0), s) for k, s in towers.items()} | heads
        params = flax_from_torch(state, param_shapes(LPIPS(net)), PORTS[net])
        assert all((params[f"lin{i}"]["kernel"] >= 0).all() for i in range(len(heads)))


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


def test_shift_tolerant_distance_orders_degraded_photographs(shared, tmp_path):
    assert orders_by_severity(shared, tmp_path, 4) == {"noise": 1, "blur": 1, "jpeg": 1}


def test_shift_tolerant_distance_orders_200_degraded_photographs(shared, tmp_path):
    assert min(orders_by_severity(shared, tmp_path, 200).values()) >= 0.99


def test_shift_tolerant_distance_hardly_sees_a_shift(shared, tmp_path):
    file = real_weights(shared, tmp_path, "stlpips_alex_backbone")
    params = flax_from_torch(file, param_shapes(LPIPS("st_alex")), PORTS["st_alex"])
    with zipfile.ZipFile(shared / "bsds432_train_color.zip") as archive:
        photo = Image.open(io.BytesIO(archive.read("bsds432/train/100075.jpg"))).convert("RGB")
    photo = np.asarray(photo)
    still, moved = photo[64:192, 96:224], photo[64:192, 97:225]
    noisy = degraded(still, "noise", 2)
    x, y = (
        jnp.asarray(np.stack(v) / 127.5 - 1, jnp.float32) for v in ([still] * 2, [moved, noisy])
    )
    shifted, spoilt = jax.jit(LPIPS("st_alex").apply)({"params": params}, x, y)
    print(f"one pixel {shifted:.4f}, noise {spoilt:.4f}")
    assert shifted < spoilt / 4
