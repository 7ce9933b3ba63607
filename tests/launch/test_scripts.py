"""The shell scripts that start `gen_jax.main` on one machine, and what all scripts share."""

import os
import re
import shlex
import signal
import subprocess
import sys
import time

import pytest

from tests.launch.launchers import (
    LAUNCH,
    LAUNCHERS,
    ROOT,
    RUN_FLAGS,
    RUNNABLE,
    SCRIPTS,
    lines_with_jax,
    shell,
    stub,
    tool,
)  # fmt: skip

# Every script.


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda p: p.name)
def test_is_clean(script):
    assert shell("bash", "-n", script).returncode == 0
    result = shell(tool("shellcheck"), "-x", script.relative_to(ROOT))
    assert result.returncode == 0, result.stdout


@pytest.mark.parametrize("flag", ["-h", "--help"])
@pytest.mark.parametrize("script", RUNNABLE, ids=lambda p: p.name)
def test_help(script, flag):
    assert os.access(script, os.X_OK) and "\nset -euo pipefail\n" in script.read_text()
    result = shell(script, flag)
    assert result.returncode == 0 and not result.stderr
    assert f"launch/{script.name}" in result.stdout
    # Every variable that the help names is read.
    variables = re.findall(r"^  ([A-Z_ ]+?)  ", result.stdout.split("Environment:")[1], flags=re.M)
    others = ("common.sh", "run.sh") if script.name == "tpu_worker.sh" else ("common.sh",)
    code = "".join(f.read_text() for f in (script, *(LAUNCH / o for o in others)))
    assert "DRY_RUN" in variables
    for name in " ".join(variables).split():
        assert re.search(rf"\${{{name}\b", code), name


@pytest.mark.parametrize("name", LAUNCHERS)
def test_dry_run_shows_the_command(name):
    env, before = LAUNCHERS[name]
    result = shell(LAUNCH / name, *before, *RUN_FLAGS, DRY_RUN=1, **env)
    assert result.returncode == 0, result.stderr
    words = shlex.split(result.stdout)
    # What runs elsewhere is a command within the command.
    nested = [w.split("=", 1)[1] for w in words if w.startswith("--command=")]
    if nested:
        words = shlex.split(nested[0])
        assert "launch/run.sh" in words or "launch/tpu_worker.sh" in words
    else:
        at = words.index("gen_jax.main")
        assert words[at - 1] == "-m" and words[at + 1 : at + 4] == RUN_FLAGS
    for flag in RUN_FLAGS:
        assert flag in words


@pytest.mark.parametrize("name", LAUNCHERS)
@pytest.mark.parametrize(
    "given,missing", [("--config=c", "--workdir"), ("--workdir=w", "--config")]
)
def test_missing_flag_is_one_line(name, given, missing):
    env, before = LAUNCHERS[name]
    result = shell(LAUNCH / name, *before, given, DRY_RUN=1, **env)
    assert result.returncode == 2
    assert result.stderr.count("\n") == 1 and f"{missing} is missing" in result.stderr


@pytest.mark.parametrize(
    "name,env,word",
    [("xpk.sh", {"IMAGE": "i"}, "CLUSTER"), ("xpk.sh", {"CLUSTER": "c"}, "IMAGE"),
     ("tpu_vm.sh", {"ZONE": "z"}, "TPU"), ("tpu_vm.sh", {"TPU": "t"}, "ZONE"),
     ("local_processes.sh", {"PROCESSES": "0"}, "PROCESSES"), ("slurm.sh", {}, "sbatch")],
)  # fmt: skip
def test_missing_variable_is_one_line(name, env, word):
    result = shell(LAUNCH / name, *LAUNCHERS[name][1], *RUN_FLAGS, **env)
    assert result.returncode == 2
    assert result.stderr.count("\n") == 1 and word in result.stderr


# run.sh: the exit code that a scheduler sees.


@pytest.mark.parametrize("mode,code", [("finish", 0), ("stop", 75), ("fail", 3)])
def test_exit_code(tmp_path, interpreter, flags, mode, code):
    result = shell(LAUNCH / "run.sh", *flags, PYTHON=interpreter, MODE=mode)
    assert result.returncode == code
    assert f"started -m gen_jax.main {shlex.join(flags)}" in result.stdout
    assert lines_with_jax(result.stdout) == {"JAX_COMPILATION_CACHE_DIR": f"{tmp_path}/.jax_cache"}


def started(script, *flags, **env):
    """Starts a launcher and waits until process 0 says so."""
    process = subprocess.Popen(
        [str(script), *flags],
        cwd=ROOT,
        env={**os.environ, **{k: str(v) for k, v in env.items()}},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout.readline().startswith("started")
    return process


def test_sigterm_is_passed_on(interpreter, flags):
    process = started(LAUNCH / "run.sh", *flags, PYTHON=interpreter)
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=30)
    assert process.returncode == 75 and "terminated" in out and "resumes" in err


def test_sigterm_before_main_listens(tmp_path, flags):
    slow = stub(tmp_path, "slow", "echo started\nexec sleep 20\n")
    process = started(LAUNCH / "run.sh", *flags, PYTHON=slow)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=10)
    assert process.returncode == 75


def test_real_main_is_found(tmp_path):
    flags = ["--config=configs/no_such_recipe.py", f"--workdir={tmp_path}/a"]
    result = shell(LAUNCH / "run.sh", *flags, PYTHON=sys.executable, JAX_PLATFORMS="cpu")
    assert result.returncode == 2 and "no such file" in result.stderr


# Processes on one machine.


def test_local_processes_find_each_other(tmp_path, interpreter, flags):
    env = {"PROCESSES": 3, "DEVICES": 2, "PYTHON": interpreter, "MODE": "finish"}
    result = shell(LAUNCH / "local_processes.sh", *flags, **env)
    assert result.returncode == 0, result.stderr
    logs = [result.stdout, *((tmp_path / f"a/logs/process_{i}.log").read_text() for i in (1, 2))]
    places = [lines_with_jax(log) for log in logs]
    assert [p["JAX_PROCESS_ID"] for p in places] == ["0", "1", "2"]
    assert {p["JAX_NUM_PROCESSES"] for p in places} == {"3"}
    assert len({p["JAX_COORDINATOR_ADDRESS"] for p in places}) == 1
    assert all("device_count=2" in log for log in logs)


def test_local_processes_stop_when_one_fails(tmp_path, flags):
    body = 'if [ "$JAX_PROCESS_ID" = 1 ]; then echo broken; exit 4; fi\nexec sleep 30\n'
    began = time.monotonic()
    result = shell(LAUNCH / "local_processes.sh", *flags, PYTHON=stub(tmp_path, "python", body))
    assert result.returncode == 4 and "broken" in result.stderr
    assert time.monotonic() - began < 10


def test_local_processes_pass_sigterm_on(tmp_path, interpreter, flags):
    process = started(LAUNCH / "local_processes.sh", *flags, PYTHON=interpreter)
    log = tmp_path / "a/logs/process_1.log"
    end = time.monotonic() + 10
    while time.monotonic() < end and not (log.exists() and "started" in log.read_text()):
        time.sleep(0.02)
    process.send_signal(signal.SIGTERM)
    out, _ = process.communicate(timeout=30)
    assert process.returncode == 0 and "terminated" in out and "terminated" in log.read_text()
