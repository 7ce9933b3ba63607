"""Which files of a folder or archive are masks (label maps), and of which images."""

import pathlib
from collections.abc import Collection, Mapping

from gen_jax.common.errors import UserError
from gen_jax.data.text.captions import FILE

STEM, FOLDER = "{stem}", "{folder}"


def named(keys: Collection[str], pattern: str, written: Mapping[str, str]) -> dict[str, str]:
    """Returns the mask of each image that has one: name of the image -> name of the mask.

    Args:
      keys: Names of all files, images and masks, with "/" between folders.
      pattern: Name of the mask of an image, with {stem} for the image's name without its ending
        and {folder} for its folder; "" for none. It gives a mask to each image that has one.
      written: Masks that captions.jsonl names. These are returned whether they exist or not.

    Raises:
      UserError: The pattern has no {stem}, no file fits it, or an image is named as a mask.
    """
    masks = dict(written)
    if pattern:
        masks = {**_by_pattern(keys, pattern), **masks}
    for image, mask in masks.items():
        if mask in masks:
            raise UserError(
                f"{mask}: is the mask of {image}, and has a mask of its own; change {FILE} or the "
                "pattern of the masks"
            )
    return masks


def _by_pattern(keys: Collection[str], pattern: str) -> dict[str, str]:
    if STEM not in pattern:
        raise UserError(
            f"masks={pattern}: expected a name with {STEM}, such as labels/{STEM}.png or "
            f"{FOLDER}/{STEM}_mask.png"
        )
    masks = {}
    for key in keys:
        path = pathlib.PurePosixPath(key)
        folder = path.parent.as_posix()
        name = pattern.replace(STEM, path.stem).replace(FOLDER, folder)
        name = str(pathlib.PurePosixPath(name))
        if name in keys and name != key:
            masks[key] = name
    if not masks:
        raise UserError(f"masks={pattern}: no file of the source has such a name beside an image")
    # With "{folder}/{stem}_mask.png", x_mask.png could have x_mask_mask.png: no mask has one.
    values = set(masks.values())
    return {image: mask for image, mask in masks.items() if image not in values}
