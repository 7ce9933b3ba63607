"""Options of the samplers that a run keeps: what the scheduler config of a pipeline says."""

import dataclasses
from typing import Any

from gen_jax.common import ranges
from gen_jax.common.errors import UserError

SPACINGS = ("trailing", "leading", "linspace")
FINAL_SIGMAS = ("zero", "sigma_min")

_WHERE = "sampler_options"
_RANGES = {
    "eta": ranges.SHARE,
    "steps_offset": ranges.NOT_NEGATIVE,
    "original_inference_steps": ranges.AT_LEAST_1,
    "timestep_scaling": ranges.POSITIVE,
}


@dataclasses.dataclass(frozen=True)
class SamplerOptions:
    """Options of `sample` that do not change from call to call. Hashable, static under jit.

    A sampler ignores the options of the others.

    Attributes:
        eta: Share of DDPM's noise that `ddim` draws, 0 (default) to 1.
        timestep_spacing: Placement of the times: `trailing` (default; starts at the noisiest
            time), `leading` or `linspace`, as in arXiv:2305.08891, table 2.
        steps_offset: Number that is added to the times of `leading`, 0 by default; 1 in Stable
            Diffusion 1.x.
        lower_order_final: Whether multistep solvers end with a first-order step.
        use_karras_sigmas: Whether sigma / alpha is spaced as in arXiv:2206.00364, eq. 5.
        final_sigmas_type: End of the last step: `zero` (default) is clean, `sigma_min` is the
            schedule's first time (diffusers' `set_alpha_to_one=False`).
        clip_x_0: Bound of each predicted x_0, which is clipped to [-clip_x_0, clip_x_0]; None
            (default) does not clip.
        clip_eps: Whether eps follows a clipped x_0. Diffusers' DDIM keeps the eps of the network.
        fixed_stride: Whether each step of `ddim` goes from t to t - num_train_timesteps //
            num_steps, as in diffusers, even if the next call is at another time. `pndm` always
            steps so.
        skip_prk_steps: Whether `pndm` starts with linear multistep formulas (PLMS, as in Stable
            Diffusion 1.x) instead of three Runge-Kutta steps of 4 calls each (arXiv:2202.09778).
        original_inference_steps: Number of evenly spaced times from which `lcm` picks its own, 50
            by default: those of the distillation (arXiv:2310.04378).
        timestep_scaling: Factor of the time in the boundary condition of `lcm`, 10 by default.
        sigma_scaled: Whether `euler`, `euler_ancestral` and `heun` keep the scale of diffusers'
            latents, x / alpha, at both ends: with `linspace` and `trailing` pure noise has the
            standard deviation sigma instead of 1 (see `noise_scale`), and the result is divided
            by its alpha, which is 1 unless `final_sigmas_type` is `sigma_min`.
    """

    eta: float = 0.0
    timestep_spacing: str = "trailing"
    steps_offset: int = 0
    lower_order_final: bool = True
    use_karras_sigmas: bool = False
    final_sigmas_type: str = "zero"
    clip_x_0: float | None = None
    clip_eps: bool = True
    fixed_stride: bool = False
    skip_prk_steps: bool = True
    original_inference_steps: int = 50
    timestep_scaling: float = 10.0
    sigma_scaled: bool = False

    def __post_init__(self):
        ranges.check_fields(self, _RANGES, _WHERE)
        if self.clip_x_0 is not None:
            ranges.check_range(self.clip_x_0, ranges.POSITIVE, f"{_WHERE}.clip_x_0")
        for name, choices in (
            ("timestep_spacing", SPACINGS),
            ("final_sigmas_type", FINAL_SIGMAS),
        ):
            if (value := getattr(self, name)) not in choices:
                raise UserError(f"{_WHERE}.{name}={value!r}: expected one of {', '.join(choices)}")
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if field.type is bool and not isinstance(value, bool):
                raise UserError(f"{_WHERE}.{field.name}={value!r}: expected True or False")
        if self.fixed_stride and self.use_karras_sigmas:
            raise UserError(
                f"{_WHERE}.fixed_stride=True: expected False with use_karras_sigmas, whose times "
                "have no common stride"
            )

    def values(self) -> dict[str, Any]:
        """Returns the options by name."""
        return dataclasses.asdict(self)


DEFAULTS = SamplerOptions()
