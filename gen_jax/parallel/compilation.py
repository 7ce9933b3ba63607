"""How programs are compiled: kept between runs, and with the CPU's faster matrix products."""

import os
import pathlib
import re
import sys

import jax
import jaxlib

from gen_jax.common import paths
from gen_jax.common.errors import UserError

# jaxlib 0.10 hands matrix products and convolutions of the CPU to YNNPACK, which runs a UNet's
# step a quarter slower than XLA's own (docs/results/performance.md); its reductions are faster.
# A flag that a jaxlib does not know aborts the process, so it is for the version measured.
_CPU_FLAG = "--xla_cpu_experimental_ynn_fusion_type"
_CPU_VALUE = "LIBRARY_FUSION_TYPE_REDUCE"
_CPU_VERSIONS = ("0.10.",)


def set_up() -> None:
    """Prepares JAX; to be called once, before the first use of a device.

    Raises:
      UserError: JAX_PLATFORMS names a device that is not here.
    """
    tune_cpu()
    give_threads()
    _keep_compiled()
    check_devices()


def check_devices() -> None:
    """Starts the devices that JAX_PLATFORMS names, or those that are here.

    Raises:
      UserError: there are none of that kind.
    """
    try:
        jax.devices()
    except (RuntimeError, AssertionError) as error:  # the latter of "cuda" without its plugin
        named = os.environ.get("JAX_PLATFORMS") or jax.config.jax_platforms
        reason = str(error).split(" (")[0]
        if not named:
            raise UserError(
                f"JAX can start no device here ({reason}); set JAX_PLATFORMS=cpu to do without an "
                "accelerator"
            ) from error
        raise UserError(
            f"JAX_PLATFORMS={named}: no such device can be used here"
            f"{f' ({reason})' if reason else ''}; unset it to take what is here, or set "
            "JAX_PLATFORMS=cpu"
        ) from error


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

    In `JAX_COMPILATION_CACHE_DIR` if it is set, else in ~/.cache/gen_jax/xla. Only process 0
    writes, so hosts of one job want a shared folder. Without a folder to write to, as for a bare
    user of a container, nothing is kept.
    """
    given = os.environ.get("JAX_COMPILATION_CACHE_DIR")
    if given:
        # JAX takes it as it stands, where a launcher's file may hold a tilde.
        jax.config.update("jax_compilation_cache_dir", paths.expand(given))
        return
    folder = _cache_folder()
    if folder is None:
        print(
            "note: no home folder to keep compiled programs in, so each start compiles again; "
            "set JAX_COMPILATION_CACHE_DIR to a folder that you may write to",
            file=sys.stderr,
            flush=True,
        )
        return
    jax.config.update("jax_compilation_cache_dir", str(folder))
    # A CPU compiles the step of a small model in tens of seconds, many small programs in one.
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)


def _cache_folder() -> pathlib.Path | None:
    """Makes the folder of compiled programs; None if it cannot be written to."""
    home = paths.user_folder()
    if home is None:
        return None
    folder = home / ".cache" / "gen_jax" / "xla"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return None
    return folder if os.access(folder, os.W_OK | os.X_OK) else None
