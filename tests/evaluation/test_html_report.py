"""The page of a run: what it says first, that it needs no other file, and that it is readable."""

import base64
import html
import pathlib
import re

import pytest

from gen_jax.evaluation import html_report, next_commands
from gen_jax.evaluation.meanings import Meaning


def test_the_report_says_warnings_first_and_needs_no_other_file(tmp_path):
    picture = tmp_path / "a.png"
    picture.write_bytes(b"\x89PNG...")
    path = tmp_path / "r.html"
    html_report.write(
        path, "art: <run>", {"art/kid": 0.25, "art/accuracy/dark": 1.0, "art/accuracy/bright": 0.5},
        [picture], warnings=("copies & more",), notes={"art/kid": "biased"}, facts={"steps": "9"},
    )  # fmt: skip
    text = path.read_text()
    body = text[text.index("<h1>") :]
    assert body.index("copies &amp; more") < body.index("0.2500")
    assert "&lt;run&gt;" in body and "<run>" not in body and "biased" in body
    assert re.search(r"<h2>art/accuracy</h2>\s*<div class=wide><table><tr><td>bright.*dark", body)
    assert base64.b64encode(b"\x89PNG...").decode() in body
    assert 'src="a.png' not in body and "http" not in body


def test_numbers_of_the_same_parts_stand_side_by_side(tmp_path):
    values = {"dark": 0.1, "bright": 0.2}
    metrics = {
        f"art/{name}/{part}": v for name in ("heard", "probed") for part, v in values.items()
    }
    metrics |= {"art/kid": 0.3, "art/probed/dark": 0.7, "art/wording/long": 0.9}
    notes = {f"art/probed/{part}": "by a probe" for part in values} | {"art/heard/dark": "once"}
    html_report.write(tmp_path / "r.html", "art", metrics, [], notes=notes)
    text = (tmp_path / "r.html").read_text()
    # A note on a whole column stands once above the table, one on a number beside it.
    assert text.count("by a probe") == 1 and "<p>art/probed: by a probe</p>" in text
    assert "0.1000 <small>once</small>" in text
    text = text.replace(" <small>once</small>", "")
    tables = [
        re.findall(r"<t[dh][^>]*>([^<]*)", part) for part in re.split("<table[^>]*>", text)[1:]
    ]
    assert tables[0] == ["art/kid", "0.3000"]
    both = ["", "art/heard", "art/probed", "bright", "0.2000", "0.2000", "dark", "0.1000", "0.7000"]
    assert tables[1:] == [both, ["long", "0.9000"]]
    assert "<h2>art/heard, art/probed</h2>" in text


PICTURE = b"\x89PNG..."
LONG = "a very long prompt, " * 20 + "whose end <must> be readable"


@pytest.fixture
def page(tmp_path):
    """A page with everything that a page may have."""
    names = ("step_0000100_samples", "step_0000100_paths", "metrics")
    images = [tmp_path / f"{name}.png" for name in names]
    for image in images:
        image.write_bytes(PICTURE)
    metrics = {"art/kid": 0.25, "art/own": 2.0}
    metrics |= {f"art/accuracy/{part}": 0.5 for part in ("dark", "bright", "odd")}
    accuracy = Meaning("Share of samples that obey.", "higher")
    html_report.write(
        tmp_path / "r.html",
        "art",
        metrics,
        images,
        meanings={
            "art/kid": Meaning("Distance <to> real images.", "lower"),
            "art/accuracy/dark": accuracy,
            "art/accuracy/bright": accuracy,
            "art/accuracy/odd": Meaning("Both ways.", "near 0.5"),
        },
        notes={"art/kid": "of <few>"},
        prompts={"samples": [LONG, ""], "other": ["unseen"]},
        commands={"Generate images:": "python -m gen_jax.generate --run='a b'"},
        trained_by="python -m gen_jax.main --config=art",
        config='{"a": "<b>"}',
    )
    return (tmp_path / "r.html").read_text()


def shown(markup):
    """Returns the text that a browser shows of a part of a page."""
    return html.unescape(re.sub("<[^>]*>", "", markup))


def test_metrics_stand_beside_what_they_mean(page):
    row = page[page.index("<td class=name>art/kid") : page.index("<td class=name>art/own")]
    assert "0.2500" in row and "<td class=good>lower" in row
    assert "<td class=meaning>Distance &lt;to&gt; real images.<small>of &lt;few&gt;</small>" in row
    # Of many parts the meaning stands once.
    assert page.count("<p>art/accuracy: Share of samples that obey. Good: higher.</p>") == 1
    assert page.count("Share of samples that obey.") == 1
    assert "<p>art/accuracy/odd: Both ways. Good: near 0.5.</p>" in page


def test_prompts_are_shown_whole_below_their_image(page):
    first, second, third = page.split("<figure>")[1:]
    assert html.escape(LONG) in first and "<li>(empty)" in first and "reading order" in first
    assert "<ol" not in second and "<ol" not in third and "unseen" not in page


def test_a_page_says_how_to_use_and_how_to_train_the_run(page):
    generate, main, config = re.findall("<pre>(.*?)</pre>", page, re.DOTALL)
    assert "<p>Generate images:</p><pre>" in page
    assert shown(generate) == "python -m gen_jax.generate --run='a b'"
    assert shown(main) == "python -m gen_jax.main --config=art" and shown(config) == '{"a": "<b>"}'
    assert "<details><summary>The config</summary><pre>{" in page


def test_a_page_needs_nothing_from_elsewhere_and_fits_a_telephone(page):
    assert "<script" not in page and "http" not in page and "<link" not in page
    assert page.count("data:image/png;base64,") == 3
    assert "width=device-width" in page and "@media (max-width: 640px)" in page


@pytest.mark.parametrize(
    ("task", "functions", "first"),
    [
        (
            {"text_encoder": {"name": "clip"}},
            ("generate", "reconstruct"),
            "python -m gen_jax.generate --run='runs/my run' --prompt='it'\"'\"'s dark' --num=8 "
            "--out='out/my run'",
        ),
        ({}, ("generate", "synthesize"), "python -m gen_jax.generate --run='runs/my run' --num=8"),
        (
            {"text_encoder": {"name": "clip"}},
            ("restore",),
            "python -m gen_jax.restore photo.jpg --run='runs/my run' --prompt='remove the noise",
        ),
        ({}, ("restore",), "python -m gen_jax.restore photo.jpg --run='runs/my run' --out=resto"),
        ({}, ("reconstruct",), "python -m gen_jax.evaluate --run='runs/my run' --out="),
    ],
)
def test_commands_are_those_of_the_kind_of_run(task, functions, first):
    config = {"task": task, "evaluators": {"codes": {}}}
    prompts = {"nearest": ["", "it's dark"]}
    commands = next_commands.of_run(config, functions, pathlib.Path("runs/my run"), prompts)
    assert next(iter(commands.values())).startswith(first)
    assert "--format=safetensors" in commands["Export its weights:"]


def test_an_encoder_without_evaluators_is_exported_for_transformers():
    config = {"task": {}, "evaluators": {}}
    commands = next_commands.of_run(config, ("features",), pathlib.Path("runs/dino"), {})
    assert list(commands.values()) == [
        "python -m gen_jax.export --run=runs/dino --format=huggingface --out=dino_weights"
    ]
