"""Writes a run's weights in the formats of other libraries.

    python -m gen_jax.export --run=runs/vae --format=safetensors --out=release/vae
    python -m gen_jax.export --run=runs/ldm --format=diffusers --out=release/ldm
    python -m gen_jax.export --run=runs/encoder --format=huggingface --out=release/encoder
    python -m gen_jax.export --run=runs/mine --format=diffusers_lora --out=release/lora
    python -m gen_jax.export --run=sd15 --lora=ink.safetensors:0.8 --out=release/ink
    python -m gen_jax.export --run=runs/second --average=runs/first --out=release/mean

`safetensors` gives a folder that every command takes as --run: config.json, model.safetensors and
the tokenizer. `diffusers` gives the pipeline of a latent diffusion run, if it has the shape of
Stable Diffusion 1.x or 2.x (docs/pipelines.md), or the folder `vae` of an autoencoder.
`huggingface` gives an encoder as transformers reads it, which gen_jax.encoders.load and every stage
that takes an encoder read too.

Of a run that was trained with config.lora, `lora` gives the low-rank factors alone.
`diffusers_lora` and `kohya_lora` give those of a latent diffusion run's UNet as other programs read
them. The other formats have the factors merged, and the files that --lora names as well.

The folder appears once all that was written has been read back and compared. Weights that are not
finite, or too large for float16, are refused.
"""

from absl import flags

from gen_jax.common import app, outputs, paths
from gen_jax.common.errors import UserError

_RUN = paths.DEFINE_path("run", None, "Run directory.")
_OUT = paths.DEFINE_path("out", None, "Folder to write; must not hold another export.")
_FORMATS = ["safetensors", "diffusers", "huggingface", "lora", "diffusers_lora", "kohya_lora"]
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
_LORA = paths.DEFINE_multi_path("lora", [], "FILE[:SCALE] of low-rank factors (docs/lora.md).")
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
    if _LORA.value and "lora" in _FORMAT.value:
        raise UserError(
            f"--format={_FORMAT.value} writes the factors that --run trained, and --lora merges "
            "others into its weights; leave out one of them"
        )
    from gen_jax.runs import average, export, lora, lora_export, reader

    loras = [lora.parse(text, "--lora") for text in _LORA.value]
    model = reader.load(_RUN.value, _STEP.value)
    if _AVERAGE.value:
        model = average.mean([model, *(reader.load(run, _STEP.value) for run in _AVERAGE.value)])
    model = lora.merge_all(model, loras)
    write = {
        "safetensors": export.to_safetensors,
        "huggingface": export.to_huggingface,
        "diffusers": export.to_diffusers,
        "lora": export.to_lora,
        "diffusers_lora": lora_export.to_diffusers,
        "kohya_lora": lora_export.to_kohya,
    }[_FORMAT.value]
    with outputs.writing(out) as temporary:
        write(model, temporary, _DTYPE.value)
    for path in sorted(p for p in out.rglob("*") if p.is_file()):
        print(f"{path.stat().st_size / 2**20:8.2f} MiB  {path}")


if __name__ == "__main__":
    app.run(main)
