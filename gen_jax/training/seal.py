"""Seals: the digest of every file of a finished checkpoint, in `STEP.seal.json` beside it.

The fingerprints inside a checkpoint prove the arrays; a seal proves the files, also those that
no array is read from. It is written in the background once the checkpoint is complete, so a
process that is killed in between leaves a checkpoint without one, which is still good.
"""

import concurrent.futures
import contextlib
import hashlib
import json
import pathlib
from collections.abc import Iterable

from gen_jax.runs import layout


def _digests(folder: pathlib.Path) -> dict[str, str]:
    out = {}
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        with path.open("rb") as f:
            out[str(path.relative_to(folder))] = hashlib.file_digest(f, "sha256").hexdigest()
    return out


class Seals:
    """The seals of a checkpoint folder.

    Args:
      folder: holds one folder a step.
    """

    def __init__(self, folder: pathlib.Path):
        self._folder = folder
        self._thread = concurrent.futures.ThreadPoolExecutor(1)
        self._under_way: list[concurrent.futures.Future] = []
        for left in folder.glob(".*.seal.json.*"):  # by a process that was killed
            left.unlink(missing_ok=True)

    def _path(self, step: int) -> pathlib.Path:
        return self._folder / f"{step}.seal.json"

    def write(self, steps: Iterable[int]) -> None:
        """Seals, in the background, what has no seal yet; drops seals of what is gone."""
        steps = set(steps)
        for path in self._folder.glob("*.seal.json"):
            if int(path.name.split(".")[0]) not in steps:
                path.unlink(missing_ok=True)
        for future in [f for f in self._under_way if f.done()]:
            self._under_way.remove(future)
            future.result()
        for step in sorted(steps):
            if not self._path(step).exists():
                self._under_way.append(self._thread.submit(self._seal, step))

    def _seal(self, step: int) -> None:
        # Retention may remove the step meanwhile.
        with contextlib.suppress(FileNotFoundError):
            layout.write_json(self._path(step), _digests(self._folder / str(step)))

    def check(self, step: int) -> None:
        """Raises ValueError where a sealed step is not what it was."""
        if not self._path(step).exists():
            return
        try:
            want = json.loads(self._path(step).read_text())
        except ValueError:
            return  # a damaged seal proves nothing either way; the fingerprints decide
        have = _digests(self._folder / str(step))
        if wrong := sorted(k for k in set(want) | set(have) if want.get(k) != have.get(k)):
            raise ValueError(f"its file {wrong[0]} is not what was written")

    def forget(self, step: int) -> None:
        """Drops the seal of a step."""
        self._path(step).unlink(missing_ok=True)

    def close(self) -> None:
        """Waits until everything is sealed."""
        self._thread.shutdown(wait=True)
        for future in self._under_way:
            future.result()
