"""What a run refuses before it prepares, trains or compiles anything."""

import re
import shutil

import numpy as np
import pytest
from PIL import Image

from configs import art, detail, faces, ldm, restore, vae, vqvae
from gen_jax.common.errors import UserError
from gen_jax.data.prepare import build, plan
from gen_jax.evaluation import build_evaluators
from gen_jax.runs.splits import DataSplits
from gen_jax.tasks import build_task
from gen_jax.training import checks


def changed(config, key, value):
    """The config with one value replaced, and a batch that fits the tests' eight devices."""
    with config.unlocked():
        config.training.batch_size = 8
        holder, _, name = key.rpartition(".")
        place = config
        for part in filter(None, holder.split(".")):
            place = place[part]
        place[name] = value
    return config


@pytest.mark.parametrize(
    "key,value,line",
    [
        ("zzz", 1, "config: unknown key 'zzz'"),
        (
            "training.num_steps",
            0,
            "training.num_steps=0: expected a whole number of at least 1",
        ),
        ("training.ema", 1.0, "config.training.ema=1.0: expected a number from 0 to below 1"),
        ("training.seed", 2**32, "config.training.seed=4294967296: expected a whole number"),
        ("training.seed", -1, "config.training.seed=-1: expected a whole number from 0 to"),
        ("training.best_mode", "least", "config.training.best_mode='least': expected min or max"),
        (
            "training.best_metric",
            "ldm/psnr",
            "config.training.best_metric=ldm/psnr: expected a metric of reconstruction, whose "
            "names begin with vae/",
        ),
        ("optimizer.model.learning_rate", float("nan"), "learning_rate=nan: expected a finite"),
        ("optimizer.model.learning_rate", 0.0, "expected a number above 0"),
        (
            "optimizer.model.b2",
            1.0,
            "optimizer.model.b2=1.0: expected a number from 0 to below 1",
        ),
        ("optimizer.model.name", "sgd", "config.optimizer.model.name: 'sgd' is none of"),
        ("optimizer.model.freeze", "(", "config.optimizer.model.freeze='(' is no pattern"),
        (
            "evaluators.reconstruction.count",
            -3,
            "count=-3: expected a whole number of at",
        ),
        ("evaluators.reconstruction.batch_size", 0, "batch_size=0: expected a whole number of"),
        ("evaluators", dict(reconstruction=dict(encoder="lpips-vgg:none")), "no such file"),
        ("evaluators", dict(interpolation=dict(distance="lpips-vgg")), "needs weights"),
        ("data.transform.crop_scale", (0.8, 0.5), "transform.crop_scale=(0.8, 0.5): expected two"),
        ("data.transform.crop_scale", (0.0, 1.0), "expected a number above 0 and at most 1"),
        ("data.image_size", 0, "config.data.image_size=0: expected a whole number of at least 1"),
        ("data.verify", "sise", "config.data.verify='sise': expected one of size, digest, none"),
        ("data.source", "", "config.data: name either an embedded source"),
        ("task.kl_weight", float("inf"), "config.task.kl_weight=inf: expected a finite number"),
        ("task.l1_weight", -1.0, "config.task.l1_weight=-1.0: expected a number of at least 0"),
        ("task.image_size", 0, "config.task.image_size=0: expected a number of at least 1"),
        ("init_from", "runs/none", "config.init_from: runs/none: no such folder"),
    ],
)
def test_mistakes_in_a_config(tmp_path, key, value, line):
    with pytest.raises(UserError) as caught:
        checks.check_config(changed(vae.get_config("debug"), key, value), tmp_path)
    assert line in str(caught.value)


def test_a_best_metric_that_may_be_wrong_is_a_warning(tmp_path, capsys):
    config = changed(vae.get_config("debug"), "training.best_metric", "vae/psn")
    with pytest.raises(UserError, match="init_from"):  # a later check
        checks.check_config(changed(config, "init_from", "runs/none"), tmp_path)
    assert capsys.readouterr().out == (
        "warning: config.training.best_metric=vae/psn is not a known metric of reconstruction\n"
    )


@pytest.mark.parametrize("recipe", [art, detail, restore, vae, vqvae])
def test_best_metrics_of_recipes_are_known(recipe, capsys):
    config = recipe.get_config().to_dict()
    evaluators = build_evaluators(config["evaluators"], config["task"]["name"])
    assert config["training"]["best_metric"]
    checks._check_best_metric(config["training"]["best_metric"], evaluators)
    assert not capsys.readouterr().out


@pytest.mark.parametrize(
    "key,value,line",
    [
        (
            "task.text_dropout_prob",
            1.5,
            "config.task.text_dropout_prob=1.5: expected a number from 0 to 1",
        ),
        (
            "task.num_inference_steps",
            0,
            "num_inference_steps=0: expected a number of at",
        ),
        ("task.process.shift", float("nan"), "config.task.process.shift=nan: expected a finite"),
        ("requires.vae.optimizer.model.eps", -1.0, "config.optimizer.model.eps=-1.0"),
        ("data", dict(dir="/nowhere"), "prepare the data first"),
        ("task.process.schedule", "flwo", "schedule='flwo': expected one of"),
        ("data.max_length", 9, "config.data.max_length=9 and config.task.text_encoder.max_length"),
        (
            "data.transform",
            dict(name="restoration"),
            "config.data.transform.name='restoration' does not give 'token_mask', which the task "
            "reads; use crops or art_captions or features",
        ),
    ],
)
def test_mistakes_are_found_before_a_required_stage_is_trained(tmp_path, key, value, line):
    config = ldm.get_config("debug,vae=train")
    with config.unlocked():
        config.requires.vae.training.batch_size = 8
    with pytest.raises(UserError) as caught:
        checks.check_config(changed(config, key, value), tmp_path)
    assert line in str(caught.value)


@pytest.fixture(scope="module")
def five(tmp_path_factory):
    """Five images, two of them with captions, in no split but train."""
    folder = tmp_path_factory.mktemp("five")
    (folder / "images").mkdir()
    for i in range(5):
        pixels = np.random.default_rng(i).integers(0, 256, (24, 24, 3), np.uint8)
        Image.fromarray(pixels).save(folder / "images" / f"{i}.png")
    lines = [f'{{"file": "{i}.png", "caption": "picture {i}"}}\n' for i in range(2)]
    (folder / "images" / "captions.jsonl").write_text("".join(lines))
    rules = plan.Rules(val_fraction=0.0, test_fraction=0.0)
    options = build.Options(
        source=str(folder / "images"), out=str(folder / "data"), rules=rules, workers=1
    )
    build.prepare(options)
    return folder / "data"


def reads(config, **evaluators):
    """The config with these evaluators."""
    with config.unlocked():
        config.evaluators = evaluators
    return config


def test_a_split_that_is_not_there(five):
    config, data = vae.get_config("debug"), DataSplits(five)
    with pytest.raises(UserError) as caught:
        checks.check_data(reads(config, reconstruction=dict(count=4)), data)
    assert (
        f"{five}: no split 'val', which config.evaluators.reconstruction reads; there are train "
        "(5 images); prepare the images again"
    ) in str(caught.value)
    # Others take training images instead, and say so in the report.
    _, notes = checks.check_data(reads(config, codes=dict()), data)
    assert notes == (f"{five} has no split 'val': codes (up to 512) read training images",)
    with pytest.raises(UserError, match=r"no split 'val', which config\.evaluators\.shapes"):
        checks.check_data(reads(config, shapes_accuracy=dict()), data)


def test_shards_of_every_split_that_is_read(photos, tmp_path):
    folder = shutil.copytree(photos, tmp_path / "data")
    config, data = reads(vae.get_config("debug"), reconstruction=dict(count=4)), DataSplits(folder)
    assert checks.check_data(config, data) == ((), ()) and data.checked == {"train", "val"}
    with pytest.raises(UserError, match=r"config\.evaluators\.shapes_accuracy: needs the data"):
        checks.check_data(reads(config, shapes_accuracy=dict(count=1)), data)
    few = dict(count=4, real_count=4, train_count=4, heldout=0)
    with pytest.raises(UserError, match=r"pictogram_accuracy: needs the data source 'pictograms'"):
        checks.check_data(reads(config, pictogram_accuracy=few), data)
    checks.check_data(reads(config, prompt_accuracy=dict()), data)  # labels and captions are there
    data.info.statistics["val"]["captioned"] = 0
    with pytest.raises(UserError, match="needs data with labels and captions in split 'val'"):
        checks.check_data(reads(config, prompt_accuracy=dict()), data)
    reads(config, reconstruction=dict(count=4))
    for pattern in ("val-*", "train-*"):
        shard = next(folder.glob(pattern))
        shard.unlink()
        with pytest.raises(UserError, match=f"{shard.name}: this shard is missing"):
            checks.check_data(config, DataSplits(folder))


def test_captions_where_they_are_learned_from(five, tmp_path):
    data = DataSplits(five)
    config = reads(ldm.get_config("debug"))
    (warning,), _ = checks.check_data(config, data)
    assert warning.startswith(f"{five}: 3 of the 5 training records have no caption")
    data.info.statistics["train"]["captioned"] = 0
    assert checks.check_data(reads(vae.get_config("debug")), data) == ((), ())  # reads no text
    with pytest.raises(UserError, match=f"{five}: none of the 5 training records has a caption"):
        checks.check_data(config, data)
    # Before the autoencoder is trained, too.
    config = reads(ldm.get_config("debug,vae=train"))
    with config.unlocked():
        config.requires.vae.training.batch_size = 8
    shutil.copytree(five, tmp_path / "five")
    info = tmp_path / "five" / "dataset.json"
    info.write_text(re.sub('"captioned": [0-9]+', '"captioned": 0', info.read_text()))
    with pytest.raises(UserError, match="has a caption"):
        checks.check_config(
            changed(config, "data", config.data.to_dict() | dict(source="", dir=str(info.parent))),
            tmp_path,
        )


def test_a_task_that_reads_features_needs_a_transform_that_keeps_them():
    config = faces.get_config("debug")
    task = build_task(config.task.to_dict())
    checks.check_inputs(task, config.data.to_dict())
    config = changed(config, "data.transform", dict(name="crops"))
    with pytest.raises(UserError, match=r"'cls_2', which .* reads; use features or face_captions"):
        checks.check_inputs(task, config.data.to_dict())


def test_a_decoder_without_a_head_is_allowed(tmp_path):
    config = changed(vqvae.get_config("debug"), "task.autoencoder.head_channels", 0)
    checks.check_config(config, tmp_path)
    with pytest.raises(UserError, match="dim=0: expected a number of at least 1"):
        checks.check_config(changed(config, "task.quantizer.dim", 0), tmp_path)
