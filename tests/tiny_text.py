"""Small vocabularies and towers in the layouts of published models."""

import importlib.util
import json
import pathlib

import numpy as np

from gen_jax.data.text.clip_tokenizer import ClipTokenizer

CLIP_MERGES = "#version: 0.2\nc a\nca t</w>\n"
WORDPIECES = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "a", "cat", "##s", ",", "[MASK]")


def clip_folder(folder: pathlib.Path) -> ClipTokenizer:
    """Writes Hugging Face's vocab.json and merges.txt of CLIP_MERGES; 516 tokens."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "merges.txt").write_text(CLIP_MERGES)
    tokenizer = ClipTokenizer.find(folder / "merges.txt")
    vocab = json.loads(tokenizer.to_json())["model"]["vocab"]
    marks = {"<start_of_text>": "<|startoftext|>", "<end_of_text>": "<|endoftext|>"}
    vocab = {marks.get(token, token): i for token, i in vocab.items()}
    (folder / "vocab.json").write_text(json.dumps(vocab))
    return ClipTokenizer.find(folder)


def golden_script(name: str):
    """The module of tests/golden/NAME.py."""
    path = pathlib.Path(__file__).resolve().parent / "golden" / f"{name}.py"
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


# Keys of a config.json; 8 positions, as the debug recipe reads.
_CONFIGS = {
    "clip": {
        "model_type": "clip_text_model",
        "vocab_size": 516,
        "hidden_size": 16,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 32,
        "max_position_embeddings": 8,
        "eos_token_id": 515,
    },
    "distilbert": {
        "model_type": "distilbert",
        "vocab_size": len(WORDPIECES),
        "dim": 24,
        "n_layers": 2,
        "n_heads": 2,
        "hidden_dim": 48,
        "max_position_embeddings": 8,
    },
}


def tower_folder(kind: str, folder: pathlib.Path) -> pathlib.Path:
    """Writes a tower of random weights as Hugging Face does, with its vocabulary."""
    from safetensors.numpy import save_file

    from gen_jax.encoders import bert, clip
    from gen_jax.encoders.diffusers_folder import param_shapes
    from gen_jax.encoders.weights import torch_from_flax

    make = {"clip": clip.text_from_hf_config, "distilbert": bert.from_hf_config}[kind]
    module = make(_CONFIGS[kind])
    rng = np.random.default_rng(0)

    def filled(shapes):
        if isinstance(shapes, dict):
            return {k: filled(v) for k, v in shapes.items()}
        return rng.normal(0, 0.3, shapes.shape).astype(np.float32)

    folder.mkdir(parents=True, exist_ok=True)
    if kind == "clip":
        clip_folder(folder)
    else:
        (folder / "vocab.txt").write_text("\n".join(WORDPIECES))
    (folder / "config.json").write_text(json.dumps(_CONFIGS[kind]))
    state = torch_from_flax(filled(param_shapes(module)), module.port)
    save_file({k: np.ascontiguousarray(v) for k, v in state.items()}, folder / "model.safetensors")
    return folder


def unloaded(config) -> dict:
    """What `build_task` takes as the tower of a config, in its published size, without weights."""
    from gen_jax.encoders.catalog import TOWERS
    from gen_jax.tasks.text import FrozenText

    text = config.task.get("text_encoder") or {}
    if "tower" not in text:
        return {}
    tower = TOWERS[text.tower].make()
    return {"text": FrozenText(tower, text.max_length, text.layer, 49406, 49407, 49407)}
