"""What the tabs of the page share: its look, how results are shown, how mistakes are answered."""

import functools
import html
import io
import os
import sys
import traceback
from collections.abc import Callable, Sequence
from typing import Any

from PIL import Image

# Read by Gradio when it is imported: no telemetry and no look-ups on the network.
os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")

import gradio as gr

from gen_jax.common.errors import UserError
from gen_jax.web.studio import Item

FAILED = "something failed on the server; try again, or report it to the operator of this server"

CSS = """
.gradio-container {width: 100%; max-width: 1180px !important; margin: 0 auto !important;}
.engraving {background: #f6f1e7; border-radius: 6px;}
.engraving img {width: 100%; height: 100%; object-fit: contain; mix-blend-mode: multiply;}
.strip .grid-wrap {min-height: 0 !important;}
.strip img {object-fit: contain !important;}
.strip .caption-label {left: 0; right: 0; bottom: 0; max-width: none; border-radius: 0;
  padding: 2px 6px; font-size: 0.72rem; line-height: 1.25; text-align: left;
  white-space: normal; opacity: 0.92; display: -webkit-box; -webkit-line-clamp: 2;
  -webkit-box-orient: vertical; overflow: hidden;}
.caption {margin: 0.4rem 0.2rem 0;}
.caption p {font-family: Georgia, "Times New Roman", serif; font-size: 1.35rem; line-height: 1.35;
  margin: 0 0 0.2rem;}
.caption small {color: var(--body-text-color-subdued);}
footer {display: none !important;}
"""


def theme() -> gr.Theme:
    """Returns the theme; its fonts are the system's, because a page may have no network."""
    sans = ["system-ui", "sans-serif"]
    return gr.themes.Soft(
        primary_hue="stone", secondary_hue="stone", neutral_hue="stone", radius_size="sm",
        font=sans, font_mono=["ui-monospace", "monospace"],
    )  # fmt: skip


def guarded(action: Callable[..., Any]) -> Callable[..., Any]:
    """Returns an action whose errors become short messages on the page."""

    @functools.wraps(action)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        try:
            return action(*args, **kwargs)
        except UserError as error:
            raise gr.Error(_sentence(str(error)), print_exception=False) from error
        except gr.Error:
            raise
        except Exception as error:
            # The stack trace is for the operator, not for visitors.
            traceback.print_exc(file=sys.stderr)
            raise gr.Error(_sentence(FAILED), print_exception=False) from error

    return wrapper


def bind(triggers: Any, action: Callable[..., Any], inputs: Any, outputs: Any, **options: Any):
    """Runs an action on one trigger or several, hidden from Gradio's own API.

    Args:
      triggers: Event or list of events, such as `button.click`.
      action: What runs; its errors are shown as messages.
      inputs: Components whose values it takes.
      outputs: Components that it fills.
      **options: Passed on to `gradio.on`.
    """
    options = {"show_progress": "minimal", "api_visibility": "private", **options}
    triggers = triggers if isinstance(triggers, list) else [triggers]
    return gr.on(triggers, guarded(action), inputs, outputs, **options)


def _sentence(message: str) -> str:
    return html.escape(message[:1].upper() + message[1:] + ".")


def image_of(item: Item) -> Image.Image:
    """Returns the image of an item as Gradio shows it."""
    return Image.open(io.BytesIO(item.png))


def caption_of(item: Item) -> str:
    """Returns the caption and the origin of an item as HTML."""
    origin = item.origin or f"seed {item.seed}"
    if item.prompt:
        origin += f", prompt “{item.prompt}”"
    text = item.caption or "(no caption)"
    return f"<p>{html.escape(text)}</p><small>{html.escape(origin)}</small>"


def tiles(items: Sequence[Item]) -> list[tuple[Image.Image, str]]:
    """Returns items as a gallery shows them."""
    return [(image_of(item), item.caption or f"seed {item.seed}") for item in items]


def engraving(label: str, height: int = 380) -> gr.Image:
    """Returns a component that shows a generated image."""
    return gr.Image(
        label=label, height=height, interactive=False, format="png", elem_classes="engraving",
        buttons=["download", "fullscreen"],
    )  # fmt: skip


def strip(label: str, elem_id: str, columns: int, height: int | None = None) -> gr.Gallery:
    """Returns a gallery, at first invisible, of images that are chosen by a click.

    Args:
      label: Label for screen readers.
      elem_id: Its id in the document.
      columns: Images per row.
      height: Height in pixels, beyond which it scrolls; None for no limit.
    """
    return gr.Gallery(
        label=label, show_label=False, columns=columns, height=height or "auto", format="png",
        object_fit="contain", allow_preview=False, buttons=[], interactive=False,
        elem_classes="strip", elem_id=elem_id, visible=False,
    )  # fmt: skip


def upload(label: str, height: int = 280) -> gr.Image:
    """Returns a component that takes an uploaded image and gives its path.

    The file is not decoded by Gradio, which would show a path and a stack trace for one that is no
    image, and which has no limit on pixels.
    """
    component = gr.Image(
        label=label, height=height, type="filepath", sources=["upload", "clipboard"]
    )
    component.preprocess = lambda payload: payload.path if payload else None
    return component


def caption_box(elem_id: str | None = None) -> gr.HTML:
    """Returns a component for `caption_of`."""
    return gr.HTML(elem_classes="caption", elem_id=elem_id)
