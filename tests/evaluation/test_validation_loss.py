"""The validation loss against the loss by hand, on one and on eight devices."""

import dataclasses

import jax
import numpy as np
import pytest

from gen_jax import encoders
from gen_jax.common.errors import UserError
from gen_jax.evaluation import Predictor
from gen_jax.evaluation.validation_loss import ValidationLoss
from gen_jax.parallel.mesh import make_mesh
from tests.evaluation.known import Known
from tests.training.toy import ToyTask, batch_at

COUNT, BATCH = 20, 8  # the last batch has 4 rows, which eight devices do not divide


class Rows(Known):
    """Held-out rows of the toy task."""

    def read(self, split, count):
        assert split == "val"
        return batch_at(100, size=count)


@dataclasses.dataclass(frozen=True)
class WithEncoder(ToyTask):
    """Reads a frozen encoder, which scales the loss."""

    def frozen_encoders(self):
        return {"scale": "known:weights"}

    def _model(self, params, everything, extra, batch, rngs, frozen):
        loss, rest = super()._model(params, everything, extra, batch, rngs, frozen)
        return frozen["scale"] * loss, rest


NOISY = ToyTask(noise=0.5)


def predictor(task=NOISY, devices=1):
    params, extra = task.init(jax.random.key(0), batch_at(0))
    mesh = make_mesh({"fsdp": devices}, jax.devices()[:devices])
    return Predictor(task, {"params": params, "extra": extra}, {}, mesh, seed=3)


def evaluated(**changes):
    evaluator = ValidationLoss(count=COUNT, batch_size=BATCH)
    return evaluator(predictor(**changes), Rows()).metrics


def by_hand(predict):
    """Means of loss and output over the rows, batch by batch."""
    rows, loss, out = batch_at(100, size=COUNT), 0.0, 0.0
    params = predict.variables["params"]
    for call, start in enumerate(range(0, COUNT, BATCH)):
        batch = {k: v[start : start + BATCH] for k, v in rows.items()}
        key = jax.random.fold_in(jax.random.fold_in(jax.random.key(3), call), 0)
        value, (metrics, _) = predict.task._model(
            params["model"], params, predict.variables["extra"], batch, {"noise": key}, {}
        )
        loss += float(value) * len(batch["x"]) / COUNT
        out += float(metrics["model/out"]) * len(batch["x"]) / COUNT
    return {"validation_loss": loss, "validation_out": out}


def test_it_is_the_loss_of_the_task_on_any_number_of_devices():
    one = evaluated()
    assert one == evaluated(), "the random streams are the same each time"
    assert one == pytest.approx(by_hand(predictor()), rel=1e-5)
    assert evaluated(devices=8) == pytest.approx(one, rel=1e-5)


def test_encoders_that_only_the_loss_reads_are_loaded(monkeypatch):
    monkeypatch.setattr(encoders, "parse", lambda spec: tuple(spec.split(":")))
    monkeypatch.setattr(encoders, "load", lambda name, weights: (None, np.float32(2.0)))
    scaled = evaluated(task=WithEncoder(noise=0.5))["validation_loss"]
    assert scaled == pytest.approx(2.0 * evaluated()["validation_loss"], rel=1e-6)


def test_what_the_data_does_not_have_is_named():
    class Narrow(Rows):
        def read(self, split, count):
            return {k: v for k, v in super().read(split, count).items() if k != "y"}

    with pytest.raises(UserError, match="loss reads 'y', which examples of split 'val' do not"):
        ValidationLoss()(predictor(), Narrow())
