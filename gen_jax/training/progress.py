"""The live line of a run: a bar on a terminal, a line now and then in a log."""

import sys
import time
from collections.abc import Mapping

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from gen_jax.parallel import distributed


def say(text: str) -> None:
    """Prints a line, on the main process alone."""
    if distributed.is_main():
        print(text, flush=True)


class ProgressLine:
    """Shows step, loss, speeds and time left.

    Args:
      name: what is being trained or measured.
      total: steps in all.
      start: the step that the run starts or resumes at.
      every_seconds: between lines where the output is no terminal.
    """

    def __init__(self, name: str, total: int, start: int, every_seconds: float = 15.0):
        self._name, self._total, self._start = name, total, start
        self._every, self._said, self._began = every_seconds, 0.0, time.monotonic()
        self._bar = None
        if distributed.is_main() and sys.stdout.isatty():
            self._bar = Progress(
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn("{task.fields[values]}"),
                TimeRemainingColumn(),
                console=Console(),
            )
            self._bar.start()
            self._row = self._bar.add_task(name, total=total, completed=start, values="")

    def update(self, step: int, values: Mapping[str, float]) -> None:
        """Shows the newest values of a step (loss first, then the speeds), or of a picture."""
        text = _text(values)
        if self._bar is not None:
            self._bar.update(self._row, completed=step, values=text)
            return
        now = time.monotonic()
        if now - self._said >= self._every or step == self._total:
            self._said = now
            done = step - self._start
            left = (now - self._began) / done * (self._total - step) if done else 0.0
            say(f"{self._name} {step}/{self._total} {text}, {left / 60:.1f} min left")

    def close(self) -> None:
        """Leaves the bar as it stands."""
        if self._bar is not None:
            self._bar.stop()


def _text(values: Mapping[str, float]) -> str:
    loss = next((v for k, v in values.items() if k.endswith("/loss")), None)
    parts = [] if loss is None else [f"loss {loss:.4f}"]
    if "psnr" in values:
        parts.append(f"{values['psnr']:.2f} dB")
    if "images_per_second" in values:
        parts += [
            f"{values['images_per_second']:.1f} images/s",
            f"{values['step_ms']:.0f} ms/step",
            f"data wait {100 * values['data_wait']:.1f}%",
        ]
    if "tflops" in values:
        share = values.get("peak_share")
        parts.append(
            f"{values['tflops']:.2f} TFLOP/s" + (f" ({100 * share:.0f}% of peak)" if share else "")
        )
    return ", ".join(parts)
