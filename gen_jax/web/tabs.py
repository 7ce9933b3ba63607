"""Tabs of the page for runs whose latents can be encoded and mixed."""

import dataclasses

import gradio as gr

from gen_jax.web import view
from gen_jax.web.actions import Actions
from gen_jax.web.api import random_seed
from gen_jax.web.settings import WebSettings
from gen_jax.web.studio import Item


def between(actions: Actions, settings: WebSettings) -> None:
    """Builds the tab with the slider between two seeds."""
    with gr.Tab("Between two seeds"), gr.Row():
        with gr.Column(scale=2, min_width=300):
            first = gr.Textbox("1", label="From seed", max_lines=1, elem_id="first")
            second = gr.Textbox("2", label="To seed", max_lines=1, elem_id="second")
            position = gr.Slider(
                0, 1, 0.5, step=1 / (settings.walk_steps - 1), label="Position", elem_id="position"
            )
            with gr.Row():
                pair = gr.Button("New seeds", variant="primary")
                show = gr.Button("Show")
        with gr.Column(scale=3, min_width=340):
            image, caption = view.engraving("Image"), view.caption_box()

    def at(a: str, b: str, share: float):
        return _shown(actions.between(a, b, share))

    def fresh(share: float):
        a, b = str(random_seed()), str(random_seed())
        return a, b, *_shown(actions.between(a, b, share))

    # While the slider moves, only its latest position is computed.
    moved = [position.change, first.submit, second.submit, show.click]
    view.bind(
        moved, at, [first, second, position], [image, caption],
        trigger_mode="always_last", show_progress="hidden",
    )  # fmt: skip
    view.bind(pair.click, fresh, [position], [first, second, image, caption])


def describe(actions: Actions) -> None:
    """Builds the tab that describes an uploaded image."""
    with gr.Tab("Caption an image"), gr.Row():
        with gr.Column(min_width=300):
            given = view.upload("Your image", height=380)
            ask = gr.Button("Describe", variant="primary")
        with gr.Column(min_width=300):
            image, caption = view.engraving("As the model decodes it"), view.caption_box()

    def run(path: str | None):
        item = actions.describe(path)
        return view.image_of(item), view.caption_of(dataclasses.replace(item, origin="your image"))

    view.bind(ask.click, run, [given], [image, caption])


def restyle(actions: Actions) -> None:
    """Builds the tab that draws the structure of one image in the hand of another."""
    with gr.Tab("Style transfer"):
        gr.Markdown("Upload an image or enter a seed on each side. An upload has precedence.")
        with gr.Row():
            with gr.Column(min_width=240):
                structure = view.upload("Structure of this image")
                structure_seed = gr.Textbox(label="or of a seed", max_lines=1)
            with gr.Column(min_width=240):
                hand = view.upload("Hand of this image")
                hand_seed = gr.Textbox(label="or of a seed", max_lines=1)
            with gr.Column(min_width=240):
                image, caption = view.engraving("Result", height=280), view.caption_box()
                draw = gr.Button("Draw", variant="primary")

    def run(path_a: str | None, seed_a: str, path_b: str | None, seed_b: str):
        return _shown(actions.restyle((seed_a, path_a), (seed_b, path_b)))

    view.bind(draw.click, run, [structure, structure_seed, hand, hand_seed], [image, caption])


def _shown(item: Item):
    return view.image_of(item), view.caption_of(item)
