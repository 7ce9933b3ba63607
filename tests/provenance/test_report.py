"""Reports of an audit, as CSV and HTML."""

import csv
import io
import pathlib

import pytest

from gen_jax.common.errors import UserError
from gen_jax.provenance import report
from gen_jax.provenance.verdict import Check, Outcome, Verdict

VERDICTS = [
    Verdict(pathlib.Path("=a<b>.png"), (Check("file", Outcome.FAILED, "changed; <b>"),)),
    Verdict(pathlib.Path("b.png"), (Check("maps", Outcome.OK, "unchanged"),)),
]


def test_a_report_has_a_row_per_image_and_a_column_per_check():
    first, *rows = csv.reader(io.StringIO(report.text(VERDICTS, "a.csv")))
    assert first == ["path", "outcome", "file", "file detail", "maps", "maps detail"]
    assert rows[0] == ["'=a<b>.png", "failed", "failed", "changed; <b>", "", ""]
    assert rows[1] == ["b.png", "ok", "", "", "ok", "unchanged"]
    page = report.text(VERDICTS, "a.html")
    assert "=a&lt;b&gt;.png" in page and "<b>" not in page and page.count("<tr>") == 3
    with pytest.raises(UserError, match=r"report=a\.pdf: expected a name that ends in"):
        report.check_name("a.pdf")
