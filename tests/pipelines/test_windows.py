"""An image in windows is the whole image."""

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest

from gen_jax.pipelines import windows


def blurred(reach, multiple, sizes):
    """A filter over blocks of `multiple` pixels that reaches as far as it says, zeros outside."""

    def forward(x):
        sizes.append(x.shape[1:3])
        h, w = (-(-n // multiple) * multiple for n in x.shape[1:3])
        edge = ((0, 0), (0, h - x.shape[1]), (0, w - x.shape[2]), (0, 0))
        y = np.pad(x, edge, mode="edge")
        y = y.reshape(1, h // multiple, multiple, w // multiple, multiple, -1).mean((2, 4))
        far = (reach - multiple + 1) // multiple
        padded = np.pad(y, ((0, 0), (far, far), (far, far), (0, 0)))
        y = sum(
            (1 + i + 3 * j) * padded[:, i : i + y.shape[1], j : j + y.shape[2]]
            for i in range(2 * far + 1)
            for j in range(2 * far + 1)
        )
        y = y.repeat(multiple, 1).repeat(multiple, 2)
        return y[:, : x.shape[1], : x.shape[2]]

    return forward


@hypothesis.settings(max_examples=60, deadline=None, derandomize=True)
@hypothesis.given(
    st.integers(1, 70), st.integers(1, 70), st.integers(2, 5), st.sampled_from([1, 2])
)
def test_equals_the_whole_image(h, w, reach, multiple):
    x = np.random.default_rng(h + 100 * w).uniform(0, 1, (h, w, 2))
    sizes = []
    forward = blurred(reach, multiple, sizes)
    whole = forward(x[None])[0]
    sizes.clear()
    parts = windows.apply(forward, x, reach, side=24, multiple=multiple)
    np.testing.assert_allclose(parts, whole, rtol=1e-12)
    assert max(max(s) for s in sizes) <= 24
    # Whole windows and, at the image's odd end, those one pixel shorter: few programs.
    assert len(set(sizes)) <= 4


def test_a_window_without_room_is_a_programming_error():
    with pytest.raises(ValueError, match="reach"):
        windows.apply(lambda x: x, np.zeros((50, 50, 1)), reach=20, side=40)
