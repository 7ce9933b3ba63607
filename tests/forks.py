"""Commands for the price of importing once.

Most of the time of a short command goes into imports. Here one process, started on first use,
imports what the commands need, and each command runs as `python -m gen_jax.NAME` would in a fork
of it. What a test proves about processes themselves (signals, several devices or hosts, imports)
needs `tests.processes`.
"""

import atexit
import functools
import importlib
import json
import os
import pathlib
import runpy
import signal
import subprocess
import sys
import tempfile
import traceback

from tests.processes import ROOT, environment

_SHARED = (
    "jax",
    "gen_jax.runs.reader",
    "gen_jax.pipelines.code_prior",
    "gen_jax.pipelines.faces",
    "gen_jax.training.stage",
)
_SECONDS = 300


def call(command: str, *arguments: str, root: pathlib.Path = ROOT) -> subprocess.CompletedProcess:
    """Runs a command of the checkout in `root` to its end."""
    server = _server(root)
    request = {"command": command, "arguments": arguments, "environment": _environment()}
    server.stdin.write(json.dumps(request) + "\n")
    server.stdin.flush()
    answer = server.stdout.readline()
    assert answer, f"the process that forks has ended with {server.wait()}"
    return subprocess.CompletedProcess(arguments, *json.loads(answer))


def call_each(command: str, *arguments) -> list[subprocess.CompletedProcess]:
    """Runs a command once per list of arguments."""
    return [call(command, *given) for given in arguments]


def _environment():
    return environment(GLIBC_TUNABLES="")  # or a command would start its process over


@functools.cache
def _server(root):
    server = subprocess.Popen(
        [sys.executable, "-m", "tests.forks"],
        cwd=root,
        env=_environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,  # JAX warns of every fork
        text=True,
    )
    atexit.register(server.stdin.close)  # which ends it
    return server


def _fork(request):
    """Returns exit code, standard output and standard error of one command."""
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        child = os.fork()
        if not child:
            os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
            os.dup2(out.fileno(), 1)
            os.dup2(err.fileno(), 2)
            signal.alarm(_SECONDS)
            os._exit(_run(request))
        _, status = os.waitpid(child, 0)
        texts = []
        for file in (out, err):
            file.seek(0)
            texts.append(file.read().decode())
    return os.waitstatus_to_exitcode(status), *texts


def _run(request) -> int:
    os.environ.clear()
    os.environ.update(request["environment"])
    sys.argv = [request["command"], *request["arguments"]]
    try:
        runpy.run_module(f"gen_jax.{request['command']}", run_name="__main__", alter_sys=True)
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        traceback.print_exc()
        code = 1
    sys.stdout.flush()
    sys.stderr.flush()
    return code


if __name__ == "__main__":
    for shared in _SHARED:
        importlib.import_module(shared)
    for line in sys.stdin:
        print(json.dumps(_fork(json.loads(line))), flush=True)
