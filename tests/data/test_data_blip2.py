"""BLIP-2 as the captioning process, with a tiny random network, where PyTorch is installed."""

import importlib.util

import numpy as np
import pytest
from PIL import Image

from gen_jax.common.errors import UserError
from gen_jax.data import dataset
from gen_jax.data.prepare import build, captioning
from gen_jax.data.prepare.caption_process import CaptionProcess

if not all(importlib.util.find_spec(name) for name in ("torch", "transformers")):
    pytest.skip("needs the extra caption (torch, transformers)", allow_module_level=True)

WORDS = ["an", "engraving", "depicting", "ship", "horse", "tree", "river", "man", "dog", "bird"]
PREFIX = "an engraving depicting"


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """A folder with a random BLIP-2 over a vocabulary of words."""
    import torch
    import transformers
    from tokenizers import Tokenizer, models, pre_tokenizers

    folder = tmp_path_factory.mktemp("blip2")
    special = ["<pad>", "</s>", "<unk>", "<image>"]
    vocabulary = {word: number for number, word in enumerate(special + WORDS)}
    words = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_object=words, pad_token="<pad>", eos_token="</s>", unk_token="<unk>",
        additional_special_tokens=["<image>"],
    )  # fmt: skip
    layer = dict(hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16)
    text = transformers.OPTConfig(
        vocab_size=len(vocabulary), hidden_size=16, word_embed_proj_dim=16, num_hidden_layers=1,
        num_attention_heads=2, ffn_dim=16, max_position_embeddings=64, pad_token_id=0,
        bos_token_id=1, eos_token_id=1,
    )  # fmt: skip
    config = transformers.Blip2Config(
        vision_config=dict(**layer, image_size=28, patch_size=14),
        qformer_config=dict(**layer, encoder_hidden_size=16, vocab_size=8),
        text_config=text.to_dict(),
        num_query_tokens=2,
        image_token_index=vocabulary["<image>"],
    )
    torch.manual_seed(0)
    model = transformers.Blip2ForConditionalGeneration(config)
    with torch.no_grad():  # larger weights, so that texts differ by image
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.normal_(0.0, 0.5)
    model.save_pretrained(folder)
    image_processor = transformers.BlipImageProcessorPil(size={"height": 28, "width": 28})
    processor = transformers.Blip2Processor(image_processor, tokenizer, num_query_tokens=2)
    processor.save_pretrained(folder)
    return folder


def images():
    return [np.random.default_rng(n).integers(0, 256, (20 + n, 30, 3), np.uint8) for n in range(4)]


def settings(tiny, **changes):
    values = dict(model=str(tiny), prefix=PREFIX, num_beams=2, top_p=0.0, max_new_tokens=5)
    return values | changes


def test_a_random_network_continues_the_prefix(tiny):
    with CaptionProcess("gen_jax.data.prepare.blip2", settings(tiny)) as process:
        assert process.device in ("cpu", "cuda")
        texts = process.describe(images(), [0] * 4)
        assert texts == process.describe(images()[:2], [0, 0]) + process.describe(
            images()[2:], [0, 0]
        )
    assert continuations(tiny) == texts and len(set(texts)) > 1
    assert all(text and set(text.split()) <= set(WORDS) for text in texts)


def continuations(tiny):
    """Returns what transformers generates for one image at a time, without the prompt."""
    import transformers

    model = transformers.Blip2ForConditionalGeneration.from_pretrained(tiny).eval()
    processor = transformers.Blip2Processor.from_pretrained(tiny)
    result = []
    for image in images():
        inputs = processor(images=image, text=PREFIX, return_tensors="pt")
        tokens = model.generate(**inputs, num_beams=2, do_sample=False, max_new_tokens=5)
        whole = processor.batch_decode(tokens, skip_special_tokens=True)[0]
        result.append(whole.removeprefix(PREFIX).strip())
    return result


def test_samples_depend_on_their_own_seed(tiny):
    with CaptionProcess("gen_jax.data.prepare.blip2", settings(tiny, top_p=0.9)) as process:
        first = process.describe(images(), [1, 2, 3, 4])
        assert process.describe(images()[2:], [3, 4]) == first[2:]
        assert process.describe(images(), [5, 6, 7, 8]) != first


def test_no_model_is_one_line(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(UserError, match="cannot be loaded as a BLIP-2 model") as error:
        CaptionProcess("gen_jax.data.prepare.blip2", settings(tmp_path))
    assert "\n" not in str(error.value)


def test_prepare_writes_its_captions(tiny, tmp_path):
    scans = tmp_path / "scans"
    scans.mkdir()
    for number, pixels in enumerate(images()):
        Image.fromarray(pixels).save(scans / f"{number}.png")
    captioner = captioning.Settings(f"blip2:{tiny}", prefix=PREFIX, num_beams=1, max_new_tokens=3)
    options = build.Options(str(scans), str(tmp_path / "set"), workers=1, captioner=captioner)
    try:
        report = build.prepare(options).quality
    except UserError as error:  # random words may all be unfit
        assert "rejected caption" in str(error)
        return
    assert report["captions"]["written"] == 4
    assert dataset.load(tmp_path / "set").arguments["caption_model"] == str(tiny)
