"""A run's report as one self-contained HTML file: metrics and their meanings, images, commands."""

import base64
import html
import pathlib
import re
from collections.abc import Mapping, Sequence

from gen_jax.common import files
from gen_jax.evaluation.meanings import Meaning

# Below 640 pixels the meaning of a metric stands below its value instead of beside it.
_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; margin: 2em auto; max-width: 70em; padding: 0 1em;
  color: #222; overflow-wrap: anywhere }
h1 { line-height: 1.2 } h2 { margin-top: 2em }
table { border-collapse: collapse; margin: 1em 0 }
td, th { padding: .25em .8em .25em 0; text-align: left; vertical-align: top }
td.number { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap }
tr { border-bottom: 1px solid #ddd } small, td.meaning, td.good { color: #555 }
td.good, table.metrics td.name { white-space: nowrap } td.number small { white-space: normal }
td.meaning small { display: block }
div.wide { overflow-x: auto } div.wide td, div.wide th { overflow-wrap: normal }
p.warning { background: #fff3cd; border-left: 4px solid #e0a800; padding: .6em 1em }
img { max-width: 100%; height: auto } figure { margin: 2em 0 } figcaption { color: #555 }
ol.prompts { columns: 22em; column-gap: 2em; padding-left: 2.2em; margin: .5em 0; font-size: 14px }
pre { background: #f5f5f5; padding: .7em 1em; margin: .4em 0 1em; white-space: pre-wrap }
pre span { display: inline-block } pre i { font-style: normal; white-space: nowrap }
summary { cursor: pointer }
@media (max-width: 640px) {
  body { margin: 1em auto }
  table.metrics tr { display: grid; grid-template-columns: 1fr auto; padding: .4em 0 }
  table.metrics td, table.metrics td.name { padding: 0; white-space: normal }
  table.metrics td.good::before { content: "good: " }
  table.metrics td.good, table.metrics td.meaning { grid-column: 1 / 3; font-size: 14px }
  table.metrics td.good:empty { display: none } table.metrics tr.heads { display: none }
}
"""
_STEP = re.compile(r"step_\d+_")


def write(
    path: pathlib.Path,
    title: str,
    metrics: Mapping[str, float],
    images: Sequence[pathlib.Path],
    *,
    warnings: Sequence[str] = (),
    notes: Mapping[str, str] | None = None,
    facts: Mapping[str, str] | None = None,
    meanings: Mapping[str, Meaning] | None = None,
    prompts: Mapping[str, Sequence[str]] | None = None,
    commands: Mapping[str, str] | None = None,
    trained_by: str = "",
    config: str = "",
) -> None:
    """Writes the report.

    Args:
      path: Path of the HTML file.
      title: Title of the page.
      metrics: "STAGE/NAME" or "STAGE/NAME/PART" -> number; those with parts get a table of them,
        one for all that have the same.
      images: PNG files, shown by name.
      warnings: What a reader must know first; the first lines after the title.
      notes: Metric -> what to bear in mind with it.
      facts: What was trained, and how.
      meanings: Metric -> its meaning.
      prompts: Name of an image, without its step -> the prompt of each sample in it, row by row.
      commands: What one can do with the run -> the command for it.
      trained_by: Command that trains the run.
      config: The config as JSON.
    """
    lines = [
        "<!doctype html><html lang=en><meta charset=utf-8>",
        "<meta name=viewport content='width=device-width, initial-scale=1'>",
        f"<title>{html.escape(title)}</title><style>{_STYLE}</style>",
        f"<h1>{html.escape(title)}</h1>",
        *(f"<p class=warning>{html.escape(text)}</p>" for text in warnings),
    ]
    if facts:
        rows = "".join(f"<tr><td>{html.escape(k)}<td>{html.escape(v)}" for k, v in facts.items())
        lines.append(f"<table>{rows}</table>")
    lines += _metrics(metrics, notes or {}, meanings or {})
    if images:
        lines.append("<h2>Images</h2>")
    lines += [_figure(image, prompts or {}) for image in images]
    lines += _commands(commands or {}, trained_by, config)
    files.write_text(path, "\n".join(lines) + "\n")


def _metrics(
    metrics: Mapping[str, float], notes: Mapping[str, str], meanings: Mapping[str, Meaning]
) -> list[str]:
    """Returns the table of single metrics, and one for each set of metrics with equal parts."""
    groups: dict[str, dict[str, str]] = {}  # heading -> part -> name
    for name in sorted(metrics):
        heading, part = _split(name)
        groups.setdefault(heading, {})[part] = name
    lines = []
    if single := groups.pop("", None):
        lines.append("<h2>Metrics</h2>")
        lines.append(_single(single.values(), metrics, notes, meanings))
    alike: dict[tuple[str, ...], list[str]] = {}  # headings of equal parts share a table
    for heading in sorted(groups):
        alike.setdefault(tuple(groups[heading]), []).append(heading)
    for parts, headings in alike.items():
        lines.append(f"<h2>{html.escape(', '.join(headings))}</h2>")
        remarks = {name: notes.get(name, "") for h in headings for name in groups[h].values()}
        for heading in headings:
            names = list(groups[heading].values())
            lines += _shared(heading, names, remarks, meanings)
        rows = []
        for part in parts:
            names = [groups[heading][part] for heading in headings]
            cells = "".join(_value(metrics[name], remarks.get(name, "")) for name in names)
            rows.append(f"<tr><td>{html.escape(part)}{cells}")
        top = "".join(f"<th>{html.escape(h)}" for h in headings) if len(headings) > 1 else ""
        heads = f"<tr><th>{top}" if top else ""
        lines.append(f"<div class=wide><table>{heads}{''.join(rows)}</table></div>")
    return lines


def _shared(heading, names, remarks, meanings) -> list[str]:
    """Returns the meanings of a column, once above its table, and a note if all share it.

    Such a note is dropped from `remarks`.
    """
    lines = []
    by_meaning: dict[Meaning, list[str]] = {}
    for name in names:
        if name in meanings:
            by_meaning.setdefault(meanings[name], []).append(name)
    most = max(map(len, by_meaning.values()), default=0)
    for meaning, alike in by_meaning.items():
        subject = heading if len(alike) == most else ", ".join(alike)
        good = f" Good: {meaning.good}." if meaning.good else ""
        lines.append(f"<p>{html.escape(f'{subject}: {meaning.text}{good}')}</p>")
    note = remarks[names[0]]
    if note and all(remarks[name] == note for name in names):
        lines.append(f"<p>{html.escape(heading)}: {html.escape(note)}</p>")
        for name in names:
            del remarks[name]
    return lines


def _single(names, metrics, notes, meanings) -> str:
    """Returns the table of metrics without parts."""
    explained = bool(meanings) or any(name in notes for name in names)
    heads = "<tr class=heads><th><th>value<th>good<th>meaning" if explained else ""
    rows = []
    for name in names:
        row = f"<tr><td class=name>{html.escape(name)}{_value(metrics[name])}"
        if explained:
            meaning = meanings.get(name, Meaning(""))
            note = f"<small>{html.escape(notes[name])}</small>" if notes.get(name) else ""
            row += f"<td class=good>{html.escape(meaning.good)}"
            row += f"<td class=meaning>{html.escape(meaning.text)}{note}"
        rows.append(row)
    return f"<table class=metrics>{heads}{''.join(rows)}</table>"


def _value(value: float, note: str = "") -> str:
    """Returns the cell of a number."""
    remark = f" <small>{html.escape(note)}</small>" if note else ""
    return f"<td class=number>{value:.4f}{remark}"


def _split(name: str) -> tuple[str, str]:
    """Returns heading and row: "art/accuracy/dark" stands under "art/accuracy" as "dark"."""
    parts = name.split("/")
    return ("/".join(parts[:-1]), parts[-1]) if len(parts) > 2 else ("", name)


def _figure(image: pathlib.Path, prompts: Mapping[str, Sequence[str]]) -> str:
    """Returns an image with its name and, in whole, the prompts that the image has no room for."""
    data = base64.b64encode(image.read_bytes()).decode()
    name = html.escape(image.stem)
    texts = prompts.get(_STEP.sub("", image.stem, count=1), ())
    listed = "".join(f"<li>{html.escape(text) or '(empty)'}" for text in texts)
    below = f"<ol class=prompts>{listed}</ol>" if listed else ""
    caption = f"{name}; prompts in reading order:" if listed else name
    return (
        f'<figure><img alt="{name}" src="data:image/png;base64,{data}">'
        f"<figcaption>{caption}</figcaption>{below}</figure>"
    )


def _commands(commands: Mapping[str, str], trained_by: str, config: str) -> list[str]:
    """Returns the sections on how to use the run and how to train it again."""
    lines = ["<h2>Use it</h2>"] if commands else []
    for purpose, command in commands.items():
        lines.append(f"<p>{html.escape(purpose)}</p>{_command(command)}")
    if trained_by or config:
        lines.append("<h2>Train it again</h2>")
    if trained_by:
        lines.append(_command(trained_by))
    if config:
        lines.append(
            f"<details><summary>The config</summary><pre>{html.escape(config)}</pre></details>"
        )
    return lines


def _command(text: str) -> str:
    """Returns a command, whose lines break between flags and not at the hyphens before them."""
    first, *flags = html.escape(text).split(" --")
    parts = [first]
    for flag in flags:
        name, equals, value = flag.partition("=")
        parts.append(f"<span><i>--{name}{equals}</i>{value}</span>")
    return f"<pre>{' '.join(parts)}</pre>"
