"""Golden files of image to image and inpainting: what diffusers' pipelines make of small models.

Run where torch, diffusers and transformers are installed:

    python tests/golden/make_edits.py

The pipelines are the first one of make_pipelines.py as a StableDiffusionImg2ImgPipeline and a
StableDiffusionInpaintPipeline, whose UNet has the channels of a latent. Stored are final latents
and decoded pixels. Images and noise, that of the posterior, too, are drawn from names, here and in
the tests. Made with diffusers 0.42.1, transformers 5.24.0, torch 2.14.1 (CPU).
"""

import importlib.util
import pathlib
from unittest import mock

import numpy as np

HERE = pathlib.Path(__file__).resolve().parent
KIND, GUIDANCE, SIDE = "sd1", 7.5, 16
SCHEDULERS = ("ddim", "pndm", "euler", "dpmpp_2m_karras", "unipc")
EDITS = ("img2img/0.6", "inpaint/0.6", "inpaint/1.0")
"""Kind of edit and strength: of 5 steps, 3 are left at 0.6."""

SIZE = (24, 16)
"""Width and height of the text-to-image case that is not square."""


def script(name: str):
    """A script of this folder as a module."""
    spec = importlib.util.spec_from_file_location(name, HERE / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def images() -> np.ndarray:
    """The images that are changed, uint8 [2, 16, 16, 3]."""
    values = script("make_diffusers").noise("edited images", (2, SIDE, SIDE, 3))
    return np.round(255 / (1 + np.exp(-values))).astype(np.uint8)


def mask() -> np.ndarray:
    """White where the images are repainted, uint8 [16, 16], in squares of one latent."""
    white = np.zeros((SIDE, SIDE), np.uint8)
    white[2:10, 6:14] = 255
    white[12:14, 2:4] = 255
    return white


def posterior_noise() -> np.ndarray:
    """Noise by which latents are drawn from the posterior, [2, 8, 8, 4]."""
    return script("make_diffusers").noise("posterior", (2, 8, 8, 4))


def wide_noise() -> np.ndarray:
    """Initial latents of `SIZE`, [2, 8, 12, 4]."""
    return script("make_diffusers").noise("wide latents", (2, SIZE[1] // 2, SIZE[0] // 2, 4))


def _nchw(x: np.ndarray):
    import torch

    return torch.from_numpy(np.ascontiguousarray(np.moveaxis(x, -1, -3)))


def changed(pipe, strength: float, masks: dict) -> tuple[np.ndarray, np.ndarray]:
    """Final latents [b, h, w, c] and pixels uint8 of a pipeline that changes the images."""
    import torch
    from PIL import Image

    pipelines = script("make_pipelines")
    eps, _ = pipelines.draws()
    kept = {}
    given = {
        type(pipe).__module__: lambda *_, **__: _nchw(eps),
        "diffusers.models.autoencoders.vae": lambda *_, **__: _nchw(posterior_noise()),
    }

    def keep(pipe, step, time, tensors):
        kept["latents"] = tensors["latents"]
        return tensors

    patches = [mock.patch(f"{m}.randn_tensor", f, create=True) for m, f in given.items()]
    for patch in patches:
        patch.start()
    with torch.no_grad():
        pixels = pipe(
            prompt=list(pipelines.PROMPTS),
            negative_prompt=[pipelines.NEGATIVE] * 2,
            image=[Image.fromarray(x) for x in images()],
            strength=strength,
            num_inference_steps=pipelines.STEPS,
            guidance_scale=GUIDANCE,
            output_type="np",
            callback_on_step_end=keep,
            **masks,
        ).images
    for patch in patches:
        patch.stop()
    latents = np.moveaxis(kept["latents"].numpy(), 1, -1)
    return np.ascontiguousarray(latents), np.round(pixels * 255).astype(np.uint8)


def golden_files() -> dict[str, dict[str, np.ndarray]]:
    """Returns the arrays of the golden file by its name."""
    import diffusers
    import torch
    from PIL import Image

    pipelines, arrays = script("make_pipelines"), {}
    case = pipelines.PIPELINES[KIND]
    pipe, _ = pipelines.pipeline(case)
    parts = {**pipe.components, "requires_safety_checker": False}
    classes = {
        "img2img": diffusers.StableDiffusionImg2ImgPipeline,
        "inpaint": diffusers.StableDiffusionInpaintPipeline,
    }
    for scheduler in SCHEDULERS:
        parts["scheduler"] = pipelines.scheduler(scheduler, case["prediction_type"])
        for edit in EDITS:
            kind, strength = edit.split("/")
            changing = classes[kind](**parts)
            changing.set_progress_bar_config(disable=True)
            masks = {"height": SIDE, "width": SIDE, "mask_image": [Image.fromarray(mask())] * 2}
            masks = masks if kind == "inpaint" else {}
            latents, pixels = changed(changing, float(strength), masks)
            arrays[f"{scheduler}/{edit}/latents"] = latents
            arrays[f"{scheduler}/{edit}/pixels"] = pixels
    with torch.no_grad():
        wide = pipe(
            list(pipelines.PROMPTS),
            width=SIZE[0],
            height=SIZE[1],
            num_inference_steps=pipelines.STEPS,
            guidance_scale=GUIDANCE,
            latents=_nchw(wide_noise()),
            output_type="np",
        ).images
    arrays["wide/pixels"] = np.round(wide * 255).astype(np.uint8)
    return {"edits": arrays}


def main():
    for name, arrays in golden_files().items():
        np.savez_compressed(HERE / f"{name}.npz", **arrays)


if __name__ == "__main__":
    main()
