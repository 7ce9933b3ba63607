"""Grids of pictures with their captions, and plots."""

import math
import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from PIL.PngImagePlugin import PngInfo

from gen_jax.common import files

_GAP, _TEXT_HEIGHT = 4, 14


def grid(
    images: np.ndarray | Sequence[np.ndarray],
    captions: Sequence[str] | None = None,
    *,
    columns: int | None = None,
    scale: int | None = None,
) -> np.ndarray:
    """Lays pictures of one size out on white, row by row.

    Args:
      images: uint8 `[n, h, w, 3]`.
      captions: one a picture, cut to its width; None for none.
      columns: pictures in a row; as square as possible by default.
      scale: whole factor that small pictures are enlarged by; chosen by default.

    Returns:
      uint8 `[H, W, 3]`.
    """
    images = np.asarray(images)
    count, height, width = images.shape[:3]
    scale = scale or max(1, 128 // max(height, width))
    images = images.repeat(scale, 1).repeat(scale, 2)
    height, width = height * scale, width * scale
    columns = min(count, columns or math.ceil(math.sqrt(count)))
    rows = math.ceil(count / columns)
    text = _TEXT_HEIGHT if captions is not None else 0
    cell_h, cell_w = height + text + _GAP, width + _GAP
    sheet = Image.new("RGB", (columns * cell_w + _GAP, rows * cell_h + _GAP), "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(size=10)
    for index in range(count):
        x = _GAP + index % columns * cell_w
        y = _GAP + index // columns * cell_h
        sheet.paste(Image.fromarray(images[index]), (x, y))
        if captions is not None:
            draw.text((x, y + height), _fit(captions[index], draw, font, width), "black", font)
    return np.asarray(sheet)


def _fit(text: str, draw: ImageDraw.ImageDraw, font, width: int) -> str:
    """The caption, cut with an ellipsis where it is wider than its picture."""
    text = " ".join(text.split())[:200]
    if draw.textlength(text, font) <= width:
        return text
    while text and draw.textlength(text + "…", font) > width:
        text = text[:-1]
    return text + "…"


def save(path: pathlib.Path, image: np.ndarray, description: str = "") -> None:
    """Writes a PNG whole or not at all.

    Args:
      path: The file.
      image: uint8 [h, w, 3] or [h, w].
      description: Text under the keyword "Description" (PNG, 11.3.3.2), "" for none.
    """
    text = PngInfo()
    if description:
        text.add_itxt("Description", description)
    with files.replacing(path) as temporary:
        Image.fromarray(image).save(temporary, format="PNG", pnginfo=text)


def save_gif(path: pathlib.Path, images: np.ndarray, milliseconds: int = 80) -> None:
    """Writes frames, uint8 `[n, h, w, 3]`, as an endless animation, whole or not at all."""
    frames = [Image.fromarray(image) for image in images]
    with files.replacing(path) as temporary:
        frames[0].save(
            temporary,
            format="GIF",
            save_all=True,
            append_images=frames[1:],
            duration=milliseconds,
            loop=0,
        )


def plot_curves(
    path: pathlib.Path,
    curves: dict[str, tuple[Sequence[Any], Sequence[float | int]]],
    x_label: str,
    points: bool = False,
) -> None:
    """Writes line plots as a PNG, one panel a curve: name -> (x, y); `points` are not joined, and
    x may be words.
    """
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    columns = min(3, len(curves))
    rows = math.ceil(len(curves) / columns)
    figure, axes = plt.subplots(
        rows, columns, figsize=(4 * columns, 3 * rows), squeeze=False, layout="constrained"
    )
    for axis in axes.flat[len(curves) :]:
        axis.axis("off")
    for axis, (name, (x, y)) in zip(axes.flat, curves.items()):
        axis.plot(x, y, "o" if points else "-", linewidth=1)
        axis.set_title(name, fontsize=9)
        axis.set_xlabel(x_label, fontsize=8)
        axis.grid(alpha=0.3)
    with files.replacing(path) as temporary:
        figure.savefig(temporary, format="png", dpi=100)
    plt.close(figure)


def plot_table(
    path: pathlib.Path, title: str, rows: Sequence[str], columns: Sequence[Any], values: np.ndarray
) -> None:
    """Writes numbers `[rows, columns]` as a PNG, coloured from the least to the largest."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    size = (2.0 + 0.7 * len(columns), 0.9 + 0.22 * len(rows))
    figure, axis = plt.subplots(figsize=size, layout="constrained")
    axis.imshow(values, aspect="auto", cmap="RdYlGn")
    axis.set_xticks(range(len(columns)), [str(c) for c in columns], fontsize=8)
    axis.set_yticks(range(len(rows)), rows, fontsize=8)
    axis.set_title(title, fontsize=9)
    for (row, column), value in np.ndenumerate(values):
        if np.isfinite(value):
            axis.text(column, row, f"{value:.2f}", ha="center", va="center", fontsize=7)
    with files.replacing(path) as temporary:
        figure.savefig(temporary, format="png", dpi=100)
    plt.close(figure)
