"""What is made of the latents of a captioned run: walks, neighbors, images in and out."""

import pathlib

import ml_collections
import numpy as np
import pytest

from configs import engravings
from gen_jax.data.text.tokenizer import train_tokenizer
from gen_jax.pipelines.captioned import Captioned
from gen_jax.pipelines.sampling import Request
from gen_jax.runs import layout
from gen_jax.runs.reader import TrainedModel
from gen_jax.tasks import build_task
from tests.moved import moved
from tests.tasks.test_contract import filled


@pytest.fixture(scope="module")
def pipe(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    train_tokenizer(["a grey owl", "the head of a bat"], 300).save(folder / layout.TOKENIZER)
    values = {**engravings.get_config("debug").task.to_dict(), "temperature": 1.0, "top_p": 1.0}
    task = build_task(values)
    params, extra = filled(task)
    params = moved(params, 0.1)  # biases of zero would leave outputs that depend on nothing
    return Captioned(
        TrainedModel(
            path=pathlib.Path(folder),
            config=ml_collections.ConfigDict(),
            task=task,
            variables={"params": params, "extra": extra},
            frozen={},
            step=0,
            digest="",
        )
    )


def test_walks_and_neighborhoods_begin_with_their_seeds(pipe):
    plain = pipe.sample(Request([7, 8]))
    walk = pipe.walk([7, 8], 3)
    frames = pipe.sample(Request([7, 7, 7], latents=walk)).images
    np.testing.assert_array_equal(frames[[0, 2]], plain.images)
    assert (frames[1] != frames[0]).any() and (frames[1] != frames[2]).any()
    # All points of a great circle have the length of noise.
    np.testing.assert_allclose(np.linalg.norm(walk, axis=1), walk.shape[1] ** 0.5, rtol=0.25)
    near, far = (pipe.near(7, 4, distance) for distance in (0.1, 0.9))
    np.testing.assert_allclose(near[0], walk[0], rtol=1e-6)
    steps = [np.linalg.norm(rows[1:] - rows[0], axis=1) for rows in (near, far)]
    assert (steps[0] > 0).all() and (steps[0] * 3 < steps[1]).all()
    # The largest seed has neighbors as well.
    assert np.isfinite(pipe.near(2**32 - 1, 2)).all()


def test_prompts_count_for_walks_and_batches_do_not(pipe):
    walk = pipe.walk([7, 8], 3)
    one = pipe.sample(Request([7] * 3, ["owl", "", "owl"], latents=walk), batch_size=3)
    two = pipe.sample(Request([7] * 3, ["owl", "", "owl"], latents=walk), batch_size=2)
    assert np.abs(one.images.astype(int) - two.images).max() <= 1
    plain = pipe.sample(Request([7] * 3, latents=walk)).images
    assert (one.images[0] != plain[0]).any()
    np.testing.assert_array_equal(one.images[1], plain[1])


def test_images_of_any_size_are_encoded_and_described(pipe):
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 256, shape, np.uint8) for shape in ((9, 30), (40, 20, 3), (8, 8, 1))]
    latents = pipe.encode(images, batch_size=2)
    assert latents.shape == (3, pipe.task.latent_size)
    described, decoded = pipe.describe(images), pipe.decode(latents)
    assert np.abs(described.images.astype(int) - decoded.images).max() <= 1
    assert len(described.captions) == 3 and described.images.shape[1:] == (16, 16, 3)


def test_a_transfer_takes_the_structure_of_one_and_the_hand_of_the_other(pipe):
    first, second = pipe.latents([1, 2]), pipe.latents([3, 4])
    mixed = pipe.task.split(pipe.transfer(first, second))
    np.testing.assert_array_equal(mixed.spatial, pipe.task.split(first).spatial)
    np.testing.assert_array_equal(mixed.pooled, pipe.task.split(second).pooled)
    assert not np.asarray(mixed.caption).any()
    # Latents of a seed decode to its image.
    np.testing.assert_array_equal(pipe.decode(first).images, pipe.sample(Request([1, 2])).images)
