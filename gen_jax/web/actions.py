"""What the buttons of the page do, without the components that show it.

Each method takes what a person entered, which may be anything, and raises UserError with a short
message if it is not usable.
"""

import io
import json
import urllib.parse
import zipfile
from collections.abc import Sequence
from typing import Any

import numpy as np

from gen_jax.common import numbers
from gen_jax.common.errors import UserError
from gen_jax.web import images
from gen_jax.web.api import random_seed
from gen_jax.web.settings import WebSettings
from gen_jax.web.studio import Item, Options, Studio
from gen_jax.web.work import WorkQueue

SEED, UPLOAD = "seed", "image"
VARIATIONS = 8


class Actions:
    """Checks what a person entered and passes it on to the model.

    Args:
      studio: The model.
      work: The queue that page and API share.
      settings: Limits.
    """

    def __init__(self, studio: Studio, work: WorkQueue, settings: WebSettings):
        self._studio = studio
        self._work = work
        self._settings = settings

    def generate(
        self, prompt: Any, seed: Any, num: Any, temperature: Any, guidance: Any
    ) -> list[Item]:
        """Returns images with captions; an empty seed is a random one."""
        prompt = self._prompt(prompt)
        num = numbers.parse(num, "number of images", int, 1, self._settings.max_num)
        first = self._seed(seed, num)
        options = self._options(temperature, guidance)
        seeds = range(first, first + num)
        return self._work.run(self._studio.generate, seeds, prompt, options)

    def around(self, prompt: Any, seed: Any, temperature: Any, guidance: Any) -> list[Item]:
        """Returns variations of the image of a seed."""
        prompt, seed = self._prompt(prompt), self._seed(seed)
        options = self._options(temperature, guidance)
        count = min(VARIATIONS, self._settings.max_num)
        return self._work.run(self._studio.around, seed, count, prompt, options)

    def between(self, first: Any, second: Any, position: Any) -> Item:
        """Returns the image at a position from 0 (the first seed) to 1 (the second one)."""
        ends = [self._required_seed(s, name) for s, name in ((first, "From"), (second, "To"))]
        share = numbers.parse(position, "position", float, 0, 1)
        index = round(share * (self._settings.walk_steps - 1))
        return self._work.run(self._studio.between, *ends, index, "", Options())

    def describe(self, path: str | None) -> Item:
        """Returns the reconstruction of an uploaded file with its caption."""
        return self._work.run(self._studio.describe, images.read(path, self._settings))

    def restyle(self, structure: tuple[Any, str | None], hand: tuple[Any, str | None]) -> Item:
        """Returns the structure of one image in the hand of another.

        Args:
          structure: A seed and the path of an uploaded file, which has precedence.
          hand: The same of the other image.
        """
        sources = [
            self._source(seed, path, name)
            for name, (seed, path) in (("structure", structure), ("hand", hand))
        ]
        return self._work.run(self._studio.restyle, *sources)

    def _source(self, seed: Any, path: str | None, name: str) -> int | np.ndarray:
        if path:
            return images.read(path, self._settings)
        if not str(seed or "").strip():
            raise UserError(f"{name}: upload an image or enter a seed")
        return self._required_seed(seed, f"seed of the {name}")

    def _prompt(self, prompt: Any) -> str:
        text = str(prompt or "").strip()
        if len(text) > self._settings.max_prompt:
            raise UserError(
                f"the prompt has {len(text):,} characters; expected at most "
                f"{self._settings.max_prompt}"
            )
        return text

    def _seed(self, seed: Any, count: int = 1) -> int:
        """Returns a seed from which `count` can be counted up, a random one for an empty text."""
        text = "" if seed is None else str(seed).strip()
        return _checked(text, "seed", count) if text else random_seed(count)

    def _required_seed(self, seed: Any, name: str) -> int:
        text = "" if seed is None else str(seed).strip()
        if not text:
            raise UserError(f"{name}: enter a seed, a whole number from 0 to {numbers.MAX_SEED}")
        return _checked(text, name)

    def _options(self, temperature: Any, guidance: Any) -> Options:
        limits = self._settings
        return Options(
            numbers.parse(temperature, "temperature", float, 0, limits.MAX_TEMPERATURE),
            numbers.parse(guidance, "guidance", float, 0, limits.MAX_GUIDANCE),
        )


def _checked(text: str, name: str, count: int = 1) -> int:
    # What was entered is repeated in the message, so it is cut.
    shown = text if len(text) <= 20 else f"{text[:20]}..."
    try:
        return numbers.check_seed(text, name, count)
    except UserError as error:
        raise UserError(str(error).replace(text, shown)) from error


def query_of(items: Sequence[Item]) -> str:
    """Returns the query of an address that shows these results again."""
    first = items[0]
    values = {"seed": first.seed, "num": len(items), "prompt": first.prompt, **first.settings}
    names = ("seed", "num", "prompt", "temperature", "guidance_scale")
    query = {name: values[name] for name in names if values.get(name) not in (None, "")}
    if first.origin:  # of this tab, only variations have one
        query["variations"] = query.pop("num")
    return urllib.parse.urlencode(query)


def archive(items: Sequence[Item], facts: dict[str, Any]) -> bytes:
    """Returns a zip with a PNG for each image and manifest.json.

    Args:
      items: Images with captions.
      facts: Entries of the manifest beside the images.
    """
    names = [f"{index:02d}_seed_{item.seed}.png" for index, item in enumerate(items)]
    rows = [
        {"file": name, "seed": i.seed, "prompt": i.prompt, "caption": i.caption, **i.settings}
        | ({"origin": i.origin} if i.origin else {})
        for name, i in zip(names, items)
    ]
    manifest = json.dumps({**facts, "images": rows}, indent=2, ensure_ascii=False)
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        for name, content in (*zip(names, (i.png for i in items)), ("manifest.json", manifest)):
            # A fixed time, so that equal images give equal bytes.
            file.writestr(zipfile.ZipInfo(name), content)
    return buffer.getvalue()
