"""Which processes keep their memory, and that a door starts over only once."""

import os
import subprocess
import sys

import pytest

from gen_jax.common import memory
from tests.processes import ROOT

GLIBC = sys.platform == "linux" and memory.platform.libc_ver()[0] == "glibc"


@pytest.mark.skipif(not GLIBC, reason="glibc's settings")
@pytest.mark.parametrize(
    "environment, devices, expected",
    [
        ({}, [], True),
        ({}, ["/dev/nvidia0"], False),
        ({"JAX_PLATFORMS": "cpu"}, ["/dev/nvidia0"], True),
        ({"GLIBC_TUNABLES": ""}, [], False),
        ({"MALLOC_ARENA_MAX": "4"}, [], False),
    ],
)
def test_who_gets_them(monkeypatch, environment, devices, expected):
    monkeypatch.setattr(memory.glob, "glob", lambda pattern: devices)
    assert bool(memory.settings(environment)) == expected


def test_only_doors_start_over(monkeypatch):
    monkeypatch.setattr(memory, "settings", lambda environment: {"A": "1"})
    monkeypatch.setattr(os, "execve", lambda *args: pytest.fail("this is a test run"))
    memory.keep_pages()


@pytest.mark.skipif(not GLIBC, reason="glibc's settings")
def test_a_door_keeps_its_arguments_and_its_exit_code():
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("MALLOC_", "GLIBC_"))}
    command = [
        sys.executable,
        "-m",
        "gen_jax.evaluate",
        "--out=a b",
        "--size=3",
        "--real=x",
        "--fake=y",
    ]
    done = subprocess.run(
        command, cwd=ROOT, env=clean | {"JAX_PLATFORMS": "cpu"}, capture_output=True, text=True
    )
    assert done.returncode == 2
    assert (
        done.stderr.strip()
        == "error: flag --size=3: expected a whole number from 16 to 16384; see --help"
    )
