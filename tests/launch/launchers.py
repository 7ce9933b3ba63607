"""What the tests of the launchers share: where they are, and how a test runs them."""

import os
import pathlib
import re
import shutil
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
LAUNCH = ROOT / "launch"
SCRIPTS = sorted(LAUNCH.glob("*.sh"))
RUNNABLE = [p for p in SCRIPTS if p.name != "common.sh"]  # which the others source
YAMLS = sorted(LAUNCH.glob("*.yaml"))
RUN_FLAGS = ["--config=configs/ldm.py:data=shapes", "--workdir=/shared/runs/a b", "--config.x=1"]
# Launcher -> the environment that it wants and what stands before main's flags.
LAUNCHERS = {
    "run.sh": ({}, []),
    "local_processes.sh": ({"PORT": "23456"}, []),
    "slurm.sh": ({}, []),
    "tpu_vm.sh": ({"TPU": "name", "ZONE": "zone"}, ["run"]),
    "xpk.sh": ({"CLUSTER": "cluster", "IMAGE": "image"}, []),
}


def shell(*command, **env):
    """Runs a command in a clean environment."""
    kept = ("PATH", "HOME", "TMPDIR", "LANG")
    base = {k: v for k, v in os.environ.items() if k in kept}
    return subprocess.run(
        [str(c) for c in command],
        cwd=ROOT,
        env={**base, **{k: str(v) for k, v in env.items()}},
        capture_output=True,
        text=True,
        timeout=60,
    )


def stub(folder, name, body):
    """Puts a small program in a folder."""
    path = folder / name
    path.write_text("#!/usr/bin/env bash\n" + body)
    path.chmod(0o755)
    return path


def tool(name):
    """A linter beside this interpreter or on PATH."""
    found = shutil.which(name, path=str(pathlib.Path(sys.executable).parent)) or shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not installed; it is in requirements-dev.txt")
    return found


def load(name):
    """The documents of a YAML file."""
    yaml = pytest.importorskip("yaml")
    return list(yaml.safe_load_all((LAUNCH / name).read_text()))


def lines_with_jax(output):
    """`JAX_...` lines of the stand-in's output."""
    return dict(re.findall(r"^(JAX_\w+)=(.*)$", output, flags=re.M))
