"""Golden file of diffusers and peft: a small UNet and CLIP text encoder under LoRA files.

Run where torch, diffusers, transformers and peft are installed:

    python tests/golden/make_lora.py

Each case is a LoRA file of one spelling, which diffusers loads at scale 0.7. Its keys, shapes and
metadata are stored, its values are not: `values` draws them, and the models' weights, from their
names, in the script and in the tests. Made with diffusers 0.42.1, peft 0.21.2, transformers 5.24.0
and torch 2.14.1 (CPU).
"""

import json
import pathlib
import re
import tempfile
import zlib

import numpy as np

HERE = pathlib.Path(__file__).resolve().parent

SCALE = 0.7

# Convolutions around the attention, as in Stable Diffusion 1.
UNET = dict(
    down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
    up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
    block_out_channels=(8, 16),
    layers_per_block=1,
    norm_num_groups=4,
    cross_attention_dim=12,
    attention_head_dim=2,
)
TEXT = dict(
    vocab_size=20,
    hidden_size=12,
    intermediate_size=24,
    num_hidden_layers=2,
    num_attention_heads=3,
    max_position_embeddings=9,
    eos_token_id=19,
)
TOKENS = ((18, 4, 2, 7, 19, 19, 19), (18, 2, 19, 0, 0, 0, 0))
TIMES = (17, 800)

ATTENTION = r"attn\d\.to_(q|k|v|out\.0)$"
CASES = {
    # As `save_lora_weights` writes it, with ranks and alphas per layer in its metadata.
    "peft": dict(unet=ATTENTION, text=r"self_attn\.(q|v)_proj$|fc\d$", alphas=True),
    # The same spelling without metadata: alpha is the rank.
    "plain": dict(unet=ATTENTION + r"|ff\.net\.2$", text=r"self_attn\.\w+_proj$"),
    # diffusers 0.19 to 0.2x.
    "layers": dict(unet=ATTENTION, text=r"self_attn\.\w+_proj$|fc\d$"),
    # diffusers before 0.19.
    "processors": dict(unet=ATTENTION, text=r"self_attn\.\w+_proj$"),
    # LoCon adapts the convolutions too.
    "kohya": dict(
        unet=ATTENTION + r"|proj_(in|out)$|ff\.net\.(0\.proj|2)$|conv\d?$|shortcut$|time_emb_proj$",
        text=r"_proj$|fc\d$",
    ),
}


def noise(name: str, shape: tuple[int, ...]) -> np.ndarray:
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    return rng.standard_normal(shape).astype(np.float32)


def values(shapes: dict[str, tuple[int, ...]]) -> dict[str, np.ndarray]:
    """float32 weights that depend on each tensor's name and shape alone; an alpha is 3."""
    drawn = {}
    for name, shape in shapes.items():
        if name.endswith(".alpha"):
            drawn[name] = np.full(shape, 3, np.float32)
        elif len(shape) > 1:
            drawn[name] = noise(name, shape) / np.float32(np.sqrt(np.prod(shape[1:])))
        else:
            drawn[name] = np.float32(name.endswith("weight")) + np.float32(0.2) * noise(name, shape)
    return drawn


def rank_of(module: str) -> int:
    """Returns 2, 3 or 4 by the name of a module."""
    return 2 + zlib.crc32(module.encode()) % 3


def filled(model):
    """Returns a model of drawn weights, and the shapes of its file's tensors."""
    import torch

    shapes = {k: tuple(v.shape) for k, v in model.state_dict().items()}
    model.load_state_dict({k: torch.from_numpy(v) for k, v in values(shapes).items()})
    return model.eval(), shapes


def models():
    """Returns the UNet and the text encoder, and the shapes of their tensors."""
    import diffusers
    import peft
    import transformers

    class Text(transformers.CLIPTextModel):
        """With the loading of adapters by peft itself: that of transformers 5.24 asks for a peft
        that is not published."""

        def load_adapter(self, adapter_name, adapter_state_dict, peft_config, **_):
            peft.inject_adapter_in_model(peft_config, self, adapter_name)
            result = peft.set_peft_model_state_dict(self, adapter_state_dict, adapter_name)
            assert not result.unexpected_keys, result.unexpected_keys

    unet, unet_shapes = filled(diffusers.UNet2DConditionModel(**UNET))
    config = transformers.CLIPTextConfig(**TEXT, bos_token_id=18, pad_token_id=0)
    text, text_shapes = filled(Text(config))
    return (unet, text), {"unet": unet_shapes, "text_encoder": text_shapes}


def modules(model, pattern: str) -> dict[str, tuple[int, ...]]:
    """Returns name -> shape of the weight of the modules that a pattern matches."""
    return {
        name.removesuffix(".weight"): tuple(value.shape)
        for name, value in model.state_dict().items()
        if name.endswith(".weight") and re.search(pattern, name.removesuffix(".weight"))
    }


def factor_shapes(module: str, shape: tuple[int, ...]):
    """Returns the shapes of both factors of a weight, [out, in] or [out, in, h, w]."""
    rank = rank_of(module)
    return (rank, *shape[1:]), (shape[0], rank, *(1 for _ in shape[2:]))


def saved_by_peft(case: dict, folder: pathlib.Path) -> dict[str, tuple[int, ...]]:
    """Has diffusers write the file of adapters in `folder`; returns its keys and shapes."""
    import peft
    from diffusers import StableDiffusionPipeline
    from diffusers.training_utils import _collate_lora_metadata
    from peft.utils import get_peft_model_state_dict
    from safetensors.torch import load_file

    (unet, text), _ = models()
    layers = {}
    for name, model in (("unet", unet), ("text_encoder", text)):
        found = list(modules(model, case[name.split("_")[0]]))
        config = peft.LoraConfig(
            r=4,
            lora_alpha=6,
            target_modules=found,
            rank_pattern={m: rank_of(m) for m in found},
            # Every third layer has an alpha of its own.
            alpha_pattern={m: 2 for m in found[::3]} if case.get("alphas") else {},
        )
        peft.inject_adapter_in_model(config, model)
        model.peft_config = {"default": config}
        layers[f"{name}_lora_layers"] = get_peft_model_state_dict(model)
    metadata = _collate_lora_metadata({"unet": unet, "text_encoder": text})
    StableDiffusionPipeline.save_lora_weights(
        folder, **layers, **(metadata if case.get("alphas") else {})
    )
    return {
        k: tuple(v.shape) for k, v in load_file(folder / "pytorch_lora_weights.safetensors").items()
    }


def keys(name: str, case: dict) -> dict[str, tuple[int, ...]]:
    """Returns key -> shape of a file that older programs wrote."""
    (unet, text), _ = models()
    shapes = {}
    for kind, model in (("unet", unet), ("text_encoder", text)):
        for module, shape in modules(model, case[kind.split("_")[0]]).items():
            down, up = factor_shapes(module, shape)
            # The names that transformers gave the modules then.
            full = module if kind == "unet" else f"text_model.{module.removeprefix('text_model.')}"
            if name == "kohya":
                prefix = {"unet": "lora_unet", "text_encoder": "lora_te"}[kind]
                stem = f"{prefix}_{full.replace('.', '_')}"
                shapes |= {f"{stem}.lora_down.weight": down, f"{stem}.lora_up.weight": up}
                shapes[f"{stem}.alpha"] = ()
                continue
            if name == "processors":
                spelled = {"q_proj": "to_q", "k_proj": "to_k", "v_proj": "to_v"}
                parent, last = re.fullmatch(r"(.*?)\.(to_out\.0|\w+)", full).groups()
                last = "to_out" if last in ("to_out.0", "out_proj") else spelled.get(last, last)
                middle = ".processor" if kind == "unet" else ""
                stem = f"{kind}.{parent}{middle}.{last}_lora"
            else:
                stem = f"{kind}.{full}.{'lora' if kind == 'unet' else 'lora_linear_layer'}"
            shapes |= {f"{stem}.down.weight": down, f"{stem}.up.weight": up}
    return shapes


def lora_case(name: str, case: dict) -> dict[str, np.ndarray]:
    import torch
    from diffusers import StableDiffusionPipeline as Pipeline
    from diffusers.utils.peft_utils import set_weights_and_activate_adapters
    from safetensors import safe_open
    from safetensors.torch import save_file

    (unet, text), _ = models()
    with tempfile.TemporaryDirectory() as temporary:
        file = pathlib.Path(temporary, "pytorch_lora_weights.safetensors")
        metadata = {"format": "pt"}
        if name in ("peft", "plain"):
            shapes = saved_by_peft(case, file.parent)
            with safe_open(file, "pt") as opened:
                metadata = opened.metadata()
        else:
            shapes = keys(name, case)
        state = {k: torch.from_numpy(np.array(v)) for k, v in values(shapes).items()}
        save_file(state, file, metadata)
        state, alphas, config = Pipeline.lora_state_dict(
            temporary, weight_name=file.name, return_lora_metadata=True, unet_config=unet.config
        )
    options = dict(network_alphas=alphas, metadata=config, adapter_name="file")
    Pipeline.load_lora_into_unet(state, unet=unet, **options)
    Pipeline.load_lora_into_text_encoder(state, text_encoder=text, **options)
    for model in (unet, text):
        set_weights_and_activate_adapters(model, ["file"], [SCALE])
    return {
        "shapes": np.array(json.dumps(shapes)),
        "metadata": np.array(json.dumps(metadata)),
        **outputs(unet, text),
    }


def outputs(unet, text) -> dict[str, np.ndarray]:
    """Returns the text encoder's states, and what the UNet makes of those and fixed latents."""
    import torch

    states = text(torch.tensor(TOKENS)).last_hidden_state
    x = torch.from_numpy(noise("x", (2, 6, 8, 4)).transpose(0, 3, 1, 2).copy())
    out = unet(x, torch.tensor(TIMES), states).sample
    return {"states": states.numpy(), "out": out.numpy().transpose(0, 2, 3, 1)}


def golden_files() -> dict[str, dict[str, np.ndarray]]:
    """Returns the arrays of each golden file by its name."""
    import torch

    with torch.no_grad():
        (unet, text), shapes = models()
        arrays = {f"base/{k}": v for k, v in outputs(unet, text).items()}
        arrays["base/shapes"] = np.array(json.dumps(shapes))
        for name, case in CASES.items():
            arrays |= {f"{name}/{k}": v for k, v in lora_case(name, case).items()}
    return {"lora": arrays}


def main():
    for name, arrays in golden_files().items():
        np.savez_compressed(HERE / f"{name}.npz", **arrays)


if __name__ == "__main__":
    main()
