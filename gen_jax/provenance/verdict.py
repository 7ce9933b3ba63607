"""The verdict on one file, by parts."""

import dataclasses
import enum
import pathlib
from collections.abc import Iterable
from typing import Any

from gen_jax.common import names


class Outcome(enum.Enum):
    """What a check came to; the values stand in JSON."""

    OK = "ok"
    FAILED = "failed"
    UNCHECKED = "unchecked"  # it could not be checked
    ABSENT = "absent"  # there is nothing to check, and nothing says that there should be


@dataclasses.dataclass(frozen=True)
class Check:
    """The outcome of one check.

    Attributes:
      name: What was checked, such as "file" or "signature".
      outcome: What it came to.
      detail: The reason, one phrase.
    """

    name: str
    outcome: Outcome
    detail: str


@dataclasses.dataclass(frozen=True)
class Verdict:
    """All checks of one file.

    Attributes:
      path: The image.
      checks: In the order in which they are shown.
    """

    path: pathlib.Path
    checks: tuple[Check, ...]

    @property
    def outcome(self) -> Outcome:
        """FAILED if any check failed, else UNCHECKED if any could not be made, else OK."""
        outcomes = {check.outcome for check in self.checks}
        for worst in (Outcome.FAILED, Outcome.UNCHECKED):
            if worst in outcomes:
                return worst
        return Outcome.OK if Outcome.OK in outcomes else Outcome.UNCHECKED

    def with_check(self, check: Check) -> "Verdict":
        """Returns the verdict with one check more."""
        return dataclasses.replace(self, checks=(*self.checks, check))

    def line(self) -> str:
        """Returns the verdict as one line of a console: what failed first, then the others."""
        word = {Outcome.OK: "valid", Outcome.FAILED: "INVALID"}.get(self.outcome, "unchecked")
        order = (Outcome.FAILED, Outcome.UNCHECKED, Outcome.OK, Outcome.ABSENT)
        checks = sorted(self.checks, key=lambda check: order.index(check.outcome))
        details = "; ".join(f"{check.name}: {names.printable(check.detail)}" for check in checks)
        return f"{word:9s}  {names.printable(self.path)}  {details}"

    def as_dict(self) -> dict[str, Any]:
        """Returns the verdict for JSON."""
        checks = {c.name: {"outcome": c.outcome.value, "detail": c.detail} for c in self.checks}
        return {
            "path": names.key(str(self.path)),
            "outcome": self.outcome.value,
            "checks": checks,
        }


def exit_status(verdicts: Iterable[Verdict]) -> int:
    """Returns 0 if all files are valid, 1 if any is not, else 2 if any could not be checked."""
    outcomes = {verdict.outcome for verdict in verdicts}
    if Outcome.FAILED in outcomes:
        return 1
    return 2 if Outcome.UNCHECKED in outcomes else 0
