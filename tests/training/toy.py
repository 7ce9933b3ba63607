"""A task of a few dozen parameters, with a second group, for tests of the trainer."""

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from gen_jax.tasks.base import Task


@dataclasses.dataclass(frozen=True)
class ToyTask(Task):
    """Fits y = x @ w; the group "disc" pulls its own number towards the model's mean output."""

    two_groups: bool = False
    noise: float = 0.0
    width: int = 16

    rng_streams = ("noise",)

    def batch_spec(self):
        return {
            "x": jax.ShapeDtypeStruct((self.width,), jnp.float32),
            "y": jax.ShapeDtypeStruct((1,), jnp.float32),
        }

    def _net(self):
        return nn.Sequential([nn.Dense(64), nn.tanh, nn.Dense(1)])

    def init(self, rng, batch):
        params = {"model": self._net().init(rng, batch["x"])["params"]}
        if self.two_groups:
            params["disc"] = {"guess": jnp.zeros((1,))}
        return params, {"seen": jnp.zeros((), jnp.int32)}

    def losses(self):
        groups = {"model": self._model}
        if self.two_groups:
            groups["disc"] = self._disc
        return groups

    def predict_fns(self):
        return {
            "predict": lambda v, b, r, f: {
                "y": self._net().apply({"params": v["params"]["model"]}, b["x"])
            }
        }

    def _model(self, params, everything, extra, batch, rngs, frozen):
        out = self._net().apply({"params": params}, batch["x"])
        out = out + self.noise * jax.random.normal(rngs["noise"], out.shape)
        loss = ((out - batch["y"]) ** 2).mean()
        return loss, ({"model/out": out.mean()}, {"seen": extra["seen"] + 1})

    def _disc(self, params, everything, extra, batch, rngs, frozen):
        out = self._net().apply({"params": everything["model"]}, batch["x"]).mean()
        return ((params["guess"] - out) ** 2).sum(), ({}, extra)


def batch_at(step: int, size: int = 16, width: int = 16) -> dict[str, np.ndarray]:
    """The batch of a step, always the same."""
    rng = np.random.default_rng(step)
    x = rng.normal(size=(size, width)).astype(np.float32)
    return {"x": x, "y": x[:, :1] - 0.5 * x[:, 1:2], "index": np.arange(size) + size * step}


def batches(start: int, **kwargs):
    """Batches from a step on, without end."""
    step = start
    while True:
        yield batch_at(step, **kwargs)
        step += 1
