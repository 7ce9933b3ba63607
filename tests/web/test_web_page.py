"""What the page's actions do with what a person enters, and how the page is built."""

import io
import json
import urllib.parse
import zipfile

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("gradio", reason="the extra web is not installed")
import gradio as gr

from gen_jax.common.errors import UserError
from gen_jax.web import page, view
from gen_jax.web.actions import VARIATIONS, Actions, archive, query_of
from gen_jax.web.settings import WebSettings
from gen_jax.web.studio import Item, Studio
from gen_jax.web.work import WorkQueue
from tests.web.double import Double, Sampler

SETTINGS = WebSettings(max_prompt=40, max_upload_pixels=10_000)


def actions_of(pipeline):
    return Actions(Studio(pipeline, SETTINGS), WorkQueue(4), SETTINGS)


@pytest.fixture
def actions():
    return actions_of(Double())


def test_seeds_count_up_and_repeat(actions):
    items = actions.generate(" a ship ", "7", 3, 0.5, 2)
    assert [item.seed for item in items] == [7, 8, 9] and items[0].prompt == "a ship"
    assert actions.generate("a ship", 8, 1, 0.5, 2) == items[1:2]
    free = [actions.generate("", empty, 1, 0.5, 2)[0] for empty in ("", None, "  ")]
    assert len({item.seed for item in free}) == 3
    assert actions.generate("", free[0].seed, 1, 0.5, 2) == free[:1]


@pytest.mark.parametrize(
    ("entered", "words"),
    [
        (("x" * 90_000, "", 1, 0.5, 2), "the prompt has 90,000 characters; expected at most 40"),
        (("", "-5", 1, 0.5, 2), "seed=-5: expected a whole number from 0"),
        (("", "seven", 1, 0.5, 2), "seed=seven: expected a whole number from 0"),
        (("", "9" * 999, 1, 0.5, 2), f"seed={'9' * 20}...: expected a whole number"),
        (("", str(2**32 - 1), 4, 0.5, 2), "4 seeds from there pass the largest one"),
        (("", "1", 1000, 0.5, 2), "number of images=1000: expected a whole number from 1 to 16"),
        (("", "1", None, 0.5, 2), "number of images=None: expected"),
        (("", "1", 1, float("nan"), 2), "temperature=nan: expected a number from 0 to 2"),
        (("", "1", 1, 0.5, 99), "guidance=99: expected a number from 0 to 10"),
    ],
)
def test_absurd_input_gives_a_short_message(actions, entered, words):
    with pytest.raises(UserError) as error:
        actions.generate(*entered)
    assert words in str(error.value) and len(str(error.value)) < 160


def test_latents_are_walked_varied_and_mixed(actions, tmp_path):
    ends = [actions.generate("", seed, 1, 0.5, 2)[0] for seed in (1, 2)]
    assert [actions.between("1", "2", x).png for x in (0, 1)] == [item.png for item in ends]
    middle = actions.between("1", "2", 0.5)
    assert middle.png not in (ends[0].png, ends[1].png)
    assert middle.origin == "50% of the way from seed 1 to seed 2"

    variations = actions.around("", "1", 0.5, 2)
    assert len({item.png for item in variations}) == VARIATIONS == len(variations)
    assert {item.origin for item in variations} == {"variation of seed 1"}

    path = tmp_path / "a.png"
    Image.fromarray(np.full((20, 40), 90, np.uint8)).save(path)
    described = actions.describe(str(path))
    assert described.caption == "an image of 40 x 20 pixels" and described.png
    own = actions.restyle(("1", None), ("1", None))
    assert own.png == ends[0].png
    mixed = actions.restyle(("1", None), ("1", str(path)))
    assert mixed.origin == "structure of seed 1, hand of an upload"
    # The double draws from the structure's half alone; its latents are those of seed 1.
    assert mixed.png == ends[0].png


def test_uploads_that_are_unusable_give_a_short_message(actions, tmp_path):
    text = tmp_path / "a.png"
    text.write_text("no image")
    large = tmp_path / "b.png"
    Image.new("L", (200, 200)).save(large)
    for path, words in (
        (None, "upload one first"),
        (str(text), "is not an image that can be read here"),
        (str(large), "200 x 200 pixels; expected at most 0.01 million"),
    ):
        with pytest.raises(UserError, match=words):
            actions.describe(path)
    for seed, words in (("", "hand: upload an image or enter a seed"), ("x", "hand=x: expected")):
        with pytest.raises(UserError, match=words):
            actions.restyle(("1", None), (seed, None))


def test_an_upload_is_shown_upright_over_white():
    from gen_jax.web import images

    buffer = io.BytesIO()
    transparent = np.zeros((2, 4, 4), np.uint8)
    exif = Image.Exif()
    exif[274] = 6  # rotated by a quarter turn
    Image.fromarray(transparent).save(buffer, "PNG", exif=exif)
    pixels = images.decode(buffer.getvalue(), SETTINGS)
    assert pixels.shape == (4, 2, 3) and (pixels == 255).all()
    buffer = io.BytesIO()
    Image.fromarray(np.full((2, 2), 128 * 257, np.uint16)).save(buffer, "PNG")  # 16 bits
    assert (images.decode(buffer.getvalue(), SETTINGS) == 128).all()


def test_gradio_does_not_decode_uploads(tmp_path):
    path = tmp_path / "a.png"
    path.write_text("no image")
    component = view.upload("Image")
    assert component.preprocess(component.data_model(path=str(path))) == str(path)
    assert component.preprocess(None) is None


def test_the_archive_holds_images_and_manifest(actions):
    items = actions.generate("été", "7", 2, 0.5, 2)
    content = archive(items, {"model": {"digest": "d"}})
    assert content == archive(items, {"model": {"digest": "d"}})
    with zipfile.ZipFile(io.BytesIO(content)) as file:
        manifest = json.loads(file.read("manifest.json"))
        assert manifest["model"] == {"digest": "d"}
        for row, item in zip(manifest["images"], items, strict=True):
            assert file.read(row["file"]) == item.png
            assert (row["seed"], row["prompt"]) == (item.seed, "été")
            assert (row["temperature"], row["guidance_scale"]) == (0.5, 2.0)


def test_a_link_reproduces_the_results(actions):
    items = actions.generate("a ship & more", "7", 2, 0.3, 4)
    query = dict(urllib.parse.parse_qsl(query_of(items)))
    assert query == {
        "seed": "7", "num": "2", "prompt": "a ship & more", "temperature": "0.3",
        "guidance_scale": "4.0",
    }  # fmt: skip
    again = [query[name] for name in ("prompt", "seed", "num", "temperature", "guidance_scale")]
    assert actions.generate(*again) == items
    assert "variations=8" in query_of(actions.around("", "7", 0.3, 4))


def test_messages_are_short_and_escaped(capsys):
    def fails(error):
        raise error

    with pytest.raises(gr.Error) as shown:
        view.guarded(fails)(UserError("seed=<b>: expected a number"))
    assert shown.value.message == "Seed=&lt;b&gt;: expected a number."
    with pytest.raises(gr.Error) as shown:
        view.guarded(fails)(RuntimeError("an internal detail"))
    assert "internal" not in shown.value.message
    assert "an internal detail" in capsys.readouterr().err
    item = Item(1, "<i>", "<script>", b"", 1, 1, {})
    assert "<script>" not in view.caption_of(item) and "<i>" not in view.caption_of(item)


def labels(blocks):
    return {getattr(block, "label", None) for block in blocks.blocks.values()}


def test_tabs_that_a_run_cannot_serve_are_left_out():
    work = WorkQueue(1)
    full = page.build(Studio(Double(), SETTINGS), work, SETTINGS)
    assert {"Between two seeds", "Caption an image", "Style transfer"} <= labels(full)
    plain = page.build(Studio(Sampler(), SETTINGS), work, SETTINGS)
    assert "Create" in labels(plain) and "Style transfer" not in labels(plain)
    assert full.delete_cache == (600, SETTINGS.cache_seconds)
    # The API is the only one: Gradio's own shows none of the page's actions.
    assert not full.get_api_info()["named_endpoints"]
