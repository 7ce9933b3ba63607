"""Whether the tests notice the mistakes of `tests/mutations.py`."""

import os
import shutil
import subprocess
import sys

import pytest

from tests.conftest import CACHE, ROOT
from tests.mutations import MUTATIONS

every_mutation = pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda m: m.name)


@every_mutation
def test_the_replaced_text_occurs_once(mutation):
    assert (ROOT / mutation.file).read_text().count(mutation.old) == 1, mutation.file
    assert mutation.new != mutation.old and mutation.tests
    for node in mutation.tests:
        file, name = node.split("::")
        assert f"\ndef {name.split('[')[0]}(" in (ROOT / file).read_text(), node


@pytest.fixture(scope="module")
def copy(tmp_path_factory):
    """A copy of what the tests need, in which all tests of the list pass."""
    folder = tmp_path_factory.mktemp("copy")
    for name in ("gen_jax", "configs", "tests"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", folder)
    tests = sorted({node for mutation in MUTATIONS for node in mutation.tests})
    result = run(folder, tests)
    assert result.returncode == 0, result.stdout[-4000:]
    return folder


def run(folder, tests):
    """Runs tests of a copy in a process of their own."""
    env = {k: v for k, v in os.environ.items() if not k.startswith("PYTEST_")}
    # Without bytecode: a mutation of the same second and size would be taken for what it replaces.
    env |= {"GEN_JAX_TEST_CACHE": str(CACHE), "PYTHONDONTWRITEBYTECODE": "1", "COLUMNS": "500"}
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--tb=line", *tests]
    return subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True)


@pytest.mark.nightly
@every_mutation
def test_every_mutation_is_noticed(copy, mutation):
    path = copy / mutation.file
    text = path.read_text()
    path.write_text(text.replace(mutation.old, mutation.new))
    try:
        result = run(copy, list(mutation.tests))
    finally:
        path.write_text(text)
    # 1: tests ran and failed; a mutation that cannot be imported would be noticed by any test.
    assert result.returncode == 1, result.stdout[-4000:]
    for node in mutation.tests:
        lines = [x for x in result.stdout.splitlines() if x.startswith(f"FAILED {node}")]
        # By what they assert, not by an error on the way.
        assert any("AssertionError" in x or " - assert " in x for x in lines), result.stdout[-4000:]
