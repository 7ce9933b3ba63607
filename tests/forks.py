"""Commands that are refused early, many for the price of importing once.

A refused command takes seconds, nearly all of them for imports. Here one process imports what the
commands need, and each command runs as `python -m gen_jax.NAME` would in a fork of it.
"""

import importlib
import json
import os
import runpy
import subprocess
import sys
import tempfile
import traceback

from tests.processes import ROOT, environment

_SHARED = ("jax", "gen_jax.runs.reader", "gen_jax.pipelines.code_prior", "gen_jax.pipelines.faces")


def call_each(command: str, *arguments) -> list[subprocess.CompletedProcess]:
    """Runs a command once per list of arguments."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.forks", command],
        input=json.dumps(arguments),
        cwd=ROOT,
        env=environment(GLIBC_TUNABLES=""),  # or the first command would start the process over
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    ends = json.loads(done.stdout.splitlines()[-1])
    return [
        subprocess.CompletedProcess(given, *end) for given, end in zip(arguments, ends, strict=True)
    ]


def _fork(command, arguments):
    """Exit code, standard output and standard error of one command."""
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        child = os.fork()
        if not child:
            os.dup2(out.fileno(), 1)
            os.dup2(err.fileno(), 2)
            os._exit(_run(command, arguments))
        _, status = os.waitpid(child, 0)
        texts = []
        for file in (out, err):
            file.seek(0)
            texts.append(file.read().decode())
    return os.waitstatus_to_exitcode(status), *texts


def _run(command, arguments) -> int:
    sys.argv = [command, *arguments]
    try:
        runpy.run_module(f"gen_jax.{command}", run_name="__main__", alter_sys=True)
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
    print(json.dumps([_fork(sys.argv[1], given) for given in json.load(sys.stdin)]))
