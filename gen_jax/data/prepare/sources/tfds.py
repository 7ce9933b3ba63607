"""TensorFlow Datasets by name, read through ArrayRecord with no TensorFlow.

`tfds:NAME[:SPLIT]`, where NAME may carry a config and a version
("mnist", "cifar10:3.0.2", "oxford_flowers102:train+test" reads two splits), or be
the folder of a data set that TFDS has prepared. Our own splits are drawn by content
from what is read.
"""

import os
import pathlib
import re
from typing import Any

import numpy as np

from gen_jax.common.errors import UserError
from gen_jax.data.images import ImageError
from gen_jax.data.prepare.sources import mapping
from gen_jax.data.prepare.sources.base import RawImage
from gen_jax.data.prepare.sources.opened import OpenedSource

_VERSION = re.compile(r"\d+\.[\d*]+\.[\d*]+")


def parse(text: str) -> tuple[str, str]:
    """NAME[:VERSION][:SPLIT] -> (name with version, split, "train" by default)."""
    slices = text.find("[")  # "train[:10%]" has a colon of its own
    colon = text.rfind(":", 0, slices if slices >= 0 else len(text))
    if colon < 0 or _VERSION.fullmatch(text[colon + 1 :]):
        return text, "train"
    return text[:colon], text[colon + 1 :]


def columns_of(where: str, features: Any) -> mapping.Columns:
    """Reads which column is what from a data set's FeaturesDict."""
    import tensorflow_datasets as tfds

    names = list(features.keys())
    kind = tfds.features
    is_text = {
        name: isinstance(features[name], kind.Text)
        or isinstance(getattr(features[name], "feature", None), kind.Text)
        for name in names
    }
    return mapping.choose(
        where,
        names,
        images=[name for name in names if isinstance(features[name], kind.Image)],
        texts=[name for name in names if is_text[name]],
        labels={
            name: features[name].names or ()
            for name in names
            if isinstance(features[name], kind.ClassLabel)
        },
    )


class TfdsSource(OpenedSource):
    """One or more splits of a TFDS data set; the file format must be ArrayRecord."""

    embedded = False
    default_format = None

    def __init__(self, where: str, split: str, data_dir: str | None = None):
        """Opens the data set, downloading and preparing it where that was not done.

        Args:
          where: name or folder.
          split: as TFDS writes it, for example "train", "train[:10%]", "train+test".
          data_dir: of TFDS; None for its default (~/tensorflow_datasets).

        Raises:
          UserError: there is no such data set or split, or it holds no images.
        """
        self.name = f"tfds:{where}"
        self._where, self._split, self._data_dir = where, split, data_dir
        self._open()

    def _open(self) -> None:
        os.environ.setdefault("TFDS_DISABLE_PROGRESS", "1")
        try:
            import tensorflow_datasets as tfds
        except ImportError:
            raise UserError(
                f"tfds:{self._where}: run pip install tensorflow-datasets array_record"
            ) from None
        try:
            if pathlib.Path(self._where).is_dir():
                builder = tfds.builder_from_directory(self._where)
            else:
                builder = tfds.builder(
                    self._where, data_dir=self._data_dir, file_format="array_record"
                )
                builder.download_and_prepare()
            # Pictures as they lie in the file: decoding is ours, and checks more.
            columns = columns_of(f"tfds:{self._where}", builder.info.features)
            decoders = {columns.image: tfds.decode.SkipDecoding()}
            self._opened = builder.as_data_source(split=self._split, decoders=decoders)
        except UserError:
            raise
        except Exception as error:  # TFDS raises dozens of types, with long messages
            reason = " ".join(str(error).split())[:160]
            raise UserError(
                f"tfds:{self._where}:{self._split}: cannot be read: {reason}"
            ) from error
        self._columns = columns
        self.name = f"tfds:{builder.name}"
        self._version = str(builder.version)

    def read(self, index: int) -> RawImage:
        example = self._rows[index]
        key = f"{self.name.removeprefix('tfds:')}/{self._split}/{index:07d}"
        picture = example[self._columns.image]
        if isinstance(picture, np.ndarray) and picture.ndim == 3:
            if picture.dtype != np.uint8 or picture.shape[-1] not in (1, 3):
                raise ImageError("corrupt", f"pixels are {picture.dtype} {picture.shape}")
            pixels = np.ascontiguousarray(np.broadcast_to(picture, (*picture.shape[:2], 3)))
            return mapping.raw_image(key, example, self._columns, None, pixels)
        data = picture if isinstance(picture, bytes) else bytes(np.asarray(picture).item())
        return mapping.raw_image(key, example, self._columns, data)


def open_tfds(text: str) -> TfdsSource:
    """Opens what follows "tfds:"."""
    where, split = parse(text)
    if not where:
        raise UserError("source=tfds: a name is missing, for example tfds:oxford_flowers102")
    return TfdsSource(where, split)
