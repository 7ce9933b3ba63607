import jax.numpy as jnp
import numpy as np
import pytest

from gen_jax.losses import self_distillation as terms
from gen_jax.losses.hog import hog


def test_sinkhorn_uses_every_prototype_alike():
    logits = jnp.asarray(np.random.default_rng(0).normal(size=(64, 8)).astype(np.float32))
    q = terms.sinkhorn_knopp(logits, 0.5, iterations=50)
    np.testing.assert_allclose(q.sum(1), 1.0, rtol=1e-5)
    np.testing.assert_allclose(q.sum(0), 8.0, rtol=1e-3)


def test_a_teacher_that_prefers_one_prototype_does_not_collapse():
    """Without centring all rows would name the first; with it they spread over all."""
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(64, 8)).astype(np.float32) * 0.1
    logits[:, 0] += 1.0
    plain = np.exp(logits / 0.1) / np.exp(logits / 0.1).sum(1, keepdims=True)
    assert (plain.argmax(1) == 0).all()
    q = terms.sinkhorn_knopp(jnp.asarray(logits), 0.1)
    uniform = np.log(8)
    assert float(terms.entropy(q.mean(0))) > 0.99 * uniform
    assert float(terms.entropy(jnp.asarray(plain.mean(0)))) < 0.1 * uniform
    assert len(np.unique(np.asarray(q).argmax(1))) == 8


def test_cross_entropy_is_least_where_the_student_agrees():
    target = jnp.asarray([[0.7, 0.2, 0.1]])
    same = terms.cross_entropy(target, 0.1 * jnp.log(target), 0.1)
    np.testing.assert_allclose(same, terms.entropy(target), rtol=1e-5)
    assert float(terms.cross_entropy(target, jnp.zeros((1, 3)), 0.1)[0]) > float(same[0])


def test_koleo_pushes_neighbours_apart():
    near = jnp.asarray([[1.0, 0.0], [1.0, 0.01], [-1.0, 0.0], [-1.0, 0.01]])
    far = jnp.asarray([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0], [0.0, -1.0]])
    assert float(terms.koleo(near)) > 4 > 0 > float(terms.koleo(far))
    np.testing.assert_allclose(terms.koleo(far), -np.log(np.sqrt(2)), atol=1e-4)


@pytest.mark.parametrize("rows,want", [(np.ones((4, 3)), 0.0), (np.eye(4) - 0.25, 1.0)])
def test_spread_tells_a_point_from_a_sphere(rows, want):
    np.testing.assert_allclose(terms.spread(jnp.float32(rows)), want, atol=1e-3)


def test_histograms_name_the_direction_of_an_edge():
    image = np.zeros((2, 16, 16, 3), np.float32)
    image[0, :, 5:] = 1.0  # gradient to the right: bin 0
    image[1] = image[0].transpose(1, 0, 2)  # downward: half a turn of 9 bins further
    found = np.asarray(hog(jnp.asarray(image), 8))
    assert found.shape == (2, 2, 2, 9)
    assert (found[0, :, 0].argmax(-1) == 0).all()
    assert set(found[1, 0].argmax(-1)) <= {4, 5}
    # A contrast twice as weak looks much the same.
    np.testing.assert_allclose(hog(jnp.asarray(image**2 * 0.5), 8), found, atol=0.1)
