"""Golden files of whole pipelines: what StableDiffusionPipeline makes of small random models.

Run where torch, diffusers and transformers are installed:

    python tests/golden/make_pipelines.py

Stored are the text files of each folder as `save_pretrained` writes them, the names and shapes of
the weights, the final latents and the decoded pixels. The weights are drawn from each tensor's
name, here and in the tests. Made with diffusers 0.42.1, transformers 5.24.0, torch 2.14.1 (CPU).
"""

import importlib.util
import json
import pathlib
import tempfile
from unittest import mock

import numpy as np

HERE = pathlib.Path(__file__).resolve().parent
PROMPTS = ("a cat", "Cats, a ca")
NEGATIVE = "ca"
STEPS = 5
MERGES = "#version: 0.2\nc a\nca t</w>\n"

_UNET = dict(
    sample_size=8,
    block_out_channels=(8, 16),
    down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
    up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
    layers_per_block=1,
    norm_num_groups=4,
)
_VAE = dict(
    sample_size=16,
    block_out_channels=(8, 8),
    down_block_types=("DownEncoderBlock2D",) * 2,
    up_block_types=("UpDecoderBlock2D",) * 2,
    layers_per_block=1,
    latent_channels=4,
    norm_num_groups=4,
    scaling_factor=0.18215,
)
_TEXT = dict(
    vocab_size=516,
    num_attention_heads=2,
    intermediate_size=32,
    max_position_embeddings=12,
    bos_token_id=514,
    eos_token_id=515,
)
PIPELINES = {
    # Stable Diffusion 1: convolutions around the attention, one number of heads, quick GELU, eps.
    "sd1": dict(
        unet=dict(_UNET, cross_attention_dim=16, attention_head_dim=2),
        vae=_VAE,
        text=dict(_TEXT, hidden_size=16, num_hidden_layers=2, hidden_act="quick_gelu"),
        pad_token="<|endoftext|>",
        prediction_type="epsilon",
    ),
    # Stable Diffusion 2: linear projections, heads per level, GELU, padding with "!", v.
    "sd2": dict(
        unet=dict(
            _UNET,
            cross_attention_dim=12,
            attention_head_dim=(2, 4),
            use_linear_projection=True,
            upcast_attention=True,
        ),
        vae=_VAE,
        text=dict(_TEXT, hidden_size=12, num_hidden_layers=3, hidden_act="gelu", projection_dim=8),
        pad_token="!",
        prediction_type="v_prediction",
    ),
}
# What the schedulers of released pipelines have in common.
_BETAS = dict(beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012)
_SD = dict(_BETAS, steps_offset=1, clip_sample=False, set_alpha_to_one=False)
SCHEDULERS = {
    "ddim": ("DDIMScheduler", _SD),
    "pndm": ("PNDMScheduler", dict(_BETAS, steps_offset=1, skip_prk_steps=True)),
    "euler": ("EulerDiscreteScheduler", dict(_BETAS, steps_offset=1, timestep_spacing="leading")),
    "euler_linspace": ("EulerDiscreteScheduler", dict(_BETAS, timestep_spacing="linspace")),
    "euler_ancestral": (
        "EulerAncestralDiscreteScheduler",
        dict(_BETAS, steps_offset=1, timestep_spacing="leading"),
    ),
    "dpmpp_2m": ("DPMSolverMultistepScheduler", _BETAS),
    "dpmpp_2m_karras": ("DPMSolverMultistepScheduler", dict(_BETAS, use_karras_sigmas=True)),
    "unipc": ("UniPCMultistepScheduler", dict(_BETAS, steps_offset=1, timestep_spacing="leading")),
    "lcm": ("LCMScheduler", _SD),
}
GUIDANCE = (7.5, 1.0)
DECODED = ("ddim", "pndm", "dpmpp_2m", "lcm")
"""The schedulers whose pixels are stored, too."""

DEFAULT = "pndm"
"""The scheduler in the stored folders, as Stable Diffusion 1 was released."""


def _diffusers_script():
    spec = importlib.util.spec_from_file_location("make_diffusers", HERE / "make_diffusers.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def scheduler_config(name: str, prediction_type: str) -> dict:
    """The scheduler_config.json of a case."""
    class_name, values = SCHEDULERS[name]
    return {"_class_name": class_name, **values, "prediction_type": prediction_type}


def draws(count: int = STEPS) -> tuple[np.ndarray, np.ndarray]:
    """Initial latents [b, h, w, c] and the noise of each step [n, b, h, w, c]."""
    script = _diffusers_script()
    shape = (len(PROMPTS), 8, 8, 4)
    return script.noise("latents", shape), script.noise("steps", (count, *shape))


def named(shapes: dict[str, tuple[int, ...]]) -> dict[str, np.ndarray]:
    """Weights by names; the text encoder's have a prefix in some releases, which has no part."""
    plain = {name.removeprefix("text_model."): tuple(shape) for name, shape in shapes.items()}
    weights = _diffusers_script().named_weights(plain)
    return {name: weights[name.removeprefix("text_model.")] for name in shapes}


def tokenizer_files(folder: pathlib.Path, pad_token: str) -> None:
    """vocab.json, merges.txt and what says how texts are padded, of CLIP's layout."""
    to_unicode = list(range(33, 127)) + list(range(161, 173)) + list(range(174, 256))
    others = [b for b in range(256) if b not in to_unicode]
    alphabet = sorted([chr(b) for b in to_unicode] + [chr(256 + i) for i in range(len(others))])
    tokens = [*alphabet, *(c + "</w>" for c in alphabet), "ca", "cat</w>"]
    tokens += ["<|startoftext|>", "<|endoftext|>"]
    folder.mkdir(parents=True)
    (folder / "vocab.json").write_text(json.dumps({t: i for i, t in enumerate(tokens)}))
    (folder / "merges.txt").write_text(MERGES)
    special = {"bos_token": tokens[-2], "eos_token": tokens[-1], "unk_token": tokens[-1]}
    (folder / "special_tokens_map.json").write_text(json.dumps({**special, "pad_token": pad_token}))
    config = {**special, "pad_token": pad_token, "model_max_length": 12}
    config |= {"tokenizer_class": "CLIPTokenizer", "do_lower_case": True, "errors": "replace"}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))


def pipeline(case: dict):
    """The torch pipeline of a case, and the names and shapes of its weights by component."""
    import diffusers
    import torch
    import transformers

    models = {
        "unet": diffusers.UNet2DConditionModel(**case["unet"]),
        "vae": diffusers.AutoencoderKL(**case["vae"]),
        "text_encoder": transformers.CLIPTextModel(transformers.CLIPTextConfig(**case["text"])),
    }
    keys = {}
    for name, model in models.items():
        state = model.eval().state_dict()
        keys[name] = {k: tuple(v.shape) for k, v in state.items() if "position_ids" not in k}
        weights = {k: torch.from_numpy(v) for k, v in named(keys[name]).items()}
        missing = model.load_state_dict(weights, strict=False).missing_keys
        assert all("position_ids" in k for k in missing), missing
    with tempfile.TemporaryDirectory() as temporary:
        folder = pathlib.Path(temporary) / "tokenizer"
        tokenizer_files(folder, case["pad_token"])
        tokenizer = transformers.CLIPTokenizer.from_pretrained(folder)
    pipe = diffusers.StableDiffusionPipeline(
        **models,
        tokenizer=tokenizer,
        scheduler=scheduler(DEFAULT, case["prediction_type"]),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipe.set_progress_bar_config(disable=True)
    return pipe, keys


def scheduler(name: str, prediction_type: str):
    import diffusers

    config = scheduler_config(name, prediction_type)
    return getattr(diffusers, config.pop("_class_name"))(**config)


def sampled(pipe, guidance: float) -> tuple[np.ndarray, np.ndarray]:
    """Final latents [b, h, w, c], as the sampler leaves them, and pixels uint8."""
    import torch

    latents, noise = draws()

    def nchw(x):
        return torch.from_numpy(np.ascontiguousarray(np.moveaxis(x, -1, -3)))

    steps = iter(noise)
    module = f"{type(pipe.scheduler).__module__}.randn_tensor"
    given = mock.patch(module, lambda *_, **__: nchw(next(steps)), create=True)
    asked = dict(
        prompt=list(PROMPTS),
        negative_prompt=[NEGATIVE] * len(PROMPTS),
        num_inference_steps=STEPS,
        guidance_scale=guidance,
        latents=nchw(latents),
    )
    kept = {}

    def keep(pipe, step, time, tensors):
        kept["latents"] = tensors["latents"]
        return tensors

    with torch.no_grad(), given:
        images = pipe(**asked, output_type="np", callback_on_step_end=keep).images
    final = np.moveaxis(kept["latents"].numpy(), 1, -1)
    return np.ascontiguousarray(final), np.round(images * 255).astype(np.uint8)


def text_files(pipe) -> dict[str, str]:
    """Path -> text of the JSON and text files that `save_pretrained` writes."""
    with tempfile.TemporaryDirectory() as temporary:
        pipe.save_pretrained(temporary)
        root = pathlib.Path(temporary)
        paths = sorted(p for p in root.rglob("*") if p.suffix in (".json", ".txt"))
        return {str(p.relative_to(root)): p.read_text() for p in paths}


def golden_files() -> dict[str, dict[str, np.ndarray]]:
    """Returns the arrays of the golden file by its name."""
    arrays = {}
    for name, case in PIPELINES.items():
        pipe, keys = pipeline(case)
        arrays[f"{name}/keys"] = np.array(json.dumps(keys))
        arrays[f"{name}/files"] = np.array(json.dumps(text_files(pipe)))
        ids = pipe.tokenizer(list(PROMPTS), padding="max_length", truncation=True).input_ids
        arrays[f"{name}/tokens"] = np.array(ids, np.int32)
        for scheduler_name in SCHEDULERS:
            pipe.scheduler = scheduler(scheduler_name, case["prediction_type"])
            for guidance in GUIDANCE:
                latents, pixels = sampled(pipe, guidance)
                arrays[f"{name}/{scheduler_name}/{guidance}/latents"] = latents
                if guidance == GUIDANCE[0] and scheduler_name in DECODED:
                    arrays[f"{name}/{scheduler_name}/{guidance}/pixels"] = pixels
    return {"pipelines": arrays}


def main():
    for name, arrays in golden_files().items():
        np.savez_compressed(HERE / f"{name}.npz", **arrays)


if __name__ == "__main__":
    main()
