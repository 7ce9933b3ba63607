"""The literature's rows, on its pictures and with its weights."""

import pytest

from gen_jax.evaluation.restoration.benchmarks import Given
from gen_jax.evaluation.restoration.run import run

pytestmark = pytest.mark.usefixtures("optimized")
slow, nightly = pytest.mark.slow, pytest.mark.nightly


def row(*values, mark=nightly):
    """A row of the table; the smallest one of each table runs in CI."""
    return pytest.param(*values, marks=mark)


@pytest.mark.parametrize(
    "pictures,scale,psnr,ssim",
    [
        row("Set5", 2, 33.66, 0.9299),
        row("Set5", 4, 28.42, 0.8104, mark=slow),
        row("Set14", 2, 30.24, 0.8688),
        row("Set14", 4, 26.00, 0.7027),
    ],
)
def test_bicubic(shared, pictures, scale, psnr, ssim):
    found = run("sr", f"{shared}/sr_jpeg.zip:{pictures}", "bicubic", given=Given(scale=scale))
    assert found["psnr"] == pytest.approx(psnr, abs=0.02)
    assert found["ssim"] == pytest.approx(ssim, abs=1e-3)


@pytest.mark.parametrize("quality,psnr", [row(10, 27.82, mark=slow), row(40, 32.43)])
def test_jpeg_of_classic5_as_it_is(shared, quality, psnr):
    images = f"{shared}/sr_jpeg.zip:classic5"
    found = run("jpeg", images, "identity", given=Given(quality=quality))
    assert found["psnr"] == pytest.approx(psnr, abs=0.05)


@pytest.mark.parametrize(
    "images,restorer,weights,sigma,psnr,tolerance",
    [
        row("restore_gray.zip:BSD68", "dncnn", "dncnn_gray_sigma25", 25, 29.23, 0.02),
        row("restore_gray.zip:BSD68", "dncnn", "dncnn_gray_sigma50", 50, 26.23, 0.02),
        row("restore_gray.zip:BSD68", "ffdnet", "ffdnet_gray", 25, 29.19, 0.02),
        row("restore_gray.zip:Set12", "ffdnet", "ffdnet_gray", 25, 30.43, 0.03, mark=slow),
        row("restore_color.zip:CBSD68", "ffdnet", "ffdnet_color", 25, 31.21, 0.05),
    ],
)
def test_published_denoisers(shared, images, restorer, weights, sigma, psnr, tolerance):
    benchmark = "denoise_color" if "color" in images else "denoise_gray"
    file = f"{shared}/weights_small.zip:{weights}.safetensors"
    found = run(benchmark, f"{shared}/{images}", restorer, file, Given(sigma=float(sigma)))
    assert found["psnr"] == pytest.approx(psnr, abs=tolerance)
