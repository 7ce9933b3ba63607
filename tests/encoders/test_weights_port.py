import json
import os

import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
from golden_cases import arrays, filled, script
from safetensors.numpy import load_file, save_file

from gen_jax.common import safetensors_io as st
from gen_jax.common.errors import UserError
from gen_jax.encoders.diffusers_folder import load_diffusers, param_shapes, save_diffusers
from gen_jax.encoders.weights import Port, flax_from_torch, load_safetensors, torch_from_flax
from gen_jax.models.autoencoder_kl import AutoencoderKL
from gen_jax.models.unet_2d_condition import UNet2DConditionModel
from tests import tiny_networks

FOLDERS = ("vae", "vae_bf16", "vae_old", "tiny", "unet_fp16", "unet_sharded")
WEIGHTS = "diffusion_pytorch_model.safetensors"


def unpack(name, root):
    for file, content in arrays("diffusers_folders").items():
        if file.startswith(f"{name}/"):
            target = root / file
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(content.tobytes())
    return root / name


def contents(folder):
    return {f.name: f.read_bytes() for f in folder.iterdir()}


@pytest.mark.parametrize("name", FOLDERS)
def test_a_diffusers_folder_comes_back_bit_for_bit(name, tmp_path):
    folder = unpack(name, tmp_path)
    module, params = load_diffusers(folder)
    save_diffusers(tmp_path / "out", module, params)
    assert contents(tmp_path / "out") == contents(folder)
    assert os.listdir(tmp_path).count("out") == 1
    assert not [f for f in os.listdir(tmp_path) if ".tmp" in f]
    # Over itself, while its tensors are still mapped.
    before = contents(folder)
    save_diffusers(folder, *load_diffusers(folder))
    assert contents(folder) == before


def test_the_old_names_are_the_same_model(tmp_path):
    _, new = load_diffusers(unpack("vae_bf16", tmp_path))
    _, old = load_diffusers(unpack("vae_old", tmp_path))
    a, b = torch_from_flax(new), torch_from_flax(old)
    assert list(a) == list(b)
    for key in a:
        np.testing.assert_array_equal(a[key], b[key])


def test_loads_by_subfolder_by_file_and_with_options(tmp_path):
    folder = unpack("vae", tmp_path)
    module, params = load_diffusers(tmp_path, subfolder="vae", dtype=jnp.bfloat16, remat=True)
    assert module.dtype == jnp.bfloat16 and module.remat
    assert module.block_out_channels == (4, 8)
    other, again = load_diffusers(folder / WEIGHTS)
    assert other == module.clone(dtype=jnp.float32, remat=False)
    np.testing.assert_array_equal(params["quant_conv"]["bias"], again["quant_conv"]["bias"])
    # How it computes is no part of the config: still the same bytes.
    save_diffusers(tmp_path / "out", module, params)
    assert contents(tmp_path / "out") == contents(folder)


def test_the_only_variant_is_read_and_pointers_are_named(tmp_path):
    folder = unpack("vae", tmp_path)
    _, want = load_diffusers(folder)
    brain = folder / "diffusion_pytorch_model.bf16.safetensors"
    (folder / WEIGHTS).rename(brain)
    _, got = load_diffusers(folder)
    np.testing.assert_array_equal(got["quant_conv"]["bias"], want["quant_conv"]["bias"])
    (folder / "diffusion_pytorch_model.ema.safetensors").write_bytes(brain.read_bytes())
    with pytest.raises(UserError, match="the variants there are bf16, ema: name one"):
        load_diffusers(folder)
    assert load_diffusers(folder, variant="ema")
    brain.write_text(f"version https://git-lfs.github.com/spec/v1\noid sha256:{64 * '0'}\nsize 1\n")
    with pytest.raises(UserError, match="a git-lfs pointer, not the file"):
        load_diffusers(folder, variant="bf16")


def test_a_fresh_module_is_saved_as_the_library_would(tmp_path):
    module = AutoencoderKL(**tiny_networks.TINY_VAE)
    params = filled(module)["params"]
    save_diffusers(tmp_path / "vae", module, params)
    state = load_file(tmp_path / "vae" / WEIGHTS)
    save_file(state, tmp_path / "library.safetensors", metadata={"format": "pt"})
    library = (tmp_path / "library.safetensors").read_bytes()
    assert (tmp_path / "vae" / WEIGHTS).read_bytes() == library
    config = json.loads((tmp_path / "vae/config.json").read_text())
    assert config["_class_name"] == "AutoencoderKL"
    assert config["down_block_types"] == ["DownEncoderBlock2D"] * 3
    assert not {"dtype", "remat", "source", "name", "parent"} & set(config)
    loaded, again = load_diffusers(tmp_path / "vae")
    assert loaded == module
    for a, b in zip(torch_from_flax(params).values(), torch_from_flax(again).values()):
        np.testing.assert_array_equal(a, b)


def test_a_changed_module_keeps_the_rest_of_its_config(tmp_path):
    module, params = load_diffusers(unpack("vae", tmp_path))
    save_diffusers(tmp_path / "out", module.clone(scaling_factor=0.5), params)
    config = json.loads((tmp_path / "out/config.json").read_text())
    before = json.loads((tmp_path / "vae/config.json").read_text())
    assert config == before | {"scaling_factor": 0.5}
    assert (tmp_path / "out" / WEIGHTS).read_bytes() == (tmp_path / "vae" / WEIGHTS).read_bytes()


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_dtype_is_the_stored_one(dtype, tmp_path):
    module, params = load_diffusers(unpack("vae", tmp_path))
    save_diffusers(tmp_path / "out", module, params, dtype=dtype)
    stored = load_safetensors(tmp_path / "out" / WEIGHTS)
    assert {str(v.dtype) for v in stored.values()} == {dtype}
    again, half = load_diffusers(tmp_path / "out")
    assert half["quant_conv"]["kernel"].dtype == np.float32
    np.testing.assert_allclose(
        half["quant_conv"]["kernel"], params["quant_conv"]["kernel"], rtol=1e-2, atol=1e-6
    )
    save_diffusers(tmp_path / "again", again, half)
    assert contents(tmp_path / "again") == contents(tmp_path / "out")


def test_reads_what_the_library_writes(tmp_path):
    state = {
        "half": np.array([1.5, -2], np.float16),
        "brain": np.array([[1.5, -2]], ml_dtypes.bfloat16),
        "full": np.array(3.25, np.float32),
        "ids": np.arange(5),
        "empty": np.zeros((0, 3), np.float32),
    }
    path = tmp_path / "x.safetensors"
    specs = {k: (v.dtype, v.shape) for k, v in state.items()}
    header = st.make_header(specs, {"format": "pt"})
    st.write_safetensors(path, header, lambda e: state[e.name])
    back = load_safetensors(path)
    for key, value in state.items():
        assert back[key].dtype == value.dtype and back[key].shape == value.shape
        np.testing.assert_array_equal(back[key], value)
    plain = {k: v for k, v in state.items() if k != "brain"}
    save_file(plain, tmp_path / "y.safetensors")
    for key, value in load_safetensors(tmp_path / "y.safetensors").items():
        np.testing.assert_array_equal(value, plain[key])


def test_round_trip_of_layouts_and_names():
    shapes = {
        "time_embedding": {"linear_1": {"kernel": np.zeros((2, 3)), "bias": np.zeros(3)}},
        "down_blocks_0": {"resnets_1": {"conv1": {"kernel": np.zeros((3, 5, 2, 4))}}},
        "ff": {"net_0": {"proj": {"kernel": np.zeros((2, 6))}}},
        "norm": {"scale": np.zeros(4)},
        "token_embedding": {"embedding": np.zeros((7, 2))},
        "line": {"kernel": np.zeros((5, 2, 3))},
    }
    wanted = {
        "time_embedding.linear_1.weight": (3, 2),
        "time_embedding.linear_1.bias": (3,),
        "down_blocks.0.resnets.1.conv1.weight": (4, 2, 3, 5),
        "ff.net.0.proj.weight": (6, 2),
        "norm.weight": (4,),
        "token_embedding.weight": (7, 2),
        "line.weight": (3, 2, 5),
    }
    state = script().named_weights(wanted)
    params = flax_from_torch(state, shapes)
    kernel = params["down_blocks_0"]["resnets_1"]["conv1"]["kernel"]
    np.testing.assert_array_equal(
        kernel[1, 2, 0, 3], state["down_blocks.0.resnets.1.conv1.weight"][3, 0, 1, 2]
    )
    back = torch_from_flax(params)
    assert {k: v.shape for k, v in back.items()} == wanted
    for key, value in state.items():
        np.testing.assert_array_equal(back[key], value)


def test_a_port_has_prefixes_renames_and_keys_to_ignore():
    port = Port(
        aliases=((r"^text_model\.", ""),),
        ignore=(r"position_ids$",),
        rename=((r"^norm\.", "final_layer_norm."),),
        as_stored=(r"^table",),
    )
    shapes = {"norm": {"scale": np.zeros(2)}, "table": {"kernel": np.zeros((2, 3))}}
    state = {
        "text_model.final_layer_norm.weight": np.ones(2, np.float16),
        "text_model.embeddings.position_ids": np.arange(3),
        "text_model.table.weight": np.arange(6.0).reshape(2, 3),
    }
    params = flax_from_torch(state, shapes, port)
    assert params["norm"]["scale"].dtype == np.float32
    np.testing.assert_array_equal(params["table"]["kernel"], np.arange(6).reshape(2, 3))
    assert set(torch_from_flax(params, port)) == {"final_layer_norm.weight", "table.weight"}


def one_line(error):
    text = str(error.value)
    assert "\n" not in text and len(text) < 900
    return text


def test_what_does_not_fit_is_named():
    module = AutoencoderKL(**tiny_networks.TINY_VAE)
    shapes = param_shapes(module)
    state = torch_from_flax(filled(module)["params"])
    short = {k: v for k, v in state.items() if k != "quant_conv.bias"}
    short["quant_conv.bais"] = state["quant_conv.bias"]
    with pytest.raises(UserError) as error:
        flax_from_torch(short, shapes, where="a.safetensors")
    text = one_line(error)
    assert text.startswith("a.safetensors: ")
    assert "1 keys missing: quant_conv.bias;" in text
    assert "1 keys unexpected: quant_conv.bais" in text
    with pytest.raises(UserError) as error:
        flax_from_torch(state | {"quant_conv.weight": np.zeros((8, 9, 1, 1))}, shapes)
    assert "quant_conv.weight (8, 9, 1, 1), not (8, 8, 1, 1)" in one_line(error)
    with pytest.raises(UserError) as error:
        flax_from_torch({}, shapes)
    assert "more" in one_line(error)


def test_a_dense_layer_may_be_stored_as_a_convolution(tmp_path):
    folder = unpack("vae_old", tmp_path)
    state = load_file(folder / WEIGHTS)
    key = "encoder.mid_block.attentions.0.query.weight"
    save_file(state | {key: state[key][:, :, None, None]}, folder / WEIGHTS)
    module, params = load_diffusers(folder)
    kernel = params["encoder"]["mid_block"]["attentions_0"]["to_q"]["kernel"]
    np.testing.assert_array_equal(kernel, state[key].T)
    save_diffusers(tmp_path / "out", module, params)
    assert contents(tmp_path / "out") == contents(folder)


def test_files_that_are_no_weights_are_refused_by_name(tmp_path):
    for name in ("diffusion_pytorch_model.bin", "x.pt", "x.ckpt"):
        (tmp_path / name).write_bytes(b"\x80\x02")
        with pytest.raises(UserError, match=r"convert them to \.safetensors"):
            load_safetensors(tmp_path / name)
        with pytest.raises(UserError, match="pickled"):
            load_diffusers(tmp_path / name)
    (tmp_path / "config.json").write_text('{"_class_name": "AutoencoderTiny"}')
    with pytest.raises(UserError, match=r"model\.bin: pickled"):
        load_diffusers(tmp_path)
    os.remove(tmp_path / "diffusion_pytorch_model.bin")
    with pytest.raises(UserError, match=f"no {WEIGHTS}"):
        load_diffusers(tmp_path)
    with pytest.raises(UserError, match="no such file"):
        load_safetensors(tmp_path / "none.safetensors")
    whole = json.dumps({"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}})
    overlapping = f'{whole[:-1]}, "b": {whole[6:]}'
    headers = (
        *("[1, 2]  ", overlapping, whole.replace("[0, 4]", "[4, 8]")),
        *(whole.replace("[1]", shape) for shape in ("1", '["1"]', "[2]", "[-1]", "[9e9]")),
    )
    damaged = [len(h).to_bytes(8, "little") + h.encode() + bytes(4) for h in headers]
    for content in (b"", b"abc", b"\xff" * 80, *damaged):
        (tmp_path / "bad.safetensors").write_bytes(content)
        with pytest.raises(UserError, match=r"bad\.safetensors"):
            load_safetensors(tmp_path / "bad.safetensors")


def test_a_file_cut_short_is_refused(tmp_path):
    folder = unpack("vae", tmp_path)
    whole = (folder / WEIGHTS).read_bytes()
    (folder / WEIGHTS).write_bytes(whole[:-100])
    with pytest.raises(UserError, match="cut short"):
        load_diffusers(folder)


def test_a_broken_index_and_a_missing_shard_are_named(tmp_path):
    folder = unpack("unet_sharded", tmp_path)
    shard = sorted(folder.glob("*-of-*"))[1]
    shard.unlink()
    with pytest.raises(UserError, match=f"{shard.name}: no such file"):
        load_diffusers(folder)
    (folder / f"{WEIGHTS}.index.json").write_text("[]")
    with pytest.raises(UserError, match=r"index\.json: no index of weight files"):
        load_diffusers(folder)


def test_configs_that_are_not_supported_are_named(tmp_path):
    folder = unpack("unet_fp16", tmp_path)
    config = json.loads((folder / "config.json").read_text())

    def load(**changes):
        (folder / "config.json").write_text(json.dumps(config | changes))
        return load_diffusers(folder)

    with pytest.raises(UserError, match="class_embed_type='timestep' is not supported"):
        load(class_embed_type="timestep")
    with pytest.raises(UserError, match="_class_name='SD3'"):
        load(_class_name="SD3")
    with pytest.raises(UserError, match="a_new_option=3"):
        load(a_new_option=3)
    with pytest.raises(UserError, match="does not fit the model"):
        load(block_out_channels=[4, 16])
    module, _ = load(a_new_option=None, _name_or_path="somewhere")
    assert isinstance(module, UNet2DConditionModel)
    (folder / "config.json").write_text("{")
    with pytest.raises(UserError, match="no valid JSON"):
        load_diffusers(folder)
    with pytest.raises(UserError, match="name the subfolder"):
        load_diffusers(tmp_path)


def test_nothing_half_written_remains(tmp_path, monkeypatch):
    folder = unpack("unet_sharded", tmp_path)
    module, params = load_diffusers(folder)
    before, calls = contents(folder), []
    write = st.write_safetensors

    def fails(*args):
        calls.append(args)
        if len(calls) == 2:
            raise OSError("disk full")
        write(*args)

    monkeypatch.setattr(st, "write_safetensors", fails)
    for target in (folder, tmp_path / "new"):
        calls.clear()
        with pytest.raises(OSError, match="disk full"):
            save_diffusers(target, module, params)
    assert contents(folder) == before
    assert sorted(os.listdir(tmp_path)) == ["unet_sharded"]


def test_other_weights_in_the_folder_are_not_mixed(tmp_path):
    module, params = load_diffusers(unpack("unet_fp16", tmp_path))
    with pytest.raises(UserError, match=r"fp16.safetensors, which would be mixed"):
        save_diffusers(tmp_path / "unet_fp16", module, params, dtype="float32")
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="is a file"):
        save_diffusers(tmp_path / "file", module, params)
