"""Hugging Face data sets, through the optional `datasets` library.

`hf:NAME[:SPLIT]`; the split is "train" by default. NAME is a data set on the hub, or a path: a
folder of images or of parquet files, what `save_to_disk` wrote, or one parquet or arrow file.
"""

import dataclasses
import glob
import pathlib
from typing import Any

from gen_jax.common.errors import UserError
from gen_jax.data.images import ImageError
from gen_jax.data.prepare.sources import mapping
from gen_jax.data.prepare.sources.base import RawImage
from gen_jax.data.prepare.sources.opened import OpenedSource


def parse(text: str) -> tuple[str, str]:
    """NAME[:SPLIT] -> (name, split)."""
    name, _, split = text.partition(":")
    return name, split or "train"


def _location(where: str) -> tuple[str, list[str] | None]:
    """Returns the builder or data set for `load_dataset`, and the files that it is to read.

    Args:
      where: Name on the hub, or path of a file or folder.
    """
    path = pathlib.Path(where).expanduser()
    if (path / "state.json").is_file():  # `Dataset.save_to_disk` made it
        return "arrow", [glob.escape(str(file)) for file in sorted(path.glob("*.arrow"))]
    if path.is_file() and path.suffix in (".parquet", ".arrow"):
        return path.suffix[1:], [glob.escape(str(path))]
    return (str(path) if path.exists() else where), None


def _is_media(feature: Any) -> bool:
    """Returns whether `datasets` opens files (images, audio) to give a value of this type."""
    if isinstance(feature, dict):
        return any(map(_is_media, feature.values()))
    if isinstance(feature, list):
        return any(map(_is_media, feature))
    inner = getattr(feature, "feature", None)  # of a list's items
    return hasattr(feature, "decode") or (inner is not None and _is_media(inner))


def columns_of(where: str, features: Any) -> mapping.Columns:
    """Reads which column is what from the `features` of a data set, by their types' names."""
    kinds = {name: type(feature).__name__ for name, feature in features.items()}

    def is_text(name: str) -> bool:
        feature = features[name]
        inner = getattr(feature, "feature", None) or (
            feature[0] if isinstance(feature, list) and feature else feature
        )
        return getattr(inner, "dtype", "") in ("string", "large_string")

    columns = mapping.choose(
        where,
        list(features),
        images=[name for name, kind in kinds.items() if kind == "Image"],
        texts=[name for name in features if is_text(name)],
        labels={
            name: features[name].names or () for name, kind in kinds.items() if kind == "ClassLabel"
        },
    )
    others = tuple(name for name in columns.others if not _is_media(features[name]))
    return dataclasses.replace(columns, others=others)


class HfSource(OpenedSource):
    """One split of a data set on the Hugging Face hub or on the disk."""

    embedded = False
    default_format = None

    def __init__(self, where: str, split: str):
        """Opens the data set, downloading it if that was not done.

        Args:
          where: Name on the hub, or path of a file or folder.
          split: Name of the split, for example "train" or "train[:100]".

        Raises:
          UserError: `datasets` is not installed, there is no such data set or
            split, or it holds no images.
        """
        self.name = f"hf:{where}"
        self._where, self._split = where, split
        self._open()

    def _open(self) -> None:
        try:
            import datasets
        except ImportError:
            raise UserError(
                f"{self.name}: reading it needs one more library; run pip install datasets"
            ) from None
        try:
            builder, files = _location(self._where)
            files = None if files is None else {"train": files}
            data = datasets.load_dataset(builder, data_files=files, split=self._split)
        except Exception as error:  # hub, network and format errors of many types
            reason = " ".join(str(error).split())[:160]
            raise UserError(f"{self.name}:{self._split}: cannot be read: {reason}") from error
        self._columns = columns_of(self.name, data.features)
        columns = self._columns
        kept = {columns.image, columns.captions, columns.label, *columns.others} - {""}
        # A second image that cannot be opened would stop the whole row.
        data = data.select_columns(sorted(kept))
        # Pictures as they lie in the file: decoding is ours, and checks more.
        self._opened = data.cast_column(columns.image, datasets.Image(decode=False))
        self._version = str(getattr(data, "_fingerprint", ""))

    def read(self, index: int) -> RawImage:
        example = self._rows[index]
        key = f"{self._where}/{self._split}/{index:07d}"
        picture = example[self._columns.image]
        data = picture.get("bytes") if picture else None
        if data is None and picture and picture.get("path"):
            try:
                with open(picture["path"], "rb") as file:
                    data = file.read()
            except OSError as error:
                raise ImageError("missing", str(error.strerror)) from None
        if data is None:
            raise ImageError("missing", "the row holds no picture")
        return mapping.raw_image(key, example, self._columns, data)


def open_hf(text: str) -> HfSource:
    """Opens what follows "hf:"."""
    where, split = parse(text)
    if not where:
        raise UserError("source=hf: a name is missing, for example hf:nielsr/CelebA-faces")
    return HfSource(where, split)
