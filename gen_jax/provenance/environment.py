"""The software and hardware that computed an output, as a manifest has them."""

import functools
import os
import pathlib
import platform
from typing import Any

# Extensions of the instruction set that XLA and OpenCV compile for or dispatch on.
_EXTENSIONS = ("sse4_2", "avx", "avx2", "fma", "f16c", "avx_vnni", "amx_tile", "asimd", "sve")
_CPU_INFO = pathlib.Path("/proc/cpuinfo")


@functools.cache
def describe() -> dict[str, Any]:
    """Returns versions, devices, commit, CPU, threads and flags of this process.

    Computed once per process: it starts git twice, which would cost more than a small image.
    """
    from gen_jax.runs import manifest

    return {**manifest.environment(), **compute_settings()}


def compute_settings() -> dict[str, Any]:
    """Returns what changes the bits that XLA computes beside versions and devices."""
    return {"cpu": cpu(), "threads": threads(), "xla_flags": os.environ.get("XLA_FLAGS", "")}


def threads() -> int:
    """Returns the number of threads that XLA takes on a CPU: the cores open to this process."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


@functools.cache
def cpu() -> dict[str, Any]:
    """Returns the model of the CPU and the extensions that it has."""
    values: dict[str, str] = {}
    if _CPU_INFO.is_file():
        for line in _CPU_INFO.read_text(encoding="utf-8", errors="replace").splitlines():
            key, colon, value = line.partition(":")
            if colon:
                values.setdefault(key.strip(), value.strip())
    known = (values.get("flags") or values.get("Features") or "").split()
    features = sorted(f for f in known if f in _EXTENSIONS or f.startswith("avx512"))
    name = values.get("model name") or platform.processor() or platform.machine()
    return {"model": name, "machine": platform.machine(), "features": features}
