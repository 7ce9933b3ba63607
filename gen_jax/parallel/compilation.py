"""How programs are compiled: kept between runs, and with the CPU's faster matrix products."""

import os
import pathlib
import re

import jax
import jaxlib

# jaxlib 0.10 hands matrix products and convolutions of the CPU to YNNPACK, which runs a UNet's
# step a quarter slower than XLA's own (docs/results.md); its reductions are the faster ones.
# A flag that a jaxlib does not know aborts the process, so it is for the version measured.
_CPU_FLAG = "--xla_cpu_experimental_ynn_fusion_type"
_CPU_VALUE = "LIBRARY_FUSION_TYPE_REDUCE"
_CPU_VERSIONS = ("0.10.",)


def set_up() -> None:
    """Call once, before the first use of a device."""
    tune_cpu()
    give_threads()
    _keep_compiled()


def tune_cpu() -> None:
    """Chooses XLA's own matrix products, unless XLA_FLAGS names the flag already."""
    given = os.environ.get("XLA_FLAGS", "")
    if jaxlib.__version__.startswith(_CPU_VERSIONS) and _CPU_FLAG not in given:
        os.environ["XLA_FLAGS"] = f"{given} {_CPU_FLAG}={_CPU_VALUE}".strip()


def give_threads() -> None:
    """Gives virtual CPU devices threads enough, unless NPROC says how many.

    XLA runs them on a pool of a thread a device. Those that wait in a collective keep their
    threads; where a device still on its way there has split a product into tasks for the pool,
    nobody is left to take them, and the process aborts after 40 s. A second thread a device
    ends that (docs/design-notes.md); NPROC is where XLA reads the size of its pool.
    """
    found = re.search(
        r"xla_force_host_platform_device_count=(\d+)", os.environ.get("XLA_FLAGS", "")
    )
    devices = max(int(found[1]) if found else 1, jax.config.jax_num_cpu_devices)
    if devices > 1:
        os.environ.setdefault("NPROC", str(2 * devices + (os.cpu_count() or 1)))


def _keep_compiled() -> None:
    """Turns on JAX's persistent compilation cache.

    In `JAX_COMPILATION_CACHE_DIR` where it is set, else in ~/.cache/gen_jax/xla. Only process 0
    writes, so hosts of one job want a shared folder.
    """
    if os.environ.get("JAX_COMPILATION_CACHE_DIR"):
        return
    folder = pathlib.Path.home() / ".cache" / "gen_jax" / "xla"
    jax.config.update("jax_compilation_cache_dir", str(folder))
    # A CPU compiles the step of a small model in tens of seconds, many small programs in one.
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)
