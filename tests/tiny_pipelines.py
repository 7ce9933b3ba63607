"""Folders of tiny pipelines as diffusers saves them, rebuilt from tests/golden/pipelines.npz."""

import functools
import json
import pathlib

import numpy as np
from safetensors.numpy import save_file

from tests.tiny_text import golden_script

STEMS = {
    "unet": "diffusion_pytorch_model",
    "vae": "diffusion_pytorch_model",
    "text_encoder": "model",
}


@functools.cache
def script():
    return golden_script("make_pipelines")


@functools.cache
def golden() -> dict[str, np.ndarray]:
    with np.load(script().HERE / "pipelines.npz") as stored:
        return dict(stored)


def weights(kind: str) -> dict[str, dict[str, np.ndarray]]:
    """Component -> tensors by name, as drawn from the names."""
    keys = json.loads(str(golden()[f"{kind}/keys"]))
    return {name: script().named(shapes) for name, shapes in keys.items()}


def write(
    folder: pathlib.Path, kind: str = "sd1", dtype: str = "float32", infix: str = ""
) -> pathlib.Path:
    """Writes a pipeline.

    Args:
      folder: A folder that is made.
      kind: "sd1" or "sd2".
      dtype: Type of the stored weights.
      infix: What stands in the names of the weight files, such as ".fp16".
    """
    for name, text in json.loads(str(golden()[f"{kind}/files"])).items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    for name, state in weights(kind).items():
        path = folder / name / f"{STEMS[name]}{infix}.safetensors"
        save_file({k: v.astype(dtype) for k, v in state.items()}, path, {"format": "pt"})
    return folder


def change(file: pathlib.Path, **values) -> None:
    """Changes values of a JSON file."""
    file.write_text(json.dumps({**json.loads(file.read_text()), **values}))
