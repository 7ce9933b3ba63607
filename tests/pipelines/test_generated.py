"""Folders of generated images: earlier results, and images that are not finite."""

import json

import numpy as np
import pytest
from PIL import Image

from gen_jax import provenance
from gen_jax.common.errors import UserError
from gen_jax.pipelines import generated
from gen_jax.pipelines.sampling import generate_in_batches
from tests.provenance.test_manifest import FACTS

IMAGES = np.random.default_rng(0).integers(0, 256, (3, 4, 4, 3), np.uint8)


def write(folder, count, overwrite=False):
    place = generated.check(str(folder), overwrite)
    facts = [{"prompt": "a cat", "guidance_scale": float("inf")}] * count
    generated.write(*place, IMAGES[:count], facts, IMAGES[0], animated=count > 1)


def names(folder):
    return sorted(p.name for p in folder.iterdir())


def test_earlier_results_are_replaced_on_demand_and_nothing_else_is(tmp_path):
    write(tmp_path / "out", 3)
    whole = ["00000.json", "00000.png", "00001.json", "00001.png", "00002.json", "00002.png"]
    assert names(tmp_path / "out") == [*whole, "frames.gif", "grid.png"]
    text = (tmp_path / "out" / "00002.json").read_text()
    assert json.loads(text)["index"] == 2 and "Infinity" in text and ": Infinity" not in text
    (tmp_path / "out" / "notes.txt").write_text("mine")
    with pytest.raises(UserError, match=r"holds earlier results \(00000.json and 7 more\)"):
        write(tmp_path / "out", 1)
    write(tmp_path / "out", 1, overwrite=True)
    assert names(tmp_path / "out") == [*whole[:2], "grid.png", "notes.txt"]


def test_a_caption_is_in_its_file(tmp_path):
    captions = ["Hôtel de Cluny", ""]
    place = generated.check(str(tmp_path), False)
    generated.write(*place, IMAGES[:2], [{"caption": c} for c in captions], IMAGES[0], False)
    for name, caption in zip(("00000.png", "00001.png"), captions):
        with Image.open(tmp_path / name) as image:
            assert image.text.get("Description", "") == caption


@pytest.mark.parametrize("name", ["00001.png", "00007.png", "grid.png", "00001.json"])
def test_files_that_are_not_as_a_manifest_says_are_never_replaced(tmp_path, name):
    write(tmp_path, 2)
    (tmp_path / name).write_text("{}")
    before = {p.name: p.read_bytes() for p in tmp_path.iterdir()}
    with pytest.raises(UserError, match=f"out=.*: {name[:5]}.* is not as any manifest there"):
        write(tmp_path, 2, overwrite=True)
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == before


def test_a_failure_leaves_the_earlier_results(tmp_path):
    write(tmp_path, 2)
    before = {p.name: p.read_bytes() for p in tmp_path.iterdir()}
    place = generated.check(str(tmp_path), True)
    with pytest.raises(ValueError, match="zip"):
        generated.write(*place, IMAGES, [{}], IMAGES[0], animated=False)
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == before


def test_images_come_in_parts_and_must_be_finite():
    sizes = []

    def run(part):
        sizes.append(len(part["seed"]))
        return {"image": IMAGES[part["seed"]], "finite": part["x"] < np.inf}

    batch = {"seed": np.array([2, 0, 1]), "x": np.zeros(3)}
    np.testing.assert_array_equal(generate_in_batches(run, batch, 2)["image"], IMAGES[[2, 0, 1]])
    assert sizes == [2, 2]
    batch["x"][1] = np.inf
    with pytest.raises(UserError, match="image of seed 0 is not finite"):
        generate_in_batches(run, batch, 2)


def test_signed_images_are_replaced_together_with_their_proofs(tmp_path):
    pytest.importorskip("c2pa", reason="needs the extra provenance")
    provenance.make_key(tmp_path / "key.pem")
    log, out = str(tmp_path / "log"), tmp_path / "out"
    recorder = provenance.open_recorder(str(tmp_path / "key.pem"), log)
    rows = [{**FACTS, "prompt": "a cat"}] * 3
    for count in (3, 2):
        place = generated.check(str(out), overwrite=True)
        generated.write(*place, IMAGES[:count], rows[:count], IMAGES[0], False, recorder)
        assert len(names(out)) == 3 * count + 1
        verdicts = provenance.verify([out], ledger=log)
        assert [one.outcome.value for one in verdicts] == ["ok"] * (1 + count)
    # A proof of something else is not ours to replace.
    (out / "00000.png.ledger.json").write_bytes((out / "00001.png.ledger.json").read_bytes())
    with pytest.raises(UserError, match=r"00000\.png\.ledger\.json is not as any manifest"):
        generated.check(str(out), overwrite=True)
