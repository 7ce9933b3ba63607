"""The trunk and the heads on it: any size of image, and small enough to be packaged."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import heads
from gen_jax.models.heads.decoder import PyramidDecoder
from gen_jax.models.heads.trunk import Trunk, crop
from gen_jax.tasks import build_task


@pytest.mark.parametrize("head", sorted(heads.RECIPES))
def test_default_heads_are_at_most_two_megabytes_of_half_precision(head):
    task = build_task(heads.get_config(f"head={head}").task.to_dict())
    batch = {k: np.zeros((1, *s.shape), s.dtype) for k, s in task.batch_spec().items()}
    params, _ = jax.eval_shape(task.init, jax.random.key(0), batch)
    assert 2 * sum(x.size for x in jax.tree.leaves(params)) < 2 * 2**20


def test_a_trunk_reads_images_of_any_size():
    trunk = Trunk(widths=(8, 8, 16))
    for height, width in ((16, 24), (13, 30), (5, 5)):
        maps = jax.eval_shape(
            lambda x: trunk.init_with_output(jax.random.key(0), x)[0],
            jnp.zeros((2, height, width, 3)),
        )
        padded = [-(-side // 8) * 8 for side in (height, width)]
        shapes = [(2, padded[0] // k, padded[1] // k) for k in (2, 4, 8)]
        assert [m.shape[:3] for m in maps] == shapes
    assert crop(jnp.zeros((1, 16, 32, 2)), 13, 30).shape == (1, 13, 30, 2)


def test_every_map_reaches_the_decoder():
    pyramid = tuple(jnp.ones((1, 8 // k, 8 // k, 4)) for k in (1, 2, 4))
    decoder = PyramidDecoder(width=8)
    params = decoder.init(jax.random.key(0), pyramid)
    grads = jax.grad(lambda maps: jnp.square(decoder.apply(params, maps)).sum())(pyramid)
    assert all(float(jnp.abs(g).max()) > 0 for g in grads)
