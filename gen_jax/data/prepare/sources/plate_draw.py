"""Draws number plates: patterns, colors and fonts of several countries, seen from the front.

They resemble real plates and copy none: typefaces are those in matplotlib's wheel (DejaVu, STIX,
Computer Modern). The letters I, O and Q are left out, which most countries leave out as well.
"""

import dataclasses
import functools
import pathlib

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageDraw, ImageFont

LETTERS = "ABCDEFGHJKLMNPRSTUVWXYZ"
FONTS = (
    "DejaVuSans-Bold",
    "DejaVuSansMono-Bold",
    "DejaVuSans",
    "DejaVuSansMono",
    "STIXGeneralBol",
    "cmtt10",
)
HELD_OUT_FONT = "cmss10"  # of the split "test" alone
_BAND = 0.1  # width of the blue band, as a share of the plate's
_SCALE = 3  # drawn so many times larger, then averaged


@dataclasses.dataclass(frozen=True)
class Country:
    """Look of a country's plates.

    Attributes:
      patterns: Texts with A for a letter and 0 for a digit; other characters are drawn and not
        read.
      colors: Pairs of ground and ink, RGB.
      aspect: Width over height.
      band: Letters in the blue band at the left, "" for none.
    """

    patterns: tuple[str, ...]
    colors: tuple[tuple[tuple[int, int, int], tuple[int, int, int]], ...]
    aspect: float = 4.6
    band: str = ""


_WHITE, _BLACK, _YELLOW = (236, 238, 236), (18, 18, 20), (244, 198, 40)
_PLAIN = ((_WHITE, _BLACK),)
COUNTRIES = {
    "de": Country(("A AA 000", "AA A 0000", "AAA AA 00", "A A 0000"), _PLAIN, band="D"),
    "fr": Country(("AA-000-AA",), _PLAIN, band="F"),
    "it": Country(("AA 000AA",), _PLAIN, band="I"),
    "es": Country(("0000 AAA",), _PLAIN, band="E"),
    "gb": Country(("AA00 AAA",), ((_WHITE, _BLACK), (_YELLOW, _BLACK))),
    "nl": Country(("00-AAA-0", "AA-000-A", "A-000-AA"), ((_YELLOW, _BLACK),), band="NL"),
    "se": Country(("AAA 000", "AAA 00A"), _PLAIN, band="S"),
    "us": Country(
        ("AAA 0000", "0AAA000", "AAA 000"),
        ((_WHITE, (30, 44, 120)), ((220, 232, 244), (24, 60, 40)), (_YELLOW, (20, 20, 90))),
        aspect=2.2,
    ),
    "br": Country(
        ("AAA0A00", "AAA-0000"), ((_WHITE, _BLACK), ((176, 178, 182), _BLACK)), aspect=3.2
    ),
}


@dataclasses.dataclass(frozen=True)
class Plate:
    """One plate.

    Attributes:
      country: Name in `COUNTRIES`.
      text: What is drawn, separators included.
      font: Name of a typeface.
      colors: Index of the country's colors.
      squeeze: Width of the glyphs as a share of the typeface's.
    """

    country: str
    text: str
    font: str
    colors: int
    squeeze: float


def random_plate(rng: np.random.Generator, font: str = "") -> Plate:
    """Draws a plate at random; `font` names its typeface, "" for one of `FONTS`."""
    name = list(COUNTRIES)[rng.integers(len(COUNTRIES))]
    country = COUNTRIES[name]
    pattern = country.patterns[rng.integers(len(country.patterns))]
    symbols = {"A": LETTERS, "0": "0123456789"}
    text = "".join(
        symbols[c][rng.integers(len(symbols[c]))] if c in symbols else c for c in pattern
    )
    return Plate(
        name,
        text,
        font or FONTS[rng.integers(len(FONTS))],
        int(rng.integers(len(country.colors))),
        round(float(rng.uniform(0.7, 1.0)), 3),
    )


@functools.lru_cache(maxsize=64)
def _font(name: str, size: int) -> ImageFont.FreeTypeFont:
    import matplotlib

    folder = pathlib.Path(matplotlib.get_data_path()) / "fonts" / "ttf"
    return ImageFont.truetype(str(folder / f"{name}.ttf"), size)


def draw(plate: Plate, height: int) -> UInt8[np.ndarray, "h w 3"]:
    """Draws a plate of `height` pixels."""
    country = COUNTRIES[plate.country]
    ground, ink = country.colors[plate.colors]
    tall = height * _SCALE
    wide = round(tall * country.aspect)
    sheet = Image.new("RGB", (wide, tall), ground)
    pen, line = ImageDraw.Draw(sheet), max(1, tall // 40)
    left = 0
    if country.band:
        left = round(_BAND * wide)
        pen.rectangle((0, 0, left, tall), fill=(24, 60, 160))
        small = _font("DejaVuSans-Bold", round(0.26 * tall))
        pen.text((left / 2, 0.78 * tall), country.band, "white", small, anchor="mm")
        pen.ellipse((left * 0.3, 0.2 * tall, left * 0.7, 0.2 * tall + left * 0.4), outline="gold")
    pen.rounded_rectangle((1, 1, wide - 2, tall - 2), tall // 10, outline=ink, width=line)
    word = _word(plate, round(0.74 * tall), ink)
    room = wide - left - 6 * line
    width = min(room, round(word.width * plate.squeeze))
    word = word.resize((max(1, width), word.height), Image.Resampling.BILINEAR)
    at = (left + (wide - left - word.width) // 2, (tall - word.height) // 2)
    sheet.paste(word, at, word)
    return np.asarray(sheet.resize((round(wide / _SCALE), height), Image.Resampling.BOX))


def _word(plate: Plate, height: int, ink: tuple[int, int, int]) -> Image.Image:
    """Returns the text of a plate in its ink, with opacity, whose capitals have this height."""
    font = _font(plate.font, 4 * height)
    _, top, _, bottom = font.getbbox("H")
    font = _font(plate.font, max(8, round(4 * height * height / (bottom - top))))
    spaced = plate.text.replace(" ", "\u2002")
    box = font.getbbox(spaced)
    mask = Image.new("L", (box[2] - box[0] + 2, box[3] - box[1] + 2), 0)
    ImageDraw.Draw(mask).text((1 - box[0], 1 - box[1]), spaced, 255, font)
    word = Image.new("RGB", mask.size, ink)
    word.putalpha(mask)
    return word
