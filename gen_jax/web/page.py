"""The page for people: a Gradio application over `actions.Actions`."""

from collections.abc import Sequence
from typing import Any

import gradio as gr
from gradio import processing_utils

from gen_jax.web import tabs, view
from gen_jax.web.actions import Actions, archive
from gen_jax.web.settings import WebSettings
from gen_jax.web.studio import Item, Options, Studio
from gen_jax.web.work import WorkQueue

_SWEEP_SECONDS = 600  # between two deletions of old files
_SESSION_SECONDS = 3600
# Built in the browser, so that it holds behind any proxy.
_LINK = """(prompt, seed, num, temperature, guidance) => {
  const url = new URL(window.location.pathname, window.location.origin);
  const values = {seed, prompt, num, temperature, guidance};
  for (const [name, value] of Object.entries(values)) {
    if (value !== "" && value !== null) url.searchParams.set(name, value);
  }
  if (navigator.clipboard) navigator.clipboard.writeText(url.href).catch(() => {});
  return url.href;
}"""


def mount(app: Any, studio: Studio, work: WorkQueue, settings: WebSettings) -> None:
    """Mounts the page at "/" of a FastAPI application, behind its own routes."""
    blocks = build(studio, work, settings)
    # The model's own queue decides who waits. Gradio's must not hold requests back before it.
    blocks.queue(default_concurrency_limit=settings.queue_size, max_size=4 * settings.queue_size)
    gr.mount_gradio_app(
        app, blocks, path="/", theme=view.theme(), css=view.CSS, footer_links=[],
        max_file_size=settings.max_upload_bytes, show_error=False, ssr_mode=False,
    )  # fmt: skip


def build(studio: Studio, work: WorkQueue, settings: WebSettings) -> gr.Blocks:
    """Returns the page.

    Args:
      studio: The model; tabs that it cannot serve are left out.
      work: The queue that page and API share.
      settings: Limits and sizes.
    """
    actions = Actions(studio, work, settings)
    facts = studio.facts
    step = f", step {facts['checkpoint_step']}" if facts["checkpoint_step"] else ""
    with gr.Blocks(
        title=settings.title, delete_cache=(_SWEEP_SECONDS, settings.cache_seconds)
    ) as blocks:
        gr.Markdown(
            f"# {settings.title}\nEach image and its caption are decoded from one latent. "
            f"Model: `{facts['name']}`{step} · [API](docs)"
        )
        with gr.Tab("Create"):
            _Create(blocks, studio, actions, settings)
        if studio.has_latents:
            tabs.between(actions, settings)
            tabs.describe(actions)
            tabs.restyle(actions)
    return blocks


class _Create:
    """The first tab: images from prompts and seeds, variations and the history of the session."""

    def __init__(self, blocks: gr.Blocks, studio: Studio, actions: Actions, settings: WebSettings):
        self._studio, self._actions, self._settings = studio, actions, settings
        self._items = gr.State([], time_to_live=_SESSION_SECONDS)
        self._past = gr.State([], time_to_live=_SESSION_SECONDS)
        with gr.Row():
            with gr.Column(scale=2, min_width=300):
                self._controls()
            with gr.Column(scale=3, min_width=340):
                self._results()
        self._history = gr.Gallery(
            label="This session", show_label=False, columns=12, height=130, object_fit="contain", format="png",
            allow_preview=False, buttons=[], interactive=False, elem_classes="strip",
            elem_id="history", visible=False,
        )  # fmt: skip
        self._wire(blocks)

    def _controls(self) -> None:
        own, limits = self._studio.sampling(Options()), self._settings
        self.prompt = gr.Textbox(
            label="Prompt", placeholder="Optional, such as: a ship in a storm", lines=2,
            max_lines=4, elem_id="prompt",
        )  # fmt: skip
        self.seed = gr.Textbox(
            label="Seed", placeholder="Empty: a random one", max_lines=1, elem_id="seed",
            info="After a run, the seed that was used.",
        )  # fmt: skip
        with gr.Row():
            self._new = gr.Button("New seed", variant="primary", elem_id="new")
            self._same = gr.Button("Same seed", elem_id="same")
        self.num = gr.Slider(
            1, limits.max_num, 1, step=1, label="Images", info="Seeds count up.", elem_id="num"
        )
        with gr.Accordion("Settings", open=False):
            self.temperature = gr.Slider(
                0, limits.MAX_TEMPERATURE, own.get("temperature", 0.5), step=0.1,
                label="Temperature of the caption's words", info="0 takes the most likely words.",
            )  # fmt: skip
            self.guidance = gr.Slider(
                0, limits.MAX_GUIDANCE, own.get("guidance_scale", 1.0), step=0.5,
                label="Guidance towards the prompt", info="1 for none.",
            )  # fmt: skip
        with gr.Row():
            self._link_button = gr.Button("Share link", size="sm", elem_id="share")
            self._download = gr.DownloadButton("Download all", size="sm", elem_id="download")
        self._link = gr.Textbox(
            label="Link to this result", visible=False, max_lines=1, buttons=["copy"],
            elem_id="link", interactive=False,
        )  # fmt: skip

    def _results(self) -> None:
        self._image = view.engraving("Image")
        self._caption = gr.HTML(elem_classes="caption", elem_id="caption")
        self._more = gr.Button(
            "More like this", size="sm", visible=self._studio.has_latents, elem_id="more"
        )
        self._gallery = gr.Gallery(
            label="Images", show_label=False, columns=4, height="auto", object_fit="contain", format="png",
            allow_preview=False, buttons=[], interactive=False, elem_classes="strip",
            elem_id="gallery", visible=False,
        )  # fmt: skip

    def _wire(self, blocks: gr.Blocks) -> None:
        entered = [self.prompt, self.seed, self.num, self.temperature, self.guidance]
        current = [self._image, self._caption, self.seed]
        results = [*current, self._items, self._gallery, self._download, self._past, self._history]
        view.bind(self._new.click, self._new_seed, [*entered, self._past], results)
        same = [self._same.click, self.prompt.submit, self.seed.submit]
        view.bind(same, self._generate, [*entered, self._past], results)
        view.bind(self._more.click, self._variations, [*entered, self._past], results)
        view.bind(self._gallery.select, _select, [self._items], current)
        view.bind(self._history.select, _select_past, [self._past], [*current, self.prompt])
        view.bind(blocks.load, self._from_link, [], [*entered, *results])
        self._link_button.click(None, entered, self._link, js=_LINK, api_visibility="private").then(
            lambda: gr.Textbox(visible=True), None, self._link, api_visibility="private"
        )

    def _generate(self, prompt, seed, num, temperature, guidance, past):
        items = self._actions.generate(prompt, seed, num, temperature, guidance)
        return self._shown(items, past)

    def _new_seed(self, prompt, seed, num, temperature, guidance, past):
        return self._generate(prompt, "", num, temperature, guidance, past)

    def _variations(self, prompt, seed, num, temperature, guidance, past):
        return self._shown(self._actions.around(prompt, seed, temperature, guidance), past)

    def _from_link(self, request: gr.Request):
        """Fills the page from the query of its address, and generates a first image."""
        own, query = self._studio.sampling(Options()), dict(request.query_params)
        entered = (
            query.get("prompt", ""),
            query.get("seed", ""),
            query.get("num", 1),
            query.get("temperature", own.get("temperature", 0.5)),
            query.get("guidance", own.get("guidance_scale", 1.0)),
        )
        image, caption, seed, *others = self._shown(self._actions.generate(*entered), [])
        numbers = (int(entered[2]), float(entered[3]), float(entered[4]))
        return entered[0], seed, *numbers, image, caption, seed, *others

    def _shown(self, items: Sequence[Item], past: Sequence[Item]) -> tuple:
        """Returns the values of the components that show results, the first item enlarged."""
        items = list(items)
        past = [*items, *past][: self._settings.history]
        content = archive(items, {"model": self._studio.facts})
        # Written into Gradio's cache, which is swept, so that no copy stays behind.
        folder = self._download.GRADIO_CACHE
        path = processing_utils.save_bytes_to_cache(content, "engravings.zip", folder)
        return (
            *_current(items[0]),
            items,
            gr.Gallery(view.tiles(items), visible=len(items) > 1),
            path,
            past,
            gr.Gallery([(view.image_of(item), None) for item in past], visible=True),
        )


def _current(item: Item) -> tuple:
    return view.image_of(item), view.caption_of(item), str(item.seed)


def _select(items: Sequence[Item], event: gr.SelectData):
    return _current(items[event.index])


def _select_past(items: Sequence[Item], event: gr.SelectData):
    return *_current(items[event.index]), items[event.index].prompt
