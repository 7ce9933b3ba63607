"""LPIPS and its backbones against lpips and stlpips."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
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
    alex, vgg, squeeze = (torch_shapes(LPIPS(n), PORTS[n]) for n in ("alex", "vgg", "squeeze"))
    assert alex["features.0.weight"] == (64, 3, 11, 11) and alex["features.10.bias"] == (256,)
    places = [0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28]
    wanted = {f"features.{i}.{k}" for i in places for k in ("weight", "bias")}
    assert wanted | {f"lin{i}.model.1.weight" for i in range(5)} == set(vgg)
    assert squeeze["features.12.expand3x3.weight"] == (256, 64, 3, 3)
    assert len(squeeze) == 2 * (1 + 3 * 8) + 7
    # A whole file of torchvision's loads, its classifier left aside.
    state = {k: np.zeros(s, np.float32) for k, s in squeeze.items() if not k.startswith("lin")}
    state["classifier.1.weight"] = np.zeros((1000, 512, 1, 1), np.float32)
    flax_from_torch(state, param_shapes(LPIPS("squeeze"))["net"], backbones.TORCHVISION)


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
        keys = torch_shapes(LPIPS(net), PORTS[net])
        state = {k: np.broadcast_to(np.float32(0), s) for k, s in keys.items()} | heads
        params = flax_from_torch(state, param_shapes(LPIPS(net)), PORTS[net])
        assert all((params[f"lin{i}"]["kernel"] >= 0).all() for i in range(len(heads)))
