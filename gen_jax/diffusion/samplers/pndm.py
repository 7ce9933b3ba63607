"""Pseudo linear multistep sampling (PNDM, arXiv:2202.09778), as Stable Diffusion 1.x samples.

Each transfer is a DDIM step with a mixture of network outputs: the Adams-Bashforth formulas of
order 2 to 4 over the last outputs. The first step, whose history is missing, is Heun's (PLMS), or
the first three are Runge-Kutta steps of 4 calls. Which call steps from which level to which is
worked out in NumPy; one call is scanned over.
"""

import dataclasses
import itertools

import jax
import jax.numpy as jnp
import numpy as np

from gen_jax.common.errors import UserError
from gen_jax.diffusion.samplers.grid import levels_at, make_grid
from gen_jax.diffusion.samplers.known import Known
from gen_jax.diffusion.samplers.one_step import f32
from gen_jax.diffusion.samplers.options import SamplerOptions
from gen_jax.diffusion.schedules import Process

# Weights of the newest output and those before it, by the number of outputs.
_ADAMS_BASHFORTH = {
    1: np.array([1.0, 0, 0, 0]),
    2: np.array([3.0, -1, 0, 0]) / 2,
    3: np.array([23.0, -16, 5, 0]) / 12,
    4: np.array([55.0, -59, 37, -9]) / 24,
}
# Of the 4 calls of a Runge-Kutta step: what each adds to the step's sum of outputs.
_RUNGE_KUTTA = (1 / 6, 1 / 3, 1 / 3, 1 / 6)
_PRK_CALLS = 12


@dataclasses.dataclass(frozen=True)
class Calls:
    """The model calls, m of them.

    Attributes:
        t: [m] time that the network is given.
        start: [m] time that the call's transfer begins at.
        end: [m] time that it leads to; negative for the end of sampling.
        weights: [m, 5] of the output, the three outputs kept before it, and the step's sum.
        added: [m] weight with which the output is added to the step's sum.
        starts_sum: [m] whether the step's sum is emptied before the call.
        is_kept: [m] whether the output is kept for the calls after it.
        is_saved: [m] whether the transfer begins at the call's own state, which is saved, instead
            of the state saved last.
        completes: [m] whether the call completes a step.
    """

    t: np.ndarray
    start: np.ndarray
    end: np.ndarray
    weights: np.ndarray
    added: np.ndarray
    starts_sum: np.ndarray
    is_kept: np.ndarray
    is_saved: np.ndarray
    completes: np.ndarray


def plan(process: Process, num_steps: int, options: SamplerOptions, first_step: int = 0) -> Calls:
    """Lays out the calls, in all of which diffusers' PNDMScheduler is followed.

    With `first_step` its pipelines leave out the first calls of the list and begin the formulas
    again. The second call then repeats the first one's step at a time of its own, so that from
    `first_step=2` on all later states, the result among them, are one step noisier than the
    formulas take them to be.
    """
    t = make_grid(process, num_steps, "pndm", options).t.astype(np.int64)
    if not 0 <= first_step < num_steps:
        raise UserError(f"first_step={first_step}: expected 0 to {num_steps - 1}, one of the steps")
    stride = process.num_train_timesteps // num_steps
    if options.skip_prk_steps:
        # The second time is called twice: at Euler's prediction and at the corrected state.
        times = np.concatenate([t[:1], t[1:2], t[1:]])[first_step:]
        return _joined([_linear_multistep(j, time, stride) for j, time in enumerate(times)])
    if num_steps < 4:
        raise UserError(f"num_steps={num_steps}: expected at least 4 with skip_prk_steps=False")
    middle = stride // 2
    runge_kutta = [
        time
        for begin, end in itertools.pairwise(t[:4])
        for time in (begin, end + middle, end + middle, end)
    ]
    times = np.concatenate([runge_kutta, t[3:]])[first_step:]
    rows = [
        _runge_kutta(j, time, runge_kutta[j // 4 * 4], middle)
        if j < _PRK_CALLS
        else _linear_multistep(j, time, stride)
        for j, time in enumerate(times)
    ]
    return _joined(rows)


def _runge_kutta(j, time, begin, middle):
    """Returns call j of the classical Runge-Kutta steps, which have 4 calls each."""
    k = j % 4
    return dict(
        t=time,
        start=begin,
        end=time - (middle if k in (0, 2) else 0),
        weights=np.array([_RUNGE_KUTTA[3], 0, 0, 0, 1] if k == 3 else [1.0, 0, 0, 0, 0]),
        added=_RUNGE_KUTTA[k],
        starts_sum=k == 0,
        is_kept=k == 0,
        is_saved=k == 0,
        completes=k == 3,
    )


def _linear_multistep(j, time, stride):
    """Returns call j of the multistep formulas; call 1 repeats call 0's step with a mean slope."""
    repeats = j == 1
    mean = np.array([1.0, 1, 0, 0]) / 2
    outputs = j + 1 if j == 0 else min(j, 4)
    return dict(
        t=time,
        start=time + stride if repeats else time,
        end=time if repeats else time - stride,
        weights=np.append(mean if repeats else _ADAMS_BASHFORTH[outputs], 0),
        added=0.0,
        starts_sum=True,
        is_kept=not repeats,
        is_saved=not repeats,
        completes=True,
    )


def _joined(rows):
    values = {name: np.stack([row[name] for row in rows]) for name in rows[0]}
    if len(rows) > 1 and not values["is_saved"][1]:
        # The repeated call takes the place of the one before it.
        values["completes"][0] = False
    return Calls(**values)


def pndm(
    output,
    convert,
    x,
    process: Process,
    calls: Calls,
    options: SamplerOptions,
    known: Known | None = None,
):
    """Samples by planned calls, mixing the network's outputs in its own prediction type.

    Args:
        output: (x, t) -> output of the network.
        convert: (output, x, alpha, sigma) -> x_0 and eps.
        x: the start.
        process: the forward process.
        calls: Model calls, laid out by `plan`.
        options: options of the sampler.
        known: Region whose content is given, see `sample`.

    Returns:
        The result, the times at which steps begin, and (states, predicted x_0) after each step.
    """
    (alpha, sigma), (to_alpha, to_sigma), at_call = (
        levels_at(process, t, options) for t in (calls.start, calls.end, calls.t)
    )
    coefficients = f32(
        t=calls.t,
        alpha=alpha,
        sigma=sigma,
        to_alpha=to_alpha,
        to_sigma=to_sigma,
        weights=calls.weights,
        added=calls.added,
        call_alpha=at_call[0],
        call_sigma=at_call[1],
    )
    coefficients["i"] = jnp.arange(len(calls.t))
    coefficients |= {
        name: jnp.asarray(getattr(calls, name)) for name in ("starts_sum", "is_kept", "is_saved")
    }

    def step(carry, c):
        x, saved, total, kept = carry
        if known is not None:
            x = known.put(x, c["i"], c["call_alpha"], c["call_sigma"])
        out = output(x, c["t"])
        w = c["weights"]
        total = jnp.where(c["starts_sum"], 0.0, total)
        mixed = w[0] * out + w[1] * kept[0] + w[2] * kept[1] + w[3] * kept[2] + w[4] * total
        total = total + c["added"] * out
        kept = jnp.where(c["is_kept"], jnp.stack([out, kept[0], kept[1]]), kept)
        saved = jnp.where(c["is_saved"], x, saved)
        x_0, eps = convert(mixed, saved, c["alpha"], c["sigma"])
        x = c["to_alpha"] * x_0 + c["to_sigma"] * eps
        return (x, saved, total, kept), (x, x_0)

    nothing = jnp.zeros_like(x)
    carry = (x, x, nothing, jnp.stack([nothing] * 3))
    (x, *_), trace = jax.lax.scan(step, carry, coefficients)
    steps = np.flatnonzero(calls.completes)
    return x, calls.start[steps], jax.tree.map(lambda a: a[steps], trace)
