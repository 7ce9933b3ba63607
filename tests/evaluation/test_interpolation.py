"""Ways between seeds, and samples beside what they might be copies of."""

import types

import numpy as np
import pytest

from gen_jax.evaluation import Predictor
from gen_jax.evaluation.interpolation import Interpolation
from gen_jax.evaluation.memorisation import MemorisationAudit
from tests.evaluation.test_faces import Data, images


class Ways(Predictor):
    """Draws a disc whose place is the latent; with a jump, if told so."""

    def __init__(self, jumps=False):
        self.jumps = jumps
        self.task = types.SimpleNamespace(latents=self._latents, feature_space=None)

    @staticmethod
    def _latents(seeds):
        angle = 1.1 * np.asarray(seeds)
        return np.stack([np.cos(angle), np.sin(angle)], -1).astype(np.float32)

    def batched(self, name, batch, batch_size):
        assert name == "synthesize" and len(batch["seed"]) == len(batch["z"])
        z = np.where(batch["z"] > 0.2, 0.8, -0.8) if self.jumps else batch["z"]
        y, x = np.mgrid[-1.5:1.5:32j, -1.5:1.5:32j]
        far = (x - z[:, :1, None]) ** 2 + (y - z[:, 1:, None]) ** 2
        gray = (255 * np.exp(-far / 0.3)).astype(np.uint8)
        return {"image": gray[..., None].repeat(3, -1)}


def test_even_ways_have_even_steps_and_jumps_are_found():
    how = Interpolation(pairs=2, frames=16)
    smooth, jumps = (how(Ways(v), Data(images(4, 0))) for v in (False, True))
    assert 1.0 <= smooth.metrics["largest_step"] <= smooth.metrics["largest_step_worst"] < 2.0
    assert jumps.metrics["largest_step"] > 5.0
    assert smooth.pictures["paths"].shape[2] == 3


def test_the_same_way_is_as_long_in_more_frames():
    length = [
        Interpolation(pairs=2, frames=n)(Ways(), Data(images(4, 0))).metrics["path_length"]
        for n in (16, 32)
    ]
    assert length[1] == pytest.approx(length[0], rel=0.1)


def test_twice_as_fast_a_way_is_four_times_as_long():
    class Faster(Ways):
        @staticmethod
        def _latents(seeds):
            return Ways._latents(2 * np.asarray(seeds))

    how = Interpolation(pairs=1, frames=4, samples=16)
    slow, fast = (
        how(v, Data(images(4, 0))).metrics["perceptual_path_length"] for v in (Ways(), Faster())
    )
    # An untrained network's distance goes with the step, LPIPS with its square.
    assert fast == pytest.approx(2 * slow, rel=0.25)


class Seeds(Predictor):
    task = types.SimpleNamespace(feature_space=None, text_encoder=None)

    def __init__(self, made):
        self.made = made

    def batched(self, name, batch, batch_size):
        return {"image": self.made[batch["seed"]]}


class Splits(Data):
    def read(self, split, count):
        return {"image": self.real[split][:count]}


def test_copies_stand_beside_their_originals():
    train, held_out = images(40, 0), images(24, 1)
    data = Splits({"train": train, "val": held_out})
    audit = MemorisationAudit(count=24, shown=4)
    new = audit(Seeds(images(24, 2)), data)
    copied = audit(Seeds(train[:24]), data)
    assert new.metrics["nearest_ratio"] > 0.8 > 0.1 > copied.metrics["nearest_ratio"]
    assert new.metrics["copies"] < 0.2 and copied.metrics["copies"] == 1.0
    sheet = copied.pictures["nearest"]
    left, right = sheet[4 : 4 + 128, 4 : 4 + 128], sheet[4 : 4 + 128, 136 : 136 + 128]
    np.testing.assert_array_equal(left, right)
