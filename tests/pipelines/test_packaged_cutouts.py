"""The packaged text-to-image model: small, free of local paths, and what `generate` begins with."""

import colorsys
import json

import numpy as np

import gen_jax
from gen_jax.runs import reader

FOLDER = reader.PACKAGED / "cutouts"


def test_it_is_small_and_names_no_place_of_this_machine():
    files = [path for path in FOLDER.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) < 20e6
    for path in files:
        if path.suffix in (".json", ".md") and path.name != "tokenizer.json":
            text = path.read_text()
            assert '"/' not in text and "/tmp/" not in text, path
    card, report = (
        (FOLDER / "README.md").read_text(),
        json.loads((FOLDER / "report.json").read_text()),
    )
    assert f"{report['ldm/prompt_accuracy']:.3f}" in card and "public domain" in card


def test_apples_are_red_and_blue_as_prompted():
    model = gen_jax.load("package:cutouts")
    images = model.generate(["a red apple", "a blue apple"], num=1, seed=0)
    assert images[0].size == (64, 64)
    for image, hue in zip(images, (0.0, 0.6), strict=True):
        middle = np.asarray(image, np.float32)[28:44, 24:40].mean((0, 1)) / 255
        angle, saturation, _ = colorsys.rgb_to_hsv(*middle)
        assert min(abs(angle - hue), 1 - abs(angle - hue)) < 0.08 and saturation > 0.5
