"""Runs of the stage art that were never trained."""

import dataclasses
import pathlib

import ml_collections
import pytest

from gen_jax.data.text.tokenizer import train_tokenizer
from gen_jax.runs import layout
from gen_jax.runs.reader import TrainedModel
from tests.moved import moved
from tests.tasks.test_art import made


@pytest.fixture
def runs(tmp_path):
    """Makes a run of `made`'s, its parameters moved, with changes of the task."""

    def run(arg="debug", noise=0.0, words=("deep blue", "blue and deep"), frozen=None, **changes):
        task, params, own, _ = made(arg)
        folder = tmp_path / str(len(list(tmp_path.iterdir())))
        folder.mkdir()
        train_tokenizer(words, 300).save(folder / layout.TOKENIZER)
        return TrainedModel(
            path=pathlib.Path(folder),
            config=ml_collections.ConfigDict({"task": {"name": "art"}}),
            task=dataclasses.replace(task, **changes),
            variables={"params": moved(params, noise, seed=7), "extra": {}},
            frozen=own if frozen is None else frozen,
            step=1,
            digest="",
        )

    return run
