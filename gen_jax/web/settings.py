"""Limits and sizes of the server."""

import dataclasses
from typing import ClassVar

from gen_jax.common import ranges


@dataclasses.dataclass(frozen=True, kw_only=True)
class WebSettings:
    """What one server accepts and keeps.

    Attributes:
      title: Heading of the page and title of the API.
      max_num: Largest number of images per request.
      max_prompt: Largest length of a prompt in characters.
      max_body_bytes: Largest body of a JSON request in bytes.
      max_upload_bytes: Largest uploaded file in bytes.
      max_upload_pixels: Largest number of pixels of an uploaded image.
      queue_size: Requests that may wait for the model or run; one more is refused.
      batch_size: Images per call of the model. Every call has this size, so that one program
        serves every number of images and an image does not depend on it.
      walk_steps: Positions of the slider between two seeds.
      history: Images that the page keeps per session.
      settings_kept: Combinations of temperature and guidance whose programs stay in memory.
      cache_seconds: Age in seconds at which the page's files are deleted from the disk.
    """

    title: str = "Engravings"
    max_num: int = 16
    max_prompt: int = 300
    max_body_bytes: int = 64 * 2**10
    max_upload_bytes: int = 10 * 2**20
    max_upload_pixels: int = 40_000_000
    queue_size: int = 16
    batch_size: int = 4
    walk_steps: int = 33
    history: int = 48
    settings_kept: int = 4
    cache_seconds: int = 6 * 3600

    MAX_TEMPERATURE: ClassVar[float] = 2.0
    MAX_GUIDANCE: ClassVar[float] = 10.0

    def __post_init__(self):
        at_least_1 = (
            *("max_num", "max_prompt", "max_body_bytes", "max_upload_bytes", "max_upload_pixels"),
            *("queue_size", "batch_size", "history", "settings_kept", "cache_seconds"),
        )
        allowed = dict.fromkeys(at_least_1, ranges.AT_LEAST_1)
        ranges.check_fields(self, {**allowed, "walk_steps": ranges.Range(2)}, "settings")
