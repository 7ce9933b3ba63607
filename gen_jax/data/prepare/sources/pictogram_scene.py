"""The world of pictograms: its vocabulary, and random scenes made of it.

A scene is a plain dict that JSON can hold:

  subject: one of SUBJECTS
  color: one of COLORS, or None if the pictogram keeps its own colors
  background: one of BACKGROUNDS
  side, left, top: square that the pictogram fills, as fractions of the image's side
"""

from typing import Any

import numpy as np

from gen_jax.data.text.phrases import pick

Scene = dict[str, Any]

# Raise it if scenes, drawing or wording change: old shards then count as another data set.
WORLD_VERSION = 2

# Name in captions -> name of the icon in Fluent Emoji Flat, in the order of the atlas.
SUBJECTS: dict[str, str] = {
    "cat": "cat-face",
    "dog": "dog-face",
    "pig": "pig-face",
    "rabbit": "rabbit-face",
    "fox": "fox",
    "bear": "bear",
    "panda": "panda",
    "lion": "lion",
    "tiger": "tiger-face",
    "monkey": "monkey-face",
    "frog": "frog",
    "penguin": "penguin",
    "owl": "owl",
    "chick": "front-facing-baby-chick",
    "elephant": "elephant",
    "whale": "whale",
    "fish": "fish",
    "octopus": "octopus",
    "crab": "crab",
    "turtle": "turtle",
    "butterfly": "butterfly",
    "ladybug": "lady-beetle",
    "cactus": "cactus",
    "sunflower": "sunflower",
    "tulip": "tulip",
    "tree": "deciduous-tree",
    "mushroom": "mushroom",
    "clover": "four-leaf-clover",
    "maple leaf": "maple-leaf",
    "apple": "red-apple",
    "pear": "pear",
    "lemon": "lemon",
    "watermelon": "watermelon",
    "strawberry": "strawberry",
    "cherries": "cherries",
    "pineapple": "pineapple",
    "avocado": "avocado",
    "eggplant": "eggplant",
    "carrot": "carrot",
    "cheese": "cheese-wedge",
    "hamburger": "hamburger",
    "pizza": "pizza",
    "doughnut": "doughnut",
    "cupcake": "cupcake",
    "cake": "birthday-cake",
    "ice cream": "soft-ice-cream",
    "popcorn": "popcorn",
    "car": "automobile",
    "sailboat": "sailboat",
    "rocket": "rocket",
    "airplane": "airplane",
    "house": "house",
    "castle": "castle",
    "sun": "sun",
    "moon": "crescent-moon",
    "snowman": "snowman",
    "umbrella": "umbrella",
    "star": "star",
    "heart": "heart-suit",
    "balloon": "balloon",
    "gift": "wrapped-gift",
    "pumpkin": "jack-o-lantern",
    "ghost": "ghost",
    "robot": "robot",
    "skull": "skull",
    "soccer ball": "soccer-ball",
    "basketball": "basketball",
    "bell": "bell",
    "key": "key",
    "light bulb": "light-bulb",
    "alarm clock": "alarm-clock",
    "crown": "crown",
    "hat": "top-hat",
    "shirt": "t-shirt",
    "backpack": "backpack",
    "magnet": "magnet",
    "anchor": "anchor",
    "diamond": "gem-stone",
}
# Captions say "cherries", not "a cherries".
PLURAL = ("cherries",)

# Hue in degrees, saturation and value that the main color of a pictogram is moved to.
COLORS: dict[str, tuple[float, float, float]] = {
    "red": (358.0, 0.85, 0.93),
    "yellow": (48.0, 0.80, 1.0),
    "green": (128.0, 0.70, 0.74),
    "blue": (212.0, 0.85, 0.95),
    "purple": (278.0, 0.62, 0.80),
    "pink": (330.0, 0.45, 1.0),
}
BACKGROUNDS: dict[str, tuple[int, int, int]] = {
    "white": (250, 250, 250),
    "lavender": (216, 204, 246),
    "dark blue": (24, 44, 98),
    "light blue": (186, 222, 250),
    "light green": (196, 234, 190),
    "light yellow": (255, 238, 176),
}

# Side of a pictogram, and how far its middle is from that of the image at most, each way. Every
# noun has an outline of its own, and a small model learns it late if it has many sizes and places.
_SIDES, _JITTER = (0.84, 0.88), 0.016

# The pictograms' own colors are the larger part: they are what one looks at.
_OWN_COLOR_SHARE = 0.4

# Pairs that no training scene holds, one color per subject.
HELDOUT: dict[str, str] = {
    subject: tuple(COLORS)[(5 * i + i // 6) % len(COLORS)] for i, subject in enumerate(SUBJECTS)
}


def random_scene(
    rng: np.random.Generator,
    *,
    heldout: bool = False,
    subject: str | None = None,
    color: str | None = "",
) -> Scene:
    """Draws a scene.

    Args:
      rng: Where all randomness comes from.
      heldout: Whether the pair of subject and color is one of HELDOUT; otherwise it is none.
      subject: Subject; drawn if None.
      color: Color, None for the pictogram's own colors; drawn if "".
    """
    subject = subject or pick(tuple(SUBJECTS), rng)
    if heldout:
        color = HELDOUT[subject]
    elif color == "":
        others = tuple(name for name in COLORS if name != HELDOUT[subject])
        color = None if rng.random() < _OWN_COLOR_SHARE else pick(others, rng)
    side = float(rng.uniform(*_SIDES))
    corner = 0.5 - side / 2 + rng.uniform(-_JITTER, _JITTER, 2)
    return {
        "subject": subject,
        "color": color,
        "background": pick(tuple(BACKGROUNDS), rng),
        "side": round(side, 4),
        "left": round(float(corner[0]), 4),
        "top": round(float(corner[1]), 4),
    }
