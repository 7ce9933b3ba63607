"""What `prepare` asks of a source of images."""

import dataclasses
from typing import Any, Protocol, runtime_checkable

import numpy as np

from gen_jax.data.schema import NO_LABEL

SPLITS = TRAIN, VAL, TEST = "train", "val", "test"


@dataclasses.dataclass(frozen=True)
class RawImage:
    """One example as a source gives it: either `data` or `pixels` is set.

    Attributes:
      key: stable name, unique in the source; a user can find the image by it.
      data: an encoded image file, unchecked.
      pixels: or RGB uint8 [h, w, 3], for what we draw or crop ourselves.
      captions: true descriptions.
      label: class index, or -1.
      label_name: its name, or "".
      attributes: anything else that JSON can hold.
      group: digest that the split is drawn from, where several examples must share one; "" for
        the example's own.
      split: Split that the source itself puts it in, "" if the digest decides.
      mask: Label map uint8 [h, w] of the image, or None.
    """

    key: str
    data: bytes | None = None
    pixels: np.ndarray | None = None
    captions: tuple[str, ...] = ()
    label: int = NO_LABEL
    label_name: str = ""
    attributes: dict[str, Any] = dataclasses.field(default_factory=dict)
    group: str = ""
    split: str = ""
    mask: np.ndarray | None = None


@dataclasses.dataclass(frozen=True)
class Rejected:
    """An image that is not prepared: its key, a short reason to count by, and the detail."""

    key: str
    reason: str
    detail: str = ""


@dataclasses.dataclass(frozen=True)
class Description:
    """What an embedded source knows of an example before drawing it.

    Attributes:
      key: as in RawImage.
      sha256: hex digest of its content.
      split: the split it must go to, or None for the one its digest says.
    """

    key: str
    sha256: str
    split: str | None = None


@runtime_checkable
class Source(Protocol):
    """Random access to the images of one data set.

    Picklable, because worker processes read from their own copy. `read` raises
    ImageError for an image that cannot be used, and UserError for a mistake.
    Sources with `embedded` True have a `describe(index) -> Description` as well:
    their pictures are known to be good and are not examined. A source that leaves
    out some of its images lists them by `left_out() -> list[Rejected]`.
    """

    name: str
    embedded: bool
    default_format: str | None  # of stored images; None: as they come where that is possible

    def __len__(self) -> int: ...

    def identity(self) -> dict[str, Any]:
        """What must agree for two preparations to give the same bytes; JSON."""

    def label_names(self) -> list[str]:
        """Names of the classes by index; empty where there are none."""

    def read(self, index: int) -> RawImage:
        """The example at `index`."""
