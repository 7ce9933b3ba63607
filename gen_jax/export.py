"""Writes a run's weights in the formats of other libraries.

    python -m gen_jax.export --run=runs/vae --format=safetensors --out=release/vae
    python -m gen_jax.export --run=runs/ldm --format=diffusers --out=release/ldm
    python -m gen_jax.export --run=runs/encoder --format=huggingface --out=release/encoder
    python -m gen_jax.export --run=runs/second --average=runs/first --out=release/mean

`safetensors` gives a folder that every command takes as --run: config.json, model.safetensors and
the tokenizer. `diffusers` gives the pipeline of a latent diffusion run, if it has the shape of
Stable Diffusion 1.x or 2.x (docs/pipelines.md), or the folder `vae` of an autoencoder.
`huggingface` gives an encoder as transformers reads it, which gen_jax.encoders.load and every stage
that takes an encoder read too. `lora` gives the low-rank factors of a run that was trained with
config.lora; the other formats have them merged.

The folder appears once all that was written has been read back and compared. Weights that are not
finite, or too large for float16, are refused.
"""

from absl import flags

from gen_jax.common import app, outputs, paths
from gen_jax.common.errors import UserError

_RUN = paths.DEFINE_path("run", None, "Run directory.")
_OUT = paths.DEFINE_path("out", None, "Folder to write; must not hold another export.")
_FORMATS = ["safetensors", "diffusers", "huggingface", "lora"]
_FORMAT = flags.DEFINE_enum("format", "safetensors", _FORMATS, "What to write.")
_DTYPE = flags.DEFINE_enum(
    "dtype",
    "float32",
    ["float32", "float16", "int8"],
    "Data type of the stored weights; int8 (safetensors alone) has scales beside them.",
)
_AVERAGE = paths.DEFINE_multi_path(
    "average",
    [],
    "A run that --run began with, or another of its kind: the mean of all is written.",
)
_STEP = flags.DEFINE_string("step", "best", "Checkpoint: best, last or a number.")


def main(_) -> None:
    """Reads the run and writes."""
    if not _RUN.value or not _OUT.value:
        raise UserError("--run and --out are needed, see --help")
    out = outputs.check_folder(_OUT.value, "--out")
    if out.is_dir() and any(out.iterdir()):
        raise UserError(f"--out={_OUT.value}: is not empty; name a new folder")
    if _DTYPE.value == "int8" and _FORMAT.value != "safetensors":
        raise UserError(
            f"--dtype=int8: {_FORMAT.value} has no such format; use --format=safetensors"
        )
    from gen_jax.runs import average, export, reader

    model = reader.load(_RUN.value, _STEP.value)
    if _AVERAGE.value:
        model = average.mean([model, *(reader.load(run, _STEP.value) for run in _AVERAGE.value)])
    write = {
        "safetensors": export.to_safetensors,
        "huggingface": export.to_huggingface,
        "diffusers": export.to_diffusers,
        "lora": export.to_lora,
    }[_FORMAT.value]
    with outputs.writing(out) as temporary:
        write(model, temporary, _DTYPE.value)
    for path in sorted(p for p in out.rglob("*") if p.is_file()):
        print(f"{path.stat().st_size / 2**20:8.2f} MiB  {path}")


if __name__ == "__main__":
    app.run(main)
