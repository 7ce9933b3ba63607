"""The page for people: a Gradio application over `actions.Actions`."""

from collections.abc import Sequence
from typing import Any

import gradio as gr
from gradio import processing_utils

from gen_jax.web import tabs, view
from gen_jax.web.actions import Actions, archive, query_of
from gen_jax.web.settings import WebSettings
from gen_jax.web.studio import Item, Options, Studio
from gen_jax.web.work import WorkQueue

_SWEEP_SECONDS = 600  # between two deletions of old files
_SESSION_SECONDS = 3600
# Built in the browser, so that it holds behind any proxy.
_LINK = """(query) => {
  const link = window.location.origin + window.location.pathname + "?" + query;
  if (navigator.clipboard) navigator.clipboard.writeText(link).catch(() => {});
  return link;
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
        # Query of the address that shows the results again.
        self._query = gr.Textbox(visible="hidden", elem_id="query")
        with gr.Row():
            with gr.Column(scale=2, min_width=300):
                self._controls()
            with gr.Column(scale=3, min_width=340):
                self._results()
        self._history = view.strip("This session", "history", columns=8, height=150)
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
        self._caption = view.caption_box("caption")
        self._more = gr.Button(
            "More like this", size="sm", visible=self._studio.has_latents, elem_id="more"
        )
        self._gallery = view.strip("Images", "gallery", columns=4)

    def _wire(self, blocks: gr.Blocks) -> None:
        entered = [self.prompt, self.seed, self.num, self.temperature, self.guidance]
        current = [self._image, self._caption, self.seed]
        kept = [self._items, self._gallery, self._download, self._query, self._past, self._history]
        results = [*current, *kept]
        for triggers, action in (
            (self._new.click, self._new_seed),
            ([self._same.click, self.prompt.submit, self.seed.submit], self._generate),
            (self._more.click, self._variations),
        ):
            inputs = [*entered, self._past]
            view.bind(triggers, action, inputs, results, show_progress_on=self._image)
        view.bind(self._gallery.select, _select, [self._items], current)
        chosen = [*current, self.prompt, self._query]
        view.bind(self._history.select, _select_past, [self._past], chosen)
        view.bind(blocks.load, self._from_link, [], [*entered, *results])
        hidden = {"api_visibility": "private"}
        self._link_button.click(None, self._query, self._link, js=_LINK, **hidden).then(
            lambda: gr.Textbox(visible=True), None, self._link, **hidden
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
        prompt, seed, num = query.get("prompt", ""), query.get("seed", ""), query.get("num", 1)
        temperature = query.get("temperature", own.get("temperature", 0.5))
        guidance = query.get("guidance_scale", own.get("guidance_scale", 1.0))
        if "variations" in query and self._studio.has_latents:
            items = self._actions.around(prompt, seed, temperature, guidance)
        else:
            items = self._actions.generate(prompt, seed, num, temperature, guidance)
        first = items[0]
        controls = (int(num), float(temperature), float(guidance))
        return first.prompt, str(first.seed), *controls, *self._shown(items, [])

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
            query_of(items),
            past,
            gr.Gallery([(view.image_of(item), None) for item in past], visible=True),
        )


def _current(item: Item) -> tuple:
    return view.image_of(item), view.caption_of(item), str(item.seed)


def _select(items: Sequence[Item], event: gr.SelectData):
    return _current(items[event.index])


def _select_past(items: Sequence[Item], event: gr.SelectData):
    item = items[event.index]
    return *_current(item), item.prompt, query_of([item])
