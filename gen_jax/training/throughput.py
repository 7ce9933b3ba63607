"""Speeds: images a second, data wait, estimated TFLOP/s and the share of the device's peak."""

import collections
import time

import jax

# Dense bf16 peaks in TFLOP/s, from the makers' data sheets; matched as part of `device_kind`.
PEAKS = {
    "GB200": 2250.0,
    "B200": 2250.0,
    "H200": 989.0,
    "H100": 989.0,
    "A100": 312.0,
    "TPU v6": 918.0,
    "TPU v5p": 459.0,
    "TPU v5 lite": 197.0,
    "TPU v4": 275.0,
}


def peak_tflops(device: jax.Device | None = None) -> float | None:
    """The bf16 peak of one device, or None where it is not known (a CPU)."""
    kind = (device or jax.devices()[0]).device_kind
    return next((v for k, v in PEAKS.items() if k.lower() in kind.lower()), None)


def flops_of(lowered: jax.stages.Lowered) -> float | None:
    """Operations of one run over all devices, as XLA estimates; None where it does not.

    Counted before compilation: on a GPU convolutions and products then become calls of libraries,
    which XLA counts as nothing.
    """
    flops = (lowered.cost_analysis() or {}).get("flops")
    return flops if flops and flops > 0 else None


class Throughput:
    """Running speeds over the last steps.

    Args:
      batch_size: the global batch, in images.
      flops: of one step over all devices, as XLA estimates; None where it does not.
      window: steps that the averages run over.
    """

    def __init__(self, batch_size: int, flops: float | None, window: int = 50):
        self._batch, self._flops = batch_size, flops
        self._steps: collections.deque[tuple[float, float]] = collections.deque(maxlen=window)
        self._last = time.perf_counter()

    def pause(self) -> None:
        """Leaves out what passed since the last step (an evaluation, a save)."""
        self._last = time.perf_counter()

    def step(self, data_wait: float) -> None:
        """Notes a finished step and the seconds it waited for data."""
        now = time.perf_counter()
        self._steps.append((now - self._last, data_wait))
        self._last = now

    def values(self) -> dict[str, float]:
        """`images_per_second`, `step_ms`, `data_wait` (share of time), `tflops`, `peak_share`."""
        if not self._steps:
            return {}
        total = max(sum(t for t, _ in self._steps), 1e-9)
        seconds = total / len(self._steps)
        out = {
            "images_per_second": self._batch / seconds,
            "step_ms": 1e3 * seconds,
            "data_wait": sum(w for _, w in self._steps) / total,
        }
        if self._flops:
            out["tflops"] = self._flops / seconds / 1e12
            if peak := peak_tflops():
                out["peak_share"] = out["tflops"] / (peak * jax.device_count())
        return out
