"""Which part of a job is this process's, where its parts need not talk to one another."""

import os

from gen_jax.common.errors import UserError


def task_of(task: int | None = None, tasks: int | None = None) -> tuple[int, int]:
    """This task's number and how many there are.

    Args:
      task: as the user says; None reads the environment.
      tasks: likewise.

    Returns:
      From what is given, else from `JAX_PROCESS_ID` and `JAX_NUM_PROCESSES`, a SLURM array (times
      the tasks of each of its jobs), a SLURM job, a Kubernetes indexed job (`JOB_COMPLETION_INDEX`,
      with `JOB_COMPLETIONS` set to its completions), or a TPU slice's hosts; (0, 1) without any.

    Raises:
      UserError: half of a pair, or a number outside.
    """
    if (task is None) != (tasks is None):
        raise UserError("task and tasks belong together: task I of N is task=I and tasks=N")
    if task is None or tasks is None:
        task, tasks = _from_environment()
    if tasks < 1 or not 0 <= task < tasks:
        raise UserError(f"task {task} of {tasks}: expected a number from 0 to tasks - 1")
    return task, tasks


def _from_environment() -> tuple[int, int]:
    env = os.environ
    for index, count in (
        ("JAX_PROCESS_ID", "JAX_NUM_PROCESSES"),
        ("JOB_COMPLETION_INDEX", "JOB_COMPLETIONS"),
    ):
        if env.get(index) and not env.get(count):
            raise UserError(f"{index} is set but {count} is not: set both or neither")
        if env.get(index):
            return _number(index), _number(count)
    inner = (0, 1)
    if "SLURM_PROCID" in env:
        inner = _number("SLURM_PROCID"), _number("SLURM_NTASKS", 1)
    if "SLURM_ARRAY_TASK_ID" in env:
        step = _number("SLURM_ARRAY_TASK_STEP", 1)
        index = (_number("SLURM_ARRAY_TASK_ID") - _number("SLURM_ARRAY_TASK_MIN", 0)) // step
        return index * inner[1] + inner[0], _number("SLURM_ARRAY_TASK_COUNT") * inner[1]
    hosts = [h for h in env.get("TPU_WORKER_HOSTNAMES", "").split(",") if h]
    if len(hosts) > 1:
        return _number("TPU_WORKER_ID"), len(hosts)
    return inner


def _number(name: str, default: int | None = None) -> int:
    text = os.environ.get(name, "" if default is None else str(default))
    if not text.lstrip("-").isdigit():
        raise UserError(f"{name}={text!r}: expected a number")
    return int(text)
