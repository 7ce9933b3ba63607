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
    if jax.process_count() > 1 and len(devices) == jax.device_count():
        # Lets JAX lay the axes along the interconnect.
        return jax.make_mesh(sizes, AXES, axis_types=(AxisType.Auto,) * len(AXES))
    return Mesh(np.asarray(devices).reshape(sizes), AXES, axis_types=(AxisType.Auto,) * len(AXES))
