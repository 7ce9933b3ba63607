"""What folders and archives of images share: keys, captions, labels and splits."""

import hashlib
import json
import pathlib
from collections.abc import Mapping, Sequence

import numpy as np

from gen_jax.common.errors import UserError
from gen_jax.common.left_out import LeftOut
from gen_jax.data import images
from gen_jax.data.prepare.sources import mask_names
from gen_jax.data.prepare.sources.base import SPLITS, RawImage, Rejected
from gen_jax.data.schema import NO_LABEL
from gen_jax.data.text import captions

_SPLIT, _MASK = "split", "mask"


class CaptionedFiles:
    """Base of sources of image files, with captions if there is a captions.jsonl.

    The path of the sub-folder is the image's `label_name`; images at the top have no label. A line
    of captions.jsonl may name the split of its image ("split": "train", "val" or "test") and its
    mask ("mask": "labels/001.png"), a file that is then not an image of the source.

    Args:
      keys: Name of each image, which UTF-8 can hold.
      sizes: Name and bytes of each file, for the identity of the source.
      written: Content of captions.jsonl; empty without one.
      captions_digest: SHA-256 of captions.jsonl, "" without one.
      left_out: What is not given.
      where: Name of captions.jsonl in messages.
      masks: Pattern of the masks' names, see `mask_names.named`; "" for those that
        captions.jsonl names.
    """

    embedded = False
    default_format = None

    def __init__(
        self,
        keys: Sequence[str],
        sizes: Sequence[tuple[str, int]],
        written: Mapping[str, captions.Captioned],
        captions_digest: str,
        left_out: Sequence[LeftOut],
        where: str,
        masks: str = "",
    ):
        self._captions, missing = captions.match(written, keys)
        self._places = {key: place for place, key in enumerate(keys)}
        entries = self._captions.items()
        named = {key: e.attributes[_MASK] for key, e in entries if _MASK in e.attributes}
        self._masks = mask_names.named(self._places, masks, named)
        no_images = set(self._masks.values())
        self._keys = [key for key in keys if key not in no_images]
        self._left_out = [Rejected(item.name, item.reason, item.advice) for item in left_out]
        known = {item.key for item in self._left_out}
        self._left_out += [
            Rejected(f"{name} (line {entry.line} of {captions.FILE})", "missing", "no such file")
            for name, entry in missing.items()
            if name not in known
        ]
        for entry in self._captions.values():
            if (split := entry.attributes.get(_SPLIT, SPLITS[0])) not in SPLITS:
                raise UserError(
                    f"{where} line {entry.line}: split={split!r}: expected {', '.join(SPLITS)}"
                )
        parents = {pathlib.PurePosixPath(key).parent.as_posix() for key in self._keys}
        self._labels = sorted(parents - {"."})
        self._listing_digest = hashlib.sha256(json.dumps(list(sizes)).encode()).hexdigest()
        self._captions_digest = captions_digest

    def __len__(self) -> int:
        return len(self._keys)

    def identity(self) -> dict:
        return {"files": self._listing_digest, "captions": self._captions_digest}

    def label_names(self) -> list[str]:
        return list(self._labels)

    def left_out(self) -> list[Rejected]:
        """Returns what the source, or its captions.jsonl, names and does not give."""
        return list(self._left_out)

    def name_of(self, index: int) -> str:
        """Returns the key of an image, which is its path inside the source."""
        return self._keys[index]

    def read(self, index: int) -> RawImage:
        key = self._keys[index]
        parent = pathlib.PurePosixPath(key).parent.as_posix()
        entry = self._captions.get(key)
        attributes = dict(entry.attributes) if entry else {}
        try:
            data = self._bytes(self._places[key])
            mask = self._mask(key)
        except images.ImageError as error:
            error.key = key
            raise
        return RawImage(
            key=key,
            data=data,
            captions=entry.captions if entry else (),
            label=self._labels.index(parent) if parent != "." else NO_LABEL,
            label_name=parent if parent != "." else "",
            attributes=attributes,
            split=attributes.get(_SPLIT, ""),
            mask=mask,
        )

    def _mask(self, key: str) -> np.ndarray | None:
        """Returns the label map of an image, None if it has none."""
        if key not in self._masks:
            return None
        name = self._masks[key]
        if name not in self._places:
            raise images.ImageError(images.BAD_MASK, f"{name}: no such file")
        try:
            return images.read_mask(self._bytes(self._places[name]))
        except images.ImageError as error:
            reason = str(error).removeprefix(f"{error.reason}: ")
            raise images.ImageError(images.BAD_MASK, f"{name}: {reason}") from None

    def _bytes(self, index: int) -> bytes:
        """Returns the file at a place in `keys`; raises ImageError if it cannot be read."""
        raise NotImplementedError
