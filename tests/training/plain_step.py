"""A train step in plain NumPy, for a task whose gradients are written out by hand."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

GROUPS = ("model", "reader", "loner")  # in the order of their updates
ROWS, WIDTH = 8, 3
LEARNING_RATE, WEIGHT_DECAY, CLIP_NORM, EMA = 0.05, 0.1, 1.0, 0.6


@dataclasses.dataclass(frozen=True)
class ThreeGroups:
    """Three groups of a few numbers, each of which draws noise and keeps what it drew.

    "model" fits y = x @ w to noisy targets, "reader" follows the model's mean output, and "loner"
    has a root mean square error of its own, so that what happens to the model does not reach it.

    Attributes:
      calls: Calls of losses that `extra["drawn"]` has room for.
      rows: Rows of the batch that a call gets.
    """

    calls: int
    rows: int

    rng_streams = ("noise",)

    def batch_spec(self):
        widths = {"x": WIDTH, "y": 1, "z": 1}
        return {k: jax.ShapeDtypeStruct((n,), jnp.float32) for k, n in widths.items()}

    def init(self, rng, batch):
        params = {
            "model": {"w": jnp.array([0.5, -1.0, 2.0])},
            "reader": {"guess": jnp.zeros(())},
            "loner": {"scale": jnp.zeros(())},
        }
        drawn = jnp.zeros((self.calls, self.rows))
        return params, {"drawn": drawn, "count": jnp.zeros((), jnp.int32)}

    def losses(self):
        return dict(zip(GROUPS, (self._model, self._reader, self._loner)))

    def _noise(self, extra, rngs):
        noise = jax.random.normal(rngs["noise"], (self.rows,))
        drawn = extra["drawn"].at[extra["count"]].set(noise)
        return noise, {"drawn": drawn, "count": extra["count"] + 1}

    def _model(self, params, everything, extra, batch, rngs, frozen):
        noise, extra = self._noise(extra, rngs)
        error = batch["x"] @ params["w"] + noise - batch["y"][:, 0]
        return (error**2).mean(), ({}, extra)

    def _reader(self, params, everything, extra, batch, rngs, frozen):
        noise, extra = self._noise(extra, rngs)
        output = (batch["x"] @ everything["model"]["w"]).mean()
        return (params["guess"] - output - noise.mean()) ** 2, ({}, extra)

    def _loner(self, params, everything, extra, batch, rngs, frozen):
        noise, extra = self._noise(extra, rngs)
        # Zero at z = 0 and scale = 0, and its gradient there is 0 / 0.
        error = params["scale"] - batch["z"][:, 0] * (1.0 + noise)
        return jnp.sqrt((error**2).mean()), ({}, extra)


def gradient(group, params, batch, noise):
    """The loss and the gradient of one call, the derivatives taken by hand."""
    x, y, z = batch["x"], batch["y"][:, 0], batch["z"][:, 0]
    if group == "model":
        error = x @ params["model"]["w"] + noise - y
        return (error**2).mean(), {"w": 2 * x.T @ error / len(x)}
    if group == "reader":
        error = params["reader"]["guess"] - (x @ params["model"]["w"]).mean() - noise.mean()
        return error**2, {"guess": 2 * error}
    error = params["loner"]["scale"] - z * (1 + noise)
    loss = np.sqrt((error**2).mean())
    with np.errstate(invalid="ignore"):
        return loss, {"scale": error.mean() / loss}


def train(params, batches, drawn, parts):
    """Takes a step per batch.

    Args:
      params: Initial parameters by group.
      batches: Rows of each step.
      drawn: `[steps, groups, parts, rows]` of the noise that each call of a loss drew.
      parts: Slices that gradients are averaged over: every `parts`-th row is in the same one.

    Returns:
      Parameters, their moving average, and metrics per step.
    """
    params = jax.tree.map(np.float64, params)
    first, second = (jax.tree.map(np.zeros_like, params) for _ in range(2))
    average, updates, metrics = params, {group: 0 for group in params}, []
    for step, batch in enumerate(batches):
        new, new_first, new_second, finite, row = dict(params), dict(first), dict(second), True, {}
        for index, group in enumerate(GROUPS):
            calls = [
                gradient(
                    group, new, {k: v[i::parts] for k, v in batch.items()}, drawn[step, index, i]
                )
                for i in range(parts)
            ]
            row[f"{group}/loss"] = np.mean([loss for loss, _ in calls])
            mean = {k: np.mean([g[k] for _, g in calls], 0) for k in calls[0][1]}
            norm = row[f"{group}/grad_norm"] = np.sqrt(sum((g**2).sum() for g in mean.values()))
            finite &= np.isfinite(row[f"{group}/loss"]) and np.isfinite(norm)
            clipped = {k: g * min(1.0, CLIP_NORM / max(norm, 1e-12)) for k, g in mean.items()}
            new_first[group] = {k: 0.9 * first[group][k] + 0.1 * g for k, g in clipped.items()}
            new_second[group] = {
                k: 0.999 * second[group][k] + 0.001 * g**2 for k, g in clipped.items()
            }
            t = updates[group] + 1
            new[group] = {
                k: p - LEARNING_RATE * (
                    new_first[group][k] / (1 - 0.9**t)
                    / (np.sqrt(new_second[group][k] / (1 - 0.999**t)) + 1e-8)
                    + WEIGHT_DECAY * p
                )
                for k, p in new[group].items()
            }  # fmt: skip
        if finite:
            params, first, second = new, new_first, new_second
            updates = {group: t + 1 for group, t in updates.items()}
            decay = min(EMA, (1 + step) / (10 + step))
            average = {
                g: {k: decay * average[g][k] + (1 - decay) * p for k, p in params[g].items()}
                for g in params
            }
        metrics.append({**row, "nonfinite": float(not finite)})
    return params, average, metrics
