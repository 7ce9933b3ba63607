"""Compiled programs are kept between runs."""

import os
import pathlib

import jax


def keep_compiled() -> None:
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
