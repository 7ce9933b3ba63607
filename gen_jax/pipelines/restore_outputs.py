"""Which files each restored photograph becomes, checked before anything is computed."""

import os
import pathlib
from collections.abc import Iterator, Sequence

from gen_jax.common import files, names, outputs, results
from gen_jax.common.errors import UserError
from gen_jax.data.photographs import writing
from gen_jax.pipelines.restore_inputs import Job


def manifest_of(out: pathlib.Path) -> pathlib.Path:
    """Returns the manifest beside a result."""
    return files.with_ending(out, results.MANIFEST)


def comparison_of(out: pathlib.Path) -> pathlib.Path:
    """Returns the comparison of before and after beside a result."""
    return files.with_ending(out, results.COMPARISON)


def check(
    jobs: Sequence[Job],
    out: str,
    *,
    compare: bool,
    overwrite: bool,
    manifest: bool = True,
    endings: Sequence[str] = (),
) -> None:
    """Checks that every file can be written and that none is overwritten by mistake.

    Args:
      jobs: What is to be restored.
      out: The file or folder that was asked for; "" for the default.
      compare: Whether comparisons are written.
      overwrite: Whether files that exist may be replaced. Inputs never are.
      manifest: Whether manifests are written.
      endings: Endings of further files that are written beside each result.

    Raises:
      UserError: Two results share a file, one would replace an input or an existing file, or a
        folder cannot be written to.
    """
    jobs = [job for job in jobs if job.out is not None]
    _check_folder(jobs, out)
    inputs = {files.identity(job.source): job.source for job in jobs if job.source is not None}
    inputs.pop(None, None)  # of inputs that do not exist
    owners: dict[pathlib.Path, Job] = {}
    existing = []
    for job in jobs:
        for path in _files(job.out, compare, manifest, endings):
            owner = owners.setdefault(path, job)
            if owner is not job:
                raise UserError(
                    f"{owner.shown} and {job.shown} would both write {names.printable(path)}: "
                    "restore them into two folders"
                )
            if (overwritten := inputs.get(files.identity(path))) is not None:
                raise UserError(
                    f"{names.printable(overwritten)}: an input, which would be overwritten by a "
                    "result; name another output"
                )
            if os.path.lexists(path):
                if path.is_dir():
                    raise UserError(f"{names.printable(path)}: is a folder; name another output")
                existing.append(path)
    if existing and not overwrite:
        more = f" and {len(existing) - 1} more" if len(existing) > 1 else ""
        raise UserError(
            f"{names.printable(existing[0])}{more}: exists already; name another output, or "
            "set overwrite to replace it"
        )
    for folder in dict.fromkeys(job.out.parent for job in jobs):
        outputs.check_folder(folder, "out")


def _files(
    out: pathlib.Path, compare: bool, manifest: bool, endings: Sequence[str]
) -> Iterator[pathlib.Path]:
    yield out
    if manifest:
        yield manifest_of(out)
    if compare:
        yield comparison_of(out)
    for ending in endings:
        yield files.with_ending(out, ending)


def _check_folder(jobs: Sequence[Job], out: str) -> None:
    """Refuses a name of an image for a folder of several."""
    path = pathlib.Path(out)
    is_folder = any(job.out != path for job in jobs) or len(jobs) > 1
    if not out or not is_folder or path.is_dir():
        return
    if path.exists():
        raise UserError(f"{out}: is a file; several images need a folder, name another output")
    if path.suffix.lower() in writing.FORMATS and not out.endswith(os.sep):
        raise UserError(
            f"{out}: several images need a folder; name one, or write {out}{os.sep} if that is it"
        )
