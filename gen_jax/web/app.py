"""The application: API and page around one model."""

import contextlib
import importlib.util
import os
import socket
from collections.abc import AsyncIterator
from typing import Any

import gen_jax
from gen_jax.common.errors import UserError
from gen_jax.web.settings import WebSettings

# Modules of the extra `web`, and the distributions that hold them.
_NEEDED = {
    "fastapi": "fastapi",
    "gradio": "gradio",
    "uvicorn": "uvicorn",
    "python_multipart": "python-multipart",
}


def check_extra() -> None:
    """Raises UserError if a package of the extra `web` is missing."""
    missing = [name for module, name in _NEEDED.items() if not importlib.util.find_spec(module)]
    if missing:
        raise UserError(
            f"{', '.join(missing)}: not installed, and the web page needs it; run pip install "
            "'gen_jax[web]', or in a checkout pip install -e '.[web]' -c constraints.txt"
        )


def create_app(settings: WebSettings, pipeline: Any, *, has_page: bool = True) -> Any:
    """Returns the FastAPI application with API, page and one queue for both.

    Args:
      settings: Limits and sizes.
      pipeline: Pipeline of a captioned run.
      has_page: Whether the Gradio page is mounted at "/". Without it the API starts faster.

    Raises:
      UserError: The packages of the extra `web` are missing.
    """
    check_extra()
    import fastapi

    from gen_jax.web import api
    from gen_jax.web.limits import BodyLimit
    from gen_jax.web.studio import Studio
    from gen_jax.web.work import WorkQueue

    work, studio = WorkQueue(settings.queue_size), Studio(pipeline, settings)

    @contextlib.asynccontextmanager
    async def lifespan(app: fastapi.FastAPI) -> AsyncIterator[None]:
        yield
        work.close()

    app = fastapi.FastAPI(
        title=settings.title, version=gen_jax.__version__, lifespan=lifespan, redoc_url=None
    )
    app.add_middleware(BodyLimit, limits=api.body_limits(settings))
    app.state.work, app.state.studio = work, studio
    api.add_routes(app, studio, work, settings)
    if has_page:
        from gen_jax.web import page

        # After the routes of the API, because the page answers every other path.
        page.mount(app, studio, work, settings)
    return app


def bind(host: str, port: int) -> socket.socket:
    """Returns a socket bound to an address; port 0 takes a free one.

    Raises:
      UserError: The address is taken or does not exist here.
    """
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        bound = socket.socket(family, socket.SOCK_STREAM)
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind((host, port))
    except OSError as error:
        reason = error.strerror or str(error)
        raise UserError(
            f"host={host}, port={port}: cannot listen there ({reason}); choose another port, or "
            "stop the server that uses it"
        ) from error
    return bound


def serve(app: Any, listener: socket.socket) -> None:
    """Serves an application of `create_app` on a bound socket until it is interrupted."""
    import uvicorn

    # Compiles while the server starts, so that the first visitor waits less.
    app.state.work.submit(app.state.studio.warm_up)
    config = uvicorn.Config(app, log_level="warning")
    with contextlib.suppress(KeyboardInterrupt):
        uvicorn.Server(config).run(sockets=[listener])


def main(run: str, host: str = "0.0.0.0", port: int = 7860) -> None:
    """Serves a run, as the app.py of a Hugging Face Space does.

    Args:
      run: A run directory or `package:NAME`.
      host: Address to listen on; all of the machine by default.
      port: Port; GRADIO_SERVER_PORT has precedence.
    """
    check_extra()
    from gen_jax.parallel import compilation
    from gen_jax.web import studio

    listener = bind(host, int(os.environ.get("GRADIO_SERVER_PORT", port)))
    compilation.set_up()
    serve(create_app(WebSettings(), studio.load(run)), listener)
