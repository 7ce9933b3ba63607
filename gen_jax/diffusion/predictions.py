"""What a network may predict, and how each prediction becomes x_0 and eps.

With x_t = alpha x_0 + sigma eps the four types are eps itself, x_0 itself,
v = alpha eps - sigma x_0 (arXiv 2202.00512) and the flow f = eps - x_0
(arXiv 2209.03003). The formulas hold for any alpha and sigma, so each type goes
with each schedule; alpha and sigma here broadcast against x_t.
"""

from typing import Literal

PredictionType = Literal["epsilon", "v_prediction", "sample", "flow"]


def target(x_0, eps, alpha, sigma, prediction_type: str):
    """The exact output for a known x_0 and eps."""
    if prediction_type == "epsilon":
        return eps
    if prediction_type == "sample":
        return x_0
    if prediction_type == "v_prediction":
        return alpha * eps - sigma * x_0
    return eps - x_0


def to_x0(output, x_t, alpha, sigma, prediction_type: str):
    """x_0 from an output at x_t. Type `epsilon` divides by alpha."""
    if prediction_type == "epsilon":
        return (x_t - sigma * output) / alpha
    if prediction_type == "sample":
        return output
    if prediction_type == "v_prediction":
        return (alpha * x_t - sigma * output) / (alpha**2 + sigma**2)
    return (x_t - sigma * output) / (alpha + sigma)


def to_eps(output, x_t, alpha, sigma, prediction_type: str):
    """Eps from an output at x_t. Type `sample` divides by sigma."""
    if prediction_type == "epsilon":
        return output
    if prediction_type == "sample":
        return (x_t - alpha * output) / sigma
    if prediction_type == "v_prediction":
        return (sigma * x_t + alpha * output) / (alpha**2 + sigma**2)
    return (x_t + alpha * output) / (alpha + sigma)


def x0_error_scale(alpha, sigma, prediction_type: str):
    """|d x_0 / d output|^2 at a fixed x_t: turns a weight on x_0 into one on the output."""
    if prediction_type == "epsilon":
        return (sigma / alpha) ** 2
    if prediction_type == "sample":
        return alpha * 0 + 1
    if prediction_type == "v_prediction":
        return (sigma / (alpha**2 + sigma**2)) ** 2
    return (sigma / (alpha + sigma)) ** 2
