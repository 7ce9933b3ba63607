"""Golden files of diffusers: outputs of small random models, and folders as it saves them.

Run where torch and diffusers are installed:

    python tests/golden/make_diffusers.py

The models' weights are not stored: `named_weights` draws them from each tensor's name, in
the script and in the tests. Made with diffusers 0.42.1 and torch 2.13.0 (CPU).
"""

import json
import pathlib
import tempfile
import zlib

import numpy as np

HERE = pathlib.Path(__file__).resolve().parent

VAES = {
    # Two halvings, attention in the middle, both quant convolutions, a size of its own.
    "sd": dict(
        block_out_channels=(8, 16, 16),
        layers_per_block=1,
        latent_channels=4,
        norm_num_groups=4,
        size=(32, 24),
    ),
    # No quant convolutions, no attention, odd sizes, another activation, a shift.
    "flux": dict(
        block_out_channels=(8, 16),
        layers_per_block=2,
        latent_channels=3,
        norm_num_groups=8,
        act_fn="relu",
        use_quant_conv=False,
        use_post_quant_conv=False,
        mid_block_add_attention=False,
        scaling_factor=0.36,
        shift_factor=0.11,
        size=(27, 21),
    ),
}

UNETS = {
    # Three levels as SD 1 has them: convolutions around the attention, one number of heads.
    "sd1": dict(
        down_block_types=("CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
        block_out_channels=(16, 32, 32),
        layers_per_block=2,
        norm_num_groups=8,
        cross_attention_dim=24,
        attention_head_dim=4,
        size=(8, 12),
        times=(0, 999),
    ),
    # SD 2: linear projections, heads a level; sizes that no level divides, and a mask.
    "sd2": dict(
        in_channels=3,
        out_channels=5,
        down_block_types=("CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
        block_out_channels=(8, 16, 16),
        layers_per_block=1,
        norm_num_groups=4,
        cross_attention_dim=12,
        attention_head_dim=(2, 4, 8),
        use_linear_projection=True,
        upcast_attention=True,
        size=(9, 7),
        times=(17, 400),
        mask=((1, 1, 1, 0, 0), (1, 0, 1, 1, 1)),
    ),
    # The rest: depth and layers a level, fractional times, sines first, a plain middle,
    # asymmetric padding, another activation and epsilon.
    "odd": dict(
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        mid_block_type="UNetMidBlock2D",
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        block_out_channels=(8, 12),
        layers_per_block=(1, 2),
        transformer_layers_per_block=(1, 2),
        norm_num_groups=4,
        norm_eps=1e-6,
        act_fn="gelu",
        cross_attention_dim=6,
        attention_head_dim=3,
        flip_sin_to_cos=False,
        freq_shift=1,
        downsample_padding=0,
        size=(6, 10),
        times=(0.25, 731.5),
    ),
    # A vector beside the states, and the time as scale and shift.
    "vector": dict(
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        block_out_channels=(8, 16),
        layers_per_block=1,
        norm_num_groups=4,
        cross_attention_dim=6,
        attention_head_dim=2,
        class_embed_type="projection",
        projection_class_embeddings_input_dim=10,
        resnet_time_scale_shift="scale_shift",
        size=(6, 4),
        times=(5, 700),
    ),
}

TINIES = {
    "taesd": dict(
        encoder_block_out_channels=(8, 8, 8),
        decoder_block_out_channels=(8, 8, 8),
        num_encoder_blocks=(1, 2, 1),
        num_decoder_blocks=(2, 1, 1),
        latent_channels=4,
        size=(16, 12),
    ),
}

# What stands beside the config's fields in the tables above.
EXTRAS = ("size", "times", "mask")


def config_of(case: dict) -> dict:
    return {k: v for k, v in case.items() if k not in EXTRAS}


def named_weights(shapes: dict[str, tuple[int, ...]], seed: int = 0) -> dict[str, np.ndarray]:
    """float32 weights that depend on each tensor's name, shape and the seed alone."""
    weights = {}
    for name, shape in shapes.items():
        rng = np.random.default_rng([seed, zlib.crc32(name.encode())])
        noise = rng.standard_normal(shape).astype(np.float32)
        if len(shape) > 1:
            weights[name] = noise / np.float32(np.sqrt(np.prod(shape[1:])))
        else:
            weights[name] = np.float32(name.endswith("weight")) + np.float32(0.2) * noise
    return weights


def noise(name: str, shape: tuple[int, ...]) -> np.ndarray:
    return np.random.default_rng(zlib.crc32(name.encode())).standard_normal(shape).astype("f4")


def torch_model(cls, case: dict):
    import torch

    config = config_of(case)
    if cls.__name__ == "AutoencoderKL":  # the module here counts the blocks by itself
        levels = len(case["block_out_channels"])
        config["down_block_types"] = ("DownEncoderBlock2D",) * levels
        config["up_block_types"] = ("UpDecoderBlock2D",) * levels
    model = cls(**config).eval()
    shapes = {k: tuple(v.shape) for k, v in model.state_dict().items()}
    weights = {k: torch.from_numpy(v) for k, v in named_weights(shapes).items()}
    model.load_state_dict(weights)
    return model, shapes


def nhwc(x) -> np.ndarray:
    return np.ascontiguousarray(x.detach().numpy().transpose(0, 2, 3, 1))


def nchw(x: np.ndarray):
    import torch

    return torch.from_numpy(np.ascontiguousarray(x.transpose(0, 3, 1, 2)))


def autoencoder_case(cls, name: str, case: dict) -> dict[str, np.ndarray]:
    model, shapes = torch_model(cls, case)
    x = np.tanh(noise(f"{name}.x", (2, *case["size"], 3)))
    encoded = model.encode(nchw(x))
    if hasattr(encoded, "latent_dist"):
        mean, logvar = encoded.latent_dist.mean, encoded.latent_dist.logvar
    else:
        mean, logvar = encoded.latents, encoded.latents * 0 - 30
    return {
        "keys": np.array(json.dumps(shapes)),
        "x": x,
        "mean": nhwc(mean),
        "logvar": nhwc(logvar),
        "decoded": nhwc(model.decode(mean).sample),
    }


def unet_case(cls, name: str, case: dict) -> dict[str, np.ndarray]:
    import torch

    model, shapes = torch_model(cls, case)
    x = noise(f"{name}.x", (2, *case["size"], case.get("in_channels", 4)))
    context = noise(f"{name}.context", (2, 5, case["cross_attention_dim"]))
    mask = np.array(case.get("mask", np.ones((2, 5))), bool)
    vector = noise(f"{name}.vector", (2, case.get("projection_class_embeddings_input_dim", 0)))
    out = model(
        nchw(x),
        torch.tensor(case["times"]),
        torch.from_numpy(context),
        encoder_attention_mask=torch.from_numpy(mask) if "mask" in case else None,
        class_labels=torch.from_numpy(vector) if vector.size else None,
    ).sample
    return {
        "keys": np.array(json.dumps(shapes)),
        "x": x,
        "context": context,
        "mask": mask,
        "vector": vector,
        "out": nhwc(out),
    }


def folders() -> dict[str, np.ndarray]:
    """Folders as diffusers saves them, `case/file` -> bytes."""
    import diffusers
    import safetensors.torch
    import torch

    vae = dict(VAES["sd"], block_out_channels=(4, 8), layers_per_block=1)
    unet = dict(UNETS["odd"], block_out_channels=(4, 8), attention_head_dim=2)
    vae, _ = torch_model(diffusers.AutoencoderKL, vae)
    unet, _ = torch_model(diffusers.UNet2DConditionModel, unet)
    tiny, _ = torch_model(diffusers.AutoencoderTiny, TINIES["taesd"])
    files = {}
    with tempfile.TemporaryDirectory() as temporary:
        root = pathlib.Path(temporary)
        vae.save_pretrained(root / "vae")
        tiny.save_pretrained(root / "tiny")
        unet.save_pretrained(root / "unet_sharded", max_shard_size="50KB")
        unet.to(torch.float16).save_pretrained(root / "unet_fp16", variant="fp16")
        vae.to(torch.bfloat16).save_pretrained(root / "vae_bf16")
        # A folder of diffusers' first releases: other names in the attention, no
        # `_diffusers_version` to speak of, and metadata of its own.
        old = {}
        for key, value in vae.to(torch.float32).state_dict().items():
            for new, former in (
                ("to_q", "query"),
                ("to_k", "key"),
                ("to_v", "value"),
                ("to_out.0", "proj_attn"),
            ):
                key = key.replace(f"attentions.0.{new}.", f"attentions.0.{former}.")
            old[key] = value.contiguous()
        (root / "vae_old").mkdir()
        safetensors.torch.save_file(
            old,
            root / "vae_old/diffusion_pytorch_model.safetensors",
            metadata={"format": "pt", "note": "old names"},
        )
        config = json.loads((root / "vae/config.json").read_text())
        for key in ("use_quant_conv", "use_post_quant_conv", "mid_block_add_attention"):
            del config[key]
        config["_diffusers_version"] = "0.2.2"
        (root / "vae_old/config.json").write_text(json.dumps(config, indent=4))
        for file in sorted(root.rglob("*.*")):
            if file.is_file():
                files[str(file.relative_to(root))] = np.frombuffer(file.read_bytes(), np.uint8)
    return files


def golden_files() -> dict[str, dict[str, np.ndarray]]:
    """Returns the arrays of each golden file of outputs by its name."""
    import diffusers
    import torch

    tables = (
        ("diffusers_vae", diffusers.AutoencoderKL, VAES, autoencoder_case),
        ("diffusers_tiny", diffusers.AutoencoderTiny, TINIES, autoencoder_case),
        ("diffusers_unet", diffusers.UNet2DConditionModel, UNETS, unet_case),
    )
    with torch.no_grad():
        return {
            file: {
                f"{name}/{key}": value
                for name, case in cases.items()
                for key, value in make(cls, name, case).items()
            }
            for file, cls, cases, make in tables
        }


def main():
    for name, arrays in golden_files().items():
        np.savez_compressed(HERE / f"{name}.npz", **arrays)
    np.savez_compressed(HERE / "diffusers_folders.npz", **folders())


if __name__ == "__main__":
    main()
