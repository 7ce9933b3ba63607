"""The base of the transforms that a config names, see `transforms`."""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import ClassVar

from gen_jax.common import ranges
from gen_jax.data import schema
from gen_jax.data.load import steps
from gen_jax.data.load.augmentation import Transform
from gen_jax.data.text.tokenizer import Tokenizer

WHERE = "config.data.transform"


@dataclasses.dataclass(frozen=True)
class NamedTransform:
    """Base of the transforms.

    Attributes:
      name: Name in `TRANSFORMS`.
      has_text: Whether it gives tokens if it gets a tokenizer.
      reads_captions: Whether its texts are the captions of the records, so that a record without
        captions has the empty text.
      takes_features: Whether it keeps the features that records may have beside their image.
    """

    name: ClassVar[str]
    has_text: ClassVar[bool] = True
    reads_captions: ClassVar[bool] = False
    takes_features: ClassVar[bool] = False
    _ranges: ClassVar[Mapping[str, ranges.Range]] = {}

    def __post_init__(self):
        ranges.check_fields(self, self._ranges, WHERE)

    def build(
        self,
        size: int,
        *,
        train: bool,
        tokenizer: Tokenizer | None = None,
        max_length: int = 32,
        features: Sequence[str] = (),
    ) -> Transform:
        """Builds the loader's transform.

        Args:
          size: Side of the images in pixels.
          train: Whether to augment images and draw texts at random.
          tokenizer: Tokenizer of the texts; None gives no tokens.
          max_length: Tokens per text.
          features: Names of the features in the records, of a transform that takes features.

        Returns:
          A transform from the example of a record to the arrays that `keys` names.
        """
        if features and not self.takes_features:
            raise ValueError(f"{self.name} would crop images away from their features")
        chain = self._image_steps(size, train, features)
        has_tokens = self.has_text and tokenizer is not None
        if has_tokens:
            chain += [*self._caption_steps(train), steps.tokenize(tokenizer, max_length)]
        return steps.compose(*chain, steps.select(*self.keys(has_tokens, features)))

    @classmethod
    def keys(cls, has_tokens: bool, features: Sequence[str] = ()) -> tuple[str, ...]:
        """Returns the keys of an example: "image" (uint8 [size, size, c]), "label" and more."""
        text = ("tokens", "token_mask") if has_tokens and cls.has_text else ()
        return ("image", "label", *features, *text)

    def vocabulary(self, captions: Iterable[str]) -> list[str]:
        """Returns the texts that a tokenizer is trained on.

        Args:
          captions: Captions of the training split, each once and sorted. They are only read from
            the records if they are iterated over.
        """
        return list(captions)

    def check_records(self, records: Iterable[schema.Record]) -> str:
        """Returns a note on what the records lack, "" if there is nothing to say.

        Args:
          records: Records of the training split, read as they are iterated over.
        """
        return ""

    def _image_steps(self, size: int, train: bool, features: Sequence[str]) -> list[Transform]:
        raise NotImplementedError

    def _caption_steps(self, train: bool) -> tuple[Transform, ...]:
        """Returns the steps that set "caption"."""
        return (steps.pick_caption(train),)
