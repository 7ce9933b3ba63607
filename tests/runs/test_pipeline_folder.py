"""Pipelines in diffusers' layout: what is read, and what is refused in one line."""

import json
import pathlib
import shutil

import huggingface_hub
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from configs import ldm
from gen_jax.common import config as config_lib
from gen_jax.common.errors import UserError
from gen_jax.runs import pipeline_folder, reader, sources, text_tower, weights
from tests import tiny_pipelines
from tests.tiny_pipelines import change

LFS = "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n"
UNET_WEIGHTS = "unet/diffusion_pytorch_model.safetensors"
TEXT_WEIGHTS = "text_encoder/model.safetensors"


@pytest.fixture(scope="module")
def released(tmp_path_factory):
    return tiny_pipelines.write(tmp_path_factory.mktemp("pipelines") / "sd1")


@pytest.fixture(scope="module")
def model(released):
    return reader.load(str(released))


@pytest.fixture
def folder(released, tmp_path):
    return pathlib.Path(shutil.copytree(released, tmp_path / "pipeline"))


def refused(folder, words, read=pipeline_folder.run_config):
    with pytest.raises(UserError, match=words) as error:
        read(folder)
    message = str(error.value)
    assert "\n" not in message and str(folder) in message


def load(folder):
    return reader.load(str(folder))


@pytest.mark.parametrize(
    "kind",
    [
        *("StableDiffusionXLPipeline", "StableDiffusion3Pipeline", "FluxPipeline"),
        *("StableDiffusionControlNetPipeline", "StableDiffusionUpscalePipeline"),
    ],
)
def test_another_architecture_is_refused(folder, kind):
    change(folder / "model_index.json", _class_name=kind)
    refused(folder, rf"model_index\.json: a {kind}; only pipelines of Stable Diffusion 1\.x and 2")


def test_a_pipeline_that_shares_the_components_is_read(folder, model):
    for kind in ("StableDiffusionImg2ImgPipeline", "StableDiffusionInpaintPipeline"):
        checker = ["stable_diffusion", "StableDiffusionSafetyChecker"]
        change(folder / "model_index.json", _class_name=kind, safety_checker=checker)
        assert pipeline_folder.run_config(folder).to_dict() == model.config.to_dict()


@pytest.mark.parametrize(
    "channels,kind",
    [(9, "inpainting"), (8, "instruction"), (5, "depth"), (7, "upscaling")],
)
def test_a_unet_with_other_inputs_is_refused(folder, channels, kind):
    change(folder / "unet/config.json", in_channels=channels)
    refused(folder, rf"in_channels={channels}, a UNet for {kind}; expected 4, .*1\.x and 2\.x")


@pytest.mark.parametrize(
    "component,entry,words",
    [
        ("unet", ["diffusers", "UNet2DModel"], "its unet is UNet2DModel; expected UNet2DCond"),
        ("text_encoder", ["transformers", "T5EncoderModel"], "its text_encoder is T5EncoderModel"),
        ("vae", [None, None], "its vae is missing; expected AutoencoderKL"),
        ("tokenizer", None, "its tokenizer is missing; expected CLIPTokenizer or"),
    ],
)
def test_a_component_of_another_class_is_refused(folder, component, entry, words):
    change(folder / "model_index.json", **{component: entry})
    refused(folder, words)


@pytest.mark.parametrize("name", ["unet", "vae", "text_encoder", "tokenizer", "scheduler"])
def test_a_missing_component_is_named(folder, name):
    shutil.rmtree(folder / name)
    refused(folder, f"its folder {name} is missing, which model_index.json lists")


@pytest.mark.parametrize(
    "file,words",
    [
        ("model_index.json", "model_index.json: damaged, not JSON"),
        ("unet/config.json", "unet/config.json: damaged, not JSON"),
        ("scheduler/scheduler_config.json", "scheduler_config.json: damaged, not JSON"),
        ("text_encoder/config.json", "text_encoder/config.json: .*damaged, not JSON"),
    ],
)
def test_a_damaged_or_missing_file_is_named(folder, file, words):
    (folder / file).write_text("{")
    refused(folder, words)
    (folder / file).write_text(LFS)
    refused(folder, f"{file}: .*git-lfs pointer")
    if file != "model_index.json":
        (folder / file).unlink()
        refused(folder, f"{file}: .*no such file")


def test_an_option_that_is_not_supported_is_named(folder):
    change(folder / "unet/config.json", time_cond_proj_dim=256)
    refused(folder, "unet/config.json: time_cond_proj_dim=256 is not supported")
    change(folder / "unet/config.json", time_cond_proj_dim=None, sample_size=[8, 12])
    refused(folder, r"sample_size=\(8, 12\): only squares are supported")
    change(folder / "unet/config.json", sample_size=-8)
    refused(folder, "config.json: sample_size=-8: expected a whole number above 0")
    change(folder / "unet/config.json", sample_size=8)
    # With it diffusers masks the padding.
    change(folder / "text_encoder/config.json", use_attention_mask=True)
    refused(folder, "text_encoder/config.json: use_attention_mask=True: expected False")
    change(folder / "text_encoder/config.json", use_attention_mask=False)
    change(folder / "scheduler/scheduler_config.json", _class_name="KDPM2DiscreteScheduler")
    refused(folder, r"scheduler_config\.json: _class_name='KDPM2DiscreteScheduler'")


@pytest.mark.parametrize("file", [UNET_WEIGHTS, TEXT_WEIGHTS])
def test_pointers_and_pickles_in_the_place_of_weights_are_refused(folder, file):
    path = folder / file
    path.write_text(LFS)
    refused(folder, f"{file}: a git-lfs pointer", load)
    path.unlink()
    refused(folder, "expected the weights|holds no model.safetensors", load)
    pickle = "pytorch_model.bin" if file == TEXT_WEIGHTS else "diffusion_pytorch_model.bin"
    (path.parent / pickle).write_bytes(b"\x80")
    refused(folder, "pickled weights may run code", load)


def test_half_precision_shards_and_other_spellings_are_read(released, model, tmp_path):
    folder = tiny_pipelines.write(tmp_path / "half", dtype="float16", infix=".fp16")
    half = load(folder)
    assert half.task == model.task
    got, want = (
        weights.flatten({"own": m.variables["params"], "frozen": dict(m.frozen)})
        for m in (half, model)
    )
    assert got.keys() == want.keys()
    for name, value in got.items():
        assert value.dtype == np.float32
        np.testing.assert_allclose(value, want[name], rtol=1e-3, atol=1e-6, err_msg=name)

    folder = pathlib.Path(shutil.copytree(released, tmp_path / "sharded"))
    _shard(folder / UNET_WEIGHTS)
    _shard(folder / TEXT_WEIGHTS, prefix="text_model.")
    # As Stable Diffusion 1 was released: no tokenizer.json.
    (folder / "tokenizer/tokenizer.json").unlink()
    script = tiny_pipelines.script()
    shutil.rmtree(folder / "tokenizer")
    script.tokenizer_files(folder / "tokenizer", "<|endoftext|>")
    sharded = load(folder)
    assert (sharded.digest, sharded.frozen_digests) == (model.digest, model.frozen_digests)
    assert sharded.tokenizer().to_json() == model.tokenizer().to_json()


def _shard(path, prefix=""):
    state = {prefix + name: value for name, value in load_file(path).items()}
    names, index = sorted(state), {}
    stem = path.name.removesuffix(".safetensors")
    path.unlink()
    for i, half in enumerate((names[::2], names[1::2])):
        shard = f"{stem}-0000{i + 1}-of-00002.safetensors"
        save_file({name: state[name] for name in half}, path.with_name(shard))
        index |= dict.fromkeys(half, shard)
    text = json.dumps({"metadata": {}, "weight_map": index})
    path.with_name(f"{path.name}.index.json").write_text(text)


def test_an_old_scheduler_file_is_read_as_the_pipeline_of_diffusers_does(folder, model):
    # Its constructor replaces both values (steps_offset=1 and clip_sample=False).
    change(folder / "scheduler" / "scheduler_config.json", steps_offset=0, clip_sample=True)
    have = pipeline_folder.task_config(folder)["sampler_options"]
    assert have == model.config.task.sampler_options.to_dict()
    assert have["steps_offset"] == 1 and "clip_x_0" not in have
    # The UNets of early fine-tunings say 32, and are Stable Diffusion at 64.
    for version, side in (("0.6.0", 64), ("0.9.0.dev0", 8), (None, 8)):
        change(folder / "unet" / "config.json", _diffusers_version=version)
        task = pipeline_folder.task_config(folder)
        assert (task["image_size"], task["unet"]["sample_size"]) == (2 * side, side)
    change(folder / "unet" / "config.json", _diffusers_version="0.6.0")
    assert load(folder).task.unet.sample_size == 64  # as an export has it


def test_a_packaged_model_has_the_name_of_one_folder():
    for name in ("", "..", "nope", "vae_photos/../vae_shapes"):
        with pytest.raises(UserError, match="no such packaged model; there are cutouts, "):
            sources.resolve(f"package:{name}")
    assert sources.resolve("package:vae_photos").is_dir()


def test_the_config_is_that_of_a_run(model):
    text = config_lib.to_json(model.config)
    assert config_lib.to_json(config_lib.from_json(text)) == text
    assert model.config.task.text_encoder.max_length == 12
    assert model.is_released and model.has_tokenizer and model.step == -1


def test_components_are_found_inside_of_a_pipeline(released, model, tmp_path):
    source = str(released)
    config = ldm.get_config(f"debug,vae={source},variant=sd2,text=clip,weights={source}")
    assert config.task.text_encoder.layer == -1
    models = reader.load_all_frozen(config, tmp_path)
    assert models.digests == model.frozen_digests
    assert models.tokenizer.to_json() == model.tokenizer().to_json()
    config.task.text_encoder.layer = -2
    with pytest.raises(UserError, match=r"use config\.task\.text_encoder\.layer=-1"):
        text_tower.load(config.task.to_dict(), tmp_path)


def test_a_recipe_takes_architecture_and_process_of_a_pipeline(released, model):
    config = ldm.get_config(f"variant=sd15,init={released},data=x")
    assert config.init_from == config.frozen.vae == str(released)
    assert not config.requires
    task = model.config.task.to_dict()
    assert config.task.process.to_dict() == task["process"]
    assert config.task.unet.to_dict() == {**task["unet"], "dtype": "bfloat16"}
    assert (config.data.image_size, config.data.max_length) == (16, 12)
    for arg, words in (
        (f"init={released}", "fine-tunes variant=sd15 or variant=sd2"),
        (f"variant=sd2,init={released},text=clip", "text=clip: with init="),
    ):
        with pytest.raises(UserError, match=words):
            ldm.get_config(arg)


def test_a_pipeline_of_the_hub_is_fetched_once_and_without_other_files(released, monkeypatch):
    asked = []

    def fetch(name, revision=None, allow_patterns=()):
        asked.append((name, revision, allow_patterns))
        return str(released)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", fetch)
    assert sources.resolve("hub:owner/name@v1.0") == released
    (name, revision, patterns), *others = asked
    assert (name, revision) == ("owner/name", "v1.0") and not others
    assert "model_index.json" in patterns and UNET_WEIGHTS in patterns
    assert not [p for p in patterns if p.endswith((".bin", ".ckpt")) or p.startswith("safety")]
    assert sources.component("hub:owner/name", "vae") == str(released / "vae")
    assert asked[-1][:2] == ("owner/name", None)


def test_half_precision_is_fetched_if_there_is_nothing_else(tmp_path, monkeypatch):
    asked = []

    def fetch(name, revision=None, allow_patterns=()):
        asked.append(allow_patterns)
        return str(tmp_path)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", fetch)
    sources.resolve("hub:owner/name")
    assert len(asked) == 2
    assert "unet/diffusion_pytorch_model.fp16.safetensors" in asked[1]


def test_the_hub_out_of_reach_is_one_line(monkeypatch):
    def offline(*_, **__):
        raise OSError("no route to host\nand a long trace")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", offline)
    with pytest.raises(UserError, match=r"could not be fetched .*\(no route to host\)") as error:
        reader.load("hub:owner/name")
    assert "\n" not in str(error.value) and "local folder" in str(error.value)
    with pytest.raises(UserError, match="expected hub:OWNER/NAME or hub:OWNER/NAME@REVISION"):
        reader.load("hub:name")
    with pytest.raises(UserError, match=r"hub:owner/name names a pipeline on huggingface\.co"):
        reader.load("owner/name")
