"""Screenshots, documents and charts that are drawn here: sharp, flat and saturated content."""

import textwrap

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

_TEXT = """
the of a in to is for on light from which image model page open save edit view note total
height width noise north bridge river letter figure table volume chapter house city paper under
over between result value number data file menu help search window street market
"""
WORDS = _TEXT.split()
_SCALE = 2  # pages are drawn larger and reduced, so that edges are antialiased as on a screen


def page(rng: np.random.Generator, size: tuple[int, int] = (480, 320)) -> Image.Image:
    """Draws a random page.

    Args:
      rng: Decides kind, colors and text.
      size: Width and height in pixels.
    """
    draw_page = PAGES[rng.integers(len(PAGES))]
    is_reduced = rng.random() < 0.5
    canvas = Image.new("RGB", [side * (_SCALE if is_reduced else 1) for side in size])
    draw_page(canvas, ImageDraw.Draw(canvas), rng)
    return canvas.resize(size, Image.Resampling.LANCZOS) if is_reduced else canvas


def caption(photo: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Writes one to three lines of text over a photograph, with an outline or a bar behind."""
    image = photo.convert("RGB")
    draw = ImageDraw.Draw(image)
    for _ in range(rng.integers(1, 4)):
        size = int(rng.integers(10, 40))
        at = (int(rng.integers(0, image.width // 2)), int(rng.integers(0, image.height - size)))
        text, color = _sentence(rng, 2, 6), _color(rng)
        font = ImageFont.load_default(size)
        if rng.random() < 0.5:
            left, top, right, bottom = draw.textbbox(at, text, font)
            draw.rectangle((left - 4, top - 3, right + 4, bottom + 3), _color(rng))
            draw.text(at, text, color, font)
        else:
            draw.text(at, text, color, font, stroke_width=size // 12, stroke_fill=_color(rng))
    return image


def _sentence(rng, least, most):
    return " ".join(rng.choice(WORDS, rng.integers(least, most + 1))).capitalize()


def _color(rng, dark=None):
    """Draws a color: saturated, or near black or white."""
    if dark is None and rng.random() < 0.6:
        hue, saturation, value = rng.integers(180), rng.integers(120, 256), rng.integers(90, 256)
        pixel = cv2.cvtColor(np.uint8([[[hue, saturation, value]]]), cv2.COLOR_HSV2RGB)[0, 0]
        return tuple(int(v) for v in pixel)
    is_dark = rng.random() < 0.5 if dark is None else dark
    base = rng.integers(0, 50) if is_dark else rng.integers(215, 256)
    return tuple(int(np.clip(base + rng.integers(-8, 9), 0, 255)) for _ in range(3))


def _paragraphs(draw, box, rng, color, size):
    """Fills a box with wrapped text."""
    left, top, right, bottom = box
    font = ImageFont.load_default(size)
    columns = max(4, int((right - left) / (0.5 * size)))
    y = top
    while y + size < bottom:
        for line in textwrap.wrap(_sentence(rng, 5, 40) + ".", columns):
            if y + size >= bottom:
                break
            draw.text((left, y), line, color, font)
            y += int(1.3 * size)
        y += size // 2


def _document(canvas, draw, rng):
    w, h = canvas.size
    draw.rectangle((0, 0, w, h), _color(rng, dark=False))
    size = int(rng.integers(9, 20) * w / 480)
    ink, gap = _color(rng, dark=True), w // 16
    draw.text((gap, gap // 2), _sentence(rng, 2, 5), ink, ImageFont.load_default(2 * size))
    count = int(rng.integers(1, 4))
    width = (w - gap) // count
    for k in range(count):
        left = gap + k * width
        _paragraphs(draw, (left, gap // 2 + 3 * size, left + width - gap, h), rng, ink, size)


def _screen(canvas, draw, rng):
    w, h = canvas.size
    draw.rectangle((0, 0, w, h), _color(rng))
    size = int(rng.integers(9, 15) * w / 480)
    for _ in range(rng.integers(2, 5)):
        left, top = int(rng.integers(-w // 8, w // 2)), int(rng.integers(0, h // 2))
        right, bottom = left + int(rng.integers(w // 3, w)), top + int(rng.integers(h // 3, h))
        paper = _color(rng, dark=rng.random() < 0.4)
        ink = _color(rng, dark=sum(paper) > 380)
        radius = int(rng.integers(0, 12))
        draw.rounded_rectangle((left, top, right, bottom), radius, paper, outline=_color(rng))
        draw.rectangle((left, top, right, top + 2 * size), _color(rng))
        draw.text(
            (left + size, top + size // 3), _sentence(rng, 1, 4), ink, ImageFont.load_default(size)
        )
        for k in range(3):
            x = right - (k + 1) * 2 * size
            draw.ellipse((x, top + size // 2, x + size, top + 3 * size // 2), _color(rng))
        _paragraphs(
            draw, (left + size, top + 3 * size, right - size, bottom - 3 * size), rng, ink, size
        )
        for k in range(rng.integers(0, 4)):
            x = left + size + 7 * k * size
            box = (x, bottom - 5 * size // 2, x + 6 * size, bottom - size // 2)
            draw.rounded_rectangle(box, radius, _color(rng))
            draw.text(
                (x + size, bottom - 2 * size),
                _sentence(rng, 1, 1),
                ink,
                ImageFont.load_default(size),
            )


def _code(canvas, draw, rng):
    w, h = canvas.size
    paper = _color(rng, dark=rng.random() < 0.7)
    draw.rectangle((0, 0, w, h), paper)
    size = int(rng.integers(9, 16) * w / 480)
    font, palette = ImageFont.load_default(size), [_color(rng) for _ in range(5)]
    palette.append(_color(rng, dark=sum(paper) > 380))
    for row in range(h // (size + 3) + 1):
        x = size * (1 + 2 * int(rng.integers(0, 4)))
        for word in rng.choice(WORDS, rng.integers(0, 9)):
            draw.text((x, row * (size + 3)), word, palette[rng.integers(len(palette))], font)
            x += int(draw.textlength(word + " ", font))


def _chart(canvas, draw, rng):
    w, h = canvas.size
    draw.rectangle((0, 0, w, h), _color(rng, dark=rng.random() < 0.3))
    size = int(12 * w / 480)
    axes = _color(rng)
    left, bottom = 4 * size, h - 3 * size
    draw.line((left, size, left, bottom, w - size, bottom), axes, max(1, size // 8))
    for k in range(8):
        y = size + k * (bottom - size) // 8
        draw.line((left, y, w - size, y), axes, 1)
        draw.text((size // 2, y), str(int(rng.integers(1000))), axes, ImageFont.load_default(size))
    count = int(rng.integers(5, 24))
    at = np.linspace(left + size, w - 2 * size, count)
    if rng.random() < 0.5:
        for x, height in zip(at, rng.uniform(0.05, 1.0, count)):
            top = bottom - height * (bottom - 2 * size)
            draw.rectangle((x, top, x + 0.6 * (at[1] - at[0]), bottom), _color(rng))
    else:
        for _ in range(rng.integers(1, 5)):
            ys = bottom - (bottom - 2 * size) * np.clip(
                0.5 + np.cumsum(rng.normal(0, 0.12, count)), 0, 1
            )
            draw.line([*zip(at, ys)], _color(rng), max(1, size // 5))


def _drawing(canvas, draw, rng):
    """Draws line art: strokes, hatching and circles in one ink."""
    w, h = canvas.size
    draw.rectangle((0, 0, w, h), _color(rng, dark=False))
    ink = _color(rng, dark=True)
    for _ in range(rng.integers(5, 20)):
        x, y, r = rng.integers(0, w), rng.integers(0, h), rng.integers(8, w // 5)
        kind, width = rng.integers(3), int(rng.integers(1, 5))
        if kind == 0:
            draw.ellipse((x - r, y - r, x + r, y + r), None, ink, width)
        elif kind == 1:
            points = np.cumsum(rng.normal(0, w / 20, (12, 2)), 0) + np.array([x, y])
            draw.line([tuple(p) for p in points], ink, width)
        else:
            slope, step = rng.uniform(-1, 1), int(rng.integers(3, 9))
            for k in range(-r, r, step):
                draw.line((x + k, y - r // 2, x + k + slope * r, y + r // 2), ink, 1)


PAGES = (_document, _screen, _screen, _code, _chart, _drawing)
"""Functions that draw a random page on a canvas."""
