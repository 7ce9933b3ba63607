"""The forward process: conversions, weights, times and the mistakes it catches."""

import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gen_jax.common.errors import UserError
from gen_jax.diffusion import make_process

SCHEDULES = ("scaled_linear", "linear", "squaredcos_cap_v2", "flow")
TYPES = ("epsilon", "v_prediction", "sample", "flow")
PAIRS = [(s, p) for s in SCHEDULES for p in TYPES if (s, p) != ("flow", "epsilon")]
few = hypothesis.settings(max_examples=30, deadline=None, derandomize=True)


def draw_example(data, schedule):
    """x_0, eps [3, 4] and interior times [3]."""
    seed = data.draw(st.integers(0, 2**31 - 1))
    rng = np.random.default_rng(seed)
    x_0, eps = jnp.asarray(rng.standard_normal((2, 3, 4)), jnp.float32)
    if schedule == "flow":
        return x_0, eps, jnp.asarray(rng.uniform(0.05, 0.95, 3), jnp.float32)
    return x_0, eps, jnp.asarray(rng.integers(20, 950, 3), jnp.int32)


@few
@hypothesis.given(pair=st.sampled_from(PAIRS), data=st.data())
def test_target_gives_back_the_image_and_the_noise(pair, data):
    process = make_process(*pair)
    x_0, eps, t = draw_example(data, pair[0])
    x_t, output = process.add_noise(x_0, eps, t), process.target(x_0, eps, t)
    np.testing.assert_allclose(process.to_x0(output, x_t, t), x_0, atol=3e-4)
    np.testing.assert_allclose(process.to_eps(output, x_t, t), eps, atol=3e-4)


@few
@hypothesis.given(pair=st.sampled_from(PAIRS), data=st.data())
def test_any_output_is_consistent(pair, data):
    """x_0 and eps made from one output always mix back to x_t, whatever the output was."""
    process = make_process(*pair)
    x_t, output, t = draw_example(data, pair[0])
    x_0, eps = process.to_x0(output, x_t, t), process.to_eps(output, x_t, t)
    np.testing.assert_allclose(process.add_noise(x_0, eps, t), x_t, atol=2e-5)
    np.testing.assert_allclose(process.target(x_0, eps, t), output, atol=2e-3)


@few
@hypothesis.given(pair=st.sampled_from(PAIRS), gamma=st.floats(0.5, 20), data=st.data())
def test_min_snr_weighs_the_same_error_alike_in_every_space(pair, gamma, data):
    process = make_process(*pair, snr_gamma=gamma)
    x_t, output, t = draw_example(data, pair[0])
    other = output + 1.0
    weighted = process.loss_weight(t) * jnp.sum((output - other) ** 2, -1)
    gap = process.to_x0(output, x_t, t) - process.to_x0(other, x_t, t)
    snr = (process.alpha(t) / process.sigma(t)) ** 2
    expected = jnp.minimum(snr, gamma) * jnp.sum(gap**2, -1)
    np.testing.assert_allclose(weighted, expected, rtol=2e-3)


def test_min_snr_weights_are_the_papers():
    t = jnp.asarray([0, 300, 999])
    plain = make_process("linear", "epsilon")
    np.testing.assert_array_equal(plain.loss_weight(t), np.ones(3))
    snr = np.asarray((plain.alpha(t) / plain.sigma(t)) ** 2)
    for kind, expected in (
        ("epsilon", np.minimum(snr, 5) / snr),
        ("v_prediction", np.minimum(snr, 5) / (snr + 1)),
        ("sample", np.minimum(snr, 5)),
    ):
        weight = make_process("linear", kind, snr_gamma=5).loss_weight(t)
        np.testing.assert_allclose(weight, expected, rtol=1e-4)


def test_min_snr_is_finite_at_both_ends():
    for kind in ("v_prediction", "sample", "flow"):
        flow = make_process("flow", kind, snr_gamma=5.0).loss_weight(jnp.asarray([0.0, 1.0]))
        zero = make_process("linear", kind, rescale_zero_terminal_snr=True, snr_gamma=5.0)
        assert np.isfinite(flow).all() and np.isfinite(zero.loss_weight(jnp.asarray([999]))).all()


def test_fractional_times_lie_between_their_neighbours():
    process = make_process("linear", "v_prediction", rescale_zero_terminal_snr=True)
    whole = jnp.asarray([0, 10, 998, 999])
    np.testing.assert_array_equal(process.alpha(whole), process.alpha(whole.astype(jnp.float32)))
    between = process.alpha(jnp.asarray([10.0, 10.5, 11.0]))
    assert between[0] > between[1] > between[2]


def test_training_times():
    rng, shape = jax.random.key(0), (20_000,)
    t = make_process("linear").sample_t(rng, shape)
    assert t.dtype == jnp.int32 and t.min() == 0 and t.max() == 999
    assert abs(float(t.mean()) - 499.5) < 10
    uniform = make_process("flow", "flow").sample_t(rng, shape)
    assert uniform.min() >= 0 and uniform.max() <= 1 and abs(float(uniform.mean()) - 0.5) < 0.01
    peaked = make_process("flow", "flow", timestep_sampling="logit_normal").sample_t(rng, shape)
    assert abs(float(jnp.median(peaked)) - 0.5) < 0.01 and peaked.std() < 0.9 * uniform.std()
    moved = make_process("flow", "flow", shift=3.0).sample_t(rng, shape)
    np.testing.assert_allclose(moved, 3 * uniform / (1 + 2 * uniform), rtol=1e-6)
    spread = make_process("flow", "flow", timestep_sampling="stratified").sample_t(rng, (16,))
    np.testing.assert_allclose(np.diff(spread), 1 / 16, rtol=1e-4)
    assert spread.min() >= 0 and spread.max() < 1
    other = make_process("flow", "flow", timestep_sampling="stratified")
    assert spread[0] != other.sample_t(jax.random.key(1), (16,))[0]
    indices = make_process("linear", timestep_sampling="stratified").sample_t(rng, (1000,))
    np.testing.assert_array_equal(indices, np.arange(1000))
    whole = make_process("linear", timestep_sampling="logit_normal").sample_t(rng, shape)
    assert whole.dtype == jnp.int32 and whole.min() >= 0 and whole.max() <= 999


def test_model_time_runs_to_the_number_of_steps():
    np.testing.assert_array_equal(
        make_process("linear").model_time(jnp.asarray([0, 999])), [0, 999]
    )
    flow = make_process("flow", "flow").model_time(jnp.asarray([0.0, 0.25, 1.0]))
    np.testing.assert_array_equal(flow, [0, 250, 1000])


def test_a_process_is_a_static_argument():
    step = jax.jit(lambda p, x, t: p.add_noise(x, x, t), static_argnums=0)
    x, t = jnp.ones((2, 4, 4, 3), jnp.bfloat16), jnp.asarray([0, 999])
    assert step(make_process("linear"), x, t).shape == x.shape
    assert make_process("linear") == make_process("linear")
    assert hash(make_process("linear")) == hash(make_process("linear"))


def test_diffusers_name_of_the_flow_is_known():
    assert make_process("flow", "flow_prediction") == make_process("flow", "flow")


@pytest.mark.parametrize(
    "options, key",
    [
        (dict(schedule="cosine"), "schedule"),
        (dict(prediction_type="x0"), "prediction_type"),
        (dict(timestep_sampling="normal"), "timestep_sampling"),
        (dict(schedule="flow", prediction_type="epsilon"), "prediction_type"),
        (dict(rescale_zero_terminal_snr=True), "prediction_type"),
        (dict(schedule="linear", shift=2.0), "shift"),
        (dict(schedule="flow", prediction_type="flow", shift=0.0), "shift"),
        (dict(schedule="flow", prediction_type="flow", rescale_zero_terminal_snr=True), "rescale"),
        (dict(snr_gamma=-1.0), "snr_gamma"),
        (dict(beta_start=0.5, beta_end=0.1), "beta_start"),
        (dict(num_train_timesteps=1), "num_train_timesteps"),
    ],
)
def test_mistakes_name_the_key(options, key):
    with pytest.raises(UserError, match=key):
        make_process(**options)
