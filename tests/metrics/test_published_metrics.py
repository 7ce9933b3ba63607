"""Metrics against the packages that define their published figures: `pytest -m nightly`."""

import numpy as np
import pytest

from gen_jax.metrics import moments
from gen_jax.metrics.frechet import frechet_distance

pytestmark = pytest.mark.nightly


def test_frechet_distance_is_that_of_pytorch_fid():
    fid_score = pytest.importorskip("pytorch_fid.fid_score", exc_type=ImportError)
    random = np.random.default_rng(0)
    x = random.normal(size=(600, 64)) @ random.normal(size=(64, 64)) / 8
    y = random.normal(size=(500, 64)) @ random.normal(size=(64, 64)) / 8 + 0.3
    statistics = [s for z in (x, y) for s in (z.mean(0), np.cov(z, rowvar=False))]
    want = float(fid_score.calculate_frechet_distance(*statistics))
    got = frechet_distance(moments.of(x), moments.of(y))
    print(f"Frechet distance {want:.6g}, relative error {abs(got / want - 1):.1e}")
    np.testing.assert_allclose(got, want, rtol=1e-6)
