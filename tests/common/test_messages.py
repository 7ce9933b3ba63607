"""The messages of library code name options and config keys, never command-line flags.

A library function does not know which command calls it, or whether one does. The commands, which
are the modules at the top of gen_jax/, name their own flags.
"""

import ast
import pathlib
import re
from collections.abc import Iterator

from absl import flags

import gen_jax
from gen_jax.common import app

PACKAGE = pathlib.Path(gen_jax.__file__).parent
# Modules that define the flags of commands, or write whole command lines.
EXEMPT = {
    "common/app.py": "runs the commands and prints their help",
    "common/config.py": "defines --config",
    "evaluation/html_report.py": "marks up the commands of a report",
    "evaluation/next_commands.py": "writes the commands of a report",
    "parallel/compilation.py": "sets XLA_FLAGS",
    "runs/manifest.py": "calls git",
    "training/search_space.py": "writes the overrides of a trial",
    "training/sweep.py": "starts a trial",
    "web/view.py": "has variables of style sheets",
}
FLAG = re.compile(r"(?<![\w-])--[a-z{]")
COMMAND_LINE = re.compile(r"\b(python -m gen_jax\.|pip install ).*", re.DOTALL)


def texts(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Yields the line and text of every string but docstrings; values of f-strings become `{}`."""
    skipped = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr):  # a docstring of a module, function, class or attribute
            skipped.add(node.value)
        if isinstance(node, ast.JoinedStr):
            skipped.update(node.values)
    for node in ast.walk(tree):
        if node in skipped:
            continue
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.lineno, node.value
        if isinstance(node, ast.JoinedStr):
            pieces = (v.value if isinstance(v, ast.Constant) else "{}" for v in node.values)
            yield node.lineno, "".join(map(str, pieces))


def flags_in(source: str) -> list[tuple[int, str]]:
    """Returns line and text of each string that names a flag outside a whole command line."""
    found = texts(ast.parse(source))
    return [(line, text) for line, text in found if FLAG.search(COMMAND_LINE.sub("", text))]


def test_library_code_names_no_flags():
    modules = {p.relative_to(PACKAGE).as_posix(): p for p in sorted(PACKAGE.rglob("*.py"))}
    library = {name: path for name, path in modules.items() if "/" in name}
    assert library.keys() >= EXEMPT.keys()
    flagged = {name: flags_in(path.read_text("utf-8")) for name, path in library.items()}
    wrong = [
        f"{name}:{line}: {text!r}"
        for name, places in flagged.items()
        for line, text in places
        if name not in EXEMPT
    ]
    assert not wrong, "\n".join(wrong)
    assert all(flagged[name] for name in EXEMPT)


def test_the_check_reads_messages_alone():
    messages = ('f"--{name}={value}: expected"', '"name another --out"', 'f"{a}" "; see --help"')
    for message in messages:
        assert len(flags_in(f"raise ValueError({message})")) == 1
    advice = '"run python -m gen_jax.prepare --source=... --out=DIR"'
    dashes = '"a -- b", "a---b"'
    assert not flags_in(f'"""Reads --out."""\nraise ValueError({advice}, {dashes})')


def test_commands_show_options_as_flags():
    flags.DEFINE_string("test_crops", "", "Only for this test.")
    flags.FLAGS.mark_as_parsed()
    for message, shown in (
        ("test_crops=-1: expected 0", "--test_crops=-1: expected 0"),
        (
            "exists already; set test_crops to replace it",
            "exists already; set --test_crops to repl",
        ),
        ("a folder with test_crops in it", "a folder with test_crops in it"),
        ("other=1: expected 0", "other=1: expected 0"),
    ):
        assert app._with_dashes(message).startswith(shown)
