"""Text to image with networks that are formulas: guidance and the negative prompt by hand."""

import inspect

import ml_collections
import numpy as np
import pytest
from PIL import Image

import gen_jax
from gen_jax.common.errors import UserError
from gen_jax.data.text.tokenizer import train_tokenizer
from gen_jax.diffusion.schedules import make_process
from gen_jax.pipelines.python_api import Model
from gen_jax.pipelines.sampling import Request
from gen_jax.pipelines.text_to_image import TextToImage
from gen_jax.runs import layout
from gen_jax.runs.reader import TrainedModel
from tests.tasks.plain_ldm import FROZEN, PARAMS, Blend, plain

PROMPTS, SEEDS = ["red", "green", "red"], [3, 4, 5]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    train_tokenizer(["red", "green", "blue"], 300).save(folder / layout.TOKENIZER)
    return TrainedModel(
        path=folder,
        config=ml_collections.ConfigDict({"task": {"name": "ldm"}}),
        task=plain(unet=Blend(), process=make_process("flow", "flow"), guidance_scale=2.0),
        variables={"params": {"model": PARAMS}, "extra": {}},
        frozen=FROZEN,
        step=1,
        digest="",
    )


unchecked = inspect.unwrap(Model.generate)


def by_hand(pipeline, scale, negative=""):
    """One step of flow from noise to image under classifier-free guidance (arXiv:2207.12598)."""

    def output(texts):
        found = pipeline._tokenizer.encode(texts, 8)
        words = (found.ids * found.mask).sum(1)[:, None, None, None]
        return np.sin(0.1 * words + x_T) + 1e-3 * 1000

    x_T = pipeline.noise(SEEDS)
    cond, uncond = output(PROMPTS), output([negative] * len(PROMPTS))
    x_0 = x_T - (uncond + scale * (cond - uncond))
    return 127.5 * (np.tanh(x_0[..., :3] / 4) + 1)


def test_guidance_and_the_negative_prompt_are_the_formula(model):
    cases = [(None, 2.0, ""), (1.0, 1.0, ""), (4.0, 4.0, ""), (4.0, 4.0, "blue")]
    images = []
    for given, scale, negative in cases:
        pipeline = TextToImage(model, sampler="ddim", num_inference_steps=1, guidance_scale=given)
        images.append(pipeline(Request(SEEDS, PROMPTS, negative), batch_size=2))
        want = by_hand(pipeline, scale, negative)
        assert np.abs(images[-1] - want).max() <= 0.51, (scale, negative)
    for i, first in enumerate(images):
        for second in images[i + 1 :]:
            assert np.abs(np.int32(first) - second).max((1, 2, 3)).min() > 5


def test_a_guidance_interval_bounds_the_times_that_are_guided(model):
    rows = [
        TextToImage(model, sampler="ddim", num_inference_steps=1, guidance_interval=interval)(
            Request(SEEDS, PROMPTS)
        )
        for interval in ((0.0, 1.0), (0.0, 0.5))
    ]
    pipeline = TextToImage(model, num_inference_steps=1)
    for have, scale in zip(rows, (2.0, 1.0)):  # the one step is at time 1
        assert np.abs(have - by_hand(pipeline, scale)).max() <= 0.51


def test_an_image_depends_on_its_seed_alone_and_is_finite(model):
    pipeline = TextToImage(model, sampler="ddpm", num_inference_steps=3)
    whole = pipeline(Request(SEEDS, ["red"] * 3), batch_size=2)
    np.testing.assert_array_equal(pipeline(Request(SEEDS[1:], ["red"] * 2), 2), whole[1:])
    # From one x_T, the noise of the steps is what differs.
    x_T = np.zeros((2, *pipeline.task.latent_shape), np.float32)
    first, second = pipeline(Request(SEEDS[:2], ["red"] * 2, latents=x_T), 2)
    assert np.abs(np.int32(first) - second).max() > 5
    x_T[1, 0, 0, 0] = np.nan
    with pytest.raises(UserError, match="image of seed 4 is not finite"):
        pipeline(Request(SEEDS[:2], ["red"] * 2, latents=x_T), 2)


def test_from_python_a_call_has_its_own_settings(model):
    front = Model(model, sampler="ddim", num_inference_steps=1)
    images = front.generate(["red", "green"], num=2, seed=3, guidance_scale=4.0)
    pipeline = front.pipeline(guidance_scale=4.0)
    assert pipeline is front.pipeline(guidance_scale=4.0) and pipeline is not front.pipeline()
    want = pipeline(Request([3, 4, 5, 6], ["red", "red", "green", "green"]))
    assert all(np.array_equal(image, pixels) for image, pixels in zip(images, want))
    assert images[2].info == {"seed": 5, "prompt": "green"}
    for call, words in (
        (lambda: front.generate(), "prompt: .*is conditioned on text"),
        (lambda: front.generate("red", seed=-1), "seed=-1"),
        (lambda: front.generate("red", truncation=0.5), "truncation=0.5"),
        (lambda: front.describe([Image.new("RGB", (8, 8))]), "writes no captions"),
        (lambda: front.generate([]), r"prompt=\[\]: expected a text"),
        (lambda: front.generate("red", num=0), "num=0: expected a whole number"),
        (lambda: front.generate("red", batch_size=0), "batch_size=0: expected a whole number"),
        (
            lambda: front.generate(["red", "green"], seed=2**32 - 1),
            "seed=4294967295: 2 seeds from there pass the largest one",
        ),
        (lambda: front.generate("red", image=[]), "image: list; expected a PIL image"),
        # Without the checks of types, which tests alone make.
        (lambda: unchecked(front, 3), "prompt=3: expected a text"),
        (lambda: unchecked(front, ["red", None]), "prompt=.*: expected a text"),
        (lambda: unchecked(front, "red", negative_prompt=["green"]), "negative_prompt=.*a text"),
        (lambda: unchecked(front, "red", num=1.5), "num=1.5: expected a whole number"),
        (lambda: unchecked(front, "red", seed=None), "seed=None: expected a whole number"),
        (lambda: unchecked(front, "red", image="red.png"), "image: str; expected a PIL image"),
        (lambda: unchecked(front, "red", image=np.zeros((8, 8, 3))), "image: ndarray; expected"),
        (lambda: unchecked(front, "red", mask=[None]), "mask: a list of NoneType; expected a PIL"),
    ):
        with pytest.raises(UserError, match=words) as error:
            call()
        assert "\n" not in str(error.value)


def test_from_python_the_prompt_may_be_empty_and_numbers_text(model):
    front = Model(model, sampler="ddim", num_inference_steps=1)
    given = dict(num="2", seed=np.int64(3), tile="0", negative_prompt=None, guidance_scale="4")
    have = unchecked(front, "", **given, guidance_interval=np.array([0.0, 1.0]))
    assert [x.info for x in have] == [{"seed": 3, "prompt": ""}, {"seed": 4, "prompt": ""}]
    # Guidance leads away from the empty prompt, which is this one.
    want = front.generate("", num=2, seed=3)
    assert all(np.array_equal(a, b) for a, b in zip(have, want, strict=True))
    assert front.pipeline(guidance_scale="4").task.guidance_scale == 4.0


def test_from_python_what_may_surprise_is_noted(model, capsys):
    front = Model(model, sampler="ddim", num_inference_steps=1)
    front.generate("red")
    assert capsys.readouterr().err == ""
    front.generate("red " * 30, guidance_scale=0.0)
    noted = capsys.readouterr().err.splitlines()
    assert len(noted) == 2 and all(line.startswith("note: ") for line in noted)
    assert "is longer than the 8 tokens that the model reads" in noted[0]
    assert "guidance_scale=0: below 1 an image follows its prompt less" in noted[1]


def test_a_folder_may_be_a_path_object(tmp_path):
    with pytest.raises(UserError, match="nothing: no such folder; expected a run directory"):
        gen_jax.load(tmp_path / "nothing")
