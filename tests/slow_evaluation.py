"""A config whose evaluation takes for ever, for tests that interrupt it."""

import dataclasses

from gen_jax.evaluation import EVALUATORS, Data, Evaluator, Predictor, Result
from tests import tiny_run

EVALUATORS["slow"] = "tests.slow_evaluation:Slow"


@dataclasses.dataclass(frozen=True)
class Slow(Evaluator):
    """Reconstructs the same images over and over."""

    rounds: int

    def __call__(self, predict: Predictor, data: Data) -> Result:
        images = data.read("train", 8)["image"]
        for _ in range(self.rounds):
            predict("reconstruct", {"image": images})
        return Result({"rounds": float(self.rounds)})


def get_config(arg=None):
    config = tiny_run.get_config(arg)
    with config.unlocked():
        config.evaluators = {"slow": {"rounds": 10**9}}
    return config.lock()
