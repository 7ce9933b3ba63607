import jax
import jax.numpy as jnp
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from gen_jax.parallel.mesh import make_mesh
from gen_jax.training import throughput


def _step(x, kernel):
    y = jax.lax.conv_general_dilated(
        x, kernel, (1, 1), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
    return y.sum()


@pytest.mark.parametrize("devices", [1, 8])
def test_operations_are_those_of_all_devices(devices):
    mesh = make_mesh({"replica": 1, "fsdp": devices, "tensor": 1}, jax.devices()[:devices])
    x = jax.device_put(jnp.ones((8, 10, 10, 4)), NamedSharding(mesh, PartitionSpec("fsdp")))
    kernel = jnp.ones((3, 3, 4, 16))
    found = throughput.flops_of(jax.jit(_step).lower(x, kernel))
    products = 2 * 8 * 8 * 8 * 9 * 4 * 16
    assert found == pytest.approx(products, rel=0.02)


def test_rates_follow_from_operations_and_seconds(monkeypatch):
    clock = iter([0.0, 0.5, 1.0])
    monkeypatch.setattr(throughput.time, "perf_counter", lambda: next(clock))
    speed = throughput.Throughput(batch_size=8, flops=1e12)
    speed.step(0.1)
    speed.step(0.0)
    values = speed.values()
    assert values["images_per_second"] == pytest.approx(16.0)
    assert values["tflops"] == pytest.approx(2.0)
    assert values["data_wait"] == pytest.approx(0.1)
