"""Small vocabularies in the layouts of published models, for the tests of tokenizers and towers."""

import importlib.util
import json
import pathlib

from gen_jax.data.clip_tokenizer import ClipTokenizer

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
