"""The HTTP API over a double of the model."""

import asyncio
import base64
import concurrent.futures
import io
import time

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("fastapi", reason="the extra web is not installed")
from fastapi.testclient import TestClient

from gen_jax.web import api
from gen_jax.web.app import create_app
from gen_jax.web.limits import BodyLimit
from gen_jax.web.settings import WebSettings
from tests.web.double import SIDE, Double, Sampler

SETTINGS = WebSettings(max_prompt=40, max_upload_bytes=20_000, max_upload_pixels=10_000)


def client_of(pipeline, settings=SETTINGS):
    app = create_app(settings, pipeline, has_page=False)
    return TestClient(app, raise_server_exceptions=False)


@pytest.fixture
def client():
    return client_of(Double())


def generate(client, **body):
    answer = client.post(api.GENERATE, json=body)
    assert answer.status_code == 200, answer.text
    return answer.json()


def refusal(answer, code):
    """Returns the message of a refused request."""
    assert answer.status_code == code, (answer.status_code, answer.text)
    assert set(answer.json()) == {"detail"}
    return answer.json()["detail"]


def test_generates_images_with_captions(client):
    result = generate(client, seed=7, num=3, prompt="a ship")
    assert [image["seed"] for image in result["images"]] == [7, 8, 9]
    assert result["model"] == {"name": "double", "checkpoint_step": 3, "digest": "d" * 64}
    assert result["prompt"] == "a ship" and result["settings"]["temperature"] == 0.5
    for image in result["images"]:
        pixels = Image.open(io.BytesIO(base64.b64decode(image["png_base64"])))
        assert pixels.size == (image["width"], image["height"]) == (SIDE, SIDE)
        assert image["caption"]


def test_same_seed_same_bytes(client):
    alone, several = generate(client, seed=8), generate(client, seed=7, num=6)
    assert generate(client, seed=8) == alone
    assert several["images"][1] == alone["images"][0]
    assert generate(client, seed=8, prompt="a cat")["images"] != alone["images"]
    # Without a seed it is random, and the answer reproduces it.
    free = generate(client)
    assert generate(client)["images"][0]["seed"] != free["images"][0]["seed"]
    assert generate(client, seed=free["images"][0]["seed"])["images"] == free["images"]


def test_settings_are_rounded_and_reported():
    pipeline = Double()
    result = generate(client_of(pipeline), seed=1, temperature=0.7432, guidance_scale=3.3)
    assert result["settings"] == {"temperature": 0.7, "guidance_scale": 3.5}
    assert result["images"][0]["caption"].endswith("at 0.7")
    assert not pipeline.calls  # the pipeline with other settings was called


def test_every_call_has_one_size():
    pipeline = Double()
    generate(client_of(pipeline), seed=1, num=6)
    assert pipeline.calls == [2 * SETTINGS.batch_size]


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"seed": -5}, "seed=-5: input should be greater than or equal to 0"),
        ({"seed": "text"}, "seed=text: input should be a valid integer"),
        ({"seed": 2**32}, "seed=4294967296: input should be less than or equal to 4294967295"),
        ({"seed": 2**32 - 1, "num": 2}, "2 seeds from there pass the largest one"),
        ({"num": 1000}, "num=1000: input should be less than or equal to 16"),
        ({"prompt": "x" * 100_000}, "the body of the request is too large"),
        ({"prompt": "x" * 41}, "prompt: string should have at most 40 characters"),
        ({"temperature": 1e9}, "temperature=1000000000.0: input should be less than or equal to 2"),
        ({"guidance_scale": -1}, "guidance_scale=-1: input should be greater than or equal to 0"),
        ({"steps": 4}, "steps=4: extra inputs are not permitted"),
        ({"prompt": "nan"}, "is not finite"),
    ],
)
def test_mistakes_are_one_line(client, body, words):
    code = 413 if "too large" in words else 422
    message = refusal(client.post(api.GENERATE, json=body), code)
    assert words in message and "\n" not in message


def test_a_body_that_is_not_json_is_refused(client):
    headers = {"Content-Type": "application/json"}
    message = refusal(client.post(api.GENERATE, content="{seed", headers=headers), 422)
    assert message == 'the body is not JSON; send an object such as {"seed": 7}'


def test_chunked_bodies_are_limited_before_they_are_read():
    reads, answers = [], []

    async def receive():
        reads.append(1)
        return {"type": "http.request", "body": b" " * 100, "more_body": len(reads) < 50}

    async def send(message):
        answers.append(message)

    middleware = BodyLimit(None, {"/path": 250})
    asyncio.run(middleware({"type": "http", "path": "/path"}, receive, send))
    assert answers[0]["status"] == 413 and b"at most 250 bytes" in answers[1]["body"]
    assert len(reads) == 3


def test_an_internal_error_shows_nothing(client):
    answer = client.post(api.GENERATE, json={"prompt": "bug"})
    assert answer.status_code == 500 and "internal detail" not in answer.text
    assert generate(client, seed=1)  # the worker goes on


def png(height, width, mode="L"):
    buffer = io.BytesIO()
    Image.new(mode, (width, height)).save(buffer, "PNG")
    return buffer.getvalue()


def test_describes_an_image(client):
    answer = client.post(api.CAPTION, files={"image": ("a.png", png(10, 30, "RGBA"))})
    assert answer.status_code == 200, answer.text
    assert answer.json()["caption"] == "an image of 30 x 10 pixels"
    assert answer.json()["model"]["digest"] == "d" * 64


def test_uploads_are_limited(client):
    noise = np.random.default_rng(0).integers(0, 256, 30_000).astype(np.uint8).tobytes()
    for content, code, words in (
        (b"no image", 422, "is not an image"),
        (png(60, 60)[:60], 422, "is not an image"),
        (png(200, 200), 422, "200 x 200 pixels; expected at most 0.01 million"),
        (noise, 413, "too large"),
    ):
        answer = client.post(api.CAPTION, files={"image": ("a.png", content)})
        assert words in refusal(answer, code)
    assert "image: field required" in refusal(client.post(api.CAPTION), 422)


def test_a_run_that_encodes_nothing_refuses_images():
    answer = client_of(Sampler()).post(api.CAPTION, files={"image": ("a.png", png(9, 9))})
    assert "encodes no images" in refusal(answer, 422)


def waiting(client, count):
    """Waits until so many requests wait or run."""
    for _ in range(500):
        health = client.get(api.HEALTH).json()
        if health["pending"] == count:
            return health
        time.sleep(0.01)
    raise AssertionError(health)


def test_requests_run_one_at_a_time_and_a_full_queue_refuses():
    pipeline = Double()
    app = create_app(WebSettings(queue_size=2), pipeline, has_page=False)
    pipeline.gate.clear()
    with TestClient(app) as client, concurrent.futures.ThreadPoolExecutor(2) as pool:
        jobs = [pool.submit(generate, client, seed=seed) for seed in (1, 2)]
        try:
            # Health is answered while the model is busy.
            assert waiting(client, 2)["status"] == "ok"
            answer = client.post(api.GENERATE, json={"seed": 3})
            assert "the server is busy: 2 requests wait" in refusal(answer, 503)
            assert answer.headers["Retry-After"] == str(api.RETRY_SECONDS)
        finally:
            pipeline.gate.set()
        seeds = [job.result()["images"][0]["seed"] for job in jobs]
        assert seeds == [1, 2] and pipeline.overlaps == 0
        waiting(client, 0)
        assert generate(client, seed=3)


def test_openapi_describes_the_limits(client):
    assert client.get("/docs").status_code == 200
    schema = client.get("/openapi.json").json()
    fields = schema["components"]["schemas"]["GenerateRequest"]["properties"]
    assert fields["num"]["maximum"] == 16 and fields["prompt"]["maxLength"] == 40
    assert {"200", "413", "422", "503"} <= set(schema["paths"][api.GENERATE]["post"]["responses"])
