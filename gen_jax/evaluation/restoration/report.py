"""A benchmark's numbers as a table to read."""

from collections.abc import Mapping
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
    return "\n".join(lines)


def _cell(value: float | None, digits: int) -> str:
    return "inf" if value is None else f"{value:.{digits}f}"
