"""Fixtures of the launchers' tests: a stand-in for Python, and flags of main."""

import pytest

from tests.launch.launchers import stub


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
