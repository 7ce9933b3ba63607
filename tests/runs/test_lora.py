"""LoRA files of a latent diffusion run: trained, written, read back and merged."""

import dataclasses
import json
import re

import jax
import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

from configs import ldm
from gen_jax.common import config as config_lib
from gen_jax.common.errors import UserError
from gen_jax.encoders.weights import DIFFUSERS, torch_from_flax
from gen_jax.runs import checkpoint_files, export, layout, lora, lora_export, reader, text_tower
from gen_jax.runs.weights import flatten, save
from gen_jax.tasks import build_task
from gen_jax.tasks.lora import LowRank, LowRankTask, merged
from gen_jax.training import adaptation, stage
from tests import tiny_pipelines
from tests.forks import call
from tests.processes import one_line_error
from tests.tasks.test_contract import filled
from tests.tiny_text import tower_folder


@pytest.fixture(scope="module")
def config(photos, tmp_path_factory):
    """A recipe of factors behind CLIP's text."""
    weights = tower_folder("clip", tmp_path_factory.mktemp("clip"))
    arg = f"debug,data={photos},vae=package:vae_photos,text=clip,weights={weights},lora=2"
    config = ldm.get_config(arg)
    config.evaluators = {}
    config.tensorboard = False
    config.training.update(num_steps=3, eval_every=0, ema=0.0)
    config.optimizer.model.update(learning_rate=0.05, schedule="constant")
    config.lora.alpha = 3.0
    return config


@pytest.fixture(scope="module")
def base(config, tmp_path_factory):
    """An exported run."""
    folder = layout.make(tmp_path_factory.mktemp("runs") / "base")
    models = reader.load_all_frozen(config, folder)
    params, extra = filled(build_task(config.task.to_dict(), models.tasks))
    save(folder / layout.WEIGHTS, {"params": params, "extra": extra})
    (folder / layout.CONFIG).write_text(config_lib.to_json(config))
    text_tower.tokenizer(config.task.to_dict(), folder).save(folder / layout.TOKENIZER)
    return reader.load(str(folder))


@pytest.fixture(scope="module")
def run(config, base):
    """A run of random factors that adapts `base`."""
    low_rank = LowRank.of_run(config)
    factors = jax.eval_shape(LowRankTask(base.task, low_rank).init_of_zeros, jax.random.key(0))[0]
    rng = np.random.default_rng(0)
    factors = jax.tree.map(lambda s: rng.normal(0, 0.3, s.shape).astype(np.float32), factors)
    params = merged(factors, base.variables["params"], low_rank.scale)
    return dataclasses.replace(
        base,
        variables={**base.variables, "params": params},
        digest="of the run",
        lora=reader.Factors(factors, low_rank, str(base.path), base.digest),
    )


def largest_difference(model, other):
    have, want = (flatten({"p": m.variables["params"], "f": m.frozen}) for m in (model, other))
    assert have.keys() == want.keys()
    return max(np.abs(have[name] - want[name]).max() for name in want)


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory):
    """A pipeline in diffusers' layout."""
    folder = tiny_pipelines.write(tmp_path_factory.mktemp("pipelines") / "sd1", "sd1")
    file = folder / "scheduler" / "scheduler_config.json"
    tiny_pipelines.change(file, _class_name="DDIMScheduler", clip_sample=False)
    return reader.load(str(folder))


def kohya_file(model, path):
    """Writes factors of a pipeline's attention, of both components, and of a convolution."""
    state, rng = {}, np.random.default_rng(0)
    text = model.frozen["text"]["params"]
    for prefix, params, port, pattern in (
        ("lora_unet", model.variables["params"]["model"]["unet"], DIFFUSERS, r"attn\d|conv1\.w"),
        ("lora_te", text, model.task.text_encoder.tower.port, "q_proj|fc1"),
    ):
        for key, weight in torch_from_flax(params, port).items():
            if weight.ndim > 1 and re.search(pattern, key):
                stem = f"{prefix}_{key.removesuffix('.weight').replace('.', '_')}"
                down = (2, *weight.shape[1:])
                up = (len(weight), 2, *(1 for _ in weight.shape[2:]))
                for name, shape in (("lora_down", down), ("lora_up", up)):
                    state[f"{stem}.{name}.weight"] = rng.normal(0, 0.2, shape).astype(np.float16)
    save_file(state, path)
    return len(state) // 2


def test_a_pipeline_is_exported_with_a_file_merged(pipeline, tmp_path, capsys):
    count = kohya_file(pipeline, tmp_path / "ink.safetensors")
    adapted = lora.merge_lora(pipeline, tmp_path / "ink.safetensors", 0.7)
    numbers = re.findall(r"(\d+) weights of (unet|text_encoder)", capsys.readouterr().err)
    assert sorted(name for _, name in numbers) == ["text_encoder", "unet"]
    assert sum(int(a) for a, _ in numbers) == count
    assert adapted.frozen["vae"] is pipeline.frozen["vae"]
    for write, name in ((export.to_safetensors, "run"), (export.to_diffusers, "pipeline")):
        out = layout.make(tmp_path / name)
        write(adapted, out, "float32")
        again = reader.load(str(out))
        assert largest_difference(again, adapted) == 0 < largest_difference(again, pipeline)


@pytest.mark.slow
def test_the_recipe_trains_factors_of_a_pipeline_alone(photos, pipeline, tmp_path):
    arg = f"debug,variant=sd15,data={photos},init={pipeline.path},lora=2"
    config = ldm.get_config(arg)
    config.evaluators = {}
    config.tensorboard = False
    config.training.update(num_steps=3, eval_every=0, ema=0.0)
    config.optimizer.model.update(learning_rate=0.05, schedule="constant")
    stage.run(config, layout.make(tmp_path / "run"))
    stored = checkpoint_files.read_model(tmp_path / "run" / layout.CHECKPOINTS / "3")
    names = flatten(stored["params"])
    assert len(names) > 20
    assert all("/attn" in name and name.split("/")[-1] in ("lora_A", "lora_B") for name in names)
    assert any(np.abs(v).max() > 0.01 for k, v in names.items() if k.endswith("lora_B"))
    run = reader.load(str(tmp_path / "run"))
    have, want = (flatten(m.variables["params"]) for m in (run, pipeline))
    for name, value in want.items():
        adapted = "/attn" in name and name.endswith("/kernel")
        assert np.array_equal(have[name], value) != adapted, name
    # What was trained, and what readers merge.
    adapted = adaptation.adapt(config, pipeline.task, pipeline, tmp_path / "run")
    variables = {"params": stored["params"], "extra": {}}
    _, whole = adapted.task.as_trained(variables, adapted.frozen)
    for name, value in flatten(whole["params"]).items():
        np.testing.assert_allclose(value, have[name], atol=1e-5, err_msg=name)
    lora_export.to_diffusers(run, tmp_path, "float32")
    assert largest_difference(lora.merge_lora(pipeline, tmp_path), run) < 1e-6


def test_the_base_is_held_in_half_precision_if_asked(config, base, run, tmp_path):
    config = config.copy_and_resolve_references()
    with config.unlocked():
        config.init_from = str(base.path)
        config.lora.base_dtype = "bfloat16"
    adapted = adaptation.adapt(config, run.task, base, tmp_path)
    held = adapted.frozen["lora_base"]["model"]
    kinds = {(str(x.dtype), x.ndim > 1) for x in jax.tree.leaves(held)}
    assert kinds == {("bfloat16", True), ("float32", False)}
    # Merged in float32: of the kernel 1 part in 256 is rounded away, and nothing of the factors.
    variables = {"params": run.lora.params, "extra": {}}
    _, whole = adapted.task.as_trained(variables, adapted.frozen)
    have, want = flatten(whole["params"]), flatten(run.variables["params"])
    rounded = {k: np.asarray(v, np.float32) for k, v in flatten({"model": held}).items()}
    own = flatten(base.variables["params"])
    names = [name for name in want if "/attn" in name and name.endswith("/kernel")]
    for name in names:
        assert have[name].dtype == np.float32
        np.testing.assert_allclose(have[name] - rounded[name], want[name] - own[name], atol=1e-6)
        assert 0 < np.abs(have[name] - want[name]).max() <= np.abs(own[name]).max() / 256
    with config.unlocked():
        config.lora.base_dtype = "int4"
    with pytest.raises(UserError, match="base_dtype='int4': expected float32 or bfloat16"):
        adaptation.check(config)


@pytest.mark.parametrize(
    "write, name, stem",
    [
        (export.to_lora, "lora.safetensors", "model/unet/"),
        (lora_export.to_diffusers, "pytorch_lora_weights.safetensors", "unet.down_blocks.0."),
        (lora_export.to_kohya, "kohya_lora.safetensors", "lora_unet_down_blocks_0_"),
    ],
)
def test_written_files_read_back_give_the_run(write, name, stem, base, run, tmp_path, capsys):
    write(run, tmp_path, "float32")
    assert {p.name for p in tmp_path.iterdir()} == {name, layout.MANIFEST}
    adapted = lora.merge_all(base, [(str(tmp_path / name), 1.0)])
    assert largest_difference(adapted, run) < 1e-6
    assert largest_difference(base, run) > 1e-2
    (note,) = capsys.readouterr().err.splitlines()
    assert re.search(r"safetensors: adapts 24 weights of (unet|model) at scale 1$", note)
    (entry,) = adapted.merged_files
    assert entry["file"] == str(tmp_path / name) and entry["scale"] == 1
    assert entry["sha256"] in (tmp_path / layout.MANIFEST).read_text()
    assert any(key.startswith(stem) for key in load_file(tmp_path / name))
    # A folder with the file alone will do. Scales and files add up, -1 takes away.
    files = [(str(tmp_path), 0.25), (str(tmp_path / name), -1.25), (str(tmp_path), 2.0)]
    again = lora.merge_all(base, files)
    assert largest_difference(again, run) < 1e-5
    assert [f["scale"] for f in again.merged_files] == [0.25, -1.25, 2]
    # Merged into the run itself the file is of other weights than it was trained on.
    assert "was trained on other weights" not in capsys.readouterr().err
    lora.merge_lora(run, tmp_path)
    assert f"was trained on other weights than those of {run.path}" in capsys.readouterr().err


def test_metadata_of_kohya(run, tmp_path):
    lora_export.to_kohya(run, tmp_path, "float16")
    with safe_open(tmp_path / "kohya_lora.safetensors", "np") as file:
        known, keys = file.metadata(), list(file.keys())
        alphas = [file.get_tensor(key) for key in keys if key.endswith(".alpha")]
    assert (known["ss_network_dim"], known["ss_network_alpha"]) == ("2", "3.0")
    assert len(alphas) == 24 and all(a.shape == () and a == 3 for a in alphas)


def text_file(base, folder):
    """A file for the text encoder alone, and the kernel that it gives."""
    key = "text_model.encoder.layers.1.self_attn.q_proj"
    rng = np.random.default_rng(0)
    down, up = (rng.normal(size=s).astype(np.float32) for s in ((2, 16), (16, 2)))
    path = folder / "text.safetensors"
    save_file(
        {f"text_encoder.{key}.lora_A.weight": down, f"text_encoder.{key}.lora_B.weight": up}, path
    )
    state = torch_from_flax(base.frozen["text"]["params"], base.task.text_encoder.tower.port)
    return path, f"{key}.weight", state[f"{key}.weight"] + 0.5 * up @ down


def test_an_export_has_the_files_merged_text_too(base, tmp_path):
    path, key, kernel = text_file(base, tmp_path)
    adapted = lora.merge_lora(base, path, 0.5)
    assert adapted.variables["params"] is base.variables["params"]
    out = layout.make(tmp_path / "out")
    export.to_safetensors(adapted, out, "float32")
    again = reader.load(str(out))
    assert largest_difference(again, adapted) == 0 < largest_difference(again, base)
    np.testing.assert_allclose(
        load_file(out / "text" / "model.safetensors")[key], kernel, rtol=1e-6
    )
    entry = {"file": str(path), "sha256": adapted.merged_files[0]["sha256"], "scale": 0.5}
    assert json.loads((out / layout.MANIFEST).read_text())["lora"] == [entry]


def test_what_does_not_fit_is_named(base, run, tmp_path):
    path, _, _ = text_file(base, tmp_path)
    vae = reader.load("package:vae_photos")
    words = r"text.safetensors: text_encoder\..*lora_A.weight adapts a text_encoder, and .*has none"
    with pytest.raises(UserError, match=words):
        lora.merge_lora(vae, path)
    own = layout.make(tmp_path / "own")
    export.to_lora(run, own, "float32")
    with pytest.raises(UserError, match=r"factors of a run of ldm, and .* is a run of vae"):
        lora.merge_lora(vae, own)
    file = own / "lora.safetensors"
    with safe_open(file, "np") as opened:
        state, metadata = {k: opened.get_tensor(k) for k in list(opened.keys())}, opened.metadata()
    first = sorted(state)[0]
    kernel = first.rpartition("/")[0]

    def refused(words, changed, **other):
        save_file(changed, file, {**metadata, **other})
        with pytest.raises(UserError, match=words):
            lora.merge_lora(base, file)

    partner = f"{kernel}/lora_B"
    refused(f"{first} is no factor", {k: v for k, v in state.items() if k != partner})
    refused(
        f"{first} and its partner, .* do not fit the weight", {**state, first: state[first][1:]}
    )
    refused(f"{first} and its partner are damaged", {**state, first: state[first][:, :1].copy()})
    refused(f"{first} and its partner are damaged", {**state, first: state[first] * np.nan})
    moved = {k.replace("unet", "gone"): v for k, v in state.items()}
    refused("model/gone/.* fits no weight of", moved)
    refused("name no rank and alpha", state, rank="0")
    refused("name no rank and alpha", state, alpha="nan")
    for scale in (np.nan, np.inf, 101.0):
        with pytest.raises(UserError, match=f"^scale={scale}: expected a number from -100 to 100"):
            lora.merge_lora(base, path, scale)
    with pytest.raises(UserError, match=r"own: holds 2 \.safetensors files; expected one"):
        save_file(state, own / "second.safetensors")
        lora.merge_lora(base, own)
    text = dataclasses.replace(
        run.lora, params={"model": {"text_encoder": run.lora.params["model"]}}
    )
    with pytest.raises(UserError, match=r"factors adapt model/text_encoder/.*use format=lora"):
        lora_export.to_kohya(dataclasses.replace(run, lora=text), tmp_path, "float32")
    for write in (lora_export.to_kohya, lora_export.to_diffusers):
        with pytest.raises(UserError, match="trained no low-rank factors"):
            write(base, tmp_path, "float32")


def test_a_file_and_its_scale(tmp_path):
    path = tmp_path / "a:0.5"
    path.touch()
    assert lora.parse(str(path), "lora") == (str(path), 1)
    assert lora.parse(f"{path}:-2", "lora") == (str(path), -2)
    with pytest.raises(UserError, match=r"^lora=x.safetensors:2: x.safetensors: no such file"):
        lora.parse("x.safetensors:2", "lora")
    for scale in ("much", "nan", "1e3", ""):
        with pytest.raises(UserError, match=r"a:0.5:\w*: scale=.*: expected a number from -100"):
            lora.parse(f"{path}:{scale}", "lora")


@pytest.mark.parametrize(
    "arg, words",
    [
        ("lora=-1", "lora=-1: expected a rank of at least 1"),
        ("lora_text", "lora=0: expected a rank of at least 1"),
        (
            "lora=8,lora_text,text=clip",
            "the text encoder of text=clip is frozen, and has no factors",
        ),
    ],
)
def test_mistakes_in_the_recipe_are_named(arg, words):
    with pytest.raises(UserError, match=words):
        ldm.get_config(arg)


def test_the_recipe_names_the_kernels_of_every_size(tmp_path):
    config = ldm.get_config("debug,vae=package:vae_photos,lora=4,lora_text")
    task = build_task(config.task.to_dict(), reader.load_all_frozen(config, tmp_path).tasks)
    low_rank = LowRank.of_run(config)
    assert (low_rank.rank, low_rank.alpha, low_rank.base_dtype) == (4, 4.0, "float32")
    params, _ = jax.eval_shape(LowRankTask(task, low_rank).init_of_zeros, jax.random.key(0))
    names = flatten(jax.tree.map(lambda x: np.zeros(x.shape, np.int8), params))
    assert {name.split("/")[1] for name in names} == {"unet", "text_encoder"}
    big = ldm.get_config("variant=sd15,data=x,lora=8")
    assert big.lora.base_dtype == "bfloat16" and big.training.batch_size == 4


@pytest.mark.slow
def test_the_commands_take_files(base, run, tmp_path):
    lora_export.to_diffusers(run, layout.make(tmp_path / "own"), "float32")
    path, _, _ = text_file(base, tmp_path)
    options = (f"--lora={tmp_path / 'own'}:1", f"--lora={path}")
    once = ("--num=1", "--steps=2", "--prompt=a cat")
    result = call("generate", f"--run={base.path}", *once, *options, f"--out={tmp_path / 'a'}")
    assert result.returncode == 0, result.stderr[-3000:]
    assert "adapts 24 weights of unet at scale 1" in result.stderr
    assert "adapts 1 weights of text_encoder at scale 1" in result.stderr
    facts = json.loads(next((tmp_path / "a").glob("00000*.json")).read_text())
    assert [entry["scale"] for entry in facts["lora"]] == [1, 1]
    out = tmp_path / "merged"
    result = call("export", f"--run={base.path}", *options, f"--out={out}")
    assert result.returncode == 0, result.stderr[-3000:]
    want = lora.merge_all(base, [(str(tmp_path / "own"), 1.0), (str(path), 1.0)])
    assert largest_difference(reader.load(str(out)), want) == 0
    result = call(
        "export", f"--run={base.path}", "--format=kohya_lora", f"--lora={path}", f"--out={out}x"
    )
    assert "leave out one of them" in one_line_error(result)
