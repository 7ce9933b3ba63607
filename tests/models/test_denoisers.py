"""DnCNN and FFDNet against convolutions written out in NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gen_jax.encoders.diffusers_folder import param_shapes
from gen_jax.models.dncnn import DnCNN
from gen_jax.models.ffdnet import FFDNet, depth_to_space, space_to_depth


def drawn(module):
    rng = np.random.default_rng(0)
    return jax.tree.map(
        lambda s: rng.normal(0, 0.3, s.shape).astype(np.float32), param_shapes(module)
    )


def stack(x, params):
    """3x3 convolutions of one image [h, w, c] with zeros around it, ReLU between them."""
    for i in range(len(params)):
        kernel, bias = (np.float64(params[f"conv_{i}"][k]) for k in ("kernel", "bias"))
        h, w = x.shape[:2]
        padded = np.pad(x, ((1, 1), (1, 1), (0, 0)))
        x = bias + sum(
            padded[r : r + h, c : c + w] @ kernel[r, c] for r in range(3) for c in range(3)
        )
        if i < len(params) - 1:
            x = np.maximum(x, 0)
    return x


def test_dncnn_takes_off_what_its_convolutions_give():
    module = DnCNN(depth=3, width=5, channels=2)
    params = drawn(module)
    x = np.random.default_rng(1).uniform(0, 1, (2, 6, 7, 2)).astype(np.float32)
    have = jax.jit(module.apply)({"params": params}, x)
    want = np.stack([image - stack(image, params) for image in x])
    np.testing.assert_allclose(have, want, atol=2e-6)


@pytest.mark.parametrize("h,w", [(6, 8), (5, 7)])
def test_ffdnet_works_on_blocks_and_a_plane_of_noise(h, w):
    module = FFDNet(depth=3, width=5, channels=3)
    params = drawn(module)
    x = np.random.default_rng(1).uniform(0, 1, (2, h, w, 3)).astype(np.float32)
    sigma = np.array([0.1, 0.3], np.float32)
    have = jax.jit(module.apply)({"params": params}, x, sigma)
    assert have.shape == x.shape
    for image, level, result in zip(x, sigma, have):
        even = image[np.minimum(np.arange(h + h % 2), h - 1)]
        even = even[:, np.minimum(np.arange(w + w % 2), w - 1)]
        order = [(k, r, c) for k in range(3) for r, c in ((0, 0), (1, 0), (0, 1), (1, 1))]
        blocks = [even[r::2, c::2, k] for k, r, c in order]
        y = stack(np.stack([*blocks, np.full_like(blocks[0], level)], -1), params)
        want = np.zeros(even.shape)
        for i, (k, r, c) in enumerate(order):
            want[r::2, c::2, k] = y[..., i]
        np.testing.assert_allclose(result, want[:h, :w], atol=2e-6)


def test_blocks_and_back():
    x = jnp.arange(2 * 4 * 6 * 3.0).reshape(2, 4, 6, 3)
    np.testing.assert_array_equal(depth_to_space(space_to_depth(x)), x)


def test_parameter_counts():
    for module, count in ((DnCNN(), 555_137), (FFDNet(depth=12, width=96, channels=3), 852_108)):
        assert sum(np.prod(s.shape) for s in jax.tree.leaves(param_shapes(module))) == count
