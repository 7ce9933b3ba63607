"""A picture of a data set: some examples of every split with the words that go with them."""

import os
import pathlib
import textwrap

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from gen_jax.common import files, results
from gen_jax.data import dataset, images, schema

FILE = results.CONTACT_SHEET
_COLUMNS, _CELL, _LINES, _GAP = 8, 128, 4, 8
_ROWS = 4  # of the largest split; others get one row


def _font() -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size=11)


def _cell(record: schema.Record) -> Image.Image:
    cell = Image.new("RGB", (_CELL, _CELL + 16 * _LINES), "white")
    picture = Image.fromarray(images.decode_fast(record.image))
    kind = Image.Resampling.NEAREST if picture.width < _CELL // 2 else Image.Resampling.LANCZOS
    scale = _CELL / max(picture.size)
    size = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
    cell.paste(picture.resize(size, kind), ((_CELL - size[0]) // 2, (_CELL - size[1]) // 2))
    words = record.captions[0] if record.captions else record.label_name or record.key
    lines = textwrap.wrap(words, 21)[:_LINES]
    ImageDraw.Draw(cell).text((2, _CELL + 1), "\n".join(lines), fill="black", font=_font())
    return cell


def make(data_dir: str | os.PathLike, info: dataset.DatasetInfo) -> Image.Image:
    """Draws the sheet of a finished data set: examples spread evenly over each split."""
    rows: list[tuple[str, list[Image.Image]]] = []
    largest = max(info.splits, key=info.num_records)
    for split in info.splits:
        records = dataset.records_of(data_dir, info, split)
        wanted = _COLUMNS * (_ROWS if split == largest else 1)
        chosen = np.unique(np.linspace(0, len(records) - 1, wanted).astype(int)).tolist()
        cells = [_cell(schema.unpack(records[i])) for i in chosen]
        records.close()
        for at in range(0, len(cells), _COLUMNS):
            name = f"{split}: {len(records)} images" if at == 0 else ""
            rows.append((name, cells[at : at + _COLUMNS]))
    height = sum(_CELL + 16 * _LINES + _GAP + (20 if name else 0) for name, _ in rows)
    sheet = Image.new("RGB", (_COLUMNS * (_CELL + _GAP) + _GAP, height + _GAP), "white")
    draw, y = ImageDraw.Draw(sheet), _GAP
    for name, cells in rows:
        if name:
            draw.text((_GAP, y), name, fill="black", font=_font())
            y += 20
        for column, cell in enumerate(cells):
            sheet.paste(cell, (_GAP + column * (_CELL + _GAP), y))
        y += _CELL + 16 * _LINES + _GAP
    return sheet


def write(folder: pathlib.Path, info: dataset.DatasetInfo) -> None:
    """Writes contact_sheet.png beside the shards, atomically."""
    sheet = make(folder, info)
    with files.replacing(folder / FILE) as temporary:
        sheet.save(temporary, "PNG")
