"""The photographs inside scikit-image's wheel that we use, and what is to be seen in them.

`keep` is the part of the picture (x0, y0, x1, y1 as fractions) that every crop
contains, so that every caption is true of every crop. Nothing outside of it is
mentioned. The captions are our own.
"""

from typing import NamedTuple


class Photo(NamedTuple):
    """One photograph.

    Attributes:
      file: its name in skimage's data folder.
      name: its class.
      keep: what every crop contains, (x0, y0, x1, y1) in fractions.
      mirror: whether its mirror image is as true as itself (text is not).
      captions: at least five, each naming the subject.
    """

    file: str
    name: str
    keep: tuple[float, float, float, float]
    mirror: bool
    captions: tuple[str, ...]


# Where any part is as good as another: only the middle is certain.
_ANY = (0.48, 0.48, 0.52, 0.52)

PHOTOS: tuple[Photo, ...] = (
    Photo(
        "astronaut.png",
        "astronaut",
        (0.28, 0.03, 0.60, 0.62),
        True,
        (
            "a portrait of an astronaut in an orange space suit",
            "a smiling astronaut with short brown hair",
            "a photo of a woman astronaut wearing an orange suit",
            "an astronaut smiles at the camera, her helmet off",
            "the face of a smiling astronaut above the collar of a space suit",
            "official portrait photograph of an astronaut",
        ),
    ),
    Photo(
        "brick.png",
        "brick wall",
        _ANY,
        True,
        (
            "a brick wall in black and white",
            "dark gray bricks with pale mortar between them",
            "a photo of a brick wall",
            "rows of bricks, a regular gray texture",
            "close view of a wall of long narrow bricks",
            "the pattern of a brick wall",
        ),
    ),
    Photo(
        "camera.png",
        "photographer",
        (0.26, 0.10, 0.66, 0.55),
        True,
        (
            "a photographer looking through a camera on a tripod",
            "a black and white photo of a photographer at work",
            "a man in a dark coat bends to his camera, a photographer outdoors",
            "a photographer in profile with his eye to the camera",
            "a cameraman with dark hair and a tripod, a photographer filming in a field",
            "old style gray picture of a photographer and his camera",
        ),
    ),
    Photo(
        "cell.png",
        "cell",
        (0.60, 0.38, 0.95, 0.76),
        True,
        (
            "a single cell under a microscope",
            "a bright round cell on a dark gray background",
            "a microscope image of one cell",
            "a white blurry disc: a living cell seen in a microscope",
            "a cell with a dark halo around it, black and white",
            "microscopy of a small round cell",
        ),
    ),
    Photo(
        "chelsea.png",
        "cat",
        (0.26, 0.16, 0.79, 0.95),
        True,
        (
            "a close-up of the face of a cat",
            "a ginger tabby cat with green eyes",
            "a photo of a cat with long white whiskers",
            "a striped orange cat looking past the camera",
            "portrait of a tabby cat with a pink nose",
            "the head of a cat, brown and orange fur",
        ),
    ),
    Photo(
        "coffee.png",
        "cup of coffee",
        (0.26, 0.05, 0.72, 0.88),
        True,
        (
            "a red cup of coffee on a wooden table",
            "an espresso in a red cup with a silver spoon",
            "a photo of a cup of coffee on its saucer",
            "a small cup of coffee, red outside and white inside",
            "a cup of coffee with a spoon beside it",
            "fresh coffee in a red cup and saucer",
        ),
    ),
    Photo(
        "coins.png",
        "coins",
        _ANY,
        True,
        (
            "ancient coins laid out in rows",
            "a black and white photo of old coins",
            "round silver coins on a dark background",
            "a collection of ancient coins, each one different",
            "many old coins with worn faces on them",
            "rows of coins in front of a dark gray ground",
        ),
    ),
    Photo(
        "grass.png",
        "grass",
        _ANY,
        True,
        (
            "grass and clover leaves in black and white",
            "a lawn seen from above, blades of grass",
            "a photo of grass, a fine gray texture",
            "tangled blades of grass on the ground",
            "a patch of grass without colour",
            "close view of grass in a meadow",
        ),
    ),
    Photo(
        "gravel.png",
        "gravel",
        _ANY,
        True,
        (
            "gravel, a heap of small gray stones",
            "a black and white photo of gravel",
            "many sharp little stones of gravel",
            "the texture of gravel on a path",
            "crushed stone: gray gravel seen from above",
            "ground covered with gravel",
        ),
    ),
    Photo(
        "hubble_deep_field.jpg",
        "galaxies",
        _ANY,
        True,
        (
            "distant galaxies in a black sky",
            "a deep space photo full of galaxies",
            "hundreds of small galaxies, orange, white and blue, on black",
            "a telescope image of far away galaxies",
            "galaxies and stars scattered over the dark sky",
            "the night sky with galaxies of many colours",
        ),
    ),
    Photo(
        "ihc.png",
        "stained tissue",
        _ANY,
        True,
        (
            "stained tissue under a microscope, brown and blue",
            "a microscope image of brown stained tissue",
            "a slice of tissue with brown glands and blue nuclei",
            "pathology slide of stained tissue",
            "brown and white stained tissue with small blue cells",
            "histology: stained tissue, much enlarged",
        ),
    ),
    Photo(
        "moon.png",
        "moon",
        _ANY,
        True,
        (
            "the surface of the moon with craters",
            "a gray photo of the moon from above",
            "small craters on the flat ground of the moon",
            "a gray landscape on the moon, black and white",
            "a plain on the moon with dark and bright spots",
            "craters of the moon",
        ),
    ),
    Photo(
        "motorcycle_left.png",
        "motorcycle",
        (0.33, 0.16, 0.88, 0.84),
        True,
        (
            "a red motorcycle parked in a garage",
            "a photo of a red motorcycle with a shiny engine",
            "a motorcycle stands on a concrete floor in front of shelves",
            "a red and black motorcycle indoors",
            "an old red motorcycle in a workshop full of boxes",
            "a parked motorcycle with a round headlight",
        ),
    ),
    Photo(
        "page.png",
        "printed page",
        (0.30, 0.30, 0.60, 0.70),
        False,
        (
            "a printed page of a book with black text",
            "a photo of a printed page, words on white paper",
            "lines of text on a printed page",
            "part of a printed page, slightly bent",
            "black letters on gray paper, a printed page",
            "a scanned printed page in black and white",
        ),
    ),
    Photo(
        "retina.jpg",
        "retina",
        (0.07, 0.36, 0.56, 0.62),
        True,
        (
            "the retina of an eye with red blood vessels",
            "a medical photo of a human retina",
            "an orange retina with a pale yellow spot where the nerve begins",
            "the inside of an eye: a retina crossed by veins",
            "fundus photograph of a retina",
            "a bright red and orange retina with thin vessels",
        ),
    ),
    Photo(
        "rocket.jpg",
        "rocket",
        (0.42, 0.26, 0.60, 0.97),
        True,
        (
            "a white rocket on its launch pad at dusk",
            "a rocket waiting for launch under a dark blue sky",
            "a photo of a tall rocket in the evening with bright lamps",
            "a rocket standing upright before the start",
            "a slim white rocket lit by floodlights at night",
            "launch site with a rocket against the blue sky",
        ),
    ),
    Photo(
        "text.png",
        "handwriting",
        (0.40, 0.30, 0.60, 0.70),
        False,
        (
            "handwriting on lined paper, mathematical symbols",
            "a gray photo of handwriting seen at a slant",
            "handwriting: formulas in dark ink",
            "a sheet of paper with handwriting, partly out of focus",
            "blurred handwriting of a mathematician",
            "close view of handwriting on gray paper",
        ),
    ),
)
