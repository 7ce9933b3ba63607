"""The YAML files, the container image and the pages of the launchers."""

import fnmatch
import re
import shlex

import pytest

from tests.launch.launchers import LAUNCH, ROOT, SCRIPTS, YAMLS, load, shell, tool

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
