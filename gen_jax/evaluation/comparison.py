"""What image metrics are taken of: two sets of images, texts, and encoders by what they can do."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from gen_jax.common import pixels
from gen_jax.common.errors import UserError
from gen_jax.encoders import catalog, clip_text, image_distance, image_features
from gen_jax.evaluation.image_sets import ImageSet
from gen_jax.evaluation.untrained import random_features

UNTRAINED = ""
"""In place of an encoder: the untrained network of `metrics.features`."""


@dataclasses.dataclass(frozen=True)
class Encoders:
    """Specs "NAME[:WEIGHTS]" by role.

    Attributes:
      features: towers that turn an image into a vector, FID's Inception not among them.
      inception: FID's.
      clip_vision: those of the features that are CLIP's.
      clip_text: CLIP's towers of text.
      lpips: distances.
    """

    features: tuple[str, ...] = ()
    inception: tuple[str, ...] = ()
    clip_vision: tuple[str, ...] = ()
    clip_text: tuple[str, ...] = ()
    lpips: tuple[str, ...] = ()

    @classmethod
    def sorted_from(cls, specs: str | Sequence[str]) -> "Encoders":
        """Sorts specs by their names.

        Raises:
          UserError: a tower that no image metric knows a use for.
        """
        roles: dict[str, list[str]] = {f.name: [] for f in dataclasses.fields(cls)}
        for spec in [specs] if isinstance(specs, str) and specs else specs:
            name, _ = catalog.parse(spec)
            low = name.lower()
            if low.startswith("lpips"):
                roles["lpips"].append(spec)
            elif low.startswith("clip") and low.endswith("-text"):
                roles["clip_text"].append(spec)
            elif low.startswith("inception"):
                roles["inception"].append(spec)
            elif low.startswith(("clip", "dino", "mobilenet")):
                roles["features"].append(spec)
                if low.startswith("clip"):
                    roles["clip_vision"].append(spec)
            else:
                raise UserError(f"encoder={spec}: no image metric uses this encoder")
        return cls(**{role: tuple(found) for role, found in roles.items()})

    def one(self, role: str, metric: str, example: str) -> str:
        """The only tower of a role.

        Raises:
          UserError: there is none, or several.
        """
        found = getattr(self, role)
        if len(found) != 1:
            many = f"{len(found)} fit" if found else "none is named"
            raise UserError(
                f"the metric {metric!r} needs one encoder of its kind, {many}: name one, such as "
                f"encoder={example}"
            )
        return found[0]


class Comparison:
    """Two sets of images, and their features, each computed once.

    Args:
      real: reference images; None where there are none.
      fake: images to judge.
      encoders: towers by role.
      paired: whether the images of the two sets belong together, one by one.
      texts: of each fake image, where there are some.
    """

    def __init__(
        self,
        real: ImageSet | None,
        fake: ImageSet,
        encoders: Encoders,
        paired: bool = False,
        texts: Sequence[str] | None = None,
    ):
        self.encoders, self.paired, self.texts = encoders, paired, texts
        self._sets = {"real": real, "fake": fake}
        self._found: dict[tuple[str, str, str], np.ndarray] = {}

    def set(self, which: str) -> ImageSet:
        """The images of "real" or "fake"."""
        images = self._sets[which]
        if images is None:
            raise UserError("this metric needs reference images")
        return images

    def count(self) -> int:
        """Images in the smaller set."""
        return min(len(self.set("real")), len(self.set("fake")))

    def features(
        self, which: str, spec: str, inputs: str = image_features.INCEPTION_INPUTS[0]
    ) -> np.ndarray:
        """Features `[n, d]` of "real" or "fake" by an encoder, or by the `UNTRAINED` one."""
        key = (which, spec, inputs)
        if key not in self._found:
            if spec == UNTRAINED:

                def run(images):
                    return random_features(pixels.to_unit(images))
            else:
                run = image_features.open_features(spec, inputs)
            self._found[key] = np.concatenate([run(x) for x in self.set(which).chunks()])
        return self._found[key]

    def both(self, spec: str, inputs: str = image_features.INCEPTION_INPUTS[0]):
        """Features of the real and of the fake images."""
        return self.features("real", spec, inputs), self.features("fake", spec, inputs)

    def text_features(self, prefix: str) -> np.ndarray:
        """CLIP's embeddings of the texts, `prefix` before each."""
        spec = self.encoders.one("clip_text", "clip_score", "clip-vit-base-patch32-text:FOLDER")
        return clip_text.open_texts(spec)([prefix + text for text in self.texts or ()])

    def pairs(self, metric: str):
        """Parts of both sets that belong together: real and fake, uint8 `[n, h, w, 3]`.

        Raises:
          UserError: the sets are no pairs.
        """
        if not self.paired:
            raise UserError(
                f"the metric {metric!r} compares pairs: both folders must hold the same names, "
                "and size resizes them"
            )
        for x, y in zip(self.set("real").chunks(), self.set("fake").chunks()):
            if x.shape != y.shape:
                raise UserError(
                    f"the metric {metric!r} compares pairs of one size, these have {x.shape[1:3]} "
                    f"and {y.shape[1:3]} pixels: set size"
                )
            yield x, y

    def distance(self, metric: str):
        """The LPIPS that is named, as a function of two stacks of images."""
        spec = self.encoders.one("lpips", metric, "lpips-vgg:VGG16.safetensors,HEADS.safetensors")
        return image_distance.open_distance(spec)
