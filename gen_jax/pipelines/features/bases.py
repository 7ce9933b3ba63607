"""The PCA of each feature, fitted once a job on a sample of its images."""

import pathlib

import jax
import numpy as np
from safetensors.numpy import save

from gen_jax.common import files
from gen_jax.common.errors import UserError
from gen_jax.data import shards
from gen_jax.data.features import codec, feature_set
from gen_jax.pipelines.features import reading
from gen_jax.pipelines.features.plan import Options
from gen_jax.pipelines.features.program import Program
from gen_jax.pipelines.features.towers import Tower

# Enough for a covariance of 1,536 channels, from the 16 tokens of the coarsest grid up.
IMAGES, TOKENS = 256, 1 << 16


def of_job(
    tower: Tower,
    store: codec.Store,
    options: Options,
    records: shards.ShardedRecords,
    out: pathlib.Path,
) -> dict[str, dict[str, np.ndarray]]:
    """The bases, fitted by the first task that comes, and read from its file by the others.

    Args:
      tower: whose features.
      store: the storage form.
      options: of the job.
      records: of the split that they are fitted on.
      out: folder of the features.

    Returns:
      Feature -> `{"mean", "components", "explained"}`; empty for a form without a PCA.
    """
    if not store.components:
        return {}
    path = out / feature_set.BASES
    if not path.exists():
        print(f"fitting the PCA on {min(IMAGES, len(records))} images", flush=True)
        flat = {
            f"{name}/{key}": value
            for name, of in _fit(tower, store, options, records).items()
            for key, value in of.items()
        }
        files.write_once(path, save(flat))
    return feature_set.read_bases(path)


def _fit(tower, store, options, records) -> dict[str, dict[str, np.ndarray]]:
    wanted = [name for name, of in tower.outputs.items() if codec.has_pca(store, of.shape)]
    # On one device: the sample, and with it the basis, is the same however many there are.
    program = Program(tower.extractor, tower.params, store, {}, jax.local_devices()[:1])
    places = np.unique(np.linspace(0, len(records) - 1, IMAGES).round().astype(int)).tolist()
    rows: dict[str, list[np.ndarray]] = {name: [] for name in wanted}
    for chunk in reading.chunks(
        records,
        places,
        size=options.batch_size,
        inputs=tower.inputs,
        num_threads=options.num_threads,
    ):
        good = [row for row in range(len(chunk.records)) if row not in chunk.skipped]
        found = program.features(chunk.inputs)
        for name in wanted:
            x = np.asarray(found[name], np.float32)[good]
            share = max(1, TOKENS // len(places))
            tokens = x.reshape(len(good), -1, x.shape[-1])
            step = -(-tokens.shape[1] // share)
            rows[name].append(tokens[:, ::step].reshape(-1, x.shape[-1]))
    bases = {}
    for name in wanted:
        tokens = np.concatenate(rows[name])
        if not len(tokens):
            raise UserError(f"{options.data}: no image could be decoded to fit the PCA on")
        pca = codec.fit_pca(tokens, store.components)
        bases[name] = {
            "mean": pca.mean,
            "components": pca.components,
            "explained": np.asarray(pca.explained, np.float32),
        }
    return bases
