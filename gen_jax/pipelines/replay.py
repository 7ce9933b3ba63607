"""Computes an output again from its manifest, and compares the two.

Bits repeat on one kind of device with one jaxlib, one number of threads and one shape of batches
and tiles. Elsewhere sums are taken in another order, so that a difference of a few levels is to be
expected: hence two verdicts, bit-exact and within tolerance.
"""

import dataclasses
import functools
import pathlib
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from gen_jax.common import checksum
from gen_jax.common.errors import UserError
from gen_jax.data import images
from gen_jax.data.photographs import reading, writing
from gen_jax.data.photographs.reading import Photograph
from gen_jax.pipelines import generated_again, restore_files, restore_inputs, restore_settings
from gen_jax.pipelines.restoration import Restorer
from gen_jax.pipelines.restore_generative import with_settings
from gen_jax.provenance import environment
from gen_jax.provenance.verdict import Check, Outcome
from gen_jax.runs import reader
from gen_jax.runs.reader import TrainedModel

LARGEST, MEAN = 4.0, 0.25
"""Differences in 8-bit levels up to which an output counts as the same."""

_KEPT_MODELS = 2
# Keys of `environment` that change the bits of a computation.
_SETTINGS = ("platform", "device_kind", "cpu", "threads", "xla_flags")
_PACKAGES = ("jax", "jaxlib", "numpy")


class NotReplayed(Exception):
    """An output cannot be computed again; the message is one phrase."""


@dataclasses.dataclass(frozen=True)
class Replayed:
    """How an output differs from the one computed again.

    Attributes:
      largest: Largest difference of a value in 8-bit levels; infinite for another size.
      mean: Mean difference in 8-bit levels.
      reasons: Differences between the two environments that change bits, one phrase each.
    """

    largest: float
    mean: float
    reasons: tuple[str, ...]

    @property
    def is_exact(self) -> bool:
        """Whether all pixels have the same bits."""
        return self.largest == 0.0

    @property
    def is_within_tolerance(self) -> bool:
        """Whether the difference is explained by another order of sums."""
        return self.largest <= LARGEST and self.mean <= MEAN

    def phrase(self) -> str:
        """Returns the verdict as one phrase."""
        if self.is_exact:
            return "bit-exact"
        word = "within tolerance" if self.is_within_tolerance else "different"
        reasons = ", ".join(self.reasons) or "no known reason: the environment is the same"
        return f"{word}, by at most {self.largest:.3g} of 255 levels ({reasons})"


class Replayer:
    """Computes outputs again; models are read once for all of them.

    Args:
      originals: Folder to look for the originals of restored images in, beside the recorded path
        and the folder of the output; None for no other folder.
    """

    def __init__(self, originals: pathlib.Path | None = None):
        self._originals = originals
        self._restorer = functools.lru_cache(_KEPT_MODELS)(self._read_restorer)
        self._model = functools.lru_cache(_KEPT_MODELS)(generated_again.read_model)

    def check(self, path: pathlib.Path, facts: Mapping[str, Any]) -> Check:
        """Returns the outcome of a replay as a check; arguments as of a call."""
        try:
            done = self(path, facts)
        except NotReplayed as error:
            return Check("replay", Outcome.UNCHECKED, str(error))
        outcome = Outcome.OK if done.is_within_tolerance else Outcome.FAILED
        return Check("replay", outcome, done.phrase())

    def __call__(self, path: pathlib.Path, facts: Mapping[str, Any]) -> Replayed:
        """Computes an image again and compares it with the file.

        Args:
          path: The image.
          facts: Its manifest.

        Raises:
          NotReplayed: The original, the model or a fact is missing, or is not as recorded.
        """
        if facts["version"] == 0:
            raise NotReplayed("its manifest is of an earlier release, which lacks settings")
        try:
            again = self._restored(path, facts) if facts["kind"] == "restore" else self._made(facts)
            old = reading.read(path.read_bytes())
        except (images.ImageError, writing.NotWritten, UserError) as error:
            raise NotReplayed(str(error)) from None
        except OSError as error:
            raise NotReplayed(f"{error.filename or path}: {error.strerror or error}") from None
        except (KeyError, TypeError) as error:
            raise NotReplayed(f"its manifest lacks a setting ({error})") from None
        return _compared(old, again, tuple(differences(facts["environment"])))

    def _restored(self, path: pathlib.Path, facts: Mapping[str, Any]) -> Photograph:
        settings = tuple(restore_settings.model_settings(facts).items())
        restorer = self._restorer(facts["run"], _step(facts["checkpoint_step"]), settings)
        _check_model(restorer.model, facts)
        how, original = restore_settings.how_of(facts), self._original(path, facts)
        kind, data = restore_inputs.format_of(original, path), original.read_bytes()
        frames, _ = restore_files.frames_of(data, kind, how.max_pixels)
        restored, _ = restore_files.enhance(restorer, frames, how, lambda done, total: None)
        # Through the encoder and back, because JPEG and WebP lose some.
        encoded, _ = restore_files.encode(restored, kind, how.quality)
        return reading.read(encoded)

    def _made(self, facts: Mapping[str, Any]) -> Photograph:
        model = self._model(generated_again.key_of(facts))
        _check_model(model, facts)
        return Photograph(generated_again.image(model, facts))

    def _read_restorer(
        self, run: str, step: str, settings: tuple[tuple[str, float | int], ...]
    ) -> Restorer:
        return Restorer(with_settings(reader.load(run, step), dict(settings)))

    def _original(self, path: pathlib.Path, facts: Mapping[str, Any]) -> pathlib.Path:
        """Returns the file that was restored.

        Raises:
          NotReplayed: It is nowhere, or another file has its name.
        """
        if not facts.get("input"):
            raise NotReplayed("it was restored from standard input")
        recorded = pathlib.Path(facts["input"])
        places = [recorded, path.parent / recorded.name]
        if self._originals is not None:
            places.append(self._originals / recorded.name)
        existing = [place for place in places if place.is_file()]
        for place in existing:
            if checksum.of_file(place) == facts["input_sha256"]:
                return place
        if existing:
            raise NotReplayed(f"{existing[0]} is not the file that was restored (input_sha256)")
        raise NotReplayed(f"its original {recorded} is not here")


def differences(recorded: Mapping[str, Any]) -> Iterator[str]:
    """Yields what differs between a recorded environment and this process, one phrase each."""
    here = environment.describe()
    for key in _SETTINGS:
        if recorded.get(key) != here[key]:
            if key == "cpu":
                yield "another CPU"
            elif key == "xla_flags":
                flags = set(here[key].split()) ^ set(recorded.get(key, "").split())
                yield f"other XLA flags: {' '.join(sorted(flags))}"
            else:
                yield f"{key} {recorded.get(key)!r} then, {here[key]!r} now"
    packages = recorded.get("packages", {})
    for name in _PACKAGES:
        if packages.get(name) != here["packages"][name]:
            yield f"{name} {packages.get(name)} then, {here['packages'][name]} now"
    before, now = recorded.get("git") or {}, here["git"]
    if before.get("commit") != now.get("commit") or before.get("dirty") or now.get("dirty"):
        yield "other code, or code that was not committed"


def _step(recorded: int | None) -> str:
    return "best" if recorded is None else str(recorded)


def _check_model(model: TrainedModel, facts: Mapping[str, Any]) -> None:
    frozen = facts.get("frozen_weights_sha256", {})
    if model.digest != facts["weights_sha256"] or dict(model.frozen_digests) != frozen:
        raise NotReplayed(f"{facts['run']} has other weights now than the manifest names")


def _compared(old: Photograph, new: Photograph, reasons: tuple[str, ...]) -> Replayed:
    pairs = [(old.pixels, new.pixels)]
    if old.alpha is not None or new.alpha is not None:
        pairs.append((old.alpha, new.alpha))
    gaps = []
    for first, second in pairs:
        if first is None or second is None or first.shape != second.shape:
            return Replayed(float("inf"), float("inf"), reasons)
        if first.dtype != second.dtype:
            return Replayed(float("inf"), float("inf"), reasons)
        levels = np.iinfo(first.dtype).max / 255.0
        gaps.append(np.abs(first.astype(np.int32) - second) / levels)
    largest = max(float(gap.max()) for gap in gaps)
    return Replayed(largest, max(float(gap.mean()) for gap in gaps), reasons)
