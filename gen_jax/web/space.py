"""Writes a folder that can be pushed as a Hugging Face Space (https://hf.co/docs/hub/spaces)."""

import importlib.metadata
import json
import pathlib
import shutil
import sys

from gen_jax.runs import export, reader
from gen_jax.runs.reader import TrainedModel
from gen_jax.web import studio

RUN = "run"
_PACKAGE = pathlib.Path(__file__).resolve().parent.parent
# What serving imports; the Space gets the versions that are installed here.
REQUIREMENTS = (
    *("absl-py", "einops", "flax", "ftfy", "jax", "jaxtyping", "ml_collections", "msgpack"),
    *("numpy", "opencv-python-headless", "optax", "orbax-checkpoint", "pillow", "regex", "rich"),
    *("safetensors", "scipy", "tokenizers"),
    *("fastapi", "gradio", "python-multipart", "uvicorn"),
)
_APP = '''"""Serves the run in this folder as a web page and an API."""

import pathlib

from gen_jax.web.app import main

if __name__ == "__main__":
    main(str(pathlib.Path(__file__).resolve().parent / "{run}"))
'''
_README = """---
title: {title}
colorFrom: gray
colorTo: yellow
sdk: gradio
sdk_version: {gradio}
python_version: "{python}"
app_file: app.py
license: apache-2.0
---

# {heading}

An image and its caption, decoded from one latent. Weights: SHA-256 `{digest}`.

The page is at the address of the Space, the description of its API below it at `/docs`. To run it
elsewhere: `pip install -r requirements.txt && python app.py`.
"""


def write(run: str, step: str, out: pathlib.Path, title: str) -> None:
    """Writes the Space of a run: README.md, app.py, requirements.txt, the package and the weights.

    Args:
      run: A run directory or `package:NAME`.
      step: Checkpoint: "best", "last" or a number of steps.
      out: An empty folder.
      title: Title of the Space.

    Raises:
      UserError: There is no such run, or it writes no captions.
    """
    model = reader.load(run, step)
    studio.check(model)
    (out / RUN).mkdir()
    export.to_safetensors(model, out / RUN, "float32")
    _copy_package(model, out)
    (out / "app.py").write_text(_APP.format(run=RUN), encoding="utf-8")
    readme = _README.format(
        title=json.dumps(title),  # a JSON string is a YAML string
        heading=title,
        gradio=importlib.metadata.version("gradio"),
        python=f"{sys.version_info.major}.{sys.version_info.minor}",
        digest=model.digest,
    )
    (out / "README.md").write_text(readme, encoding="utf-8")
    (out / "requirements.txt").write_text(_requirements(), encoding="utf-8")
    # The Hub takes files of more than 10 MB by Git LFS alone.
    attributes = "*.safetensors filter=lfs diff=lfs merge=lfs -text\n"
    (out / ".gitattributes").write_text(attributes, encoding="utf-8")


def _requirements() -> str:
    lines = [f"{name}=={importlib.metadata.version(name)}" for name in REQUIREMENTS]
    return "\n".join(lines) + "\n"


def _copy_package(model: TrainedModel, out: pathlib.Path) -> None:
    """Copies the code, and of the packaged weights only those that the run works on."""
    ignored = shutil.ignore_patterns("weights", "__pycache__", "*.pyi")

    def ignore(folder: str, names: list[str]) -> set[str]:
        # `runs/weights.py` and other folders called weights are code.
        left_out = set(ignored(folder, names))
        return left_out if pathlib.Path(folder) == _PACKAGE else left_out - {"weights"}

    shutil.copytree(_PACKAGE, out / _PACKAGE.name, ignore=ignore)
    for source in model.config.frozen.to_dict().values():
        if source.startswith("package:"):
            name = source.removeprefix("package:")
            target = out / _PACKAGE.name / "weights" / name
            shutil.copytree(reader.PACKAGED / name, target)
