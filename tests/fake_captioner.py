"""A captioning process without a model, which tests start in place of BLIP-2's.

Its "model" is a folder. Each line of `texts.txt` there is the answer for images whose first pixel
has that number as its red value. `log.txt` gets a line per image; the process dies in front of the
image whose number stands in `die.txt`.
"""

import os
import pathlib

from gen_jax.common.errors import UserError
from gen_jax.data.prepare.caption_process import serve


def load(settings):
    folder = pathlib.Path(settings["model"])
    if not (folder / "texts.txt").exists():
        raise UserError(f"{folder}: no texts")
    texts = (folder / "texts.txt").read_text().split("\n")
    print("a library that prints to standard output")

    def describe(images, seeds):
        result = []
        for image, seed in zip(images, seeds, strict=True):
            number = int(image[0, 0, 0])
            if (folder / "die.txt").exists() and int((folder / "die.txt").read_text()) == number:
                os._exit(7)
            with open(folder / "log.txt", "a") as log:
                log.write(f"{number} {image.shape[0]}x{image.shape[1]} {seed}\n")
            result.append(texts[number])
        return result

    return "fake", describe


if __name__ == "__main__":
    serve(load)
