"""Multistep solvers in half log-SNR, lambda = log(alpha / sigma): DPM-Solver++(2M) and UniPC.

Both integrate x_0's prediction m along lambda and remember the last one or two,
so that a second-order step costs one model call. Every update is linear in x
and the m's: NumPy works out the weights, the scan applies them.
"""

import jax
import jax.numpy as jnp
import numpy as np

from gen_jax.diffusion.samplers.grid import Grid
from gen_jax.diffusion.samplers.one_step import f32

# A flow starts at alpha = 0, where lambda is minus infinity.
_SMALLEST_ALPHA = 1e-6


def _lambdas(grid: Grid):
    with np.errstate(divide="ignore"):  # the clean end is at plus infinity, and expm1(-inf) = -1
        return np.log(np.maximum(grid.alpha, _SMALLEST_ALPHA)) - np.log(grid.sigma)


def dpmpp_2m(predict, x, grid: Grid, lower_order_final: bool, num_steps: int):
    """DPM-Solver++(2M), arXiv 2211.01095 algorithm 2, in its midpoint form.

    The first step is of first order, and the last one too where it ends at
    sigma = 0 or, with `lower_order_final`, where there are fewer than 15 steps (`num_steps`
    counts those that are skipped, too).
    """
    n, lam = len(grid.t), _lambdas(grid)
    gain = -grid.alpha[1:] * np.expm1(-np.diff(lam))
    extrapolate = np.zeros(n)
    for i in range(1, n):
        last = i == n - 1
        if not (last and (grid.sigma[-1] == 0 or (lower_order_final and num_steps < 15))):
            extrapolate[i] = 0.5 * (lam[i + 1] - lam[i]) / (lam[i] - lam[i - 1])
    coefficients = f32(
        on_x=grid.sigma[1:] / grid.sigma[:-1],
        now=gain * (1 + extrapolate),
        before=-gain * extrapolate,
    )

    def step(carry, c):
        x, before = carry
        m, _ = predict(x, c["i"])
        x = c["on_x"] * x + c["now"] * m + c["before"] * before
        return (x, m), (x, m)

    (x, _), trace = jax.lax.scan(step, (x, jnp.zeros_like(x)), coefficients | {"i": jnp.arange(n)})
    return x, trace


def unipc(predict, x, grid: Grid, lower_order_final: bool = True):
    """UniPC of order 2 with B(h) = e^h - 1 ("bh2"), arXiv 2302.04867.

    The model's answer at the predicted point first corrects that point (UniC)
    and then predicts the next (UniP), at one call a step.
    """
    n, lam = len(grid.t), _lambdas(grid)
    order = [min(2, i + 1) for i in range(n)]
    if grid.sigma[-1] == 0 or lower_order_final:
        order[-1] = 1
    h = np.diff(lam)
    on_x = grid.sigma[1:] / grid.sigma[:-1]
    gain = -grid.alpha[1:] * np.expm1(-h)
    # r: where the previous prediction lies, in units of this step.
    r = np.ones(n)
    with np.errstate(divide="ignore"):  # Karras' last sigma may be where the steps end: h = 0
        r[1:] = -h[:-1] / h[1:]
    second = np.array(order) == 2
    # The predictor's weight on (m_before - m_now) / r is 1/2.
    predict_before = np.divide(gain, 2 * r, out=np.zeros(n), where=second)

    # The corrector at point i repeats step i - 1 with the model's answer at its end.
    correct_x, correct_end, correct_now, correct_before = (np.zeros(n) for _ in range(4))
    for i in range(1, n):
        rho_before, rho_end = _corrector_weights(h[i - 1], r[i - 1], order[i - 1])
        g = gain[i - 1]
        correct_x[i] = on_x[i - 1]
        correct_end[i] = g * rho_end
        correct_before[i] = g * rho_before / r[i - 1]
        correct_now[i] = g - correct_end[i] - correct_before[i]
    coefficients = f32(
        on_x=on_x,
        now=gain - predict_before,
        before=predict_before,
        correct_x=correct_x,
        correct_end=correct_end,
        correct_now=correct_now,
        correct_before=correct_before,
    )

    def step(carry, c):
        x, x_before, m_1, m_2 = carry
        m, _ = predict(x, c["i"])
        corrected = (
            c["correct_x"] * x_before
            + c["correct_end"] * m
            + c["correct_now"] * m_1
            + c["correct_before"] * m_2
        )
        x = jnp.where(c["i"] > 0, corrected, x)
        x_next = c["on_x"] * x + c["now"] * m + c["before"] * m_1
        return (x_next, x, m, m_1), (x_next, m)

    nothing = jnp.zeros_like(x)
    (x, *_), trace = jax.lax.scan(
        step, (x, nothing, nothing, nothing), coefficients | {"i": jnp.arange(n)}
    )
    return x, trace


def _corrector_weights(h: float, r: float, order: int):
    """The weights rho of (m_before - m_now) / r and (m_end - m_now), the solution of R rho = b."""
    if order == 1:
        return 0.0, 0.5
    phi_1 = np.expm1(-h)
    phi_2 = phi_1 / -h - 1
    phi_3 = phi_2 / -h - 0.5
    b_1, b_2 = phi_2 / phi_1, 2 * phi_3 / phi_1
    rho_before = (b_1 - b_2) / (1 - r)
    return rho_before, b_1 - rho_before
