"""The scripts for SLURM, job arrays and TPU VMs, with stand-ins for the schedulers."""

import os
import re
import shlex
import shutil
import sys

import pytest

from tests.launch.launchers import LAUNCH, ROOT, lines_with_jax, load, shell, stub

# SLURM, with srun and scontrol that only take notes.


@pytest.fixture
def slurm(tmp_path, interpreter, flags):
    notes = {name: tmp_path / f"{name}.txt" for name in ("srun", "scontrol")}
    stub(
        tmp_path,
        "srun",
        f"""echo "$*" >>'{notes["srun"]}'
        while [ "$1" != -m ]; do program="$1"; shift; done
        exec "$program" "$@"
        """,
    )
    stub(tmp_path, "scontrol", f"""echo "$*" >>'{notes["scontrol"]}'\n""")

    def run(mode, **env):
        defaults = {
            "PATH": f"{tmp_path}:{os.environ['PATH']}", "PYTHON": interpreter, "MODE": mode,
            "SLURM_JOB_ID": 17, "SLURM_SUBMIT_DIR": ROOT, "SLURM_GPUS_ON_NODE": 4,
            "SLURM_NTASKS_PER_NODE": 4, "SLURM_CPUS_PER_TASK": 6,
        }  # fmt: skip
        # As sbatch does, from a copy in another folder.
        script = shutil.copy(LAUNCH / "slurm.sh", tmp_path / "slurm_script")
        result = shell(script, *flags, **{**defaults, **env})
        asked = notes["scontrol"].read_text() if notes["scontrol"].exists() else ""
        return result, asked

    return run


@pytest.mark.parametrize(
    "mode,code,requeued",
    [("finish", 0, ""), ("stop", 0, "requeue Incomplete 17\n"), ("fail", 3, "")],
)
def test_slurm_requeues_what_is_unfinished(slurm, tmp_path, mode, code, requeued):
    result, asked = slurm(mode)
    assert (result.returncode, asked) == (code, requeued), result.stderr
    given = (tmp_path / "srun.txt").read_text().split(" -m ")[0].split()[:-1]
    assert given == ["--kill-on-bad-exit=1", "--gpu-bind=none", "--cpus-per-task=6"]
    # Nothing that would keep JAX from finding its place and its GPU by SLURM's variables.
    assert set(lines_with_jax(result.stdout)) == {"JAX_COMPILATION_CACHE_DIR"}


def test_slurm_does_not_requeue_for_ever(slurm):
    result, asked = slurm("stop", SLURM_RESTART_COUNT=3, MAX_RESTARTS=3)
    assert result.returncode == 2 and "after 3 restarts" in result.stderr and not asked


def test_slurm_one_task_a_node_uses_all_gpus(slurm):
    result, _ = slurm("finish", SLURM_NTASKS_PER_NODE=1)
    assert lines_with_jax(result.stdout)["JAX_LOCAL_DEVICE_IDS"] == "0,1,2,3"


def test_slurm_idle_gpus_are_an_error(slurm):
    result, _ = slurm("finish", SLURM_NTASKS_PER_NODE=2)
    assert result.returncode == 2 and "4 GPUs but 2 tasks" in result.stderr


def test_slurm_directives():
    text = (LAUNCH / "slurm.sh").read_text()
    directives = dict(re.findall(r"^#SBATCH --([\w-]+)(?:=(.*))?$", text, flags=re.M))
    assert directives["gres"] == f"gpu:{directives['ntasks-per-node']}"
    # To the processes, not to the batch shell ("B:").
    assert re.fullmatch(r"TERM@\d+", directives["signal"]) and "requeue" in directives
    # sbatch reads no directive below the first command.
    assert text.rindex("#SBATCH --") < text.index("set -euo")


# Features, by tasks that do not talk.

FEATURE_FLAGS = ["--data=/shared/a b", "--encoder=dinov2-small:/m", "--out=/shared/f"]


def test_features_on_a_slurm_array(interpreter):
    script = LAUNCH / "featurize_slurm.sh"
    shown = shell(script, *FEATURE_FLAGS, DRY_RUN=1)
    assert shlex.split(shown.stdout)[-5:] == ["-m", "gen_jax.featurize", *FEATURE_FLAGS]
    outside = shell(script, *FEATURE_FLAGS)
    assert outside.returncode == 2 and "sbatch --array" in outside.stderr
    env = {"SLURM_ARRAY_TASK_ID": 3, "SLURM_SUBMIT_DIR": ROOT, "PYTHON": interpreter}
    result = shell(script, *FEATURE_FLAGS, MODE="fail", **env)
    assert result.returncode == 3 and "started -m gen_jax.featurize" in result.stdout
    text = script.read_text()
    assert "#SBATCH --array=" in text and text.rindex("#SBATCH --") < text.index("set -euo")


def test_features_on_an_indexed_job():
    (job,) = load("featurize_gke.yaml")
    assert (job["apiVersion"], job["kind"]) == ("batch/v1", "Job")
    spec = job["spec"]
    (main,) = spec["template"]["spec"]["containers"]
    assert spec["completionMode"] == "Indexed" and "backoffLimit" not in spec
    assert main["command"] == ["python", "-m", "gen_jax.featurize"]
    env = {e["name"]: e["value"] for e in main["env"]}
    assert env["JOB_COMPLETIONS"] == str(spec["completions"])
    mounted = {v["mountPath"] for v in main["volumeMounts"]}
    for argument in main["args"]:
        path = argument.split("=")[1].split(":")[-1]
        assert any(path.startswith(f"{mount}/") for mount in mounted)
    result = shell(
        sys.executable, *main["command"][1:], *main["args"], JAX_PLATFORMS="cpu",
        JOB_COMPLETION_INDEX=0, **env,
    )  # fmt: skip
    assert result.returncode == 2 and "no dataset.json here" in result.stderr


# TPU VMs.


@pytest.mark.parametrize("form", ["10.0.0.{}", "unused:8470:10.0.0.{}"])
def test_tpu_worker_reads_its_place(tmp_path, interpreter, flags, form):
    hosts = ",".join(form.format(i) for i in range(4))
    stub(tmp_path, "curl", f"""
    case "${{@: -1}}" in
      *agent-worker-number) echo 2 ;;
      *worker-network-endpoints) echo {hosts} ;;
      *) exit 22 ;;
    esac""")  # fmt: skip
    env = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "PYTHON": interpreter, "MODE": "finish"}
    result = shell(LAUNCH / "tpu_worker.sh", *flags, **env)
    assert result.returncode == 0, result.stderr
    place = lines_with_jax(result.stdout)
    assert place["JAX_COORDINATOR_ADDRESS"] == "10.0.0.0:8482"
    assert (place["JAX_NUM_PROCESSES"], place["JAX_PROCESS_ID"]) == ("4", "2")


@pytest.mark.parametrize("action", ["create", "copy", "log", "stop", "delete"])
def test_tpu_vm_actions(action):
    env = {"TPU": "name", "ZONE": "zone", "SPOT": 1, "DRY_RUN": 1}
    result = shell(LAUNCH / "tpu_vm.sh", action, **env)
    assert result.returncode == 0, result.stderr
    for line in result.stdout.splitlines():
        words = shlex.split(line)
        if words[0] != "tar":
            assert words[:4] == ["gcloud", "compute", "tpus", "tpu-vm"] and "--zone=zone" in words
    assert ("--spot" in result.stdout) == (action == "create")


def test_tpu_vm_copies_the_code_and_no_runs():
    env = {"TPU": "name", "ZONE": "zone", "DRY_RUN": 1}
    words = shlex.split(shell(LAUNCH / "tpu_vm.sh", "copy", **env).stdout.splitlines()[0])
    assert words[:2] == ["tar", "-czf"]
    names = set(shell("tar", "-cvf", "/dev/null", "--exclude=./.git", *words[3:]).stdout.split())
    assert {"./gen_jax/main.py", "./gen_jax/data/load/loader.py", "./constraints.txt"} <= names
    assert not [n for n in names if n.startswith(("./.venv", "./runs", "./.jax_cache"))]


def test_install_asks_for_the_accelerator():
    shown = shell(LAUNCH / "install.sh", "tpu", DRY_RUN=1).stdout
    assert "-c constraints.txt -r requirements.txt jax[tpu]" in shown.replace("\\", "")
    assert shell(LAUNCH / "install.sh", DRY_RUN=1).returncode == 2
