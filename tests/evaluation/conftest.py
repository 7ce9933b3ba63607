"""What holds for every evaluator that these tests call."""

import functools
import importlib

import pytest

from gen_jax.evaluation import EVALUATORS, meanings


def has_meanings(name, call):
    """Wraps an evaluator's call: each metric that it gives must have a meaning."""

    @functools.wraps(call)
    def checked(self, predict, data):
        result = call(self, predict, data)
        unknown = set(result.metrics) - set(meanings.of_all(name, result.metrics))
        assert not unknown, f"{name}: no meaning of {sorted(unknown)} in evaluation/meanings.py"
        return result

    return checked


@pytest.fixture(autouse=True)
def _every_metric_has_a_meaning(monkeypatch):
    for name, spec in EVALUATORS.items():
        module, cls = spec.split(":")
        cls = getattr(importlib.import_module(module), cls)
        monkeypatch.setattr(cls, "__call__", has_meanings(name, cls.__call__))
