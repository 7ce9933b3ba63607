"""From the named columns of somebody else's data set to our fields."""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from gen_jax.common.errors import UserError
from gen_jax.data.prepare.sources.base import RawImage
from gen_jax.data.schema import NO_LABEL

_CAPTION_NAMES = ("caption", "captions", "text", "sentences", "sentence", "description", "prompt")
_LABEL_NAMES = ("label", "labels", "class", "category")


@dataclasses.dataclass(frozen=True)
class Columns:
    """Which column is what.

    Attributes:
      image: the picture.
      captions: text, or a list of texts; "" for none.
      label: class index; "" for none.
      label_names: of the classes, by index.
      others: columns that are kept as attributes where JSON can hold them.
    """

    image: str
    captions: str = ""
    label: str = ""
    label_names: tuple[str, ...] = ()
    others: tuple[str, ...] = ()


def choose(
    where: str,
    names: Sequence[str],
    *,
    images: Sequence[str],
    texts: Sequence[str],
    labels: Mapping[str, Sequence[str]],
) -> Columns:
    """Finds image, captions and label among the columns of a data set.

    Args:
      where: what the user called the data set, for messages.
      names: all columns.
      images: columns that hold a picture.
      texts: columns that hold text.
      labels: columns that hold a class, with the names of the classes.

    Raises:
      UserError: no column holds a picture.
    """
    if not images:
        raise UserError(f"{where}: no column holds images, there are {', '.join(names) or 'none'}")
    image = "image" if "image" in images else images[0]
    caption = next((name for name in _CAPTION_NAMES if name in texts), "")
    label = next((name for name in _LABEL_NAMES if name in labels), "")
    label = label or next(iter(labels), "")
    used = {image, caption, label}
    others = tuple(name for name in names if name not in used and name not in images)
    return Columns(image, caption, label, tuple(labels.get(label, ())), others)


def _plain(value: Any) -> Any:
    """A value as JSON can hold it, or None."""
    if isinstance(value, bytes):
        try:
            return value.decode("utf-8")
        except UnicodeDecodeError:
            return None
    if isinstance(value, np.generic | np.ndarray):
        value = value.tolist()
        if isinstance(value, bytes | list):
            return _plain(value) if isinstance(value, bytes) else [_plain(v) for v in value]
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    try:
        json.dumps(value, allow_nan=False)
    except (TypeError, ValueError):
        return None
    return value


def _texts(value: Any) -> tuple[str, ...]:
    plain = _plain(value)
    if plain is None:
        return ()
    listed = plain if isinstance(plain, list) else [plain]
    return tuple(text.strip() for text in listed if isinstance(text, str) and text.strip())


def raw_image(
    key: str, example: Mapping[str, Any], columns: Columns, data: bytes | None, pixels=None
) -> RawImage:
    """One example in our terms.

    Args:
      key: its stable name.
      example: column -> value.
      columns: which is what.
      data: the picture's file, or None where there are `pixels`.
      pixels: RGB uint8 [h, w, 3].
    """
    label = NO_LABEL
    if columns.label:
        found = _plain(example[columns.label])
        label = found if isinstance(found, int) and found >= 0 else NO_LABEL
    name = columns.label_names[label] if 0 <= label < len(columns.label_names) else ""
    kept = {other: _plain(example[other]) for other in columns.others if other in example}
    return RawImage(
        key=key,
        data=data,
        pixels=pixels,
        captions=_texts(example[columns.captions]) if columns.captions else (),
        label=label,
        label_name=name,
        attributes={other: value for other, value in kept.items() if value is not None},
    )
