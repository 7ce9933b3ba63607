"""Heads on images of any size, through the pipeline."""

import dataclasses

import numpy as np
import pytest

from configs import encoder, heads
from gen_jax.common.errors import UserError
from gen_jax.pipelines.heads import Head
from gen_jax.runs.reader import TrainedModel
from gen_jax.tasks import build_task
from tests.tasks.test_contract import filled


def trained(head, tmp_path):
    config = heads.get_config(f"head={head},debug")
    task = build_task(config.task.to_dict())
    params, extra = filled(task)
    return TrainedModel(
        task=task, variables={"params": params, "extra": extra}, config=config, path=tmp_path,
        step=0, frozen={}, digest="",
    )  # fmt: skip


def test_a_mask_has_the_size_of_its_image(tmp_path):
    head = Head(trained("segmentation", tmp_path))
    image = np.random.default_rng(0).integers(0, 256, (21, 33, 3)).astype(np.uint8)
    read = head.read(image=image)
    assert read["mask"].shape == read["confidence"].shape == (21, 33)
    # Padding by the pixels of the border changes nothing far from it.
    whole = np.pad(image, ((0, 11), (0, 31), (0, 0)), mode="edge")
    np.testing.assert_array_equal(head.read(image=whole)["mask"][:21, :33], read["mask"])


def test_a_plate_is_read_as_text(tmp_path):
    head = Head(trained("plates", tmp_path))
    read = head.read(image=np.zeros((50, 200, 3), np.uint8))
    assert isinstance(read["text"], str) and 0.0 <= read["confidence"] <= 1.0


def test_images_of_a_pair_have_one_size(tmp_path):
    head = Head(trained("change", tmp_path))
    black = np.zeros((20, 30, 3), np.uint8)
    assert head.read(before=black, after=black)["mask"].shape == (20, 30)
    with pytest.raises(UserError, match="images of different sizes, 30x20 and 20x30"):
        head.read(before=black, after=black.swapaxes(0, 1))


def test_mistakes_are_one_line(tmp_path):
    head = Head(trained("segmentation", tmp_path))
    with pytest.raises(UserError, match="reads image, not before"):
        head.read(before=np.zeros((8, 8, 3), np.uint8))
    model = head.model
    stage = build_task(encoder.get_config("debug").task.to_dict())
    with pytest.raises(UserError, match="is a run of another stage; name a run of configs/heads"):
        Head(dataclasses.replace(model, task=stage))
