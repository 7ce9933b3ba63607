"""Strict settings for every test: eight virtual devices, no silent broadcasting, checked shapes."""

import gc
import os
import pathlib

from tests.processes import QUICK_TO_COMPILE

os.environ["XLA_FLAGS"] = " ".join(
    [
        os.environ.get("XLA_FLAGS", ""),
        "--xla_force_host_platform_device_count=8",
        QUICK_TO_COMPILE,
    ]
)
os.environ.setdefault("JAX_PLATFORMS", "cpu")
# A thread a device is too few: see gen_jax/parallel/compilation.py.
os.environ.setdefault("NPROC", "24")

from jaxtyping import install_import_hook

_hook = install_import_hook("gen_jax", "beartype.beartype")

import hypothesis  # noqa: E402
import jax  # noqa: E402
import pytest  # noqa: E402

ROOT = pathlib.Path(__file__).resolve().parent.parent
# An empty path would be the current folder, which the cache would fill.
CACHE = pathlib.Path(os.environ.get("GEN_JAX_TEST_CACHE") or ROOT / ".jax_cache")

# How long an example takes says more about the machine than about the code.
hypothesis.settings.register_profile("gen_jax", deadline=None)
hypothesis.settings.load_profile("gen_jax")

jax.config.update("jax_numpy_rank_promotion", "raise")
# Most programs here run for milliseconds and compile for seconds: spare the optimiser.
jax.config.update("jax_disable_most_optimizations", True)
jax.config.update("jax_compilation_cache_dir", str(CACHE))
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)


@pytest.fixture(scope="module")
def optimized():
    """Compiles the module's programs as a user's are: they run longer than that takes."""
    jax.config.update("jax_disable_most_optimizations", False)
    yield
    jax.config.update("jax_disable_most_optimizations", True)


# Tracing allocates a great many objects that live on: to look for cycles among them as often as
# Python does by default takes a twentieth of the time.
gc.set_threshold(20_000, 20, 20)

MAPS = pathlib.Path("/proc/self/maps")
MAPS_LIMIT = 20_000


@pytest.fixture(scope="module", autouse=True)
def _few_programs():
    """Frees compiled programs before Linux runs out of places to map them (65,530 a process).

    Each holds half a dozen mappings or more, and the next compilation beyond the limit is a
    segmentation fault. What is needed again comes from the cache on disk.
    """
    yield
    if MAPS.exists() and MAPS.read_bytes().count(b"\n") > MAPS_LIMIT:
        jax.clear_caches()
        gc.collect()


@pytest.fixture(scope="session")
def shared():
    """The folder of real images that lies beside a development checkout, if it does."""
    path = ROOT.parent / "shared" / "data"
    if not path.is_dir():
        pytest.skip("no ../shared/data beside this checkout: nothing real to test against")
    return path


@pytest.fixture(scope="session")
def photos(tmp_path_factory):
    """A small prepared data set of real photographs, 32 pixels a side."""
    from gen_jax.data.prepare import build

    folder = tmp_path_factory.mktemp("data") / "photos"
    build.prepare(build.Options(source="photos", out=str(folder), num=192, size=32, workers=1))
    return folder
