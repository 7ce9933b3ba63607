"""Golden files of transformers: outputs of small random DINOv2, CLIP and BERT towers.

Run where torch and transformers are installed:

    python tests/golden/make_transformers.py

Keys and shapes are those of the files that transformers saves, which are those it published;
what it keeps in memory is spelled otherwise. The weights and inputs are not stored: `weights`
and `noise` draw them from their names, in the script and in the tests. Made with
transformers 5.23.0 and torch 2.13.0 (CPU).
"""

import json
import pathlib
import re
import tempfile
import zlib

import numpy as np

HERE = pathlib.Path(__file__).resolve().parent

# `sizes`: images (batch, height, width); the gradient is taken at the first.
DINOV2 = {
    # Not square and smaller than pretrained, at it, and larger.
    "plain": dict(
        config=dict(
            model_type="dinov2",
            hidden_size=24,
            num_hidden_layers=3,
            num_attention_heads=4,
            image_size=56,
            patch_size=14,
        ),
        sizes=((1, 42, 70), (2, 56, 56), (1, 84, 28)),
    ),
    "registers": dict(
        config=dict(
            model_type="dinov2_with_registers",
            hidden_size=16,
            num_hidden_layers=2,
            num_attention_heads=2,
            image_size=35,
            patch_size=7,
            num_register_tokens=4,
        ),
        sizes=((2, 21, 42), (1, 35, 35), (1, 77, 14)),
    ),
    # The same number of tokens as pretrained, in another shape.
    "giant": dict(
        config=dict(
            model_type="dinov2",
            hidden_size=24,
            num_hidden_layers=2,
            num_attention_heads=3,
            image_size=28,
            patch_size=7,
            use_swiglu_ffn=True,
            qkv_bias=False,
        ),
        sizes=((2, 14, 56), (1, 28, 28), (1, 63, 35)),
    ),
    "giant_registers": dict(
        config=dict(
            model_type="dinov2_with_registers",
            hidden_size=24,
            num_hidden_layers=2,
            num_attention_heads=3,
            image_size=42,
            patch_size=14,
            num_register_tokens=4,
            use_swiglu_ffn=True,
        ),
        sizes=((1, 28, 28), (1, 56, 70)),
    ),
}

# Whole models; end of text is the highest id (19), as in the published vocabularies.
CLIP = {
    "openai": dict(
        config=dict(
            model_type="clip",
            projection_dim=10,
            text_config=dict(
                vocab_size=20,
                hidden_size=16,
                intermediate_size=48,
                num_hidden_layers=3,
                num_attention_heads=4,
                max_position_embeddings=9,
                eos_token_id=2,
            ),
            vision_config=dict(
                hidden_size=24,
                intermediate_size=40,
                num_hidden_layers=2,
                num_attention_heads=3,
                image_size=32,
                patch_size=8,
            ),
        ),
        tokens=((18, 4, 2, 7, 19, 19, 19), (18, 2, 19, 0, 0, 0, 0), (18, 3, 3, 2, 5, 1, 19)),
        mask=((1, 1, 1, 1, 1, 0, 0), (1, 1, 1, 0, 0, 0, 0), (1, 1, 1, 1, 1, 1, 1)),
        sizes=((2, 32, 32), (1, 24, 56), (1, 40, 40)),
    ),
    "openclip": dict(
        config=dict(
            model_type="clip",
            projection_dim=12,
            text_config=dict(
                vocab_size=20,
                hidden_size=24,
                intermediate_size=32,
                num_hidden_layers=2,
                num_attention_heads=3,
                max_position_embeddings=8,
                hidden_act="gelu",
                eos_token_id=11,
            ),
            vision_config=dict(
                hidden_size=16,
                intermediate_size=48,
                num_hidden_layers=3,
                num_attention_heads=2,
                image_size=24,
                patch_size=6,
                hidden_act="gelu",
            ),
        ),
        # The end is not the highest id here, and it is there again as padding.
        tokens=((18, 4, 11, 11, 11, 11, 11, 11), (18, 19, 2, 3, 4, 11, 0, 0)),
        mask=((1, 1, 1, 0, 0, 0, 0, 0), (1, 1, 1, 1, 1, 1, 0, 0)),
        sizes=((2, 24, 24), (2, 30, 12)),
    ),
}

_TOKENS = ((2, 9, 4, 7, 3, 0, 0), (2, 5, 3, 0, 0, 0, 0), (2, 8, 8, 1, 6, 11, 3))
_MASK = ((1, 1, 1, 1, 1, 0, 0), (1, 1, 1, 0, 0, 0, 0), (1, 1, 1, 1, 1, 1, 1))
_TYPES = ((0, 0, 0, 1, 1, 0, 0), (0, 1, 1, 0, 0, 0, 0), (0, 0, 0, 0, 1, 1, 1))

# `cls`: the class whose file it is; with a head there are a prefix and keys to leave out.
BERT = {
    "bert": dict(
        cls="BertForMaskedLM",
        config=dict(
            model_type="bert",
            vocab_size=20,
            hidden_size=16,
            num_hidden_layers=3,
            num_attention_heads=4,
            intermediate_size=40,
            max_position_embeddings=12,
        ),
        tokens=_TOKENS,
        mask=_MASK,
        token_types=_TYPES,
    ),
    "minilm": dict(
        cls="BertModel",
        config=dict(
            model_type="bert",
            vocab_size=20,
            hidden_size=24,
            num_hidden_layers=2,
            num_attention_heads=12,
            intermediate_size=96,
            max_position_embeddings=8,
            layer_norm_eps=1e-5,
        ),
        tokens=_TOKENS,
        mask=_MASK,
    ),
    "distilbert": dict(
        cls="DistilBertForMaskedLM",
        config=dict(
            model_type="distilbert",
            vocab_size=20,
            dim=24,
            n_layers=2,
            n_heads=3,
            hidden_dim=40,
            max_position_embeddings=7,
        ),
        tokens=_TOKENS,
        mask=_MASK,
    ),
}

# (positions a side, wanted rows, wanted columns)
RESIZES = ((4, 3, 5), (4, 9, 4), (5, 2, 1), (7, 7, 20), (16, 5, 11), (37, 16, 33))

# Learnt vectors that are added to tokens: of their size, or nothing would depend on them.
_TOKEN_LIKE = r"(_tokens?|position_embeddings|_embeddings?\.weight|class_embedding)$"


def weights(shapes: dict[str, tuple[int, ...]]) -> dict[str, np.ndarray]:
    """float32 weights that depend on each tensor's name and shape alone."""
    drawn = {}
    for name, shape in shapes.items():
        x = noise(name, shape)
        if re.search(_TOKEN_LIKE, name) and "patch" not in name:
            drawn[name] = np.float32(0.5) * x
        elif len(shape) > 1:
            drawn[name] = x / np.float32(np.sqrt(np.prod(shape[1:])))
        else:
            drawn[name] = np.float32(name.endswith("weight")) + np.float32(0.3) * x
    return {name: np.asarray(x) for name, x in drawn.items()}


def noise(name: str, shape: tuple[int, ...]) -> np.ndarray:
    return np.random.default_rng(zlib.crc32(name.encode())).standard_normal(shape).astype("f4")


def images(name: str, size: tuple[int, ...]) -> np.ndarray:
    return noise(f"{name}.images{size}", (*size, 3))


def torch_model(cls, config):
    """A model read from a file of `weights`, and the file's shapes."""
    import safetensors.torch
    import torch

    with tempfile.TemporaryDirectory() as folder:
        cls(config).save_pretrained(folder)
        file = pathlib.Path(folder, "model.safetensors")
        shapes = {k: tuple(v.shape) for k, v in safetensors.torch.load_file(file).items()}
        tensors = {k: torch.from_numpy(np.array(v)) for k, v in weights(shapes).items()}
        safetensors.torch.save_file(tensors, file, metadata={"format": "pt"})
        model, report = cls.from_pretrained(folder, output_loading_info=True)
    problems = {k: v for k, v in report.items() if v}
    assert not problems, problems
    return model.eval(), shapes


def nchw(x: np.ndarray):
    import torch

    return torch.from_numpy(np.ascontiguousarray(x.transpose(0, 3, 1, 2)))


def array(x) -> np.ndarray:
    return np.ascontiguousarray(x.detach().numpy())


def image_gradient(x, name: str, outputs: dict) -> np.ndarray:
    """Of a scalar that every output takes part in, each number with a weight of its own."""
    import torch

    terms = [
        (y * torch.from_numpy(noise(f"{name}.{k}", y.shape))).sum() for k, y in outputs.items()
    ]
    (gradient,) = torch.autograd.grad(sum(terms), x)
    return array(gradient.permute(0, 2, 3, 1))


def dinov2_case(name: str, case: dict) -> dict[str, np.ndarray]:
    import torch
    import transformers as T

    config = dict(case["config"])
    kind = config.pop("model_type")
    cls = {"dinov2": T.Dinov2Model, "dinov2_with_registers": T.Dinov2WithRegistersModel}[kind]
    model, shapes = torch_model(cls, cls.config_class(**config))
    out = {"keys": np.array(json.dumps(shapes))}
    for i, size in enumerate(case["sizes"]):
        x = nchw(images(name, size)).requires_grad_()
        got = model(x, output_hidden_states=True)
        out[f"last{i}"] = array(got.last_hidden_state)
        if i == 0:
            out["hidden"] = np.stack([array(h) for h in got.hidden_states])
            first = model.layernorm(got.hidden_states[1])
            wanted = {"last": got.last_hidden_state, "first": first}
            out["normed"], out["gradient"] = array(first), image_gradient(x, name, wanted)
            patches = (size[1] // config["patch_size"], size[2] // config["patch_size"])
            masked = noise(f"{name}.masked", (size[0], *patches)) > 0
            got = model(x, bool_masked_pos=torch.from_numpy(masked.reshape(size[0], -1)))
            out["masked"], out["last_masked"] = masked, array(got.last_hidden_state)
    return out


def clip_case(name: str, case: dict) -> dict[str, np.ndarray]:
    import torch
    import transformers as T

    config = {k: v for k, v in case["config"].items() if k != "model_type"}
    model, shapes = torch_model(T.CLIPModel, T.CLIPConfig(**config))
    out = {"keys": np.array(json.dumps(shapes))}
    tokens, mask = torch.tensor(case["tokens"]), torch.tensor(case["mask"])
    for suffix, padding in (("", None), ("_masked", mask)):
        got = model.text_model(tokens, attention_mask=padding, output_hidden_states=True)
        out[f"text_last{suffix}"] = array(got.last_hidden_state)
        out[f"text_pooled{suffix}"] = array(got.pooler_output)
        out[f"text_embeds{suffix}"] = array(model.text_projection(got.pooler_output))
        out[f"text_hidden{suffix}"] = np.stack([array(h) for h in got.hidden_states])
        normed = model.text_model.final_layer_norm(got.hidden_states[-2])
        out[f"text_penultimate{suffix}"] = array(normed)
    for i, size in enumerate(case["sizes"]):
        x = nchw(images(name, size)).requires_grad_()
        side = case["config"]["vision_config"]["image_size"]
        got = model.vision_model(
            x, interpolate_pos_encoding=size[1:] != (side, side), output_hidden_states=True
        )
        embeds = model.visual_projection(got.pooler_output)
        out[f"image_pooled{i}"] = array(got.pooler_output)
        out[f"image_embeds{i}"] = array(embeds)
        out[f"image_hidden{i}"] = np.stack([array(h) for h in got.hidden_states])
        if i == 1:
            wanted = {"last": got.last_hidden_state, "embeds": embeds}
            out["gradient"] = image_gradient(x, name, wanted)
    return out


def bert_case(name: str, case: dict) -> dict[str, np.ndarray]:
    import torch
    import transformers as T

    cls = getattr(T, case["cls"])
    config = {k: v for k, v in case["config"].items() if k != "model_type"}
    model, shapes = torch_model(cls, cls.config_class(**config))
    out = {"keys": np.array(json.dumps(shapes))}
    base = model.base_model
    tokens, mask = torch.tensor(case["tokens"]), torch.tensor(case["mask"])
    types = {"token_type_ids": torch.tensor(case["token_types"])} if "token_types" in case else {}
    for suffix, options in (
        ("", {}),
        ("_masked", {"attention_mask": mask}),
        ("_typed", {"attention_mask": mask, **types}),
    ):
        got = base(tokens, output_hidden_states=True, **options)
        out[f"hidden{suffix}"] = np.stack([array(h) for h in got.hidden_states])
    # As the Pooling and Normalize modules of sentence-transformers.
    kept = mask[..., None].float()
    mean = (got.last_hidden_state * kept).sum(1) / kept.sum(1).clamp(min=1e-9)
    out["sentence"] = array(torch.nn.functional.normalize(mean, p=2, dim=1))
    return out


def resizes() -> dict[str, np.ndarray]:
    import torch

    out = {}
    for side, rows, columns in RESIZES:
        # Channels last in memory, as in transformers: torch 2.13 gives wrong rows for one
        # antialiased column of a contiguous tensor.
        table = torch.from_numpy(noise(f"resize{side}", (1, side, side, 2))).permute(0, 3, 1, 2)
        for antialias in (False, True):
            got = torch.nn.functional.interpolate(
                table, (rows, columns), mode="bicubic", align_corners=False, antialias=antialias
            )
            out[f"{side}-{rows}-{columns}-{antialias}"] = array(got.permute(0, 2, 3, 1)[0])
    return out


def golden_files() -> dict[str, dict[str, np.ndarray]]:
    """Returns the arrays of each golden file by its name."""
    files = {
        file: {
            f"{name}/{key}": value
            for name, case in cases.items()
            for key, value in make(name, case).items()
        }
        for file, cases, make in (
            ("transformers_dinov2", DINOV2, dinov2_case),
            ("transformers_clip", CLIP, clip_case),
            ("transformers_bert", BERT, bert_case),
        )
    }
    files["bicubic"] = resizes()
    return files


def main():
    for name, arrays in golden_files().items():
        np.savez_compressed(HERE / f"{name}.npz", **arrays)


if __name__ == "__main__":
    main()
