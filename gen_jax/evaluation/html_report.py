"""A run's report as one HTML file that needs nothing beside it: warnings, numbers, pictures."""

import base64
import html
import pathlib
from collections.abc import Mapping, Sequence

from gen_jax.common import files

_STYLE = """
body { font: 15px/1.5 sans-serif; margin: 2em auto; max-width: 70em; padding: 0 1em; color: #222 }
table { border-collapse: collapse; margin: 1em 0 } td, th { padding: .2em .8em; text-align: left }
td.number { text-align: right; font-variant-numeric: tabular-nums }
tr { border-bottom: 1px solid #ddd }
p.warning { background: #fff3cd; border-left: 4px solid #e0a800; padding: .6em 1em }
img { max-width: 100%; image-rendering: pixelated } figure { margin: 1.5em 0 }
figcaption { color: #555 }
"""


def write(
    path: pathlib.Path,
    title: str,
    metrics: Mapping[str, float],
    pictures: Sequence[pathlib.Path],
    *,
    warnings: Sequence[str] = (),
    notes: Mapping[str, str] | None = None,
    facts: Mapping[str, str] | None = None,
) -> None:
    """Writes the report.

    Args:
      path: of the HTML file.
      title: of the page.
      metrics: "STAGE/NAME" or "STAGE/NAME/PART" -> number; those with parts get a table of them,
        one for all that have the same.
      pictures: PNG files, shown by name.
      warnings: what a reader must know first; the first line after the title.
      notes: metric -> what to bear in mind with it.
      facts: what was trained, and how.
    """
    lines = [
        "<!doctype html><html lang=en><meta charset=utf-8>",
        f"<title>{html.escape(title)}</title><style>{_STYLE}</style>",
        f"<h1>{html.escape(title)}</h1>",
        *(f"<p class=warning>{html.escape(text)}</p>" for text in warnings),
    ]
    if facts:
        lines.append(_table([(k, html.escape(v)) for k, v in facts.items()], number=False))
    groups: dict[str, dict[str, float]] = {}
    remarks: dict[str, dict[str, str]] = {}
    for name, value in sorted(metrics.items()):
        head, part = _split(name)
        groups.setdefault(head, {})[part] = value
        remarks.setdefault(head, {})[part] = (notes or {}).get(name, "")
    if "" in groups:
        lines.append("<h2>Measured</h2>")
        rows = [(k, _number(v, remarks[""][k])) for k, v in groups.pop("").items()]
        lines.append(_table(rows, number=True))
    alike: dict[tuple[str, ...], list[str]] = {}  # groups of the same parts share a table
    for head in sorted(groups):
        alike.setdefault(tuple(groups[head]), []).append(head)
    for parts, heads in alike.items():
        lines.append(f"<h2>{html.escape(', '.join(heads))}</h2>")
        for head in heads:
            # What is to be known of every row of a column stands once, above the table.
            if len(shared := set(remarks[head].values())) == 1 and (note := shared.pop()):
                lines.append(f"<p>{html.escape(head)}: {html.escape(note)}</p>")
                remarks[head] = {}
        rows = [
            (part, *(_number(groups[head][part], remarks[head].get(part, "")) for head in heads))
            for part in parts
        ]
        lines.append(_table(rows, number=True, heads=heads if len(heads) > 1 else ()))
    if pictures:
        lines.append("<h2>Pictures</h2>")
    for picture in pictures:
        data = base64.b64encode(picture.read_bytes()).decode()
        lines.append(
            f'<figure><img alt="{html.escape(picture.stem)}" src="data:image/png;base64,{data}">'
            f"<figcaption>{html.escape(picture.stem)}</figcaption></figure>"
        )
    files.write_text(path, "\n".join(lines) + "\n")


def _number(value: float, note: str) -> str:
    return f"{value:.4f}" + (f" <small>{html.escape(note)}</small>" if note else "")


def _split(name: str) -> tuple[str, str]:
    """Heading and row of a metric: "art/accuracy/dark" stands under "art/accuracy" as "dark"."""
    parts = name.split("/")
    return ("/".join(parts[:-1]), parts[-1]) if len(parts) > 2 else ("", name)


def _table(rows: Sequence[Sequence[str]], number: bool, heads: Sequence[str] = ()) -> str:
    kind = " class=number" if number else ""
    top = f"<tr><th>{''.join(f'<th>{html.escape(head)}' for head in heads)}" if heads else ""
    body = "".join(
        f"<tr><td>{html.escape(name)}{''.join(f'<td{kind}>{v}' for v in values)}"
        for name, *values in rows
    )
    return f"<table>{top}{body}</table>"
