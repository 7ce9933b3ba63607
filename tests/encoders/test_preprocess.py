"""Normalisation by tower and the antialiased bicubic, against Pillow and plain numpy."""

import jax
import numpy as np
import pytest
from PIL import Image

from gen_jax.common.errors import UserError
from gen_jax.encoders import catalog
from gen_jax.encoders.preprocess import kind_of, normalize, resize

IMAGES = np.random.default_rng(0).integers(0, 256, (2, 45, 37, 3), np.uint8)


@pytest.mark.parametrize("side", [16, (24, 30), 64])
def test_resize_is_pillows_bicubic(side):
    got = np.asarray(resize(IMAGES, side))
    size = (side, side) if isinstance(side, int) else side
    for image, one in zip(IMAGES, got):
        # In floats: of 8 bits Pillow also cuts and rounds between its two passes.
        channels = [Image.fromarray(image[..., c].astype(np.float32)) for c in range(3)]
        want = [np.asarray(v.resize(size[::-1], Image.Resampling.BICUBIC)) for v in channels]
        want = np.clip(np.stack(want, -1) / 255, 0, 1)
        np.testing.assert_allclose(one, want, atol=1e-5)
    floats = np.asarray(resize(IMAGES.astype(np.float32) / 255, side))
    np.testing.assert_allclose(floats, got, atol=1e-6)
    assert got.min() >= 0 and got.max() <= 1


def test_statistics_are_the_towers():
    x = IMAGES.astype(np.float32) / 255
    clip = (x - [0.48145466, 0.4578275, 0.40821073]) / [0.26862954, 0.26130258, 0.27577711]
    imagenet = (x - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    cases = {
        "clip-vit-base-patch32-vision": clip,
        "CLIP-ViT-H-14-laion2B-s32B-b79K-vision": clip,
        "dinov2-with-registers-small": imagenet,
        "inception-v3-fid": 2 * x - 1,
        "lpips-st-alex": 2 * x - 1,
        "mobilenet-v2": 2 * x - 1,
        "imagenet": imagenet,
    }
    normal = jax.jit(normalize, static_argnums=1)
    for name, want in cases.items():
        np.testing.assert_allclose(normal(IMAGES, name), want, atol=2e-6)
    np.testing.assert_allclose(normalize(x[0], "clip"), clip[0], atol=2e-6)


def test_towers_of_images_are_known_and_those_of_text_refused():
    text = [n for n in catalog.TOWERS if n.endswith("-text") or "bert" in n or "MiniLM" in n]
    for name in catalog.TOWERS:
        if name in text:
            with pytest.raises(UserError, match="takes no images"):
                kind_of(name)
        else:
            kind_of(name)


def test_specs_are_parsed_in_one_place():
    assert catalog.parse("dinov2-small") == ("dinov2-small", None)
    assert catalog.parse("lpips-alex:a.safetensors,b.safetensors") == (
        "lpips-alex",
        "a.safetensors,b.safetensors",
    )
    assert catalog.parse("dinov2-small:/x:y") == ("dinov2-small", "/x:y")
    for spec, word in (("dino", "unknown"), ("dinov2-small:", "after the colon")):
        with pytest.raises(UserError, match=word):
            catalog.parse(spec)
