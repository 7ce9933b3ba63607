r"""Serves a trained run as a web page and an HTTP API.

    python -m gen_jax.serve --run=package:engravings
    python -m gen_jax.serve --run=runs/engravings --host=0.0.0.0 --port=8000
    python -m gen_jax.serve --run=runs/engravings --space=out/space
    curl -s http://127.0.0.1:7860/v1/generate -H "Content-Type: application/json" -d '{"seed": 7}'

The page generates images with captions from seeds and prompts. /docs describes the API, /healthz
answers while the server runs (docs/serve.md). One request runs on the model at a time; the others
wait in a queue of limited length.

With --space nothing is served: a folder is written that can be pushed as a Hugging Face Space.

Needs the optional packages of the extra web: pip install -e ".[web]" -c constraints.txt
"""

from absl import flags

from gen_jax.common import app, numbers, outputs, paths
from gen_jax.common.errors import UserError

_RUN = paths.DEFINE_path("run", None, "Run directory of configs/engravings.py, or package:NAME.")
_STEP = flags.DEFINE_string("step", "best", "Checkpoint: best, last or a number of steps.")
_HOST = flags.DEFINE_string(
    "host", "127.0.0.1", "Address to listen on; 0.0.0.0 lets other machines connect."
)
_PORT = numbers.define_int("port", 7860, "Port to listen on; 0 takes a free one.", 0, 65535)
_TITLE = flags.DEFINE_string("title", "Engravings", "Heading of the page.")
_QUEUE = numbers.define_int("queue", 16, "Requests that may wait; one more is refused.", 1, 10_000)
_SPACE = paths.DEFINE_path(
    "space", None, "Folder to write as a Hugging Face Space, instead of serving."
)


def main(_) -> None:
    """Reads the run, then serves it or writes the Space."""
    if not _RUN.value:
        raise UserError("--run is missing: name a run directory or package:engravings; see --help")
    from gen_jax.web import app as web_app
    from gen_jax.web.settings import WebSettings

    # Quick checks come before the model is read.
    web_app.check_extra()
    if _SPACE.value:
        _write_space()
        return
    listener = web_app.bind(_HOST.value, _PORT.value)
    from gen_jax.parallel import compilation
    from gen_jax.web import studio

    compilation.set_up()
    settings = WebSettings(title=_TITLE.value, queue_size=_QUEUE.value)
    pipeline = studio.load(_RUN.value, _STEP.value)
    server = web_app.create_app(settings, pipeline)
    listener.listen()  # early connections to the printed address wait, and are not refused
    host, port = listener.getsockname()[:2]
    shown = f"[{host}]" if ":" in host else host
    print(f"page  http://{shown}:{port}", flush=True)
    print(f"API   http://{shown}:{port}/docs", flush=True)
    web_app.serve(server, listener)


def _write_space() -> None:
    from gen_jax.web import space

    out = outputs.check_folder(_SPACE.value, "--space")
    if out.is_dir() and any(out.iterdir()):
        raise UserError(f"--space={_SPACE.value}: is not empty; name a new folder")
    with outputs.writing(out) as temporary:
        space.write(_RUN.value, _STEP.value, temporary, _TITLE.value)
    print(f"wrote a Space to {out}; docs/serve.md says how to push it")


if __name__ == "__main__":
    app.run(main)
