"""Verification of many images and of the ledger that they are in. Nothing here imports JAX."""

import pathlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from gen_jax.provenance import audit, selection
from gen_jax.provenance.ledger_audit import AuditedLedger
from gen_jax.provenance.verdict import Check, Verdict

Replay = Callable[[pathlib.Path, Mapping[str, Any]], Check]
"""Computes an image again from its manifest; see `pipelines.replay`."""


def verify(
    paths: Sequence[str],
    *,
    trusted: str = "",
    entered: AuditedLedger | None = None,
    replay: Replay | None = None,
) -> Iterator[Verdict]:
    """Verifies images, one after the other.

    Args:
      paths: Images, manifests and folders.
      trusted: PEM of trusted root certificates, which signatures must lead to; "" for any signer.
      entered: Ledger that the images must be in, as `ledger_audit.verified` gives it; None for
        the proofs beside the images alone.
      replay: Computes images again; None to leave that out.

    Raises:
      UserError: A path does not exist, or a folder holds no image.
    """
    for path in selection.images(paths):
        audited = audit.audit(path, trusted, entered)
        verdict = audited.verdict
        if replay is not None and audited.facts:
            verdict = verdict.with_check(replay(path, audited.facts))
        yield verdict
