"""FID's Inception-v3 against pytorch-fid, and the two ways to its input."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from convolutional_cases import check, count, golden, script, seeded, torch_shapes
from PIL import Image

from gen_jax.common.errors import UserError
from gen_jax.encoders.inception import PORT, InceptionV3, average_inside
from gen_jax.encoders.inception_inputs import clean_fid_inputs, clean_resize, pytorch_fid_inputs


@pytest.fixture(scope="module")
def variables():
    return seeded(InceptionV3(), PORT)


def thinned(x):
    return script().thinned(np.asarray(x))


@pytest.mark.slow
def test_taps_and_slopes_are_pytorch_fids(variables):
    want, size = golden("inception"), script().INCEPTION_SIZE

    @jax.jit
    def compute(variables, x):
        def total(x):
            taps = InceptionV3().apply(variables, x)
            names = [f"inception.tap{i}" for i in range(len(taps))]
            weights = [script().direction(n, t.shape) for n, t in zip(names, taps)]
            return sum((t * w).sum() for t, w in zip(taps, weights)), taps

        return jax.grad(total, has_aux=True)(x)

    slope, taps = compute(variables, jnp.asarray(script().images("inception.x", size)))
    for i, tap in enumerate(taps):
        check(f"inception.{taps._fields[i]}", thinned(tap), want[f"tap{i}"], 1e-4)
    check("inception.slope", thinned(slope), want["slope"], 1e-3)


def resized(size):
    """The golden case of images of this size, and their inputs to the network."""
    name = f"inception_{size[0]}"
    images = jnp.asarray((script().images(f"{name}.x", size)[:1] + 1) / 2)
    x = jax.jit(pytorch_fid_inputs)(images)
    assert x.shape == (1, 299, 299, 3)
    check(f"{name}.resized", thinned(x), golden(name)["resized"], 1e-4)
    return name, x


@pytest.mark.slow
def test_images_are_resized_as_pytorch_fid_does():
    for size in script().RESIZED_FROM:
        resized(size)


@pytest.mark.nightly
def test_resized_images_give_pytorch_fids_taps(variables):
    apply = jax.jit(InceptionV3().apply)
    for size in script().RESIZED_FROM:
        name, x = resized(size)
        taps = apply(variables, x)
        shapes = [tap.shape[1:] for tap in taps]
        assert shapes == [(73, 73, 64), (35, 35, 192), (17, 17, 768), (2048,), (1008,)]
        for i, tap in enumerate(taps):
            check(f"{name}.{taps._fields[i]}", thinned(tap), golden(name)[f"tap{i}"], 1e-4)


@pytest.mark.slow
def test_parameter_count_is_the_published_one():
    # torchvision's inception_v3 has 27,161,264: less the auxiliary head, plus eight classes.
    auxiliary = 768 * 128 + 2 * 128 + 128 * 768 * 25 + 2 * 768 + 769 * 1000
    assert count(InceptionV3()) == (27_161_264 - auxiliary + 8 * 2049, 34_432)
    assert count(InceptionV3())[0] == 23_850_960


@pytest.mark.slow
def test_files_are_spelt_as_pytorch_fids():
    shapes = torch_shapes(InceptionV3(), PORT)
    assert len(shapes) == 94 * 5 + 2
    for key, shape in (
        ("Conv2d_1a_3x3.conv.weight", (32, 3, 3, 3)),
        ("Mixed_5b.branch5x5_2.bn.running_mean", (64,)),
        ("Mixed_6a.branch3x3.conv.weight", (384, 288, 3, 3)),
        ("Mixed_6b.branch7x7_2.conv.weight", (128, 128, 1, 7)),
        ("Mixed_6e.branch7x7dbl_4.conv.weight", (192, 192, 7, 1)),
        ("Mixed_7a.branch7x7x3_4.bn.running_var", (192,)),
        ("Mixed_7c.branch3x3dbl_3b.conv.weight", (384, 384, 3, 1)),
        ("Mixed_7b.branch_pool.bn.weight", (192,)),
        ("fc.weight", (1008, 2048)),
    ):
        assert shapes[key] == shape


@pytest.mark.slow
def test_averages_leave_the_outside_out():
    x = jnp.arange(9.0).reshape(1, 3, 3, 1)
    got = average_inside(x)[0, :, :, 0]
    np.testing.assert_allclose(got, [[2, 2.5, 3], [3.5, 4, 4.5], [5, 5.5, 6]], rtol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("side", [299, 24])
def test_clean_resize_is_a_bicubic_that_neither_rounds_nor_clips(side):
    image = np.random.default_rng(0).integers(0, 256, (61, 40, 3), np.uint8)
    got = clean_resize(image, side)
    assert got.shape == (side, side, 3) and got.dtype == np.float32
    # Another implementation of the same kernel, widened where the picture shrinks.
    want = jax.image.resize(jnp.asarray(image, jnp.float32), (side, side, 3), "cubic")
    check(f"clean_resize to {side}", got, np.asarray(want), 1e-5)
    assert np.array_equal(got, clean_resize(image.astype(np.float64), side))
    if side == 299:
        assert got.min() < 0 and got.max() > 255
        # In whole numbers Pillow rounds, twice, and cuts off what overshoots.
        mild = image // 4 + 96
        whole = Image.fromarray(mild).resize((side, side), Image.Resampling.BICUBIC)
        assert 0.4 < np.abs(clean_resize(mild) - np.asarray(whole)).max() < 1.5
        scaled = clean_fid_inputs(np.stack([got]))
        np.testing.assert_allclose(scaled[0], (got - 128) / 128, rtol=1e-6)


@pytest.mark.slow
def test_only_clean_resize_filters_what_a_small_picture_cannot_hold():
    stripes = np.zeros((8, 1200, 3), np.uint8)
    stripes[:, ::2] = 255
    assert np.abs(clean_resize(stripes)[:, 10:-10] - 127.5).max() < 10
    other = (pytorch_fid_inputs(jnp.asarray(stripes[None] / 255, jnp.float32)) + 1) * 127.5
    assert np.std(other) > 20


@pytest.mark.slow
def test_images_that_are_too_small_are_refused():
    with pytest.raises(UserError, match="at least 75 pixels"):
        jax.eval_shape(InceptionV3().init, jax.random.key(0), jnp.zeros((1, 74, 99, 3)))
