"""Which process of which system wrote something, and whether it still runs."""

import dataclasses
import os
import pathlib
import socket
import time
from typing import Any


@dataclasses.dataclass(frozen=True)
class ProcessId:
    """Names a process uniquely.

    Attributes:
      host: Host name.
      pid: Process id, unique within its system only.
      started: When the process started, in the system's own unit; "" if unknown. It tells a
        process from a later one with the same id.
      system: Identifies the boot and the container within which `pid` counts.
      since: Local time at which the record was made, for people.
    """

    host: str
    pid: int
    started: str
    system: str
    since: str

    @classmethod
    def current(cls) -> "ProcessId":
        """Returns the one of this process."""
        pid = os.getpid()
        since = time.strftime("%Y-%m-%d %H:%M:%S")
        return cls(socket.gethostname(), pid, _stat(pid)[1], _system(), since)

    @classmethod
    def from_json(cls, values: Any) -> "ProcessId | None":
        """Returns what `dataclasses.asdict` gave, or None if `values` are something else."""
        try:
            process = cls(**values)
        except TypeError:
            return None
        return process if isinstance(process.pid, int) else None

    def has_ended(self) -> bool | None:
        """Returns whether the process is gone; None if it belongs to another system."""
        if (self.host, self.system) != (socket.gethostname(), _system()):
            return None
        try:
            os.kill(self.pid, 0)
        except (ProcessLookupError, OverflowError):
            return True
        except OSError:
            pass  # another user's, so it runs
        state, started = _stat(self.pid)
        # One that nobody has waited for yet ("Z") has ended, too.
        return state == "Z" or (bool(self.started) and bool(started) and started != self.started)

    def __str__(self) -> str:
        return f"pid {self.pid} on {self.host} since {self.since}"


def _stat(pid: int) -> tuple[str, str]:
    """Returns state and start time of a process; empty strings where there is no /proc."""
    try:
        fields = pathlib.Path(f"/proc/{pid}/stat").read_text(errors="replace")
    except OSError:
        return "", ""
    # The name before the last parenthesis may contain spaces.
    values = fields.rsplit(")", 1)[-1].split()
    return values[0], values[19]


def _system() -> str:
    parts = []
    try:
        parts.append(pathlib.Path("/proc/sys/kernel/random/boot_id").read_text().strip())
        # Containers of one host have process ids of their own.
        parts.append(str(os.stat("/proc/self/ns/pid").st_ino))
    except OSError:
        pass
    return "/".join(parts)
