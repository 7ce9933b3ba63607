"""Memory that a CPU run keeps instead of giving it back after every step.

XLA's CPU backend allocates its buffers anew for each call. glibc gives large ones back to the
system at once, which then hands out and zeroes the same pages again: hundreds of MB of page faults
a step, a third of the time of a laptop recipe (docs/results/performance.md).

Threads keep a pool each, as glibc has it: in a common one the pieces that compilation leaves lie in
long lists, which every matrix product's workspace is then searched in, twice the time of a step.
"""

import glob
import os
import platform
import sys
from collections.abc import Mapping

_VARIABLE = "GLIBC_TUNABLES"
_TUNABLES = {
    "glibc.malloc.mmap_max": 0,  # large buffers come from the pool too
    "glibc.malloc.trim_threshold": 2**40,  # whose end is never given back
    "glibc.malloc.hugetlb": 1,  # in huge pages (glibc 2.35; others ignore it)
}
_ACCELERATORS = ("/dev/nvidia[0-9]*", "/dev/kfd", "/dev/accel*", "/dev/vfio/[0-9]*")


def settings(environment: Mapping[str, str]) -> dict[str, str]:
    """What to add to the environment of a new process; nothing where it is not for it.

    Hosts of accelerators keep glibc's ways: their loader threads want a pool each.
    """
    ours = (
        sys.platform == "linux"
        and platform.libc_ver()[0] == "glibc"
        and _VARIABLE not in environment
        and not any(name.startswith("MALLOC_") for name in environment)
        and (
            environment.get("JAX_PLATFORMS") == "cpu"
            or not any(glob.glob(pattern) for pattern in _ACCELERATORS)
        )
    )
    return {_VARIABLE: ":".join(f"{k}={v}" for k, v in _TUNABLES.items())} if ours else {}


def keep_pages() -> None:
    """Starts this process over under `settings`: glibc reads them at the start alone.

    Call it before anything that takes time. Does nothing but in a door that Python was started
    for, and where the user's environment names settings of its own (`GLIBC_TUNABLES=` is none).
    """
    spec = getattr(sys.modules["__main__"], "__spec__", None)
    if spec is None or not spec.name.startswith("gen_jax."):
        return
    if added := settings(os.environ):
        sys.stdout.flush()
        os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], {**os.environ, **added})
