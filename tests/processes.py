"""Starting the doors as real processes, as a user does."""

import json
import os
import pathlib
import socket
import subprocess
import sys

# Spares a third of the time that compiling takes; the programs run slower (jaxlib 0.10).
QUICK_TO_COMPILE = "--xla_cpu_use_fusion_emitters=false --xla_cpu_parallel_codegen_split_count=1"
ROOT = pathlib.Path(__file__).resolve().parent.parent


def environment(devices: int = 1, **extra: str) -> dict[str, str]:
    """The environment of a process with so many virtual CPU devices."""
    env = {k: v for k, v in os.environ.items() if not k.startswith(("JAX_", "SLURM_", "OMPI_"))}
    cache = os.environ.get("GEN_JAX_TEST_CACHE") or str(ROOT / ".jax_cache")
    return {
        **env,
        "JAX_PLATFORMS": "cpu",
        "JAX_COMPILATION_CACHE_DIR": cache,
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
        "XLA_FLAGS": f"--xla_force_host_platform_device_count={devices} "
        "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true "
        f"{QUICK_TO_COMPILE}",
        **extra,
    }


def start(door: str, *args: str, env: dict[str, str] | None = None) -> subprocess.Popen:
    """Starts `python -m gen_jax.DOOR`."""
    return subprocess.Popen(
        [sys.executable, "-m", f"gen_jax.{door}", *args],
        cwd=ROOT,
        env=env or environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def call(door: str, *args: str, env: dict[str, str] | None = None) -> subprocess.CompletedProcess:
    """Runs a door to its end."""
    process = start(door, *args, env=env)
    out, err = process.communicate(timeout=300)
    return subprocess.CompletedProcess(args, process.returncode, out, err)


def start_group(count: int, *args: str, devices: int = 1) -> list[subprocess.Popen]:
    """Starts `main` as so many processes that find each other over loopback."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    return [
        start(
            "main",
            *args,
            env=environment(
                devices,
                JAX_COORDINATOR_ADDRESS=f"127.0.0.1:{port}",
                JAX_NUM_PROCESSES=str(count),
                JAX_PROCESS_ID=str(index),
            ),
        )
        for index in range(count)
    ]


def finish(processes: list[subprocess.Popen]) -> list[str]:
    """Waits for all and returns what they printed; fails where one of them failed."""
    out = [p.communicate(timeout=300) for p in processes]
    assert all(p.returncode == 0 for p in processes), "\n".join(e for _, e in out)
    return [o for o, _ in out]


def losses(workdir: pathlib.Path) -> dict[int, float]:
    """Step -> loss; a step that was repeated after a crash counts with its last value."""
    lines = (workdir / "metrics.jsonl").read_text().splitlines()
    rows = [json.loads(line) for line in lines if line.endswith("}")]
    return {r["step"]: r["model/loss"] for r in rows if "model/loss" in r}


def final_fingerprint(workdir: pathlib.Path) -> dict[str, str]:
    """Digest of every array of the newest checkpoint: parameters, optimizer, average, extra."""
    steps = [int(p.name) for p in (workdir / "checkpoints").iterdir() if p.name.isdigit()]
    meta = workdir / "checkpoints" / str(max(steps)) / "meta" / "metadata"
    return json.loads(meta.read_text())["content"]["fingerprint"]


def one_line_error(result: subprocess.CompletedProcess) -> str:
    """The error of a door that refused: exit code 2 and a single line."""
    assert result.returncode == 2, (result.returncode, result.stderr[-2000:])
    lines = [line for line in result.stderr.splitlines() if line.strip()]
    assert len(lines) == 1 and lines[0].startswith("error: "), result.stderr[-2000:]
    return lines[0]
