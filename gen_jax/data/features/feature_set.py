"""`features.json`: what a folder of features is, and how to get them back.

The folder is a data set like any other (`dataset.json`, shards, `make_loader`); its records hold
arrays in place of images.

    from gen_jax.data.features import feature_set
    from gen_jax.data.load import loader, steps

    info = feature_set.load("features/faces")
    pyramid = feature_set.pyramid("features/faces")
    batches = loader.make_loader("features/faces", "train", batch_size=64, seed=0,
                                 transform=steps.select(*feature_set.keys(info)))
    tokens = jax.jit(lambda batch: pyramid.level(batch, 64))(next(batches))  # [64, 64, 64, c]
"""

import dataclasses
import json
import os
import pathlib
import re
from typing import Any

import numpy as np

from gen_jax.common import files, safetensors_io, strict_json
from gen_jax.common.errors import UserError
from gen_jax.data.features import codec
from gen_jax.data.features.pyramid import SCALE, Pyramid, stored_of

FILE = "features.json"
BASES = "pca.safetensors"


@dataclasses.dataclass(frozen=True)
class FeaturesInfo:
    """All that is known of a folder of features.

    Attributes:
      encoder: name of the tower.
      weights: where its weights came from.
      weights_sha256: digest of its parameters.
      layers: what was asked for.
      store: storage form, see `codec.Store`.
      outputs: feature -> "shape" (without batch), "dtype" as stored, "input" (pixels a side, or
        tokens), "cosine_mean", "cosine_p1", "mean" and "std" of its values; "explained" where
        there is a PCA.
      images: examples, those skipped not counted.
      skipped: keys of examples whose image could not be decoded, and why.
      bytes_per_image: of the shards, all included.
      cosine_mean: mean cosine between stored and computed vectors, over all outputs' positions.
      cosine_p1: their 1st percentile.
      shards: file -> "records", "bytes", "sha256".
      data: name, fingerprint and splits of the data set that was read.
      bases_sha256: digest of pca.safetensors, "" without one.
      made_with: batch size, dtype, versions and kind of device.
    """

    encoder: str
    weights: str
    weights_sha256: str
    layers: str
    store: str
    outputs: dict[str, dict[str, Any]]
    images: int
    skipped: dict[str, str]
    bytes_per_image: float
    cosine_mean: float
    cosine_p1: float
    shards: dict[str, dict[str, Any]]
    data: dict[str, Any]
    bases_sha256: str = ""
    made_with: dict[str, Any] = dataclasses.field(default_factory=dict)


def write(folder: pathlib.Path, info: FeaturesInfo) -> None:
    """Writes features.json atomically."""
    text = strict_json.dumps(dataclasses.asdict(info), indent=1, ensure_ascii=False)
    files.write_text(folder / FILE, text + "\n")


def load(folder: str | os.PathLike) -> FeaturesInfo:
    """Reads the description; touches no shard.

    Raises:
      UserError: the folder has none, or none that can be read.
    """
    path = pathlib.Path(folder) / FILE
    try:
        return FeaturesInfo(**json.loads(files.read_text(path)))
    except (FileNotFoundError, NotADirectoryError):
        raise UserError(
            f"{folder}: no {FILE} here: not a folder of features, or one that is not finished; "
            f"run python -m gen_jax.featurize --data=... --encoder=... --out={folder}"
        ) from None
    except (ValueError, TypeError, OSError) as error:
        raise UserError(f"{path}: cannot be read ({error}); run featurize again") from None


def keys(info: FeaturesInfo) -> tuple[str, ...]:
    """Names of the arrays of a record, for `steps.select`."""
    found = []
    for name, output in info.outputs.items():
        found.append(name)
        if output["dtype"] == "int8":
            found.append(name + SCALE)
    return tuple(found)


def bases(folder: str | os.PathLike, info: FeaturesInfo) -> dict[str, dict[str, np.ndarray]]:
    """The PCA of each feature that has one: name -> `{"mean", "components"}`.

    Raises:
      UserError: the file is missing, damaged or not the one that the shards were made with.
    """
    if not info.bases_sha256:
        return {}
    return read_bases(pathlib.Path(folder) / BASES, info.bases_sha256)


def read_bases(path: pathlib.Path, sha256: str | None = None) -> dict[str, dict[str, np.ndarray]]:
    """Reads a file of `bases`, and compares its digest where one is given."""
    import hashlib

    mend = "restore it from a copy or run featurize again into a new folder"
    try:
        data = path.read_bytes()
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); {mend}") from None
    if sha256 is not None and hashlib.sha256(data).hexdigest() != sha256:
        raise UserError(f"{path}: its SHA-256 is not the one in {FILE}, it was altered; {mend}")
    try:
        flat = safetensors_io.from_bytes(data, path)
    except UserError as error:
        raise UserError(f"{error}; {mend}") from None
    found: dict[str, dict[str, np.ndarray]] = {}
    for key, value in flat.items():
        name, part = key.rsplit("/", 1)
        found.setdefault(name, {})[part] = value
    return found


def pyramid(folder: str | os.PathLike, layer: str = "") -> Pyramid:
    """The reader of a folder's patch grids.

    Args:
      folder: of features.
      layer: "" where one layer is stored, else its name as in `outputs`, such as "layer5".

    Raises:
      UserError: there are no patch grids of that layer.
    """
    info = load(folder)
    wanted = re.compile(rf"{re.escape(layer + '.') if layer else ''}patches_(\d+)")
    names = {int(m[1]): name for name in info.outputs if (m := wanted.fullmatch(name))}
    if not names:
        raise UserError(
            f"{folder}: no patch grids{f' of {layer}' if layer else ''}: "
            f"it has {', '.join(info.outputs)}"
        )
    return Pyramid(names, bases(folder, info))


def decode(
    batch: dict[str, Any], name: str, pca: dict[str, dict[str, np.ndarray]] | None = None
) -> Any:
    """One feature of a batch as float32 [b, ...].

    Args:
      batch: what the loader gives.
      name: as in `FeaturesInfo.outputs`.
      pca: `bases` of the folder, where it is stored as a PCA.
    """
    return codec.decode(stored_of(batch, name), (pca or {}).get(name))
