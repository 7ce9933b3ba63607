"""The loss of latent diffusion with networks that are formulas: every value is known."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gen_jax.diffusion.schedules import make_process
from gen_jax.models.unet_2d_condition import UNet2DConditionModel
from tests.tasks import plain_ldm
from tests.tasks.plain_ldm import FROZEN, PARAMS, Exact, batch, keys, plain

PROCESSES = [
    ("flow", "flow"),
    ("scaled_linear", "epsilon"),
    ("scaled_linear", "v_prediction"),
    ("scaled_linear", "sample"),
]


@pytest.mark.parametrize("schedule,prediction", PROCESSES)
def test_the_right_answer_costs_nothing_and_one_beside_it_what_it_weighs(schedule, prediction):
    gamma = None if schedule == "flow" else 5.0
    process = make_process(schedule, prediction, snr_gamma=gamma)
    right, off = (
        plain(process=process, unet=Exact(schedule=schedule, prediction_type=prediction, offset=o))
        for o in (0.0, 1.0)
    )
    times, rows = [], batch(64)

    class Times(Exact):
        """Notes the times that it is asked for."""

        def apply(self, variables, x, time, **cond):
            times.append(time)
            return Exact.apply(self, variables, x, time, **cond)

    noted = Times(schedule=schedule, prediction_type=prediction, offset=1.0)

    @jax.jit
    def run():
        losses = [
            task._loss(PARAMS, None, {}, rows, keys(task), FROZEN)
            for task in (right, plain(process=process, unet=noted))
        ]
        by_time = [
            task._error_by_time({"params": {"model": PARAMS}}, rows, keys(task), FROZEN)["mse"]
            for task in (right, off)
        ]
        return losses, times[0], by_time

    ((none, _), (loss, (metrics, _))), time, (no_error, error) = run()
    assert float(none) < 1e-6
    np.testing.assert_allclose(metrics["model/mse"], 1.0, rtol=1e-3)
    np.testing.assert_allclose(no_error, 0.0, atol=1e-6)
    np.testing.assert_allclose(error, 1.0, rtol=1e-3)
    signal, noise = plain_ldm.coefficients(schedule, time)
    snr = np.float64(signal / noise) ** 2
    # arXiv:2303.09556, section 3.4, for each of what a network may predict.
    of_type = {"epsilon": snr, "v_prediction": snr + 1, "sample": 1.0}
    weight = np.minimum(snr, 5) / of_type[prediction] if gamma else np.ones(64)
    np.testing.assert_allclose(loss, weight.mean(), rtol=1e-3)
    assert gamma is None or abs(float(loss) - 1) > 0.1


def test_captions_are_dropped_at_the_rate_of_the_recipe():
    states = []

    class Listener(UNet2DConditionModel):
        """Notes the states and the mask that it is given."""

        def apply(self, variables, x, time, **cond):
            states.append((cond["encoder_hidden_states"][..., 0], cond["encoder_attention_mask"]))
            return x

    task, rows = plain(unet=Listener()), batch(4096)

    @jax.jit
    def run(seed):
        names = keys(task)
        names["drop_text"] = jax.random.key(seed)
        task._loss(PARAMS, None, {}, rows, names, FROZEN)
        return states.pop()

    (tokens, mask), (others, _) = run(0), run(1)
    dropped, dropped_later = ((v != rows["tokens"]).any(1) for v in (tokens, others))
    # A tenth as in arXiv:2207.12598; its standard deviation over 4,096 captions is 0.5%.
    assert 0.08 < dropped.mean() < 0.12 and (dropped != dropped_later).any()
    assert len(np.unique(np.asarray(tokens)[dropped], axis=0)) == 1
    assert (mask[dropped].sum(1) == 2).all()
    np.testing.assert_array_equal(mask[~dropped], rows["token_mask"][~dropped])
    assert jnp.array_equal(tokens[~dropped], rows["tokens"][~dropped].astype(jnp.float32))
