"""The launchers: that they are clean, say what they do, and start `gen_jax.main` as they should."""

import fnmatch
import os
import pathlib
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time

import pytest

ROOT = pathlib.Path(__file__).resolve().parent.parent
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


@pytest.fixture
def interpreter(tmp_path):
    """Stands in for Python: prints what it is called with; MODE says how it ends."""
    body = """
    trap 'echo terminated; exit 0' TERM
    echo "started $*"
    env | grep -E '^(JAX_|XLA_|CUDA_)'
    for flag in "$@"; do case "$flag" in --workdir=*) workdir="${flag#*=}" ;; esac; done
    case "${MODE:-}" in
      finish) mkdir -p "$workdir"; touch "$workdir/done.json"; exit 0 ;;
      stop) exit 0 ;;
      fail) exit 3 ;;
    esac
    for i in $(seq 200); do sleep 0.05; done
    """
    return stub(tmp_path, "interpreter", body)


@pytest.fixture
def flags(tmp_path):
    """What main needs."""
    return ["--config=c", f"--workdir={tmp_path}/a"]


def lines_with_jax(output):
    """`JAX_...` lines of the stand-in's output."""
    return dict(re.findall(r"^(JAX_\w+)=(.*)$", output, flags=re.M))


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


# YAML.


@pytest.mark.parametrize("path", YAMLS, ids=lambda p: p.name)
def test_yaml_is_clean(path):
    assert load(path.name)
    result = shell(tool("yamllint"), "--strict", path)
    assert result.returncode == 0, result.stdout


@pytest.mark.parametrize("which", ["gpu", "tpu"])
def test_gke(which):
    (job,) = [d for d in load("gke.yaml") if d["metadata"]["labels"]["accelerator"] == which]
    assert (job["apiVersion"], job["kind"]) == ("jobset.x-k8s.io/v1alpha2", "JobSet")
    (group,) = job["spec"]["replicatedJobs"]
    spec = group["template"]["spec"]
    hosts = spec["parallelism"]
    assert group["replicas"] == 1 and hosts == spec["completions"]
    assert spec["completionMode"] == "Indexed" and spec["backoffLimit"] == 0
    pod = spec["template"]["spec"]
    assert pod["restartPolicy"] == "Never" and pod["terminationGracePeriodSeconds"] >= 120
    (main,) = pod["containers"]
    (rule,) = spec["podFailurePolicy"]["rules"]
    assert rule["onExitCodes"]["containerName"] == main["name"]

    # The pod's command line, as a container would run it.
    shown = shell(*main["command"], *main["args"], DRY_RUN=1)
    assert shown.stdout.rstrip().endswith("-m gen_jax.main " + shlex.join(main["args"]))
    volumes = {v["mountPath"] for v in main["volumeMounts"]}
    workdir = main["args"][1].removeprefix("--workdir=")
    assert any(workdir.startswith(v + "/") for v in volumes)
    assert {v["name"] for v in main["volumeMounts"]} == {v["name"] for v in pod["volumes"]}

    env = {e["name"]: e for e in main.get("env", [])}
    if which == "tpu":  # GKE sets TPU_WORKER_ID and TPU_WORKER_HOSTNAMES itself
        assert not env
        return
    assert set(env) == {"JAX_COORDINATOR_ADDRESS", "JAX_NUM_PROCESSES", "JAX_PROCESS_ID"}
    assert env["JAX_NUM_PROCESSES"]["value"] == str(hosts)
    host, port = env["JAX_COORDINATOR_ADDRESS"]["value"].split(":")
    network = job["spec"]["network"]
    assert host == f"{job['metadata']['name']}-{group['name']}-0-0.{network['subdomain']}"
    assert int(port) in {p["containerPort"] for p in main["ports"]}
    field = env["JAX_PROCESS_ID"]["valueFrom"]["fieldRef"]["fieldPath"]
    assert field == "metadata.annotations['batch.kubernetes.io/job-completion-index']"


def skypilot(**env):
    (task,) = load("skypilot.yaml")
    given = {**task["envs"], "PYTHON": "python", "DRY_RUN": 1, **env}
    return task, shell("bash", "-c", task["run"], **given)


def test_skypilot_many_nodes():
    ips = "10.0.0.7\n10.0.0.8"
    env = {"SKYPILOT_NUM_NODES": 2, "SKYPILOT_NODE_RANK": 1, "SKYPILOT_NODE_IPS": ips}
    task, result = skypilot(FLAGS="--config.training.seed=1 --config.x=2", **env)
    assert result.returncode == 0, result.stderr
    place = {"JAX_COORDINATOR_ADDRESS=10.0.0.7:8482", "JAX_NUM_PROCESSES=2", "JAX_PROCESS_ID=1"}
    assert place <= set(result.stdout.split())
    main = result.stdout.split(" -m gen_jax.main ")[1].split()
    envs = task["envs"]
    assert main[:2] == [f"--config={envs['CONFIG']}", f"--workdir={envs['WORKDIR']}"]
    assert main[2:] == ["--config.training.seed=1", "--config.x=2"]
    assert any(envs["WORKDIR"].startswith(mount + "/") for mount in task["volumes"])
    assert 75 in task["resources"]["job_recovery"]["recover_on_exit_codes"]
    assert "launch/install.sh" in task["setup"]


def test_skypilot_one_node_stays_alone():
    env = {"SKYPILOT_NUM_NODES": 1, "SKYPILOT_NODE_RANK": 0, "SKYPILOT_NODE_IPS": "10.0.0.7"}
    _, result = skypilot(**env)
    assert result.returncode == 0 and "JAX_PROCESS_ID" not in result.stdout


# The image and the pages.


def dockerfile():
    """Instruction and its argument, in order."""
    text = re.sub(r"\\\n\s*", "", (LAUNCH / "Dockerfile").read_text())
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    return [tuple(line.split(None, 1)) for line in lines]


def test_dockerfile():
    steps = dockerfile()
    names = [name for name, _ in steps]
    known = {"FROM", "ARG", "ENV", "RUN", "WORKDIR", "COPY", "USER", "ENTRYPOINT"}
    assert names[0] == "FROM" and set(names) <= known
    assert re.fullmatch(r"python:3\.\d+-slim", steps[0][1])
    arguments = [re.fullmatch(r"(\w+)=(\w+)", value) for name, value in steps if name == "ARG"]
    assert {m[1]: m[2] for m in arguments} == {"ACCELERATOR": "cpu", "USER_ID": "1000"}
    install = next(i for i, s in enumerate(steps) if "pip install" in s[1])
    code = steps.index(("COPY", "gen_jax gen_jax"))
    assert "jax[${ACCELERATOR}]" in steps[install][1] and install < code
    assert names.index("USER") < names.index("ENTRYPOINT")
    assert steps[-1] == ("ENTRYPOINT", '["python", "-m", "gen_jax.main"]')


def test_what_the_image_copies_exists_and_is_not_ignored():
    ignored = [p.strip("/") for p in (ROOT / ".dockerignore").read_text().splitlines()]
    ignored = [p for p in ignored if p and not p.startswith(("#", "**"))]
    for source in [s for n, v in dockerfile() if n == "COPY" for s in v.split()[:-1]]:
        assert (ROOT / source).exists(), source
        assert not any(fnmatch.fnmatch(source.split("/")[0], p) for p in ignored), source


def test_every_launcher_is_in_the_table():
    table = (LAUNCH / "README.md").read_text()
    for path in [*SCRIPTS, *YAMLS, LAUNCH / "Dockerfile"]:
        assert f"`{path.name}`" in table, path.name


@pytest.mark.parametrize("page", ["launch/README.md", "docs/pods.md"])
def test_pages_name_files_that_exist(page):
    text = (ROOT / page).read_text()
    for name in set(re.findall(r"\b(?:launch|configs|docs|gen_jax)/[\w./]+\w", text)):
        assert (ROOT / name).exists(), name
    for target in re.findall(r"\]\((?!http)([^)#]+)", text):
        assert ((ROOT / page).parent / target).exists(), target
