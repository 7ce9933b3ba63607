"""The camera: quiet, it gives the picture back; loud, its noise is that of a sensor."""

import numpy as np
import pytest

from gen_jax.common.errors import UserError
from gen_jax.data.degradations import camera
from gen_jax.data.degradations.camera import Camera


def smooth(height=64, width=64):
    """A picture of gentle colours and no clipped values."""
    y, x = np.mgrid[:height, :width] / 64
    waves = [np.sin(5 * x + 2 * c) * np.cos(6 * y + c) for c in range(3)]
    return np.float32(0.5 + 0.25 * np.stack(waves, -1))


def psnr(a, b):
    return -10 * np.log10(np.mean((a - b) ** 2))


def flat(*values):
    return np.broadcast_to(np.float32(values), (64, 64, 3)).copy()


@pytest.mark.parametrize("phase", [(0, 0), (0, 1), (1, 0), (1, 1)])
def test_colours_come_back_from_every_phase_of_the_mosaic(phase):
    picture = smooth()
    found = camera.demosaic(camera.mosaic(picture, phase), phase)
    assert psnr(found, picture) > 40
    plain = flat(0.7, 0.4, 0.2)
    np.testing.assert_allclose(
        camera.demosaic(camera.mosaic(plain, phase), phase), plain, atol=1e-6
    )


def test_without_noise_the_picture_comes_back():
    quiet = Camera(shot=(1e-9, 1e-9), smooth=0.0, again=1.0)
    for seed in range(6):
        found, drawn = quiet(smooth(61, 47), np.random.default_rng(seed))
        assert found.shape == (61, 47, 3) and psnr(found, smooth(61, 47)) > 35
        assert drawn["sigma"] < 0.1 and "blur" not in drawn


def test_gamma_is_inverted():
    x = np.linspace(0, 1, 99, dtype=np.float32).reshape(1, 33, 3)
    np.testing.assert_allclose(camera.encode_srgb(camera.decode_srgb(x)), x, atol=1e-5)
    assert camera.decode_srgb(np.float32([[[0.5]]]))[0, 0, 0] == pytest.approx(0.214, abs=1e-3)


def test_noise_has_no_colour_grows_with_the_shot_and_is_what_is_stated():
    gray, rms = flat(0.5, 0.5, 0.5), []
    for shot in (1e-4, 1e-3, 1e-2):
        how = Camera(shot=(shot, shot), smooth=0.0, coarse=0.0)
        made = [how(gray, np.random.default_rng(seed)) for seed in range(12)]
        rms.append(np.mean([drawn["sigma"] for _, drawn in made]))
        found = np.stack([image for image, _ in made])
        assert np.sqrt(np.mean((found - 0.5) ** 2)) * 255 == pytest.approx(rms[-1], rel=0.1)
        if shot == 1e-4:
            assert np.abs(found.mean((0, 1, 2)) - 0.5).max() < 1 / 255
    assert rms[1] > 2.5 * rms[0] and rms[2] > 2.5 * rms[1]


def test_neighbouring_pixels_share_their_noise():
    how = Camera(shot=(1e-3, 1e-3), smooth=1.0, smooth_sigma=(0.8, 0.8), coarse=0.0, again=1.0)
    found, drawn = how(flat(0.5, 0.5, 0.5), np.random.default_rng(0))
    noise = found[..., 1] - found[..., 1].mean()
    assert np.mean(noise[:, 1:] * noise[:, :-1]) / np.mean(noise**2) > 0.3
    assert drawn["blur"] == 0.8


def test_a_gray_picture_stays_one_channel():
    found, _ = Camera()(smooth()[..., :1], np.random.default_rng(0))
    assert found.shape == (64, 64, 1) and found.min() >= 0 and found.max() <= 1


def test_mistakes_are_named():
    with pytest.raises(UserError, match="shot"):
        Camera(shot=(0.0, 1.0))


def reducing(coarse, share=1.0, **more):
    """A camera with noise reduction of one strength, or with none."""
    fixed = dict(coarse_sigma=(1.5, 1.5), coarse_share=(share, share))
    return Camera(shot=(1e-3, 1e-3), smooth=0.0, coarse=coarse, **fixed, **more)


def test_what_the_camera_leaves_of_the_noise_is_coarse():
    fine = reducing(0.0)
    coarse = reducing(1.0, 0.5, color_sigma=(1.0, 1.0), color_share=(1.0, 1.0))
    noise, strength = [], []
    for how in (fine, coarse):
        found, drawn = how(flat(0.5, 0.5, 0.5), np.random.default_rng(0))
        gray = (found - found.mean((0, 1))) @ np.float32([0.299, 0.587, 0.114])
        noise.append(np.mean(gray[:, 2:] * gray[:, :-2]) / np.mean(gray**2))
        strength.append(drawn["sigma"])
        assert "blur" not in drawn
    assert noise[1] > 0.4 > 0.2 > noise[0]
    assert strength[1] == pytest.approx(strength[0] / 2, rel=0.1)


def test_noise_reduction_takes_the_colour_of_noise_first():
    share = []
    for left in (1.0, 0.2):
        how = reducing(1.0, color_share=(left, left))
        found, _ = how(flat(0.5, 0.5, 0.5), np.random.default_rng(0))
        noise = found - found.mean((0, 1))
        gray = (noise @ np.float32([0.299, 0.587, 0.114]))[..., None]
        share.append(np.std(noise - gray) / np.std(gray))
    assert share[1] == pytest.approx(0.2 * share[0], rel=0.05)


@pytest.mark.parametrize("coarse", [0.0, 1.0])
def test_the_picture_stays_sharp_unless_it_is_taken_again(coarse):
    edge = flat(0.2, 0.2, 0.2)
    edge[:, 32:] = 0.8
    edge[:, :, 0] = 0.4  # an edge in two colours, which a mosaic mixes up
    silent = dict(shot=(1e-9, 1e-9), smooth=1.0, smooth_sigma=(0.8, 0.8), coarse=coarse)
    new, drawn = Camera(**silent, again=0.0)(edge, np.random.default_rng(0))
    again, redrawn = Camera(**silent, again=1.0)(edge, np.random.default_rng(0))
    assert psnr(new, edge) > 60 > 40 > psnr(again, edge)
    assert "blur" not in drawn and redrawn["blur"] == 0.8
