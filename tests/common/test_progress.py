"""What a run shows while it works."""

import io
import re
import subprocess
import sys

import pytest
from rich.console import Console

from gen_jax.common import progress

VALUES = {"model/loss": 0.12345, "images_per_second": 115.2, "step_ms": 69.0, "data_wait": 0.01}


@pytest.fixture
def clock(monkeypatch):
    """A clock that the test moves."""
    now = [1000.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    return now


def terminal(width: int) -> tuple[Console, io.StringIO]:
    file = io.StringIO()
    return Console(width=width, force_terminal=True, color_system=None, file=file), file


def last_line(file: io.StringIO) -> str:
    """What stands in the line of a terminal at the end."""
    plain = re.sub(r"\x1b\[\??[0-9]*[a-zA-Z]", "", file.getvalue())
    return [line for line in re.split(r"[\r\n]", plain) if line.strip()][-1].rstrip()


@pytest.mark.parametrize(
    "width,values",
    [
        (40, ""),
        (80, "  loss 0.1235, 115.2 images/s, 69 ms/step"),
        (120, "  loss 0.1235, 115.2 images/s, 69 ms/step, data wait 1.0% ━"),
    ],
)
def test_name_step_and_time_left_come_first(clock, width, values):
    console, file = terminal(width)
    with progress.ProgressLine("faces_text", 100_000, 0, console=console) as line:
        clock[0] += 100
        line.update(12_000, VALUES)
    shown = last_line(file)
    assert shown.startswith(f"faces_text 12000/100000, 12.2 min left{values}")
    assert len(shown) <= width


def test_a_log_has_a_line_now_and_then(clock, capsys):
    line = progress.ProgressLine("vae", 40, 0)
    for step in (10, 20, 30, 40):
        clock[0] += 10
        line.update(step, VALUES)
    assert [text.split(" loss")[0] for text in capsys.readouterr().out.splitlines()] == [
        "vae 10/40", "vae 30/40", "vae 40/40",
    ]  # fmt: skip
    progress.ProgressLine("vae", 40, 20).update(30, {"model/loss": 1.0})
    assert capsys.readouterr().out == "vae 30/40 loss 1.0000, 1 s left\n"


def test_images_are_counted_with_their_rate(clock, capsys):
    with progress.ProgressLine("writing", 600, 100, unit="image") as line:
        for count in (100, 150, 250, 600):
            clock[0] += 10
            line.update(count, {})
    assert capsys.readouterr().out.splitlines() == [
        "writing: image 150 of 600, 2.5 images/s, 3.0 min left",
        "writing: image 600 of 600, 12.5 images/s, took 40 s",
    ]


def test_a_map_over_processes_shows_its_images_and_does_without_jax():
    code = (
        "import sys; from gen_jax.common import progress; from gen_jax.data import workers\n"
        "progress.ProgressLine.__init__.__defaults__ = (0.0, 'image', None)\n"
        "call = lambda context, task: context + task\n"
        "got = workers.ordered_map(call, 1, [2, 3], workers=1, label='scan', sizes=[5, 7])\n"
        "assert list(got) == [3, 4] and 'jax' not in sys.modules"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert not result.returncode, result.stderr
    first, last = result.stdout.splitlines()
    assert first.startswith("scan: image 5 of 12, ") and first.endswith(" left")
    assert last.startswith("scan: image 12 of 12, ") and "images/s, took " in last


def test_no_time_is_zero():
    words = [progress.in_words(s) for s in (0.0, 0.2, 11.4, 59.9, 60.0, 3599.0, 7200.0)]
    assert words == ["1 s", "1 s", "12 s", "60 s", "1.0 min", "60.0 min", "2.0 h"]


def test_batches_of_an_evaluation(clock, capsys):
    with progress.BatchProgress() as show:
        for done in range(37):
            show("evaluating reconstruction", done, 36)
            clock[0] += 8
        show("evaluating codes", 0, 1)
        show("evaluating codes", 1, 1)  # quick ones are not worth a line
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "evaluating reconstruction: batch 2 of 36, 4.5 min left"
    assert len(lines) == 18 and not [line for line in lines if "codes" in line]


def test_the_bar_of_an_evaluation_takes_the_place_of_the_runs(clock, monkeypatch):
    console, file = terminal(80)
    monkeypatch.setattr(progress, "Console", lambda: console)
    with progress.ProgressLine("vae", 10, 0, console=console) as line:
        line.update(5, {})
        batches = progress.ProgressLine("evaluating x", 4, 0, unit="batch", console=console)
        batches.update(3, {})
        batches._progress.refresh()
        assert last_line(file).startswith("evaluating x: batch 3 of 4, 1 s left")
        batches.close()
        line.update(6, {})
    assert last_line(file).startswith("vae 6/10, 1 s left")
    assert not progress._shown
