"""A benchmark's numbers as a table to read."""

from collections.abc import Mapping, Sequence
from typing import Any

_COLUMNS = {"psnr": ("PSNR, dB", 2), "ssim": ("SSIM", 4), "lpips": ("LPIPS", 4)}


def table(found: Mapping[str, Any]) -> str:
    """One line a picture and the mean below, of what `run.run` returns."""
    columns = [name for name in _COLUMNS if name in found["rows"][0]]
    mean = {**found, "name": f"mean of {found['n']}"}
    width = max(len(row["name"]) for row in (*found["rows"], mean))
    lines = [f"{'picture':<{width}}  " + "  ".join(f"{_COLUMNS[c][0]:>8}" for c in columns)]
    for row in (*found["rows"], mean):
        cells = (_cell(row[c], _COLUMNS[c][1]) for c in columns)
        lines.append(f"{row['name']:<{width}}  " + "  ".join(f"{cell:>8}" for cell in cells))
    return "\n".join((*lines, *_left_out(found)))


def levels(found: Sequence[Mapping[str, Any]]) -> str:
    """One line a strength, of what `run.run_levels` returns: means over the pictures."""
    told = [k for k in ("sigma", "scale", "quality") if k in found[0]]
    columns = [name for name in _COLUMNS if found[0].get(name) is not None]
    lines = ["  ".join(f"{head:>8}" for head in (*told, *(_COLUMNS[c][0] for c in columns)))]
    for level in found:
        cells = [f"{level[k]:g}" for k in told]
        cells += [_cell(level[c], _COLUMNS[c][1]) for c in columns]
        lines.append("  ".join(f"{cell:>8}" for cell in cells))
    return "\n".join((*lines, f"means of {found[0]['n']} pictures", *_left_out(found[0])))


def _left_out(found: Mapping[str, Any]) -> list[str]:
    return [f"left out: {found['left_out']}"] if "left_out" in found else []


def _cell(value: float | None, digits: int) -> str:
    return "inf" if value is None else f"{value:.{digits}f}"
