"""Drifting: against the formula written out, what it is blind to, and where it leads."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from gen_jax.losses import drifting as losses

drifting = jax.jit(losses.drifting, static_argnames="temperatures")


def draw(seed, *shape):
    return jax.random.normal(jax.random.key(seed), shape)


def written_out(gen, real, others, temperatures):
    """The loss and the force of one set, by loops over pairs in float64."""
    gen, real, others = (np.asarray(v, np.float64) for v in (gen, real, others))
    pool = np.concatenate([gen, others, real])
    n, negatives, width = len(gen), len(gen) + len(others), gen.shape[1]
    distance = np.array([[np.linalg.norm(x - y) for y in pool] for x in gen])
    mean = distance.mean()
    x, y = (v / (mean / np.sqrt(width)) for v in (gen, pool))
    move, force = np.zeros_like(x), 0
    for temperature in temperatures:
        energy = distance / mean / temperature
        kernel = np.exp(-energy)
        kernel[np.arange(n), np.arange(n)] = 0
        kernel = np.sqrt(kernel / kernel.sum(1, keepdims=True) * kernel / kernel.sum(0))
        kernel = np.maximum(kernel, 1e-3)  # the square root of the floor
        field = np.zeros_like(x)
        for i in range(n):
            for a in range(negatives, len(pool)):
                for b in range(negatives):
                    field[i] += kernel[i, a] * kernel[i, b] * (y[a] - y[b])
        force += (field**2).mean() / len(temperatures)
        move += field / np.sqrt((field**2).mean())
    return (move**2).mean(), force


def test_it_is_the_formula():
    gen, real, others = draw(0, 2, 5, 3), draw(1, 2, 6, 3) + 1, draw(2, 2, 4, 3)
    loss, found = drifting(gen, real, others, (0.05, 0.2))
    for i in range(2):
        want = written_out(gen[i], real[i], others[i], (0.05, 0.2))
        np.testing.assert_allclose((loss[i], found["force"][i]), want, rtol=2e-3)


def test_gradients_flow_through_generated_features_alone():
    gen, real, others = draw(0, 1, 5, 3), draw(1, 1, 6, 3), draw(2, 1, 4, 3)
    grads = jax.grad(lambda *v: drifting(*v)[0].sum(), argnums=(0, 1, 2))(gen, real, others)
    assert jnp.abs(grads[0]).max() > 0
    assert not grads[1].any() and not grads[2].any()


@pytest.mark.parametrize("factor", [1e-2, 1e3])
def test_the_scale_of_features_does_not_count(factor):
    gen, real = draw(0, 1, 16, 8), draw(1, 1, 16, 8) + 0.5
    (a, fa), (b, fb) = drifting(gen, real), drifting(factor * gen, factor * real)
    np.testing.assert_allclose((a[0], fa["force"][0]), (b[0], fb["force"][0]), rtol=1e-3)


def test_the_force_is_small_between_equal_distributions_and_grows_with_the_distance():
    gen, force = draw(0, 1, 256, 4), []
    for shift in (0, 1, 2):
        force.append(drifting(gen, draw(1, 1, 256, 4) + shift, temperatures=(0.2,))[1]["force"][0])
    assert force[0] < 0.1 * force[1] and force[1] < force[2], force


def test_points_that_drift_end_up_on_all_modes():
    centres = 3.0 * jnp.array([[1, 0], [0, 1], [-1, 0], [0, -1]], jnp.float32)

    def real(seed):
        which = jax.random.randint(jax.random.key(seed), (64,), 0, 4)
        return (centres[which] + 0.2 * draw(seed + 10_000, 64, 2))[None]

    @jax.jit
    def step(x, real, size):
        def loss(x):
            found, aux = drifting(x, real)
            return found.sum(), aux["force"][0]

        grads, force = jax.grad(loss, has_aux=True)(x)
        return x - size * grads, force

    x, forces = 0.1 * draw(5, 1, 64, 2), []
    for seed in range(200):
        x, force = step(x, real(seed), 40.0 * (1 - seed / 200))
        forces.append(force)
    nearest = jnp.linalg.norm(x[0, :, None] - centres[None], axis=-1)
    counts = np.bincount(nearest.argmin(-1), minlength=4)
    assert counts.min() >= 8, counts
    assert np.median(nearest.min(-1)) < 0.4
    assert np.mean(forces[-20:]) < 0.5 * np.mean(forces[:5])


def test_what_does_not_attract_is_as_if_it_were_not_there():
    gen, real = draw(0, 2, 5, 3), draw(1, 2, 9, 3) + 1
    there = jnp.broadcast_to((jnp.arange(9) < 6)[None], (5, 9))
    some, found = drifting(gen, real, attracts=there)
    few, want = drifting(gen, real[:, :6])
    np.testing.assert_allclose(some, few, rtol=1e-4)
    np.testing.assert_allclose(found["force"], want["force"], rtol=1e-4)
    # Of two groups each is pulled by its own.
    own = jnp.zeros((5, 9), bool).at[:2, :4].set(True).at[2:, 4:].set(True)
    assert np.isfinite(drifting(gen, real, attracts=own)[0]).all()
    none, found = drifting(gen, real, attracts=jnp.zeros((5, 9), bool))
    assert not none.any() and not found["force"].any()


def test_eight_devices_agree_with_one():
    gen, real = draw(0, 4, 32, 8), draw(1, 4, 64, 8) + 0.3
    run = jax.jit(jax.value_and_grad(lambda g, r: drifting(g, r)[0].mean()))
    one = run(gen, real)
    where = NamedSharding(Mesh(np.array(jax.devices()), ("d",)), P(None, "d"))
    many = run(*(jax.device_put(v, where) for v in (gen, real)))
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(many), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)


def test_differences_of_large_numbers_are_taken_in_full_precision():
    # GPUs and TPUs round the factors of a product to fewer bits unless told otherwise.
    program = jax.jit(lambda g, r: drifting(g, r)[0]).lower(draw(0, 1, 4, 3), draw(1, 1, 6, 3))
    products = [line for line in program.as_text().splitlines() if "dot_general" in line]
    assert len(products) >= 2
    assert all("precision = [HIGHEST, HIGHEST]" in line for line in products), products


def test_samples_of_different_sentences_do_not_repel():
    x = jax.random.normal(jax.random.key(0), (1, 4, 3))
    y = jax.random.normal(jax.random.key(1), (1, 6, 3))
    whole, aux = drifting(x, y)
    same, _ = drifting(x, y, repels=jnp.ones((4, 4), bool))
    np.testing.assert_allclose(whole, same, rtol=1e-6)
    _, alone = drifting(x, y, repels=jnp.eye(4, dtype=bool))
    assert alone["force"][0] < 1e-5 < aux["force"][0]  # nobody to be moved apart from
    # Two groups of which each has its own real images: a far group moves nothing of the other.
    group = jnp.arange(4) // 2
    attracts = group[:, None] == (jnp.arange(6) // 3)[None]
    repels = group[:, None] == group[None]

    def moved(x):
        run = jax.grad(lambda v: drifting(v, y, None, (0.2,), attracts, repels)[0].sum())
        return run(x)[0, :2]

    here, there = moved(x), moved(x.at[:, 2:].add(0.01))
    np.testing.assert_allclose(here, there, rtol=0.1, atol=1e-3)
