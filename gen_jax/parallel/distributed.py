"""One program on many hosts: start-up from the launcher's environment, and global arrays."""

import os
from typing import Any

import jax
import numpy as np
from jax.sharding import NamedSharding

from gen_jax.common.errors import UserError


def initialize() -> None:
    """Joins the other processes where a launcher has started several; must come before any array.

    Read in this order: `JAX_COORDINATOR_ADDRESS` with `JAX_NUM_PROCESSES` and `JAX_PROCESS_ID`;
    SLURM, Open MPI and TPU or GKE variables, which JAX understands by itself. With none of them
    the process stays alone.

    Raises:
      UserError: some of the three variables are set and others are not.
    """
    names = ("JAX_COORDINATOR_ADDRESS", "JAX_NUM_PROCESSES", "JAX_PROCESS_ID")
    given = [n for n in names if os.environ.get(n)]
    if given and len(given) < len(names):
        missing = sorted(set(names) - set(given))
        raise UserError(f"{given[0]} is set but {missing[0]} is not: set all three or none")
    if given:
        jax.distributed.initialize(
            os.environ[names[0]],
            num_processes=int(os.environ[names[1]]),
            process_id=int(os.environ[names[2]]),
        )
    elif _launched_by_cluster():
        jax.distributed.initialize()


def _launched_by_cluster() -> bool:
    if int(os.environ.get("SLURM_NTASKS", "1")) > 1 and "SLURM_PROCID" in os.environ:
        return True
    if int(os.environ.get("OMPI_COMM_WORLD_SIZE", "1")) > 1:
        return True
    return len(os.environ.get("TPU_WORKER_HOSTNAMES", "").split(",")) > 1


def is_main() -> bool:
    """True on the one process that writes files and prints."""
    return jax.process_index() == 0


def to_global(batch: dict[str, np.ndarray], sharding: NamedSharding) -> dict[str, jax.Array]:
    """Joins each process's rows into global arrays, split over the data axes."""
    return {k: jax.make_array_from_process_local_data(sharding, v) for k, v in batch.items()}


def to_host(tree: Any) -> Any:
    """The whole of each array as NumPy, on every process."""
    if jax.process_count() == 1:
        return jax.tree.map(np.asarray, jax.device_get(tree))
    from jax.experimental import multihost_utils

    return multihost_utils.process_allgather(tree, tiled=True)


def barrier(name: str) -> None:
    """Waits for every process."""
    if jax.process_count() > 1:
        from jax.experimental import multihost_utils

        multihost_utils.sync_global_devices(name)
