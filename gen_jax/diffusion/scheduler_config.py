"""The scheduler_config.json of diffusers' pipelines, read and written.

Keys that a config leaves out have the defaults of its scheduler class in diffusers 0.42, and keys
that the class does not take have no effect, as in diffusers. What the samplers here do not do is
refused by its name.
"""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

from gen_jax.common.errors import UserError
from gen_jax.diffusion.samplers.options import SPACINGS, SamplerOptions
from gen_jax.diffusion.schedules import Process, make_process, tables

# Options that diffusers has no key for, in the configs that are written here.
_OWN = "_gen_jax"


@dataclasses.dataclass(frozen=True)
class Scheduler:
    """What a scheduler config says.

    Attributes:
        process: Keyword arguments of `schedules.make_process`.
        sampler: Name in `samplers.SAMPLERS`.
        options: Keyword arguments of `SamplerOptions`.
    """

    process: dict[str, Any]
    sampler: str
    options: dict[str, Any]


@dataclasses.dataclass(frozen=True)
class _Class:
    """A scheduler class of diffusers.

    Attributes:
        sampler: The sampler that does the same.
        defaults: Key -> default, for the keys that matter here.
        choices: Key -> values that the sampler can honor; other values are refused.
    """

    sampler: str
    defaults: Mapping[str, Any]
    choices: Mapping[str, tuple[Any, ...]] = dataclasses.field(default_factory=dict)


_PROCESS = {
    "num_train_timesteps": 1000,
    "beta_start": 0.0001,
    "beta_end": 0.02,
    "beta_schedule": "linear",
    "trained_betas": None,
    "prediction_type": "epsilon",
    "steps_offset": 0,
}
_LATENT = {"beta_start": 0.00085, "beta_end": 0.012}
_LEADING = {"timestep_spacing": "leading"}
_LINSPACE = {"timestep_spacing": "linspace"}
_ZERO_SNR = {"rescale_betas_zero_snr": False}
_CLIP = {"clip_sample": True, "clip_sample_range": 1.0}
_NO_CLIP = {**_CLIP, "clip_sample": False}
_THRESHOLDING = {"thresholding": False}
_KARRAS = {"use_karras_sigmas": False, "use_exponential_sigmas": False, "use_beta_sigmas": False}
_FINAL = {"final_sigmas_type": "zero"}
_SIGMA_RANGE = {"sigma_min": None, "sigma_max": None}
_FLOW = {"use_flow_sigmas": False, "use_dynamic_shifting": False}
_SOLVER = {"solver_order": 2, "lower_order_final": True}

_TWO_TYPES = {"prediction_type": ("epsilon", "v_prediction")}

_CLASSES = {
    "DDPMScheduler": _Class(
        "ddpm",
        {
            **_PROCESS,
            **_LEADING,
            **_ZERO_SNR,
            **_CLIP,
            **_THRESHOLDING,
            "variance_type": "fixed_small",
        },
        # The logarithm makes no difference to the standard deviation.
        {"variance_type": ("fixed_small", "fixed_small_log")},
    ),
    "DDIMScheduler": _Class(
        "ddim",
        {
            **_PROCESS,
            **_LEADING,
            **_ZERO_SNR,
            **_CLIP,
            **_THRESHOLDING,
            "set_alpha_to_one": True,
            "eta": 0.0,
        },
    ),
    "PNDMScheduler": _Class(
        "pndm",
        {**_PROCESS, **_LEADING, "set_alpha_to_one": False, "skip_prk_steps": False},
        _TWO_TYPES,
    ),
    "EulerDiscreteScheduler": _Class(
        "euler",
        {
            **_PROCESS,
            **_LINSPACE,
            **_ZERO_SNR,
            **_KARRAS,
            **_FINAL,
            **_SIGMA_RANGE,
            "interpolation_type": "linear",
            "timestep_type": "discrete",
        },
        {"interpolation_type": ("linear",), "timestep_type": ("discrete",)},
    ),
    "EulerAncestralDiscreteScheduler": _Class(
        "euler_ancestral", {**_PROCESS, **_LINSPACE, **_ZERO_SNR}, _TWO_TYPES
    ),
    "HeunDiscreteScheduler": _Class(
        "heun", {**_PROCESS, **_LATENT, **_LINSPACE, **_KARRAS, **_NO_CLIP}
    ),
    "DPMSolverMultistepScheduler": _Class(
        "dpmpp_2m",
        {
            **_PROCESS,
            **_LINSPACE,
            **_ZERO_SNR,
            **_KARRAS,
            **_FINAL,
            **_FLOW,
            **_SOLVER,
            **_THRESHOLDING,
            "algorithm_type": "dpmsolver++",
            "solver_type": "midpoint",
            "euler_at_final": False,
            "use_lu_lambdas": False,
            "lambda_min_clipped": -math.inf,
            "variance_type": None,
        },
        {
            "algorithm_type": ("dpmsolver++",),
            "solver_order": (2,),
            # Diffusers replaces the other solvers' names by its own.
            "solver_type": ("midpoint", "logrho", "bh1", "bh2"),
            "variance_type": (None,),
        },
    ),
    "UniPCMultistepScheduler": _Class(
        "unipc",
        {
            **_PROCESS,
            **_LINSPACE,
            **_ZERO_SNR,
            **_KARRAS,
            **_FINAL,
            **_FLOW,
            **_SOLVER,
            **_SIGMA_RANGE,
            **_THRESHOLDING,
            "predict_x0": True,
            "solver_type": "bh2",
            "disable_corrector": [],
            "solver_p": None,
            "shift_terminal": None,
        },
        {
            "solver_order": (2,),
            "solver_type": ("bh2", "midpoint", "heun", "logrho"),
            "predict_x0": (True,),
            "disable_corrector": ([],),
        },
    ),
    "LCMScheduler": _Class(
        "lcm",
        {
            **_PROCESS,
            **_LATENT,
            "beta_schedule": "scaled_linear",
            **_LEADING,
            **_ZERO_SNR,
            **_NO_CLIP,
            **_THRESHOLDING,
            "original_inference_steps": 50,
            "timestep_scaling": 10.0,
        },
    ),
}
# Values that can be honored in any class that takes the key.
_CHOICES = {
    "beta_schedule": ("linear", "scaled_linear", "squaredcos_cap_v2"),
    "prediction_type": ("epsilon", "v_prediction", "sample"),
    "timestep_spacing": SPACINGS,
    "final_sigmas_type": ("zero", "sigma_min"),
    "trained_betas": (None,),
    "thresholding": (False,),
    "use_exponential_sigmas": (False,),
    "use_beta_sigmas": (False,),
    "use_lu_lambdas": (False,),
    "use_flow_sigmas": (False,),
    "use_dynamic_shifting": (False,),
    "sigma_min": (None,),
    "sigma_max": (None,),
    "solver_p": (None,),
    "shift_terminal": (None,),
}
# Keys without effect once those above have the values that are honored.
_INERT = {
    "dynamic_thresholding_ratio",
    "sample_max_value",
    "flow_shift",
    "time_shift_type",
    "set_alpha_to_one",
}
_KNOWN = _INERT.union(*(c.defaults for c in _CLASSES.values()))
# Key -> option of the same meaning and value.
_OPTIONS = {
    key: key
    for key in (
        *("timestep_spacing", "steps_offset", "lower_order_final", "use_karras_sigmas"),
        *("final_sigmas_type", "skip_prk_steps", "original_inference_steps", "timestep_scaling"),
        "eta",
    )
}
_SIGMA_SCALED = ("euler", "euler_ancestral", "heun")


def from_diffusers(config: Mapping[str, Any], where: str) -> Scheduler:
    """Reads a scheduler config.

    Args:
        config: The content of scheduler_config.json.
        where: Path of the file, for messages.

    Raises:
        UserError: The class or a value is not supported, or no such key exists.
    """
    name = config.get("_class_name")
    name = name[-1] if isinstance(name, list) and name else name
    if not isinstance(name, str) or name not in _CLASSES:
        raise UserError(f"{where}: _class_name={name!r}: expected one of {', '.join(_CLASSES)}")
    kind = _CLASSES[name]
    values = _checked(config, name, where)
    process = {
        "schedule": values["beta_schedule"],
        "prediction_type": values["prediction_type"],
        "num_train_timesteps": values["num_train_timesteps"],
        "beta_start": values["beta_start"],
        "beta_end": values["beta_end"],
        "rescale_zero_terminal_snr": values.get("rescale_betas_zero_snr", False),
    }
    options = {ours: values[key] for key, ours in _OPTIONS.items() if key in values}
    if "set_alpha_to_one" in values:
        options["final_sigmas_type"] = "zero" if values["set_alpha_to_one"] else "sigma_min"
    if values.get("clip_sample"):
        options |= {"clip_x_0": values["clip_sample_range"], "clip_eps": kind.sampler != "ddim"}
    if kind.sampler == "ddim":
        options["fixed_stride"] = True
    if kind.sampler in _SIGMA_SCALED:
        options["sigma_scaled"] = True
    try:
        options |= config.get(_OWN, {})
        built = make_process(**process)
        SamplerOptions(**options)
    except (UserError, TypeError) as e:
        raise UserError(f"{where}: {e}") from None
    _check_steps(values, built, name, where)
    return Scheduler(process, kind.sampler, options)


def stated(config: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the class and the keys of a scheduler config that some class reads.

    Without those whose defaults diffusers wrote out, which it lists and replaces itself.
    """
    defaulted = config.get("_use_default_values") or ()
    return {
        key: value
        for key, value in config.items()
        if key == "_class_name" or (key in _KNOWN and key not in defaulted)
    }


def _checked(config: Mapping[str, Any], name: str, where: str) -> dict[str, Any]:
    """Returns key -> value with the defaults of the class, after a check of each."""
    kind = _CLASSES[name]
    choices = {**_CHOICES, **kind.choices}
    # Diffusers lists the keys whose defaults it wrote out and takes its present defaults for them.
    defaulted = config.get("_use_default_values") or ()
    values = dict(kind.defaults)
    for key, value in config.items():
        if key.startswith("_") or key in defaulted:
            continue
        if key not in _KNOWN and value not in (None, False):
            raise UserError(
                f"{where}: {key}={_shown(value)}: no scheduler has this key; remove it or "
                "correct its name"
            )
        if key not in values:
            continue
        default = values[key]
        if value is None and isinstance(default, bool):
            value = False
        allowed = choices.get(key)
        if allowed is not None and value not in allowed:
            expected = " or ".join(repr(v) for v in allowed)
            raise UserError(
                f"{where}: {key}={_shown(value)} of {name} is not supported; expected {expected}"
            )
        if allowed is None and not _has_type_of(default, value):
            kind_of = {bool: "true or false", int: "a whole number"}.get(type(default), "a number")
            raise UserError(f"{where}: {key}={_shown(value)} of {name}: expected {kind_of}")
        values[key] = value
    return values


def _has_type_of(default: Any, value: Any) -> bool:
    if isinstance(default, bool) or isinstance(value, bool):
        return isinstance(default, bool) and isinstance(value, bool)
    return isinstance(value, int) or (isinstance(default, float) and isinstance(value, float))


def _shown(value: Any) -> str:
    """Returns the value as a message shows it: a list of betas has a thousand numbers."""
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _check_steps(values: Mapping[str, Any], process: Process, name: str, where: str) -> None:
    """Refuses what would change the steps of DPM-Solver++; raises UserError."""
    if values.get("euler_at_final") and values["final_sigmas_type"] != "zero":
        raise UserError(
            f"{where}: euler_at_final=True of {name} is not supported with "
            "final_sigmas_type='sigma_min'; expected False"
        )
    # Half log-SNR at the noisiest time: a bound below it clips nothing.
    lowest = -math.log(tables(process)[2][-1])
    if values.get("lambda_min_clipped", lowest) > lowest:
        raise UserError(
            f"{where}: lambda_min_clipped={values['lambda_min_clipped']} of {name} is not "
            f"supported; expected at most {lowest:.3f}, the schedule's own minimum"
        )


def to_diffusers(process: Process, sampler: str, options: SamplerOptions) -> dict[str, Any]:
    """Returns the scheduler config that `from_diffusers` reads back to the same sampler.

    Diffusers has no key for some options: those of DDIM's steps at uneven times and of its `eta`,
    which is an argument of the pipeline's call, and the standard deviation 1 of pure noise, which
    diffusers' Euler and Heun with `linspace` or `trailing` take to be sigma. The config keeps them
    under a key that diffusers ignores.

    Args:
        process: The forward process.
        sampler: Name in `samplers.SAMPLERS`.
        options: Options of the sampler.

    Raises:
        UserError: Diffusers' scheduler of this name cannot do the same.
    """
    names = {kind.sampler: name for name, kind in _CLASSES.items()}
    if sampler not in names:
        raise UserError(f"sampler={sampler!r}: expected one of {', '.join(names)}")
    name, kind = names[sampler], _CLASSES[names[sampler]]
    ours = options.values()
    values = {
        "beta_schedule": process.schedule,
        "beta_start": process.beta_start,
        "beta_end": process.beta_end,
        "num_train_timesteps": process.num_train_timesteps,
        "prediction_type": process.prediction_type,
        "rescale_betas_zero_snr": process.rescale_zero_terminal_snr,
        "set_alpha_to_one": options.final_sigmas_type == "zero",
        "clip_sample": options.clip_x_0 is not None,
        "clip_sample_range": 1.0 if options.clip_x_0 is None else options.clip_x_0,
        **{key: ours[option] for key, option in _OPTIONS.items() if key != "eta"},
    }
    lacking = {
        "rescale_betas_zero_snr": process.rescale_zero_terminal_snr,
        "clip_sample": options.clip_x_0 is not None,
        "use_karras_sigmas": options.use_karras_sigmas and sampler not in ("pndm", "lcm"),
    }
    for key, is_on in lacking.items():
        if is_on and key not in kind.defaults:
            raise UserError(f"sampler={sampler!r}: {name} has no {key}; choose another sampler")
    if options.final_sigmas_type != "zero" and sampler in ("ddpm", "euler_ancestral", "heun"):
        raise UserError(
            f"sampler={sampler!r}: {name} has no final_sigmas_type; expected 'zero' or another "
            "sampler"
        )
    config = {"_class_name": name, "trained_betas": None}
    config |= {key: value for key, value in values.items() if key in kind.defaults}
    read = SamplerOptions(**from_diffusers(config, f"sampler={sampler!r}").options).values()
    if own := {key: value for key, value in ours.items() if read[key] != value}:
        config[_OWN] = own
    return config
