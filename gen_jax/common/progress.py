"""The live line of a run: a bar on a terminal, a line now and then in a log."""

import math
import sys
import time
from collections.abc import Iterator, Mapping

from rich.console import Console, ConsoleOptions, RenderResult
from rich.measure import Measurement
from rich.progress import Progress, ProgressColumn, Task
from rich.progress_bar import ProgressBar
from rich.segment import Segment

_BAR = 8  # columns below which a bar shows nothing
_WIDEST_BAR = 40

# The lines whose bars are on the terminal: the innermost is shown, the others wait.
_shown: list["ProgressLine"] = []


def say(text: str) -> None:
    """Prints a line, on the main process alone."""
    if _is_main():
        print(text, flush=True)


def _is_main() -> bool:
    """Returns whether this is JAX's main process, without importing JAX for commands without it."""
    jax = sys.modules.get("jax")
    return jax is None or jax.process_index() == 0


def in_words(seconds: float | int) -> str:
    """Returns a time such as "12 s", "3.4 min" or "2.1 h"; it is rounded up to whole seconds."""
    if seconds < 60:
        return f"{max(1, math.ceil(seconds))} s"
    return f"{seconds / 60:.1f} min" if seconds < 3600 else f"{seconds / 3600:.1f} h"


class ProgressLine:
    """Shows step, time left, loss and speeds.

    In a narrow terminal, the bar and then the speeds are left out; name, step and time stay.

    Args:
      name: What is trained or measured.
      total: Steps in all.
      start: Step that the run starts or resumes at.
      every_seconds: Seconds between lines if the output is not a terminal.
      unit: What is counted, such as "batch"; "" for steps of training. A line that counts
        something is shown only if it takes longer than `every_seconds`, and its bar vanishes.
        One that counts "image" shows images per second.
      console: Terminal to show a bar on; standard output if it is one, by default.
    """

    def __init__(
        self,
        name: str,
        total: int,
        start: int,
        every_seconds: float = 15.0,
        unit: str = "",
        console: Console | None = None,
    ):
        self._name, self._total, self._start, self._unit = name, total, start, unit
        self._every, self._began = every_seconds, time.monotonic()
        self._said = self._began if unit else 0.0
        self._progress = None
        if _is_main() and (console is not None or sys.stdout.isatty()):
            self._progress = Progress(
                _Columns(), console=console or Console(), expand=True, transient=bool(unit)
            )
            self._task = self._progress.add_task("", total=total, head="", values=())
            self.update(start, {})
            if _shown:
                _shown[-1]._progress.stop()
            _shown.append(self)
            self._progress.start()

    def __enter__(self) -> "ProgressLine":
        return self

    def __exit__(self, *_) -> None:
        self.close()

    def update(self, step: int, values: Mapping[str, float], epoch: float | None = None) -> None:
        """Shows the newest values of a step (loss first, then the speeds), or of an image.

        Args:
          step: Number of steps done, or of what is counted.
          values: Newest values by name.
          epoch: Number of epochs done; None shows none.
        """
        count = f": {self._unit} {step} of " if self._unit else f" {step}/"
        head = f"{self._name}{count}{self._total}"
        head += "" if epoch is None else f", epoch {epoch:.2f}"
        passed, done = time.monotonic() - self._began, step - self._start
        if self._unit == "image" and done > 0 and passed > 0:
            values = {"images_per_second": done / passed, **values}
        parts = tuple(_parts(values))
        if self._progress is not None:
            left = self._left(step)
            head += f", {left}" if left else ""
            self._progress.update(self._task, completed=step, head=head, values=parts)
            return
        now = time.monotonic()
        is_last = step == self._total and not self._unit
        if now - self._said >= self._every or is_last:
            self._said = now
            if parts:
                head += f"{',' if self._unit else ''} {', '.join(parts)}"
            say(", ".join(filter(None, [head, self._left(step)])))

    def _left(self, step: int) -> str:
        """Returns how long the rest takes, or at the end how long it took."""
        passed, done = time.monotonic() - self._began, step - self._start
        if step >= self._total:
            return f"took {in_words(passed)}"
        return f"{in_words(passed / done * (self._total - step))} left" if done > 0 else ""

    def close(self) -> None:
        """Leaves the bar as it stands, and shows again the one that waited."""
        if self._progress is not None and self in _shown:
            self._progress.stop()
            _shown.remove(self)
            if _shown:
                _shown[-1]._progress.start()


class BatchProgress:
    """Shows the batches of evaluations, one line for each of their loops.

    An instance is called with a title, the number of batches done, 0 at first, and of all. As a
    context manager it ends the line of a loop that was cut short.
    """

    def __init__(self):
        self._line: ProgressLine | None = None

    def __call__(self, title: str, done: int, total: int) -> None:
        """Shows that `done` of `total` batches are done."""
        if not done:
            self._close()
            self._line = ProgressLine(title, total, 0, unit="batch")
        if self._line is not None:
            self._line.update(done, {})
        if done == total:
            self._close()

    def __enter__(self) -> "BatchProgress":
        return self

    def __exit__(self, *_) -> None:
        self._close()

    def _close(self) -> None:
        if self._line is not None:
            self._line.close()
            self._line = None


class _Columns(ProgressColumn):
    """The whole line as one column, which knows how wide it may be."""

    def render(self, task: Task) -> "_Row":
        return _Row(task.fields["head"], task.fields["values"], task.completed, task.total or 1)


class _Row:
    """Head, values and bar; what has no room is left out, the bar and the last values first."""

    def __init__(self, head: str, values: tuple[str, ...], done: float | int, total: float | int):
        self._head, self._values, self._done, self._total = head, values, done, total

    def __rich_measure__(self, console: Console, options: ConsoleOptions) -> Measurement:
        return Measurement(1, options.max_width)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        room = options.max_width - len(self._head)
        values = ""
        for part in self._values:
            longer = f"{values}, {part}" if values else f"  {part}"
            if len(longer) > room:
                break
            values = longer
        width = min(_WIDEST_BAR, room - len(values) - 1)
        yield Segment(self._head[: options.max_width] + values)
        if width >= _BAR:
            yield Segment(" ")
            bar = ProgressBar(self._total, self._done, width=width)
            yield from console.render(bar, options.update_width(width))


def _parts(values: Mapping[str, float]) -> Iterator[str]:
    """Yields what a line shows of the values, the most important first."""
    loss = next((v for k, v in values.items() if k.endswith("/loss")), None)
    if loss is not None:
        yield f"loss {loss:.4f}"
    if "psnr" in values:
        yield f"{values['psnr']:.2f} dB"
    if "images_per_second" in values:
        yield f"{values['images_per_second']:.1f} images/s"
    if "step_ms" in values:
        yield f"{values['step_ms']:.0f} ms/step"
        yield f"data wait {100 * values['data_wait']:.1f}%"
    if "tflops" in values:
        share = values.get("peak_share")
        of_peak = f" ({100 * share:.0f}% of peak)" if share else ""
        yield f"{values['tflops']:.2f} TFLOP/s{of_peak}"
