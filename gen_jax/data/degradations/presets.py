"""Degradations by name, and from plain values as a config holds them."""

from collections.abc import Mapping
from typing import Any

from gen_jax.common.build import as_tuples
from gen_jax.common.build import build as build_fields
from gen_jax.common.errors import UserError
from gen_jax.data.degradations.base import Degradation
from gen_jax.data.degradations.blur import Blur
from gen_jax.data.degradations.camera import Camera
from gen_jax.data.degradations.chain import Chain, OneOf
from gen_jax.data.degradations.codec import Jpeg, WebP
from gen_jax.data.degradations.grain import Grain
from gen_jax.data.degradations.low_resolution import LowResolution, Resize
from gen_jax.data.degradations.noise import Gaussian, Poisson
from gen_jax.data.degradations.resample import Downscale

KINDS = {
    "gaussian": Gaussian,
    "poisson": Poisson,
    "camera": Camera,
    "grain": Grain,
    "blur": Blur,
    "jpeg": Jpeg,
    "webp": WebP,
    "downscale": Downscale,
    "low_resolution": LowResolution,
    "resize": Resize,
    "chain": Chain,
    "one_of": OneOf,
}


def _noise(sigma):
    return {"name": "gaussian", "sigma": sigma, "gray": 0.3}


_BLIND = {
    "name": "one_of",
    "weights": (4, 2, 1, 3, 3, 2),
    "steps": (
        {"name": "gaussian", "sigma": (0, 55)},
        {"name": "chain", "steps": ({"name": "jpeg", "quality": (8, 95)},)},
        {"name": "chain", "steps": ({"name": "poisson"}, {"name": "jpeg", "quality": (40, 95)})},
        {"name": "downscale", "factor": (1, 4), "down": ("area", "bicubic"), "up": ("bicubic",)},
        {"name": "chain", "steps": ({"name": "blur", "sigma": (0.3, 2.5)}, _noise((0, 10)))},
        {
            "name": "chain",
            "shuffle": True,
            "chance": (0.5, 0.7, 0.4, 0.5),
            "steps": (
                {"name": "blur", "sigma": (0.2, 2.0)},
                _noise((0, 25)),
                {"name": "downscale", "factor": (1, 2)},
                {"name": "jpeg", "quality": (30, 95)},
            ),
        },
    ),
}

_ORDER = {
    "name": "chain",
    "shuffle": True,
    "chance": (0.8, 0.8, 0.5, 0.5, 0.3),
    "steps": (
        {"name": "blur", "sigma": (0.2, 3.0)},
        {"name": "downscale", "factor": (1, 3), "down": ("area", "bilinear", "bicubic", "nearest")},
        _noise((1, 30)),
        {"name": "jpeg", "quality": (30, 95)},
        {"name": "poisson"},
    ),
}

_CODEC = {
    "name": "one_of",
    "weights": (3, 1),
    "steps": (
        {"name": "jpeg", "quality": (8, 95)},
        {"name": "webp", "quality": (5, 90)},
    ),
}

_CAMERA = {
    "name": "chain",
    "chance": (1.0, 0.7),
    "steps": ({"name": "camera"}, {"name": "jpeg", "quality": (50, 98)}),
}

# What a photograph may have been through, and the protocols of the benchmarks among it.
_PHOTOGRAPH = {
    "name": "one_of",
    "weights": (5, 3, 3, 3, 5, 3, 1),
    "steps": (
        {"name": "gaussian", "sigma": (0, 55), "gray": 0.1},
        _CODEC,
        {"name": "downscale", "factor": (1, 4.2), "down": ("matlab",), "up": ("matlab",)},
        {"name": "chain", "steps": ({"name": "blur", "sigma": (0.3, 2.5)}, _noise((0, 5)))},
        _CAMERA,
        {
            "name": "chain",
            "shuffle": True,
            "chance": (0.5, 0.5, 0.3, 0.4, 0.7),
            "steps": (
                {"name": "blur", "sigma": (0.2, 1.5)},
                _noise((0, 25)),
                {"name": "poisson"},
                {
                    "name": "downscale",
                    "factor": (1, 2.5),
                    "down": ("area", "bicubic", "matlab"),
                    "up": ("bilinear", "bicubic", "matlab"),
                },
                {"name": "jpeg", "quality": (30, 95)},
            ),
        },
        {"name": "chain", "steps": ()},  # nothing: a good picture is to be left alone
    ),
}

# The same, with half of the pictures from a camera: of all noise its own, faint and coarse, is most
# easily taken for texture. WebP as often as JPEG, or its textures are smoothed.
_MOSTLY_CAMERA = {
    **_PHOTOGRAPH,
    "weights": (4, 6, 2, 2, 15, 2, 1),
    "steps": (
        _PHOTOGRAPH["steps"][0],
        {**_CODEC, "weights": (1, 1)},
        *_PHOTOGRAPH["steps"][2:],
    ),
}

_ANY_JPEG = {"name": "jpeg", "quality": (8, 95), "aligned": 0.7, "subsampled": 0.7}
_TWO_JPEGS = {
    "name": "chain",
    "steps": (
        {"name": "jpeg", "quality": (8, 60), "aligned": 0.6},
        {"name": "jpeg", "quality": (8, 95), "subsampled": 0.7},
    ),
}

# What the packaged restorer is finished on: more of plain noise, which the first recipe saw too
# little of, and what it did not see at all: grain, files saved twice, motion blur alone, and many
# images that nothing was done to.
_BROAD = {
    "name": "one_of",
    "weights": (12, 3, 2, 1, 3, 2, 1, 4, 3, 3, 4),
    "steps": (
        {"name": "gaussian", "sigma": (0, 55), "gray": 0.1},
        _ANY_JPEG,
        _TWO_JPEGS,
        {"name": "webp", "quality": (5, 90)},
        _PHOTOGRAPH["steps"][2],  # shrunk and enlarged
        _PHOTOGRAPH["steps"][3],  # blur and a little noise
        {"name": "chain", "steps": ({"name": "blur", "sigma": (0.5, 3.0), "kinds": ("motion",)},)},
        _CAMERA,
        {
            "name": "chain",
            "chance": (1.0, 0.4),
            "steps": ({"name": "grain"}, {**_ANY_JPEG, "quality": (60, 95)}),
        },
        _PHOTOGRAPH["steps"][5],  # mixtures
        {"name": "chain", "steps": ()},
    ),
}

# For training the estimator alone: more of what is hard to tell from texture, and of nothing.
_BROAD_ESTIMATES = {**_BROAD, "weights": (8, 3, 3, 1, 3, 4, 3, 3, 8, 3, 6)}


def _stage(blur, resize, resize_chance, sigma, shot):
    """One order of the degradations of Real-ESRGAN, without its JPEG."""
    soft = {"name": "blur", "sigma": blur, "kinds": ("isotropic", "anisotropic", "generalised")}
    ringing = {"name": "blur", "sigma": (0.4, 1.8), "kinds": ("sinc",)}
    noise = (
        {"name": "gaussian", "sigma": sigma, "gray": 0.4},
        {"name": "poisson", "shot": shot, "gray": 0.4},
    )
    return (
        {"name": "one_of", "weights": (9, 1), "steps": (soft, ringing)},
        {"name": "resize", "factor": resize, "chance": resize_chance},
        {"name": "one_of", "steps": noise},
    )


_JPEG = {"name": "jpeg", "quality": (30, 95)}
_SECOND = _stage((0.2, 1.5), (0.3, 1.2), (0.3, 0.4, 0.3), (1, 25), (1, 25))
# Real-ESRGAN's second-order degradation (arXiv:2107.10833, section 3 and the appendix).
_REAL_X4 = {
    "name": "low_resolution",
    "scale": 4,
    "steps": (
        *_stage((0.2, 3.0), (0.15, 1.5), (0.2, 0.7, 0.1), (1, 30), (1, 30)),
        _JPEG,
        {"name": "chain", "rounded": False, "chance": (0.8,), "steps": _SECOND[:1]},
        *_SECOND[1:],
    ),
    "last": (
        {
            "name": "chain",
            "shuffle": True,
            "chance": (0.8, 1.0),
            "steps": ({"name": "blur", "sigma": (0.4, 1.8), "kinds": ("sinc",)}, _JPEG),
        },
    ),
}

# What a restorer can only smooth: strong noise, four times fewer pixels, JPEG at 10, mixtures.
_SEVERE = {
    "name": "one_of",
    "weights": (2, 2, 2, 2),
    "steps": (
        {"name": "gaussian", "sigma": (35, 55)},
        {"name": "downscale", "factor": (3, 4.2), "down": ("matlab",), "up": ("matlab",)},
        {"name": "chain", "steps": ({"name": "jpeg", "quality": (8, 18)},)},
        {
            "name": "chain",
            "steps": (
                {"name": "downscale", "factor": (1.5, 3), "down": ("area",), "up": ("bicubic",)},
                _noise((10, 30)),
                {"name": "jpeg", "quality": (15, 50)},
            ),
        },
    ),
}

PRESETS: dict[str, Mapping[str, Any]] = {
    "denoise15": {"name": "gaussian", "sigma": (15, 15)},
    "denoise25": {"name": "gaussian", "sigma": (25, 25)},
    "denoise50": {"name": "gaussian", "sigma": (50, 50)},
    "denoise_blind": {"name": "gaussian", "sigma": (0, 55)},
    "dejpeg": {"name": "jpeg", "quality": (5, 95)},
    "camera": {"name": "chain", "steps": ({"name": "camera"},)},
    "deblur": {"name": "chain", "steps": ({"name": "blur"}, _noise((0, 3)))},
    "bicubic_x2": {"name": "downscale", "factor": (2, 2), "down": ("area",), "up": ("bicubic",)},
    "bicubic_x4": {"name": "downscale", "factor": (4, 4), "down": ("area",), "up": ("bicubic",)},
    "blind": _BLIND,
    "photograph": _PHOTOGRAPH,
    "photograph_camera": _MOSTLY_CAMERA,
    "broad": _BROAD,
    "broad_estimates": _BROAD_ESTIMATES,
    "real": _ORDER,
    "real_second_order": {"name": "chain", "steps": (_ORDER, _ORDER)},
    "real_x4": _REAL_X4,
    "severe": _SEVERE,
}


def build(config: str | Mapping[str, Any], where: str = "degradation") -> Degradation:
    """Builds a degradation.

    Args:
      config: Name in `PRESETS`, or `name` of one of `KINDS` and its fields; `steps` nest.
      where: Key of the config, for error messages.

    Raises:
      UserError: An unknown name or field, or a value that does not fit.
    """
    if isinstance(config, str):
        if config not in PRESETS:
            raise UserError(f"{where}={config!r}: expected one of {', '.join(PRESETS)}")
        config = PRESETS[config]
    values = as_tuples(dict(config))
    kind = values.pop("name", None)
    if kind not in KINDS:
        raise UserError(f"{where}.name={kind!r}: expected one of {', '.join(KINDS)}")
    for key in ("steps", "last"):
        if key in values:
            steps = enumerate(values[key])
            values[key] = tuple(build(step, f"{where}.{key}[{i}]") for i, step in steps)
    return build_fields(KINDS[kind], values, where)
