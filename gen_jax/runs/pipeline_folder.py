"""Folders of diffusers' StableDiffusionPipeline, as the config of a latent diffusion run.

Stable Diffusion 1.x and 2.x and whatever has their shape: a UNet on the latents of an autoencoder,
conditioned on the states of one CLIP text encoder.
"""

import pathlib
import re
from collections.abc import Mapping
from typing import Any

import ml_collections

from gen_jax.common import files, strict_json
from gen_jax.common.errors import UserError
from gen_jax.diffusion import scheduler_config
from gen_jax.encoders import clip
from gen_jax.encoders.diffusers_config import fields_of, module_from_config
from gen_jax.models.unet_2d_condition import UNet2DConditionModel
from gen_jax.runs.sources import INDEX

PIPELINES = (
    "StableDiffusionPipeline",
    "StableDiffusionImg2ImgPipeline",
    "StableDiffusionInpaintPipeline",
)
"""Pipelines whose components are the same; they differ in how diffusers samples."""

CLASSES = {
    "unet": ("UNet2DConditionModel",),
    "vae": ("AutoencoderKL",),
    "text_encoder": ("CLIPTextModel",),
    "tokenizer": ("CLIPTokenizer", "CLIPTokenizerFast"),
}
SCHEDULER = "scheduler"
SCHEDULER_FILE = "scheduler_config.json"
TOWER = "clip-vit-large-patch14-text"
"""Name of a CLIP text encoder in the catalog. Its size is read from the folder."""

# diffusers' defaults of sampling.
_NUM_STEPS, _GUIDANCE = 50, 7.5
# Values that StableDiffusionPipeline sets whatever an old scheduler file says.
_OLD_FILES = {"steps_offset": 1, "clip_sample": False}
# Side of the latents that it takes for the least of UNets whose files are older than release 0.9.
_LEAST_SIDE = 64
_SUPPORTED = "pipelines of Stable Diffusion 1.x and 2.x are read (docs/pipelines.md)"
# Numbers of input channels of other kinds of UNet.
_OTHER_UNETS = {5: "depth", 7: "upscaling", 8: "instruction", 9: "inpainting"}


def run_config(folder: pathlib.Path, dtype: str = "float32") -> ml_collections.ConfigDict:
    """Returns the config of a pipeline as that of a run, whose paths count from the folder.

    Args:
      folder: The pipeline.
      dtype: Compute dtype of the UNet and the text encoder.

    Raises:
      UserError: A file is missing or damaged, or the pipeline is of another architecture.
    """
    task = task_config(folder, dtype=dtype)
    length = task["text_encoder"]["max_length"]
    return ml_collections.ConfigDict(
        dict(
            task=task,
            data=dict(
                dir="",
                image_size=task["image_size"],
                max_length=length,
                transform=dict(name="crops"),
            ),
            training=dict(seed=0),
            evaluators={},
            frozen=dict(vae="vae"),
            init_from="",
        )
    ).lock()


def task_config(folder: pathlib.Path, source: str = "", dtype: str = "float32") -> dict[str, Any]:
    """Returns `config.task` of a pipeline; reads no weights.

    Args:
      folder: The pipeline.
      source: How the text encoder names the pipeline; "" for paths that count from the folder.
      dtype: Compute dtype of the UNet and the text encoder.

    Raises:
      UserError: As `run_config`.
    """
    check_index(folder)
    unet, vae = (_module(folder, name) for name in ("unet", "vae"))
    _check_channels(folder, unet.in_channels, vae.latent_channels)
    scheduler_file = folder / SCHEDULER / SCHEDULER_FILE
    scheduler_values = {**_read(scheduler_file), **_OLD_FILES}
    scheduler = scheduler_config.from_diffusers(scheduler_values, str(scheduler_file))
    image_size = _image_size(folder, unet, vae)
    values = {name: getattr(unet, name) for name in fields_of(UNet2DConditionModel)}
    values["sample_size"] = image_size // _factor(vae)
    return dict(
        name="ldm",
        image_size=image_size,
        unet={**{k: v for k, v in values.items() if v is not None}, "dtype": dtype}
        | {"mid_block_type": unet.mid_block_type},
        text_encoder=text_config(folder, source, dtype),
        process=dict(scheduler.process),
        sampler=scheduler.sampler,
        sampler_options=dict(scheduler.options),
        scheduler_config=scheduler_config.stated(scheduler_values),
        num_inference_steps=_NUM_STEPS,
        guidance_scale=_GUIDANCE,
        guidance_rescale=0.0,
        guidance_interval=(0.0, 1.0),
        sample_posterior=True,
        text_dropout_prob=0.1,
        use_coordinates=False,
        patch_size=1,
    )


def text_config(folder: pathlib.Path, source: str = "", dtype: str = "float32") -> dict[str, Any]:
    """Returns `config.task.text_encoder` of a pipeline; arguments and errors as `task_config`."""
    file = folder / "text_encoder" / "config.json"
    config = _read(file)
    if config.get("use_attention_mask"):
        raise UserError(
            f"{file}: use_attention_mask={config['use_attention_mask']!r}: expected False, the "
            f"padding is attended to in Stable Diffusion; {_SUPPORTED}"
        )
    try:
        module = clip.text_from_hf_config(config)
    except UserError as error:
        raise UserError(f"{file}: {error}; {_SUPPORTED}") from None
    file = folder / "tokenizer" / "tokenizer_config.json"
    length = _read(file).get("model_max_length") if file.is_file() else None
    known = isinstance(length, int) and length >= 2
    longest = module.max_position_embeddings
    return dict(
        name="clip",
        tower=TOWER,
        weights=source or "text_encoder",
        vocabulary=source or "tokenizer",
        layer=-1,
        max_length=min(length, longest) if known else longest,
        dtype=dtype,
    )


def check_index(folder: pathlib.Path) -> None:
    """Checks model_index.json: the kind of pipeline, and the classes of its components.

    Raises:
      UserError: Another kind of pipeline or component, or one that is missing.
    """
    file = folder / INDEX
    index = _read(file)
    pipeline = index.get("_class_name")
    if pipeline not in PIPELINES:
        raise UserError(f"{file}: a {pipeline}; only {_SUPPORTED}: {', '.join(PIPELINES)}")
    for name, known in CLASSES.items():
        entry = index.get(name)
        kind = entry[1] if isinstance(entry, list) and len(entry) == 2 else entry
        if kind not in known:
            raise UserError(
                f"{file}: its {name} is {kind or 'missing'}; expected {' or '.join(known)}: only "
                f"{_SUPPORTED}"
            )
    for name in (*CLASSES, SCHEDULER):
        if not (folder / name).is_dir():
            raise UserError(
                f"{folder}: its folder {name} is missing, which {INDEX} lists; get the pipeline "
                "again"
            )


def _module(folder: pathlib.Path, name: str) -> Any:
    file = folder / name / "config.json"
    return module_from_config(_read(file), str(file))


def _check_channels(folder: pathlib.Path, channels: int, latent: int) -> None:
    if channels != latent:
        kind = _OTHER_UNETS.get(channels)
        raise UserError(
            f"{folder / 'unet' / 'config.json'}: in_channels={channels}"
            f"{f', a UNet for {kind}' if kind else ''}; expected {latent}, the channels of the "
            f"autoencoder's latents: only {_SUPPORTED}"
        )


def _image_size(folder: pathlib.Path, unet: Any, vae: Any) -> int:
    """Returns the side of an image in pixels, the UNet's or else the autoencoder's."""
    factor = _factor(vae)
    size = unet.sample_size or (vae.sample_size or 512) // factor
    file = folder / "unet" / "config.json"
    sides = set(size) if isinstance(size, (list, tuple)) else {size}
    if not all(type(side) is int and side > 0 for side in sides):
        raise UserError(f"{file}: sample_size={size!r}: expected a whole number above 0")
    if len(sides) != 1:
        raise UserError(f"{file}: sample_size={size}: only squares are supported")
    (side,) = sides
    if isinstance(size, int) and _is_old(_read(file).get("_diffusers_version")):
        side = max(side, _LEAST_SIDE)
    return side * factor


def _factor(vae: Any) -> int:
    """Returns the pixels per latent along each axis."""
    return 2 ** (len(vae.block_out_channels) - 1)


def _is_old(version: Any) -> bool:
    """Returns whether a release of diffusers before 0.9 wrote a file."""
    match = re.match(r"(\d+)\.(\d+)", version) if isinstance(version, str) else None
    return match is not None and (int(match[1]), int(match[2])) < (0, 9)


def _read(file: pathlib.Path) -> Mapping[str, Any]:
    """Reads a JSON object.

    Raises:
      UserError: The file is missing, a pointer of git-lfs, or no JSON object.
    """
    files.refuse_lfs_pointer(file)
    try:
        value = strict_json.loads(files.read_text(file))
    except (FileNotFoundError, NotADirectoryError):
        raise UserError(f"{file}: no such file; get the pipeline again") from None
    except ValueError as error:
        raise UserError(f"{file}: damaged, not JSON ({error}); get the file again") from None
    if not isinstance(value, dict):
        raise UserError(f"{file}: expected a JSON object; get the file again")
    return value
