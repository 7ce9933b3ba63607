"""Against diffusers itself: `pytest -m nightly` where torch and diffusers are installed."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from golden_cases import filled, relative_error, script

from gen_jax.encoders.diffusers_folder import load_diffusers, save_diffusers
from gen_jax.models import presets
from gen_jax.models.autoencoder_kl import AutoencoderKL
from gen_jax.models.autoencoder_tiny import AutoencoderTiny
from gen_jax.models.unet_2d_condition import UNet2DConditionModel
from tests import tiny_networks

pytestmark = pytest.mark.nightly


@pytest.fixture
def diffusers():
    return pytest.importorskip("diffusers")


def bytes_of(folder):
    return {f.name: f.read_bytes() for f in folder.iterdir()}


def test_a_folder_saved_by_diffusers_comes_back_bit_for_bit(diffusers, tmp_path):
    for name in ("sd1", "sd2", "odd"):
        torch_model, _ = script().torch_model(diffusers.UNet2DConditionModel, script().UNETS[name])
        torch_model.save_pretrained(tmp_path / name)
        save_diffusers(tmp_path / f"{name}_out", *load_diffusers(tmp_path / name))
        assert bytes_of(tmp_path / name) == bytes_of(tmp_path / f"{name}_out")
    # diffusers' own defaults, with all the options it knows.
    diffusers.AutoencoderKL(norm_num_groups=8, block_out_channels=(8,)).save_pretrained(
        tmp_path / "vae"
    )
    save_diffusers(tmp_path / "vae_out", *load_diffusers(tmp_path / "vae"))
    assert bytes_of(tmp_path / "vae") == bytes_of(tmp_path / "vae_out")


def test_diffusers_loads_our_unet_with_equal_outputs(diffusers, tmp_path):
    import torch

    module = UNet2DConditionModel(**tiny_networks.TINY_UNET)
    variables = filled(module)
    save_diffusers(tmp_path / "unet", module, variables["params"])
    theirs = diffusers.UNet2DConditionModel.from_pretrained(tmp_path / "unet").eval()
    rng = np.random.default_rng(0)
    x = rng.standard_normal((2, 6, 8, 4)).astype(np.float32)
    context = rng.standard_normal((2, 3, 16)).astype(np.float32)
    with torch.no_grad():
        want = theirs(script().nchw(x), torch.tensor([1, 500]), torch.from_numpy(context)).sample
    got = jax.jit(module.apply)(variables, x, jnp.array([1, 500]), context)
    assert relative_error(got, script().nhwc(want)) < 1e-4


@pytest.mark.parametrize("kind", ["kl", "tiny"])
def test_diffusers_loads_our_autoencoders_with_equal_outputs(diffusers, kind, tmp_path):
    import torch

    if kind == "kl":
        module, cls = AutoencoderKL(**tiny_networks.TINY_VAE), diffusers.AutoencoderKL
    else:
        small = script().config_of(script().TINIES["taesd"])
        module, cls = AutoencoderTiny(**small), diffusers.AutoencoderTiny
    variables = filled(module)
    save_diffusers(tmp_path / kind, module, variables["params"])
    theirs = cls.from_pretrained(tmp_path / kind).eval()
    x = np.tanh(np.random.default_rng(0).standard_normal((1, 16, 16, 3))).astype(np.float32)
    with torch.no_grad():
        out = theirs.encode(script().nchw(x))
        latent = out.latent_dist.mode() if kind == "kl" else out.latents
        decoded = theirs.decode(latent).sample
    y, mean, _ = jax.jit(module.apply)(variables, x)
    assert relative_error(mean, script().nhwc(latent)) < 1e-4
    assert relative_error(y, script().nhwc(decoded)) < 1e-4


def test_parameter_names_are_diffusers_at_full_size(diffusers):
    import torch

    from gen_jax.encoders.diffusers_folder import param_shapes
    from gen_jax.encoders.weights import torch_from_flax

    vae_types = {
        "down_block_types": ("DownEncoderBlock2D",) * 4,
        "up_block_types": ("UpDecoderBlock2D",) * 4,
    }
    for ours, theirs, config, extra, count in (
        (AutoencoderKL, diffusers.AutoencoderKL, presets.SD15_VAE, vae_types, 83_653_863),
        (UNet2DConditionModel, diffusers.UNet2DConditionModel, presets.SD15_UNET, {}, 859_520_964),
        (UNet2DConditionModel, diffusers.UNet2DConditionModel, presets.SD2_UNET, {}, 865_910_724),
    ):
        with torch.device("meta"):
            want = {k: tuple(v.shape) for k, v in theirs(**config, **extra).state_dict().items()}
        # Arrays of no memory, in our shapes.
        empty = jax.tree.map(
            lambda s: np.broadcast_to(np.int8(0), s.shape), param_shapes(ours(**config))
        )
        got = {k: v.shape for k, v in torch_from_flax(empty).items()}
        assert got == want
        assert sum(int(np.prod(s)) for s in want.values()) == count
