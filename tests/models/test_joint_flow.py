"""The flow over images and captions: what is given stays, what is unknown does not matter."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from gen_jax.models import joint_flow
from gen_jax.models.joint_flow import JointFlow, JointLatents, Times
from tests.moved import moved

FLOW = JointFlow(hidden_size=16, num_layers=1, num_heads=2, pooled_tokens=2, caption_tokens=2)
COUNT = 5


def latents(seed):
    like = JointLatents(*(jnp.zeros((COUNT, *shape)) for shape in ((2, 2, 3), (8,), (4,))))
    return joint_flow.noise_like(jax.random.key(seed), like)


@functools.cache
def params():
    zeros = Times(*jnp.zeros((2, COUNT)))
    tree = jax.jit(FLOW.init)(jax.random.key(0), latents(0), zeros)["params"]
    return moved(tree, 0.3)  # the last layers are zero at first


@functools.cache
def drawn(scale):
    tree = params()

    def run(given, image, caption):
        is_given = Times(image, caption)
        return joint_flow.sample(
            FLOW, tree, latents(1), given, is_given, guidance_scale=scale, steps=2
        )

    return jax.jit(run)


NO, YES = jnp.zeros(COUNT, bool), jnp.ones(COUNT, bool)


def test_what_is_given_comes_back_and_the_other_side_follows_it():
    first, second = latents(2), latents(3)
    out, other = drawn(2.0)(first, NO, YES), drawn(2.0)(second, NO, YES)
    np.testing.assert_allclose(out.caption, first.caption, rtol=1e-6)
    assert np.abs(out.pooled - other.pooled).max() > 1e-3
    out = drawn(2.0)(first, YES, NO)
    for name in ("spatial", "pooled"):
        np.testing.assert_allclose(getattr(out, name), getattr(first, name), rtol=1e-6)


def test_what_is_not_given_does_not_matter():
    out, other = drawn(2.0)(latents(2), NO, NO), drawn(2.0)(latents(3), NO, NO)
    jax.tree.map(np.testing.assert_array_equal, out, other)


def test_guidance_leads_on_from_the_other_side_alone():
    given, mixed = latents(2), jnp.arange(COUNT) % 2 == 0
    plain, guided = drawn(1.0)(given, NO, mixed), drawn(3.0)(given, NO, mixed)
    change = np.abs(plain.pooled - guided.pooled).max(1)
    assert (change[::2] > 1e-3).all()
    np.testing.assert_allclose(change[1::2], 0.0, atol=1e-5)


def test_training_shows_every_task_and_counts_what_is_drawn():
    times, weights = joint_flow.training_times(jax.random.key(0), 100)
    image, caption = (np.asarray(t) for t in times)
    has_image, has_caption, lacks_caption = image == 1, caption == 1, caption == 0
    assert [m.sum() for m in (has_image, has_caption, lacks_caption)] == [20, 20, 10]
    same = ~(has_image | has_caption | lacks_caption)
    np.testing.assert_array_equal(image[same], caption[same])
    np.testing.assert_array_equal(weights.image, 1.0 * ~has_image)
    np.testing.assert_array_equal(weights.caption, 1.0 * ~(has_caption | lacks_caption))


def test_the_loss_of_a_flow_at_rest_is_the_size_of_the_ways():
    # All outputs are zero at first, and noise and data are independent: E (x - noise)^2 = 2.
    like = JointLatents(*(jnp.zeros((500, *shape)) for shape in ((2, 2, 3), (8,), (4,))))
    x = joint_flow.noise_like(jax.random.key(4), like)

    @jax.jit
    def loss(x):
        fresh = FLOW.init(jax.random.key(0), latents(0), Times(*jnp.zeros((2, COUNT))))["params"]
        return joint_flow.joint_flow_loss(FLOW, fresh, x, jax.random.key(5), caption_weight=0.5)

    each = loss(x)
    mode = np.arange(500) % 10
    for kind, expected in ((mode < 5, 2 + 1), ((mode >= 5) & (mode < 8), 2), (mode >= 8, 1)):
        np.testing.assert_allclose(np.asarray(each)[kind].mean(), expected, rtol=0.2)
