"""Words, lengths and links of the documentation, and the words of every command's --help.

Some words were private to this project (`tower` for encoder, `told` for conditioned on). A reader
searches for the field's terms, so these words are not used in prose. Names of code are exempt: what
stands in backticks, in fences and in the targets of links.
"""

import ast
import functools
import pathlib
import re
from collections.abc import Iterator

ROOT = pathlib.Path(__file__).resolve().parents[1]
DOCS = sorted((ROOT / "docs").rglob("*.md"))
TOP = tuple(ROOT / f"{name}.md" for name in ("README", "CONTRIBUTING", "CHANGELOG"))
JOURNAL = ROOT / "docs" / "journal"
BANNED = re.compile(r"\b(doors?|rooms?|towers?|told|heard|deaf|nought|anew|surest)\b", re.I)
RESULTS_LINES = 150
FAMILY_LINES = 200

_FENCE = re.compile(r"^(`{3,}|~{3,}).*?^\1\s*$", re.M | re.S)
# A blank line ends a paragraph, so that a backtick without a partner hides nothing behind it.
_CODE = re.compile(r"(`+)(?!`)(?:(?!\n\s*\n).)*?(?<!`)\1(?!`)", re.S)
_TARGET = re.compile(r"\]\(([^()\s]+)\)")


def _blank(match: re.Match) -> str:
    """Returns the lines of a match without their text, so that line numbers stay."""
    return "\n" * match[0].count("\n")


@functools.cache
def without_code(path: pathlib.Path) -> str:
    """Returns a page without fenced blocks and without what stands in backticks."""
    return _CODE.sub(_blank, _FENCE.sub(_blank, path.read_text(encoding="utf-8")))


def prose(path: pathlib.Path) -> str:
    """Returns a page without code and without the targets of its links."""
    return _TARGET.sub("]", without_code(path))


@functools.cache
def anchors(path: pathlib.Path) -> frozenset[str]:
    """Returns the anchors that GitHub gives to a page's headings."""
    text = _FENCE.sub(_blank, path.read_text(encoding="utf-8"))
    names: list[str] = []
    for heading in re.findall(r"^#{1,6}\s+(.+?)\s*$", text, re.M):
        shown = re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", heading).replace("`", "")
        name = re.sub(r"[^\w\- ]", "", shown.lower()).replace(" ", "-")
        count = sum(bool(re.fullmatch(re.escape(name) + r"(-\d+)?", n)) for n in names)
        names.append(f"{name}-{count}" if count else name)
    return frozenset(names)


def banned_in(text: str, name: str) -> list[str]:
    """Returns `name:line: word` of every banned word in a text."""
    return [
        f"{name}:{text.count(chr(10), 0, match.start()) + 1}: {match[0]}"
        for match in BANNED.finditer(text)
    ]


def help_texts(path: pathlib.Path) -> Iterator[tuple[int, str]]:
    """Yields the line and text of a command's docstring and of each string of its flags."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    yield 1, ast.get_docstring(tree) or ""
    for node in ast.walk(tree):
        # `flags.DEFINE_*`, `paths.DEFINE_*`, `numbers.define_*`, `config_lib.define`.
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
            continue
        if node.func.attr.lower().startswith("define"):
            for part in ast.walk(node):
                if isinstance(part, ast.Constant) and isinstance(part.value, str):
                    yield part.lineno, part.value


def broken_links(page: pathlib.Path) -> Iterator[str]:
    """Yields every relative link of a page that leads to no file or to no heading."""
    for target in _TARGET.findall(without_code(page)):
        if re.match(r"[a-z]+:", target):
            continue
        file, _, anchor = target.partition("#")
        path = (page.parent / file).resolve() if file else page
        if not path.exists():
            yield f"{page.relative_to(ROOT)}: {target}: no such file"
        elif anchor and path.suffix == ".md" and anchor not in anchors(path):
            yield f"{page.relative_to(ROOT)}: {target}: no such heading"


def test_the_docs_use_the_fields_words():
    pages = [p for p in (*TOP, *DOCS) if p.name != "CHANGELOG.md" and JOURNAL not in p.parents]
    places = [
        place for page in pages for place in banned_in(prose(page), str(page.relative_to(ROOT)))
    ]
    assert not places, "\n".join(places)


def test_help_uses_the_fields_words():
    commands = [p for p in sorted((ROOT / "gen_jax").glob("*.py")) if p.name != "__init__.py"]
    assert any(path.name == "main.py" for path in commands)
    places = [
        f"{path.name}:{line}: {match[0]!r} in {text.strip()[:60]!r}"
        for path in commands
        for line, text in help_texts(path)
        for match in BANNED.finditer(text)
    ]
    assert not places, "\n".join(places)


def test_pages_of_results_stay_short():
    def count(path):
        return len(path.read_text(encoding="utf-8").splitlines())

    assert count(ROOT / "docs" / "results.md") <= RESULTS_LINES
    families = sorted((ROOT / "docs" / "results").glob("*.md"))
    assert families
    long = {path.name: count(path) for path in families if count(path) > FAMILY_LINES}
    assert not long


def test_links_lead_somewhere():
    broken = [line for page in (*TOP, *DOCS) for line in broken_links(page)]
    assert not broken, "\n".join(broken)


def test_the_checks_can_fail(tmp_path):
    page = tmp_path / "page.md"
    page.write_text(
        "# A `Door` of 1.5\n\nTold `told` [x](#a-door-of-15) `\n\n```\nroom\n```\nanew\n"
    )
    assert banned_in(prose(page), "p") == ["p:3: Told", "p:8: anew"]
    assert anchors(page) == {"a-door-of-15"}
    assert not list(broken_links(page))
    other = tmp_path / "other.md"
    other.write_text("# One\n\n# One\n")
    assert anchors(other) == {"one", "one-1"}
    command = tmp_path / "command.py"
    command.write_text(
        '"""Help."""\n_A = flags.DEFINE_string("a", "", "What the tower" " is told.")\nB = "door"\n'
        '_C = config_lib.define("Room.")\n'
    )
    words = [match[0] for _, text in help_texts(command) for match in BANNED.finditer(text)]
    assert words == ["tower", "told", "Room"]
