"""The HTTP API: POST /v1/generate, POST /v1/caption and GET /healthz."""

import base64
import secrets
from typing import Any

import fastapi
import pydantic
from fastapi.concurrency import run_in_threadpool
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse

from gen_jax.common import numbers
from gen_jax.common.errors import UserError
from gen_jax.web import images
from gen_jax.web.settings import WebSettings
from gen_jax.web.studio import Item, Options, Studio
from gen_jax.web.work import QueueFull, WorkQueue

GENERATE, CAPTION, HEALTH = "/v1/generate", "/v1/caption", "/healthz"
RETRY_SECONDS = 5
_MULTIPART_BYTES = 4096  # what a multipart body holds beside the file


class Model(pydantic.BaseModel):
    """Identifies the model."""

    name: str
    checkpoint_step: int | None
    digest: str = pydantic.Field(description="SHA-256 of the weights.")


class GeneratedImage(pydantic.BaseModel):
    """An image with its caption."""

    seed: int
    caption: str
    png_base64: str
    width: int
    height: int


class Generated(pydantic.BaseModel):
    """Answer of /v1/generate."""

    images: list[GeneratedImage]
    prompt: str
    settings: dict[str, Any] = pydantic.Field(description="Settings of sampling that were used.")
    model: Model


class Captioned(pydantic.BaseModel):
    """Answer of /v1/caption."""

    caption: str
    model: Model


class Health(pydantic.BaseModel):
    """Answer of /healthz."""

    status: str
    pending: int = pydantic.Field(description="Requests that wait for the model or run.")
    model: Model


class Problem(pydantic.BaseModel):
    """What is wrong, where, what was expected and what to do, in one line."""

    detail: str


def random_seed(count: int = 1) -> int:
    """Returns a random seed from which `count` seeds can be counted up."""
    return secrets.randbelow(numbers.MAX_SEED + 2 - count)


def body_limits(settings: WebSettings) -> dict[str, int]:
    """Returns the largest body in bytes for each path that takes one."""
    upload = settings.max_upload_bytes + _MULTIPART_BYTES
    return {GENERATE: settings.max_body_bytes, CAPTION: upload}


def add_routes(
    app: fastapi.FastAPI, studio: Studio, work: WorkQueue, settings: WebSettings
) -> None:
    """Adds the routes and the handlers of errors to an application."""

    class GenerateRequest(pydantic.BaseModel):
        """What to generate."""

        model_config = pydantic.ConfigDict(extra="forbid")

        prompt: str = pydantic.Field("", max_length=settings.max_prompt)
        seed: int | None = pydantic.Field(
            None,
            ge=0,
            le=numbers.MAX_SEED,
            description="Seed of the first image; the next ones count up. Random by default.",
        )
        num: int = pydantic.Field(1, ge=1, le=settings.max_num, description="Number of images.")
        temperature: float | None = pydantic.Field(
            None,
            ge=0,
            le=settings.MAX_TEMPERATURE,
            allow_inf_nan=False,
            description="Temperature of the caption's words, rounded to 0.1.",
        )
        guidance_scale: float | None = pydantic.Field(
            None,
            ge=0,
            le=settings.MAX_GUIDANCE,
            allow_inf_nan=False,
            description="Guidance scale towards the prompt, rounded to 0.5.",
        )

    refusals = {code: {"model": Problem} for code in (413, 422, 503)}

    @app.post(GENERATE, response_model=Generated, responses=refusals, tags=["model"])
    async def generate(body: GenerateRequest) -> dict[str, Any]:
        """Generates images with captions. Equal requests with a seed give equal bytes."""
        first = random_seed(body.num) if body.seed is None else body.seed
        numbers.check_seed(first, "seed", body.num)
        options = Options(body.temperature, body.guidance_scale)
        seeds = range(first, first + body.num)
        items = await work.run_async(studio.generate, seeds, body.prompt, options)
        return {
            "images": [_as_json(item) for item in items],
            "prompt": body.prompt,
            "settings": studio.sampling(options),
            "model": studio.facts,
        }

    @app.post(CAPTION, response_model=Captioned, responses=refusals, tags=["model"])
    async def caption(image: fastapi.UploadFile) -> dict[str, Any]:
        """Describes an uploaded image (multipart form, field `image`)."""
        if not studio.has_latents:
            raise UserError(f"{CAPTION}: this run encodes no images; use {GENERATE}")
        data = await image.read()
        pixels = await run_in_threadpool(images.decode, data, settings)
        item = await work.run_async(studio.describe, pixels)
        return {"caption": item.caption, "model": studio.facts}

    @app.get(HEALTH, response_model=Health, tags=["server"])
    async def health() -> dict[str, Any]:
        """Answers as soon as the server accepts requests."""
        return {"status": "ok", "pending": work.pending, "model": studio.facts}

    _add_error_handlers(app)


def _as_json(item: Item) -> dict[str, Any]:
    return {
        "seed": item.seed,
        "caption": item.caption,
        "png_base64": base64.b64encode(item.png).decode("ascii"),
        "width": item.width,
        "height": item.height,
    }


def _add_error_handlers(app: fastapi.FastAPI) -> None:
    """Answers mistakes with one line, see `Problem`."""

    @app.exception_handler(QueueFull)
    async def busy(request: fastapi.Request, error: QueueFull) -> JSONResponse:
        headers = {"Retry-After": str(RETRY_SECONDS)}
        return JSONResponse({"detail": str(error)}, 503, headers)

    @app.exception_handler(UserError)
    async def refused(request: fastapi.Request, error: UserError) -> JSONResponse:
        return JSONResponse({"detail": str(error)}, 422)

    @app.exception_handler(RequestValidationError)
    async def invalid(request: fastapi.Request, error: RequestValidationError) -> JSONResponse:
        return JSONResponse({"detail": "; ".join(map(_line, error.errors()))}, 422)


def _line(error: dict[str, Any]) -> str:
    """Returns one mistake that pydantic names as a line: where, what was given, what is wrong."""
    if error["type"] == "json_invalid":
        return 'the body is not JSON; send an object such as {"seed": 7}'
    names = [str(name) for name in error["loc"] if name not in ("body", "query")]
    where = ".".join(names) or "body"
    given = error.get("input")
    # A long text would bury the message, and a body is no value.
    shown = isinstance(given, str | int | float) and len(str(given)) <= 40
    message = error["msg"][:1].lower() + error["msg"][1:]
    return f"{where}={given}: {message}" if shown else f"{where}: {message}"
