"""Reports of an audit: a table as CSV or as an HTML page."""

import csv
import html
import io
from collections.abc import Sequence

from gen_jax.common import names
from gen_jax.common.errors import UserError
from gen_jax.provenance.verdict import Verdict

ENDINGS = (".csv", ".html")

_STYLE = (
    "body{font:14px sans-serif;margin:2em}table{border-collapse:collapse}"
    "td,th{border:1px solid #ccc;padding:4px 8px;text-align:left;vertical-align:top}"
    ".failed{background:#fdd}.unchecked{background:#ffd}.ok{background:#dfd}"
)


def check_name(path: str, name: str = "report") -> None:
    """Raises UserError unless a file name asks for a kind of report that there is."""
    if not path.endswith(ENDINGS):
        raise UserError(f"{name}={path}: expected a name that ends in {' or '.join(ENDINGS)}")


def text(verdicts: Sequence[Verdict], path: str) -> str:
    """Returns a report with a row per verdict and a column per check.

    Args:
      verdicts: What was verified.
      path: Name of the file, whose ending says which kind of report it is.
    """
    checks = list(dict.fromkeys(check.name for one in verdicts for check in one.checks))
    return (_csv if path.endswith(".csv") else _html)(verdicts, checks)


def _csv(verdicts: Sequence[Verdict], checks: Sequence[str]) -> str:
    buffer = io.StringIO()
    writer = csv.writer(buffer)
    writer.writerow(["path", "outcome", *(k for c in checks for k in (c, f"{c} detail"))])
    for one in verdicts:
        made = {check.name: (check.outcome.value, check.detail) for check in one.checks}
        cells = [cell for name in checks for cell in made.get(name, ("", ""))]
        writer.writerow([_safe(names.printable(one.path)), one.outcome.value, *map(_safe, cells)])
    return buffer.getvalue()


def _safe(cell: str) -> str:
    """Returns a cell that a spreadsheet does not take for a formula."""
    cell = names.printable(cell)
    return f"'{cell}" if cell.startswith(("=", "+", "-", "@")) else cell


def _html(verdicts: Sequence[Verdict], checks: Sequence[str]) -> str:
    rows = []
    for one in verdicts:
        made = {check.name: check for check in one.checks}
        cells = [f"<td>{html.escape(names.printable(one.path))}</td>"]
        cells.append(f"<td class={one.outcome.value}>{one.outcome.value}</td>")
        for name in checks:
            check = made.get(name)
            detail = html.escape(names.printable(check.detail)) if check else ""
            cells.append(f"<td class={check.outcome.value if check else 'absent'}>{detail}</td>")
        rows.append(f"<tr>{''.join(cells)}</tr>")
    head = "".join(f"<th>{html.escape(name)}</th>" for name in ("image", "outcome", *checks))
    table = "\n".join(rows)
    return (
        f'<!doctype html><meta charset="utf-8"><title>Audit</title><style>{_STYLE}</style>\n'
        f"<h1>{len(verdicts)} verified</h1>\n<table><tr>{head}</tr>\n{table}\n</table>\n"
    )
