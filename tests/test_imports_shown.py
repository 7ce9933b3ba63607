"""Imports in notebooks and in the documentation name what is there."""

import ast
import importlib
import json
import re

import pytest

from tests.processes import ROOT

_FENCE = re.compile(r"^```python\n(.*?)^```", re.M | re.S)
_IMPORT = re.compile(
    r"^[ ]*((?:from|import) (?:gen_jax|benchmarks|configs)\b.*?(?:\([^)]*\))?)$", re.M
)
# The changelog and the journal name what was there at their time.
PAGES = [p for p in sorted((ROOT / "docs").glob("*.md")) if p.stem != "add-a-stage"]
PAGES += [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "gen_jax").rglob("*.md"))]
NOTEBOOKS = sorted((ROOT / "colabs").glob("*.ipynb"))


def shown(path):
    """Returns the code that a page or a notebook shows."""
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".md":
        return "\n".join(_FENCE.findall(text))
    cells = [c for c in json.loads(text)["cells"] if c["cell_type"] == "code"]
    return "\n".join("".join(cell["source"]) for cell in cells)


def missing(code):
    """Returns what the imports of a code name and what is not there."""
    found = []
    for line in _IMPORT.findall(code):
        (node,) = ast.parse(line).body
        for alias in node.names:
            module = alias.name if isinstance(node, ast.Import) else node.module
            try:
                owner = importlib.import_module(module)
                if isinstance(node, ast.ImportFrom) and not hasattr(owner, alias.name):
                    importlib.import_module(f"{module}.{alias.name}")
            except ImportError:
                found.append(f"{module}: {alias.name}")
    return found


@pytest.mark.parametrize("path", PAGES + NOTEBOOKS, ids=lambda path: path.name)
def test_what_is_imported_is_there(path):
    assert missing(shown(path)) == []


def test_what_is_missing_is_found():
    code = "import gen_jax.nothing\nfrom gen_jax.data import (\n    art_words,\n    text,\n)\n"
    assert missing(code) == ["gen_jax.nothing: gen_jax.nothing", "gen_jax.data: art_words"]
    assert any(_IMPORT.search(shown(path)) for path in NOTEBOOKS)
