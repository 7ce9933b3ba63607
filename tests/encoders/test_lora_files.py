"""LoRA files of diffusers and kohya, against diffusers itself and by hand."""

import json

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import save_file

from gen_jax.common.errors import UserError
from gen_jax.encoders import clip, lora_export, lora_files
from gen_jax.encoders.diffusers_config import module_from_config
from gen_jax.encoders.diffusers_folder import param_shapes
from gen_jax.encoders.weights import DIFFUSERS, flat_params, flax_from_torch
from gen_jax.tasks.lora import A, B, merged
from tests.tiny_text import golden_script

SCRIPT = golden_script("make_lora")
TEXT_PORT = clip.TEXT


@pytest.fixture(scope="module")
def golden():
    with np.load(SCRIPT.HERE / "lora.npz") as stored:
        return dict(stored)


class Pipeline:
    """The UNet and the text encoder of the golden file."""

    def __init__(self, golden):
        unet = module_from_config({**SCRIPT.UNET, "_class_name": "UNet2DConditionModel"}, "unet")
        text = clip.text_from_hf_config({**SCRIPT.TEXT, "model_type": "clip_text_model"})
        shapes = json.loads(str(golden["base/shapes"]))
        self.params = {
            name: flax_from_torch(SCRIPT.values(shapes[name]), param_shapes(module), port)
            for name, module, port in (
                ("unet", unet, DIFFUSERS),
                ("text_encoder", text, text.port),
            )
        }
        x, times = jnp.asarray(SCRIPT.noise("x", (2, 6, 8, 4))), jnp.asarray(SCRIPT.TIMES)

        def run(params):
            tokens = jnp.asarray(SCRIPT.TOKENS)
            states = text.apply({"params": params["text_encoder"]}, tokens)["last_hidden_state"]
            return states, unet.apply({"params": params["unet"]}, x, times, states)

        self.run = jax.jit(run)

    def merged(self, file, scale):
        return {
            name: merged({name: tree(file, name, self.params[name], port)}, self.params, scale)[
                name
            ]
            for name, port in (("unet", DIFFUSERS), ("text_encoder", TEXT_PORT))
        }


def tree(file, component, params, port=DIFFUSERS):
    """Returns the factors of a file as a tree."""
    factors = {}
    for path, (a, b) in file.factors(component, params, port).items():
        node = factors
        for part in path:
            node = node.setdefault(part, {})
        node |= {A: a, B: b}
    return factors


@pytest.fixture(scope="module")
def pipeline(golden):
    return Pipeline(golden)


def written(folder, state, metadata=None):
    path = folder / "file.safetensors"
    save_file({k: np.ascontiguousarray(v) for k, v in state.items()}, path, metadata)
    return path


def of_golden(golden, name):
    shapes = json.loads(str(golden[f"{name}/shapes"]))
    state = {k: np.asarray(v) for k, v in SCRIPT.values(shapes).items()}
    return state, json.loads(str(golden[f"{name}/metadata"]))


@pytest.mark.parametrize("name", SCRIPT.CASES)
def test_merged_models_equal_diffusers(name, golden, pipeline, tmp_path):
    file = lora_files.read(written(tmp_path, *of_golden(golden, name)))
    for got, key in zip(pipeline.run(pipeline.merged(file, SCRIPT.SCALE)), ("states", "out")):
        want = golden[f"{name}/{key}"]
        size = np.abs(want).max()
        assert np.abs(np.asarray(got) - want).max() < 1e-5 * size
        assert np.abs(want - golden[f"base/{key}"]).max() > 0.1 * size


# By hand.

PARAMS = {
    "down_blocks_0": {
        "attentions_0": {"to_q": {"kernel": np.zeros((6, 5), np.float32)}},
        "resnets_0": {"conv1": {"kernel": np.zeros((3, 2, 6, 5), np.float32), "bias": np.zeros(5)}},
    }
}
DENSE, CONV = "down_blocks.0.attentions.0.to_q", "down_blocks.0.resnets.0.conv1"


def kohya(module):
    return f"lora_unet_{module.replace('.', '_')}"


def normal(*shape):
    return np.random.default_rng(len(shape)).normal(size=shape).astype(np.float32)


def deltas(path):
    """Returns scale * up @ down of the dense kernel and of the convolution's, in our layout."""
    base = {"unet": PARAMS}
    block = merged({"unet": tree(lora_files.read(path), "unet", PARAMS)}, base, 1.0)["unet"]
    block = block["down_blocks_0"]
    return block["attentions_0"]["to_q"]["kernel"], block["resnets_0"]["conv1"]["kernel"]


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_ranks_alphas_and_types_of_kohya(dtype, tmp_path):
    kind = ml_dtypes.bfloat16 if dtype == "bfloat16" else dtype
    down, up = normal(2, 6).astype(kind), normal(5, 2).astype(kind)
    conv_down, conv_up = normal(3, 6, 3, 2).astype(kind), normal(5, 3, 1, 1).astype(kind)
    state = {
        f"{kohya(DENSE)}.lora_down.weight": down[:, :, None, None],  # as of a 1x1 convolution
        f"{kohya(DENSE)}.lora_up.weight": up[:, :, None, None],
        f"{kohya(DENSE)}.alpha": np.array(1, kind),
        f"{kohya(CONV)}.lora_down.weight": conv_down,
        f"{kohya(CONV)}.lora_up.weight": conv_up,
        f"{kohya(CONV)}.alpha": np.array([6], kind),
    }
    dense, conv = deltas(written(tmp_path, state))
    down, up, conv_down, conv_up = (x.astype(np.float32) for x in (down, up, conv_down, conv_up))
    np.testing.assert_allclose(dense, 0.5 * (up @ down).T, rtol=1e-5, atol=1e-6)
    want = 2 * np.einsum("or,rihw->hwio", conv_up[:, :, 0, 0], conv_down)
    np.testing.assert_allclose(conv, want, rtol=1e-5, atol=1e-6)


def test_locon_with_a_convolution_between(tmp_path):
    down, mid, up = normal(2, 6, 1, 1), normal(2, 2, 3, 2), normal(5, 2, 1, 1)
    state = {
        f"{kohya(CONV)}.{name}.weight": value
        for name, value in (("lora_down", down), ("lora_mid", mid), ("lora_up", up))
    }
    _, conv = deltas(written(tmp_path, state))
    want = np.zeros((3, 2, 6, 5), np.float32)
    for h in range(3):
        for w in range(2):
            want[h, w] = (up[:, :, 0, 0] @ mid[:, :, h, w] @ down[:, :, 0, 0]).T
    np.testing.assert_allclose(conv, want, rtol=1e-5, atol=1e-6)
    state[f"{kohya(CONV)}.lora_mid.weight"] = mid[:1]
    with pytest.raises(UserError, match=r"lora_mid.weight of shape \[1, 2, 3, 2\] does not fit"):
        lora_files.read(written(tmp_path, state))


@pytest.mark.parametrize(
    "settings, scale",
    [
        (None, 1),
        ({"unet.r": 4, "unet.lora_alpha": 8}, 2),
        ({"unet.r": 4, "unet.lora_alpha": 8, "unet.use_rslora": True}, 4),
        ({"unet.r": 4, "unet.lora_alpha": 8, "unet.alpha_pattern": {"to_q": 2, "q": 4}}, 0.5),
        ({"unet.r": 9, "unet.lora_alpha": 4, "unet.rank_pattern": {"to": 3, "to_q": 4}}, 1),
        ({"text_encoder.r": 4, "text_encoder.lora_alpha": 8}, 1),
    ],
)
def test_alpha_in_the_metadata(settings, scale, tmp_path):
    down, up = normal(4, 6), normal(5, 4)
    state = {f"unet.{DENSE}.lora_A.weight": down, f"unet.{DENSE}.lora_B.weight": up}
    metadata = {"lora_adapter_metadata": json.dumps(settings)} if settings else None
    dense, _ = deltas(written(tmp_path, state, metadata))
    np.testing.assert_allclose(dense, scale * (up @ down).T, rtol=1e-5, atol=1e-6)


def pair(stem=f"unet.{DENSE}", down=(2, 6), up=(5, 2)):
    return {f"{stem}.lora_A.weight": normal(*down), f"{stem}.lora_B.weight": normal(*up)}


PEFT = "lora_adapter_metadata"


@pytest.mark.parametrize(
    "state, words",
    [
        ({}, "holds no tensors; expected low-rank factors"),
        (pair("unet.down_blocks.0.gone"), r"gone\.lora_A\.weight fits no weight of this model's"),
        (pair(down=(2, 7)), r"\[2, 7\] and \[5, 2\], adapt a weight of shape \[5, 7\], and this"),
        (pair(up=(4, 2)), r"adapt a weight of shape \[4, 6\], and this model's is \[5, 6\]"),
        (pair(f"unet.{CONV}"), r"weight of shape \[5, 6\], and this model's is \[5, 6, 3, 2\]"),
        (pair(up=(5, 3)), r"to_q\.lora_A\.weight is of rank 2 and .*lora_B.weight of rank 3"),
        (pair(down=(2,)), r"lora_A.weight is of shape \[2\]; expected a factor"),
        ({f"unet.{DENSE}.lora_B.weight": normal(5, 2)}, r"lora_B.weight has no factor 'down'"),
        ({f"unet.{DENSE}.alpha": normal(1)}, r"to_q.alpha has no factor 'down' beside it"),
        (
            {**pair(), **pair(f"unet.{DENSE}.processor")},
            r"to_q\.processor\.lora_A\.weight and .*to_q\.lora_A\.weight are factors of one",
        ),
        ({"unet.x.lora_C.weight": normal(1, 1)}, "unet.x.lora_C.weight is no key of a LoRA file"),
        ({"vae.x.lora_A.weight": normal(1, 1)}, "vae.x.lora_A.weight is no key of a LoRA file"),
        (
            {f"{kohya(DENSE)}.alpha": normal(1), "unet.x.lora_A.weight": normal(1, 1)},
            "unet.x.lora_A.weight is no key of a LoRA file",
        ),
        (
            {**pair(), f"unet.{DENSE}.alpha": normal(2)},
            r"to_q.alpha of shape \[2\] is no number",
        ),
        (
            {**pair(), f"unet.{DENSE}.lora_A.weight": np.float32([[np.nan] * 6] * 2)},
            r"lora_A.weight is not finite",
        ),
        ({"lora_unet_x.hada_w1_a": normal(2, 2)}, "belongs to LoHa, which is not supported"),
        ({"lora_unet_x.lokr_w1": normal(2, 2)}, "belongs to LoKr, which"),
        ({"lora_unet_x.dora_scale": normal(2, 2)}, "belongs to DoRA, which"),
        ({f"unet.{DENSE}.lora_magnitude_vector": normal(2)}, "belongs to DoRA, which"),
        ({"lora_unet_x.oft_blocks": normal(2, 2)}, "belongs to OFT, which"),
        ({"lora_unet_x.a1.weight": normal(2, 2)}, "belongs to GLoRA, which"),
        ({"lora_unet_x.on_input": normal(2, 2)}, "belongs to IA3, which"),
        ({"lora_unet_x.diff_b": normal(2, 2)}, "belongs to whole differences of weights, which"),
        ({f"unet.{DENSE}.lora_B.bias": normal(2)}, "belongs to low-rank factors with a bias"),
        ({"bundle_emb.x": normal(2, 2)}, "belongs to an embedding that is bundled with the file"),
        ({"lora_te2_x.alpha": normal(1)}, "belongs to Stable Diffusion XL or a later"),
        ({"lora_unet_input_blocks_4_1_x.alpha": normal(1)}, "belongs to Stable Diffusion XL"),
        ({"transformer.x.lora_A.weight": normal(1, 1)}, "belongs to a diffusion transformer"),
        ({"lora_unet_double_blocks_0_x.alpha": normal(1)}, "belongs to .* such as Flux"),
        ({"single_blocks.0.processor.x.up.weight": normal(1, 1)}, "belongs to .* such as Flux"),
    ],
)
def test_what_does_not_fit_is_named(state, words, tmp_path):
    path = written(tmp_path, state)
    with pytest.raises(UserError, match=words) as error:
        lora_files.read(path).factors("unet", PARAMS)
    assert str(error.value).startswith(f"{path}: ") and "\n" not in str(error.value)


def test_metadata_that_do_not_fit_are_named(tmp_path):
    metadata = {PEFT: json.dumps({"unet.r": 3, "unet.lora_alpha": 3})}
    with pytest.raises(UserError, match=r"lora_A.weight is of rank 2, and the metadata say 3"):
        lora_files.read(written(tmp_path, pair(), metadata))
    for alpha in (None, float("inf")):
        metadata = {PEFT: json.dumps({"unet.r": 2, "unet.lora_alpha": alpha})}
        with pytest.raises(UserError, match=r"metadata has no rank and alpha of unet\..*lora_A"):
            lora_files.read(written(tmp_path, pair(), metadata))
    for text in ("{", "[1]"):
        with pytest.raises(UserError, match="lora_adapter_metadata in its metadata is no JSON"):
            lora_files.read(written(tmp_path, pair(), {PEFT: text}))
    (tmp_path / "lora.bin").write_bytes(b"")
    with pytest.raises(UserError, match="pickled weights may run code"):
        lora_files.read(tmp_path / "lora.bin")


def test_the_first_files_held_the_unet_without_its_name(tmp_path):
    state = {f"{DENSE}_lora.down.weight": normal(2, 6), f"{DENSE}_lora.up.weight": normal(5, 2)}
    state = {k.replace(".to_q", ".processor.to_q"): v for k, v in state.items()}
    dense, _ = deltas(written(tmp_path, state))
    down, up = state.values()
    np.testing.assert_allclose(dense, (up @ down).T, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    "name, write", [("plain", lora_export.to_diffusers), ("kohya", lora_export.to_kohya)]
)
def test_written_keys_and_shapes_are_those_of_diffusers_and_kohya(
    name, write, golden, pipeline, tmp_path
):
    """Factors of the UNet come back as they were in the file of the golden case."""
    params = pipeline.params["unet"]
    state, metadata = of_golden(golden, name)
    factors = lora_files.read(written(tmp_path, state, metadata)).factors("unet", params)
    kernels = dict(flat_params(params))
    state = {k: v for k, v in state.items() if k.startswith(("unet", "lora_unet"))}
    made = write("unet", {k: (kernels[k].shape, *ab) for k, ab in factors.items()}, DIFFUSERS, 1.0)
    assert made.keys() == state.keys()
    for key, value in made.items():
        assert value.shape == state[key].shape
        if key.endswith(".alpha"):  # alpha / rank is a factor of what is read
            rank = made[key.replace("alpha", "lora_down.weight")].shape[0]
            assert value == rank
            up = key.replace("alpha", "lora_up.weight")
            np.testing.assert_allclose(made[up], state[up] * 3 / rank, rtol=1e-6)
        elif name == "plain" or "lora_down" in key:
            np.testing.assert_array_equal(value, state[key])
