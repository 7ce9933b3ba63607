r"""Shards -> features of a frozen encoder, as shards.

  python -m gen_jax.featurize --data=data/faces --encoder=dinov2-small --out=features/faces
  python -m gen_jax.featurize --data=data/faces --encoder=dinov2-small:models/dinov2-small \
      --store=pca64-int8 --out=features/faces-pca
  python -m gen_jax.featurize --data=data/photos --encoder=clip-vit-base-patch32-vision --out=...
  python -m gen_jax.featurize --data=data/photos --encoder=all-MiniLM-L6-v2 --out=...
  python -m gen_jax.featurize --data=data/photos --encoder=vae:package:vae_photos --out=...

Reads what gen_jax.prepare wrote. DINOv2 gives a pyramid of patch grids, 4x4 to 32x32, CLIP and BERT
embeddings of images or captions, an autoencoder the mean and standard deviation of its latents. OUT
is a data set as well, whose records hold arrays: gen_jax.data.features.feature_set reads it.

An interrupted run is finished by running the same command again. Tasks of a job array share the
work by themselves (SLURM, GKE, JAX_PROCESS_ID; else --task and --tasks) and need not all be there
at once. The shards are the same, byte for byte, however many tasks there are.
"""

from absl import flags

from gen_jax.common import app, numbers, outputs, paths
from gen_jax.common.errors import UserError

_DATA = paths.DEFINE_path("data", None, "Folder that gen_jax.prepare wrote.")
_ENCODER = paths.DEFINE_path(
    "encoder", None, "NAME[:WEIGHTS], see docs/encoders.md, or vae:RUN for an autoencoder."
)
_OUT = paths.DEFINE_path("out", None, "Folder to write the features to.")
_LAYERS = flags.DEFINE_string(
    "layers",
    "",
    "Comma-separated: last, blocks from 0 on, or pooled; by default last for DINOv2, pooled for "
    "other encoders.",
)
_GRIDS = flags.DEFINE_list("grids", "4,8,16,32", "Sides of DINOv2's patch grids in tokens.")
_STORE = flags.DEFINE_string("store", "int8", "int8, bf16, or pcaN-int8, such as pca64-int8.")
_SPLITS = flags.DEFINE_list("splits", "", "Splits to read; empty for all.")
_BATCH = numbers.define_int("batch_size", 16, "Images per device and batch.", 1, 65536)
_DTYPE = flags.DEFINE_string("dtype", "float32", "Compute dtype: float32 or bfloat16.")
_SIZE = numbers.define_int(
    "image_size", 0, "Side of an autoencoder's images in pixels, 0 for its own.", 0, 16384
)
_CAPTIONS = numbers.define_int(
    "captions", 1, "Captions per example that a text encoder reads.", 1, 1024
)
_LENGTH = numbers.define_int(
    "max_length", 0, "Tokens per caption, 0 for the text encoder's maximum.", 0, 65536
)
_SHARD = numbers.define_int("shard_records", 512, "Records per shard.", 1, 10**9)
_KEEP = flags.DEFINE_boolean("keep_image", False, "Put the images into the records as well.")
_MAX_BAD = numbers.define_int(
    "max_bad", 100, "Stop when more images than this cannot be decoded, -1 never stops.", -1, 10**12
)
_THREADS = numbers.define_int("num_threads", 4, "Threads that decode and resize.", 1, 1024)
_TASK = numbers.define_int("task", None, "This task's number, from 0.", 0)
_TASKS = numbers.define_int("tasks", None, "Number of tasks that share the work.", 1)


def main(_) -> None:
    """Runs `gen_jax.pipelines.features.job.featurize` and says what came out."""
    for flag in (_DATA, _ENCODER, _OUT):
        if not flag.value:
            raise UserError(f"--{flag.name} is missing: see --help")
    try:
        grids = tuple(int(grid) for grid in _GRIDS.value)
    except ValueError:
        raise UserError(f"--grids={','.join(_GRIDS.value)}: expected numbers, as 4,8,16") from None
    outputs.check_folder(_OUT.value, "--out")
    from gen_jax.parallel import compilation

    compilation.set_up()
    import time

    from gen_jax.pipelines.features import job
    from gen_jax.pipelines.features.plan import Options

    start = time.monotonic()
    outcome = job.featurize(
        Options(
            data=_DATA.value,
            encoder=_ENCODER.value,
            out=_OUT.value,
            layers=_LAYERS.value,
            grids=grids,
            store=_STORE.value,
            splits=tuple(_SPLITS.value),
            batch_size=_BATCH.value,
            dtype=_DTYPE.value,
            image_size=_SIZE.value,
            captions=_CAPTIONS.value,
            max_length=_LENGTH.value,
            shard_records=_SHARD.value,
            keep_image=_KEEP.value,
            max_bad=_MAX_BAD.value,
            num_threads=_THREADS.value,
            task=_TASK.value,
            tasks=_TASKS.value,
        )
    )
    if outcome.images:
        seconds = time.monotonic() - start
        print(
            f"{outcome.images} images in {outcome.shards} shards, "
            f"{outcome.images / seconds:.1f} images/s with start-up"
        )
    info = outcome.info
    if info is None:
        print(f"{_OUT.value}: {outcome.left} shards are left to other tasks")
        return
    print(
        f"{_OUT.value}: {info.images} images, {info.bytes_per_image:.0f} bytes an image; cosine to "
        f"the computed features {info.cosine_mean:.6f} on average, {info.cosine_p1:.6f} at the "
        "1st percentile"
    )
    if info.skipped:
        print(f"left out: {len(info.skipped)} images (named in {_OUT.value}/features.json)")


if __name__ == "__main__":
    app.run(main)
