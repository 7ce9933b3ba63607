"""The device mesh: axes `("replica", "fsdp", "tensor")`."""

import math
from collections.abc import Mapping, Sequence

import jax
import numpy as np
from jax.sharding import AxisType, Mesh

from gen_jax.common.errors import UserError

AXES = ("replica", "fsdp", "tensor")


def make_mesh(shape: Mapping[str, int], devices: Sequence[jax.Device] | None = None) -> Mesh:
    """Builds the mesh.

    Args:
      shape: devices along each axis; one of them may be -1, which takes all that are left.
        An axis that is not named has 1.
      devices: the devices to use, all of them by default.

    Raises:
      UserError: an unknown axis, or a shape that the devices do not fill exactly.
    """
    devices = list(jax.devices() if devices is None else devices)
    if unknown := set(shape) - set(AXES):
        raise UserError(f"config.mesh: unknown axis {sorted(unknown)[0]!r}; the axes are {AXES}")
    sizes = [int(shape.get(axis, 1)) for axis in AXES]
    given = dict(zip(AXES, sizes))
    if sizes.count(-1) > 1 or any(s < 1 and s != -1 for s in sizes):
        raise UserError(f"config.mesh {given}: sizes are positive, and at most one of them is -1")
    known = math.prod(s for s in sizes if s != -1)
    if -1 in sizes:
        sizes[sizes.index(-1)] = len(devices) // known
    if math.prod(sizes) != len(devices) or 0 in sizes:
        raise UserError(
            f"config.mesh {given} does not fit the {len(devices)} devices here: "
            "the sizes must multiply to that number; use -1 for one axis to take what is left"
        )
    if devices[0].platform == "tpu" and len(devices) == jax.device_count():
        # Lets JAX lay the axes along the interconnect.
        mesh = jax.make_mesh(sizes, AXES, axis_types=(AxisType.Auto,) * len(AXES))
    else:
        # In the order of processes, so that the last axes stay inside one.
        devices.sort(key=lambda d: (d.process_index, d.id))
        grid = np.asarray(devices).reshape(sizes)
        mesh = Mesh(grid, AXES, axis_types=(AxisType.Auto,) * len(AXES))
    _check_processes(mesh, given)
    return mesh


def _check_processes(mesh, given: Mapping[str, int]) -> None:
    """A tensor group reads the same examples, so it must lie inside one process."""
    owners = np.vectorize(lambda d: d.process_index)(mesh.devices).reshape(-1, mesh.shape["tensor"])
    if (owners != owners[:, :1]).any():
        raise UserError(
            f"config.mesh {given}: the tensor axis spans several processes; make it a divisor of "
            f"the {len(jax.local_devices())} devices of one process"
        )
