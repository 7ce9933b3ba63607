"""Published weights at the start of a fresh run."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gen_jax.common.errors import UserError
from gen_jax.training import warm_start
from gen_jax.training.state import TrainState


def fresh():
    model = {
        "backbone": {"conv": {"kernel": jnp.zeros((2, 3))}},
        "head": {"kernel": jnp.ones((3, 1))},
    }
    copy = jax.tree.map(lambda x: x.copy(), model)
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        params={"model": model},
        opt_state={},
        ema={"model": copy},
        extra={},
    )


def test_a_backbone_takes_published_weights_and_nothing_else_changes():
    given = {"conv": {"kernel": np.arange(6.0).reshape(2, 3)}, "classifier": np.zeros(1000)}
    state = warm_start.put(fresh(), "backbone", given, "net:file")
    for tree in (state.params["model"], state.ema["model"]):
        np.testing.assert_array_equal(tree["backbone"]["conv"]["kernel"], given["conv"]["kernel"])
        np.testing.assert_array_equal(tree["head"]["kernel"], np.ones((3, 1)))
    # The step donates both trees: they must not share an array.
    params, ema = (
        t["backbone"]["conv"]["kernel"] for t in (state.params["model"], state.ema["model"])
    )
    assert params.unsafe_buffer_pointer() != ema.unsafe_buffer_pointer()


@pytest.mark.parametrize("given", [{"conv": {"kernel": np.zeros((3, 2))}}, {"other": np.zeros(3)}])
def test_weights_of_another_encoder_are_refused(given):
    with pytest.raises(
        UserError, match=r"task.backbone=net:file: has no conv/kernel of shape \(2, 3\)"
    ):
        warm_start.put(fresh(), "backbone", given, "net:file")
