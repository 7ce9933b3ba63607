"""The CPU's compiler flag and threads: set where measured, never over the user's own."""

import os
import subprocess
import sys

import jaxlib
import pytest

from gen_jax.parallel import compilation
from tests.processes import ROOT, environment

FLAG = "--xla_cpu_experimental_ynn_fusion_type"
OURS = f"{FLAG}=LIBRARY_FUSION_TYPE_REDUCE"


@pytest.mark.parametrize(
    "version, given, expected",
    [
        ("0.10.2", "", OURS),
        ("0.10.2", "--a=1", f"--a=1 {OURS}"),
        ("0.10.2", f"{FLAG}=", f"{FLAG}="),
        ("0.11.0", "--a=1", "--a=1"),
    ],
)
def test_flag(monkeypatch, version, given, expected):
    monkeypatch.setattr(jaxlib, "__version__", version)
    monkeypatch.setenv("XLA_FLAGS", given)
    compilation.tune_cpu()
    assert os.environ["XLA_FLAGS"] == expected


@pytest.mark.parametrize(
    "given, flags, expected",
    [
        (None, "--a=1 --xla_force_host_platform_device_count=8", str(16 + (os.cpu_count() or 1))),
        ("5", "--xla_force_host_platform_device_count=8", "5"),
        (None, "--xla_force_host_platform_device_count=1", None),
        (None, "", None),
    ],
)
def test_threads_of_virtual_devices(monkeypatch, given, flags, expected):
    """Fewer than two a device can lock up in a collective."""
    monkeypatch.setenv("XLA_FLAGS", flags)
    monkeypatch.setenv("NPROC", given or "")
    if given is None:
        monkeypatch.delenv("NPROC")
    compilation.give_threads()
    assert os.environ.get("NPROC") == expected


def test_eight_devices_do_not_lock_up():
    """Sharded products with a collective each, many in flight: without the threads this aborts."""
    program = """
from gen_jax.parallel import compilation
compilation.set_up()
import jax, jax.numpy as jnp
from jax.sharding import NamedSharding, PartitionSpec as P
mesh = jax.make_mesh((8,), ("d",), axis_types=(jax.sharding.AxisType.Auto,))
x = jax.device_put(jnp.ones((64, 256)), NamedSharding(mesh, P("d")))
w = jax.device_put(jnp.ones((256, 256)) / 256, NamedSharding(mesh, P()))

@jax.jit
def step(w, x):
    def loss(w):
        h = x
        for _ in range(6):
            h = jnp.tanh(h @ w)
        return (h**2).mean()
    return w - 0.1 * jax.grad(loss)(w)

for _ in range(100):
    w = step(w, x)
w.block_until_ready()
"""
    env = environment(devices=8)
    env["XLA_FLAGS"] += " --xla_cpu_collective_call_terminate_timeout_seconds=20"
    env.pop("NPROC", None)
    result = subprocess.run(
        [sys.executable, "-c", program], env=env, cwd=ROOT, capture_output=True, text=True
    )
    assert result.returncode == 0, result.stderr[-2000:]
