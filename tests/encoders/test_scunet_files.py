"""The authors' files of SCUNet, in and out."""

import jax
import numpy as np
import pytest
from golden_cases import case, script, torch_shapes
from safetensors.numpy import save_file

from gen_jax.common.errors import UserError
from gen_jax.encoders.diffusers_folder import param_shapes
from gen_jax.encoders.scunet_files import PORT, load_scunet
from gen_jax.encoders.weights import torch_from_flax
from gen_jax.models.scunet import SCUNet

GOLDEN = script("make_scunet")
NAME = "gray_padded"


@pytest.fixture
def state():
    return GOLDEN.weights(torch_shapes(case("scunet", NAME)))


def test_sizes_are_read_off_the_file_and_it_comes_back(tmp_path, state):
    save_file(state, tmp_path / "scunet.safetensors")
    module, params = load_scunet(tmp_path / "scunet.safetensors", remat=True)
    assert module == SCUNet(1, 1, GOLDEN.SHALLOW, GOLDEN.DIM, GOLDEN.HEAD_DIM, remat=True)
    back = torch_from_flax(params, PORT)
    assert set(back) == set(state)
    for key, value in state.items():
        np.testing.assert_array_equal(back[key], value)
    # A transposed convolution is (in, out, 2, 2) in the file, another one (out, in, 2, 2).
    assert state["m_up3.0.weight"].shape[:2] == (128, 64)
    assert params["m_up3_0"]["kernel"].shape == (2, 2, 64, 128)
    assert params["m_down1_2"]["kernel"].shape == (2, 2, 16, 32)


def test_the_authors_pickle_is_read_if_it_is_asked_for(tmp_path):
    path = tmp_path / "scunet_color_real_psnr.pth"
    path.write_bytes(case("scunet", "file")["pth"].tobytes())
    with pytest.raises(UserError, match=f"pickle:{path}"):
        load_scunet(path)
    module, params = load_scunet(f"pickle:{path}")
    dim, head_dim = GOLDEN.PTH_SIZE
    assert module == SCUNet(depths=(1,) * 7, dim=dim, head_dim=head_dim)
    for key, value in torch_from_flax(params, PORT).items():
        np.testing.assert_array_equal(value, GOLDEN.pth_values(value.shape), err_msg=key)


@pytest.mark.slow
def test_published_size_has_the_published_keys():
    shapes = param_shapes(SCUNet())
    zeros = jax.tree.map(lambda s: np.broadcast_to(np.float32(0), s.shape), shapes)
    keys = {k: v.shape for k, v in torch_from_flax(zeros, PORT).items()}
    assert len(keys) == 28 * 19 + 8
    assert keys["m_body.3.trans_block.msa.embedding_layer.weight"] == (768, 256)
    assert keys["m_body.3.trans_block.msa.relative_position_params"] == (8, 15, 15)
    assert keys["m_up1.4.conv1_2.weight"] == (64, 64, 1, 1)


def test_mistakes_are_named(tmp_path, state):
    def load(changed):
        save_file(changed, tmp_path / "other.safetensors")
        return load_scunet(tmp_path / "other.safetensors", remat=True)

    with pytest.raises(UserError, match="expected a state dict of SCUNet"):
        load({"conv.weight": np.zeros((1, 1, 3, 3), np.float32)})
    missing = dict(state)
    del missing["m_body.1.conv1_1.bias"]
    with pytest.raises(UserError, match=r"1 keys missing: m_body\.1\.conv1_1\.bias"):
        load(missing)
    with pytest.raises(UserError, match="1 keys unexpected: m_extra"):
        load(state | {"m_extra": np.zeros(1, np.float32)})
    with pytest.raises(UserError, match=r"m_up1\.0\.weight \(16, 32, 2, 2\), not \(32, 16, 2, 2\)"):
        load(state | {"m_up1.0.weight": np.zeros((16, 32, 2, 2), np.float32)})
