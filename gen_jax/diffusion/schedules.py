"""Noise schedules and the forward process: x_t = alpha_t x_0 + sigma_t eps.

Two kinds of time live behind one interface. Discrete schedules (`linear`,
`scaled_linear`, `squaredcos_cap_v2`) keep alpha^2 + sigma^2 = 1 and count t in
integers from 0 (almost clean) to `num_train_timesteps - 1` (almost noise).
`flow` is rectified flow (arXiv 2209.03003, 2403.03206): alpha = 1 - t and
sigma = t with a real t in [0, 1].

Tables are computed in float64 by NumPy and used in float32.
"""

import dataclasses
import functools
import math
from typing import Literal, get_args

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray, Real

from gen_jax.common.errors import UserError
from gen_jax.diffusion import predictions

Schedule = Literal["scaled_linear", "linear", "squaredcos_cap_v2", "flow"]
TimestepSampling = Literal["uniform", "stratified", "logit_normal"]
Objective = Literal["denoise", "meanflow"]

# The ranges each schedule is known by: latent diffusion (arXiv 2112.10752) and DDPM (2006.11239).
_BETA_RANGE = {"scaled_linear": (0.00085, 0.012), "linear": (1e-4, 0.02)}
_MAX_BETA = 0.999
# Zero terminal SNR puts sigma / alpha at infinity; solvers that divide by alpha use this instead.
_SMALLEST_ALPHA_BAR = 2.0**-24


def betas(schedule: str, num_train_timesteps: int, beta_start: float, beta_end: float):
    """The variances beta_t of a discrete schedule.

    Args:
        schedule: `linear` (arXiv 2006.11239), `scaled_linear` (linear in the
            square root, arXiv 2112.10752) or `squaredcos_cap_v2` (the cosine
            schedule of arXiv 2102.09672; it ignores the range).
        num_train_timesteps: how many.
        beta_start: the first of them.
        beta_end: the last of them.

    Returns:
        float64 NumPy array [num_train_timesteps].
    """
    if schedule == "linear":
        return np.linspace(beta_start, beta_end, num_train_timesteps)
    if schedule == "scaled_linear":
        return np.linspace(beta_start**0.5, beta_end**0.5, num_train_timesteps) ** 2
    if schedule == "squaredcos_cap_v2":
        s = np.arange(num_train_timesteps + 1) / num_train_timesteps
        alpha_bar = np.cos((s + 0.008) / 1.008 * math.pi / 2) ** 2
        return np.minimum(1 - alpha_bar[1:] / alpha_bar[:-1], _MAX_BETA)
    raise UserError(
        f"schedule={schedule!r} has no betas: expected linear, scaled_linear, squaredcos_cap_v2"
    )


def zero_terminal_snr(alpha_bar):
    """Shifts and scales sqrt(alpha_bar) so that the last is 0 and the first is kept.

    Algorithm 1 of arXiv 2305.08891, on the cumulative products themselves.

    Args:
        alpha_bar: NumPy array [T] of cumulative products of 1 - beta.

    Returns:
        float64 NumPy array [T] whose last value is exactly 0.
    """
    root = np.sqrt(alpha_bar)
    root = (root - root[-1]) * root[0] / (root[0] - root[-1])
    return root**2


@dataclasses.dataclass(frozen=True)
class Process:
    """The forward process, hashable (a static argument of jit). Build it with `make_process`.

    Every method takes a batch: x_0, eps, x_t and output [b, ...], t [b].
    Coefficients are float32, so a bfloat16 input gives a float32 result.
    """

    schedule: Schedule
    prediction_type: predictions.PredictionType
    num_train_timesteps: int
    beta_start: float
    beta_end: float
    rescale_zero_terminal_snr: bool
    snr_gamma: float | None
    timestep_sampling: TimestepSampling
    shift: float
    objective: Objective = "denoise"

    @property
    def is_flow(self) -> bool:
        """Whether t is a real number in [0, 1] rather than an index."""
        return self.schedule == "flow"

    def alpha(self, t: Real[Array, "b"]) -> Float[Array, "b"]:
        """The signal's coefficient at t."""
        return self._alpha_sigma(t)[0]

    def sigma(self, t: Real[Array, "b"]) -> Float[Array, "b"]:
        """The noise's coefficient at t."""
        return self._alpha_sigma(t)[1]

    def _alpha_sigma(self, t):
        if self.is_flow:
            t = t.astype(jnp.float32)
            return 1 - t, t
        alphas, sigmas, ratios = (jnp.asarray(a, jnp.float32) for a in tables(self))
        if jnp.issubdtype(t.dtype, jnp.integer):
            return alphas[t], sigmas[t]
        # Some samplers ask between two indices: sigma / alpha is linear there.
        low = jnp.clip(jnp.floor(t).astype(jnp.int32), 0, self.num_train_timesteps - 1)
        high = jnp.minimum(low + 1, self.num_train_timesteps - 1)
        w = t.astype(jnp.float32) - low
        ratio = (1 - w) * ratios[low] + w * ratios[high]
        alpha = jax.lax.rsqrt(1 + ratio**2)
        return jnp.where(w == 0, alphas[low], alpha), jnp.where(w == 0, sigmas[low], ratio * alpha)

    def sample_t(self, rng: PRNGKeyArray, shape: tuple[int, ...]) -> Real[Array, "..."]:
        """Draws training times: int32 in [0, T) if discrete, float32 in [0, 1] if flow.

        `logit_normal` puts most of them in the middle (arXiv 2403.03206, section
        3.1), `stratified` spreads those of one batch evenly (arXiv 2107.00630, section
        I.1), and `shift` moves them towards noise, as it does for the samplers.
        """
        if self.timestep_sampling == "logit_normal":
            u = jax.nn.sigmoid(jax.random.normal(rng, shape))
        elif self.timestep_sampling == "stratified":
            count = math.prod(shape)
            u = (jnp.arange(count) + jax.random.uniform(rng)) / count
            u = jnp.reshape(u, shape)
        elif self.is_flow:
            u = jax.random.uniform(rng, shape)
        else:
            return jax.random.randint(rng, shape, 0, self.num_train_timesteps)
        if self.is_flow:
            return shifted(u, self.shift)
        t = jnp.floor(u * self.num_train_timesteps).astype(jnp.int32)
        return jnp.minimum(t, self.num_train_timesteps - 1)

    def model_time(self, t: Real[Array, "b"]) -> Float[Array, "b"]:
        """The number for the network's timestep embedding: 0 to T - 1, or t * T if flow."""
        t = t.astype(jnp.float32)
        return t * self.num_train_timesteps if self.is_flow else t

    def add_noise(
        self, x_0: Float[Array, "b ..."], eps: Float[Array, "b ..."], t: Real[Array, "b"]
    ) -> Float[Array, "b ..."]:
        """x_t = alpha_t x_0 + sigma_t eps."""
        alpha, sigma = self._expanded(t, x_0)
        return alpha * x_0 + sigma * eps

    def target(
        self, x_0: Float[Array, "b ..."], eps: Float[Array, "b ..."], t: Real[Array, "b"]
    ) -> Float[Array, "b ..."]:
        """What the network should output at x_t, in this process's prediction type."""
        return predictions.target(x_0, eps, *self._expanded(t, x_0), self.prediction_type)

    def to_x0(
        self, output: Float[Array, "b ..."], x_t: Float[Array, "b ..."], t: Real[Array, "b"]
    ) -> Float[Array, "b ..."]:
        """The clean image that a model output implies at x_t."""
        return predictions.to_x0(output, x_t, *self._expanded(t, x_t), self.prediction_type)

    def to_eps(
        self, output: Float[Array, "b ..."], x_t: Float[Array, "b ..."], t: Real[Array, "b"]
    ) -> Float[Array, "b ..."]:
        """The noise that a model output implies at x_t."""
        return predictions.to_eps(output, x_t, *self._expanded(t, x_t), self.prediction_type)

    def loss_weight(self, t: Real[Array, "b"]) -> Float[Array, "b"]:
        """The weight of the squared error of the output at t: 1, or min-SNR with `snr_gamma`.

        Min-SNR-gamma (arXiv 2303.09556) weighs the error of x_0 by min(SNR,
        gamma). Here it is carried over to the space of the output; with zero
        terminal SNR the last step of v_prediction therefore weighs 0.
        """
        alpha, sigma = self._alpha_sigma(t)
        if self.snr_gamma is None:
            return jnp.ones_like(alpha)
        if self.prediction_type == "epsilon":  # min(SNR, gamma) / SNR, finite at SNR = 0
            return jnp.minimum(1.0, self.snr_gamma * sigma**2 / jnp.maximum(alpha**2, 1e-20))
        snr = alpha**2 / jnp.maximum(sigma**2, 1e-20)
        return jnp.minimum(snr, self.snr_gamma) * predictions.x0_error_scale(
            alpha, sigma, self.prediction_type
        )

    def _expanded(self, t, x):
        alpha, sigma = self._alpha_sigma(t)
        return expand(alpha, x.ndim), expand(sigma, x.ndim)


def expand(coefficient: Float[Array, "b"], ndim: int) -> Float[Array, "b ..."]:
    """[b] -> [b, 1, ..., 1] with `ndim` axes, to multiply a batch without rank promotion."""
    return coefficient.reshape(coefficient.shape + (1,) * (ndim - 1))


def shifted(t, shift: float | int):
    """Moves flow times towards noise: shift t / (1 + (shift - 1) t), arXiv 2403.03206 eq. 23."""
    return shift * t / (1 + (shift - 1) * t)


@functools.lru_cache(maxsize=64)
def tables(process: Process):
    """The discrete schedule as float64 NumPy arrays [T]: alpha, sigma and sigma / alpha.

    Under zero terminal SNR the last ratio would be infinite and is 2**12 instead.
    """
    beta = betas(
        process.schedule, process.num_train_timesteps, process.beta_start, process.beta_end
    )
    alpha_bar = np.cumprod(1 - beta)
    if process.rescale_zero_terminal_snr:
        alpha_bar = zero_terminal_snr(alpha_bar)
    bounded = np.maximum(alpha_bar, _SMALLEST_ALPHA_BAR if alpha_bar[-1] == 0 else 0)
    return np.sqrt(alpha_bar), np.sqrt(1 - alpha_bar), np.sqrt((1 - bounded) / bounded)


def make_process(
    schedule: str = "scaled_linear",
    prediction_type: str = "epsilon",
    num_train_timesteps: int = 1000,
    beta_start: float | int | None = None,
    beta_end: float | int | None = None,
    rescale_zero_terminal_snr: bool = False,
    snr_gamma: float | int | None = None,
    timestep_sampling: str = "uniform",
    shift: float | int = 1.0,
    objective: str = "denoise",
) -> Process:
    """Builds the forward process from plain config values, checked.

    Args:
        schedule: `scaled_linear`, `linear`, `squaredcos_cap_v2` or `flow`.
        prediction_type: what the network outputs: `epsilon`, `v_prediction`
            (alpha eps - sigma x_0, arXiv 2202.00512), `sample` (x_0) or `flow`
            (eps - x_0; diffusers' `flow_prediction` is taken to be the same).
        num_train_timesteps: T, and the scale of the time embedding.
        beta_start: first beta; None for the one the schedule is known by.
        beta_end: last beta; likewise.
        rescale_zero_terminal_snr: make x_T pure noise (arXiv 2305.08891).
        snr_gamma: the gamma of min-SNR loss weights, 5 in the paper; None for none.
        timestep_sampling: how `sample_t` draws, `uniform`, `stratified` or `logit_normal`.
        shift: of flow times towards noise, in training and sampling alike.
        objective: `denoise`, or `meanflow` for average velocities (arXiv:2505.13447), which need
            `schedule="flow"` and a prediction type of `flow` or `sample`.

    Raises:
        UserError: for an unknown name or a combination that cannot be sampled.
    """
    prediction_type = "flow" if prediction_type == "flow_prediction" else prediction_type
    for key, value, choices in (
        ("schedule", schedule, get_args(Schedule)),
        ("prediction_type", prediction_type, get_args(predictions.PredictionType)),
        ("timestep_sampling", timestep_sampling, get_args(TimestepSampling)),
        ("objective", objective, get_args(Objective)),
    ):
        if value not in choices:
            raise UserError(f"{key}={value!r}: expected one of {', '.join(choices)}")
    if num_train_timesteps < 2:
        raise UserError(f"num_train_timesteps={num_train_timesteps}: expected at least 2")
    if schedule == "flow" and rescale_zero_terminal_snr:
        raise UserError("rescale_zero_terminal_snr: flow already ends in pure noise, drop it")
    if schedule != "flow" and shift != 1.0:
        raise UserError(f"shift={shift}: only schedule='flow' can be shifted, expected 1.0")
    if objective == "meanflow" and (
        schedule != "flow" or prediction_type not in ("flow", "sample")
    ):
        raise UserError(
            f"objective='meanflow' with schedule={schedule!r} and prediction_type="
            f"{prediction_type!r}: expected schedule='flow' and prediction_type='flow' or 'sample'"
        )
    if shift <= 0:
        raise UserError(f"shift={shift}: expected a positive number")
    if prediction_type == "epsilon" and (rescale_zero_terminal_snr or schedule == "flow"):
        raise UserError(
            "prediction_type='epsilon': x_0 cannot be had from pure noise and eps; "
            "with flow or zero terminal SNR use v_prediction, sample or flow"
        )
    if snr_gamma is not None and snr_gamma <= 0:
        raise UserError(f"snr_gamma={snr_gamma}: expected a positive number or None")
    start, end = _BETA_RANGE.get(schedule, (0.0, 0.0))
    start = start if beta_start is None else beta_start
    end = end if beta_end is None else beta_end
    if schedule in _BETA_RANGE and not 0 < start <= end < 1:
        raise UserError(
            f"beta_start={start}, beta_end={end}: expected 0 < beta_start <= beta_end < 1"
        )
    return Process(
        schedule=schedule,
        prediction_type=prediction_type,
        num_train_timesteps=num_train_timesteps,
        beta_start=float(start),
        beta_end=float(end),
        rescale_zero_terminal_snr=rescale_zero_terminal_snr,
        snr_gamma=None if snr_gamma is None else float(snr_gamma),
        timestep_sampling=timestep_sampling,
        shift=float(shift),
        objective=objective,
    )
