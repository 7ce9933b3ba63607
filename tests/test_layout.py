"""The layout of the code: sizes of files and functions, and what stands where."""

import ast
import functools
import pathlib
import re
import subprocess

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[1]
FOLDERS = ("gen_jax", "configs", "benchmarks", "tests")
FILES = [path for folder in FOLDERS for path in sorted((ROOT / folder).rglob("*.py"))]
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)


def named(path: pathlib.Path) -> str:
    return path.relative_to(ROOT).as_posix()


@functools.cache
def functions(path: pathlib.Path) -> list[ast.FunctionDef]:
    """Returns all functions of a file, those within others and methods included."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return [node for node in ast.walk(tree) if isinstance(node, FUNCTIONS)]


def listed() -> list[str]:
    """Returns the names of all files that git tracks; skips the test outside of a checkout."""
    command = ["git", "-C", str(ROOT), "ls-files"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"git lists no files here: {done.stderr.strip()}")
    return [line.strip('"') for line in done.stdout.splitlines()]


def test_no_merge_was_left_half_done():
    texts = (".md", ".py", ".txt", ".toml", ".yaml", ".json", ".ipynb", ".sh")
    marks = re.compile(r"^(<{7}|>{7}) ", re.MULTILINE)
    paths = [ROOT / name for name in listed() if name.endswith(texts)]
    # A file that was just removed is still listed.
    left = [named(p) for p in paths if p.exists() and marks.search(p.read_text("utf-8"))]
    assert not left


def test_nothing_else_stands_at_the_top():
    expected = {
        *("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "LICENSE", "pyproject.toml"),
        *("requirements.txt", "requirements-dev.txt", "constraints.txt"),
        *("gen_jax", "configs", "launch", "tests", "colabs", "benchmarks", "docs"),
        *(".ci", ".gitignore", ".dockerignore", ".pre-commit-config.yaml"),
    }
    assert {name.split("/")[0] for name in listed()} <= expected


def test_files_have_at_most_400_lines():
    lengths = {named(path): len(path.read_text("utf-8").splitlines()) for path in FILES}
    assert len(lengths) > 500
    assert not {name: length for name, length in lengths.items() if length > 400}


@pytest.mark.parametrize("folder", ["gen_jax", "configs"])
def test_functions_have_at_most_100_lines(folder):
    lengths = {
        f"{named(path)}:{function.name}": function.end_lineno - function.lineno + 1
        for path in sorted((ROOT / folder).rglob("*.py"))
        for function in functions(path)
    }
    assert not {name: length for name, length in lengths.items() if length > 100}


def test_there_is_one_train_step():
    names = ("train_step", "_train_step")
    steps = [named(p) for p in FILES for f in functions(p) if f.name in names]
    assert steps == ["gen_jax/training/step.py"]
    updates = [named(p) for p in FILES if "apply_updates" in p.read_text("utf-8")]
    assert [name for name in updates if name.startswith("gen_jax/")] == steps


def test_every_module_at_the_top_is_a_command():
    modules = [p for p in (ROOT / "gen_jax").glob("*.py") if p.name != "__init__.py"]
    assert ROOT / "gen_jax" / "main.py" in modules
    for path in modules:
        tree = ast.parse(path.read_text(encoding="utf-8"))
        assert any(isinstance(node, FUNCTIONS) and node.name == "main" for node in tree.body), path
        assert ast.unparse(tree.body[-1]).startswith("if __name__ == '__main__':\n    app.run(main")


def test_no_file_is_called_utils():
    assert not [named(path) for path in FILES if path.stem.strip("_") in ("utils", "util")]
