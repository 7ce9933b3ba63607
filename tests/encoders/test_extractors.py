"""Which features a tower gives, and that they are its own."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gen_jax import encoders
from gen_jax.common.errors import UserError
from gen_jax.encoders import bert, clip, dinov2, extractors, inception, lpips, mobilenet_v2
from gen_jax.encoders.diffusers_folder import param_shapes
from tests import tiny_towers


def shapes(name, module, **how):
    """Feature -> shape, with the inputs that it says it wants."""
    extractor = extractors.of_images(name, module, **how)
    inputs = {f"image_{s}": jax.ShapeDtypeStruct((1, s, s, 3), jnp.uint8) for s in extractor.sizes}
    found = extractors.shapes(extractor, param_shapes(module), inputs)
    return {name: (of.shape, extractor.input_of(name)) for name, of in found.items()}


def test_towers_of_images():
    tower = dinov2.DINOv2(hidden_size=8, num_hidden_layers=1, num_attention_heads=2)
    assert extractors.of_images("dinov2-small", tower).sizes == (56, 112, 224, 448)
    assert shapes("dinov2-small", tower, grids=(2, 32)) == {
        "patches_2": ((2, 2, 8), 28), "patches_32": ((32, 32, 8), 448),
        "cls_2": ((8,), 28), "cls_32": ((8,), 448),
    }  # fmt: skip
    assert shapes("dinov2-small", tower, layers="pooled") == {"cls_16": ((8,), 224)}
    for name, module, side in (
        ("mobilenet-v2", mobilenet_v2.MobileNetV2(), 224),
        ("inception-v3-fid", inception.InceptionV3(), 299),
    ):
        extractor = extractors.of_images(name, module)
        assert extractor.sizes == (side,) and extractor.input_of("embedding") == side
    with pytest.raises(UserError, match="mobilenet-v2 gives pooled features only"):
        shapes("mobilenet-v2", mobilenet_v2.MobileNetV2(), layers="last")
    with pytest.raises(UserError, match="encoder 'lpips-alex' has no features to store"):
        shapes("lpips-alex", lpips.LPIPS("alex"))


def test_clip_sees_the_image_and_gives_its_embedding(tmp_path):
    spec, _ = tiny_towers.clip(tmp_path / "clip")
    module, params = encoders.load(*encoders.parse(spec))
    assert shapes("clip-vit-base-patch32-vision", module) == {"embedding": ((8,), 16)}
    extractor = extractors.of_images("clip-vit-base-patch32-vision", module, "0,pooled")
    image = np.random.default_rng(0).integers(0, 256, (2, 16, 16, 3), np.uint8)
    found = jax.jit(extractor.call)(params, {"image_16": image})
    x = (image / 255.0 - np.float32(clip.MEAN)) / np.float32(clip.STD)
    want = jax.jit(module.apply)({"params": params}, jnp.asarray(x, jnp.float32))
    np.testing.assert_allclose(found["embedding"], want["image_embeds"], rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(found["patches_2"], want["patches"], rtol=1e-4, atol=1e-6)


def test_a_text_tower_reads_no_more_than_it_can():
    tower = bert.BertEncoder(max_position_embeddings=64)
    assert extractors.of_text("bert-base-uncased", tower).sizes == (64,)
    with pytest.raises(UserError, match="max_length=65: bert-base-uncased reads 2 to 64 tokens"):
        extractors.of_text("bert-base-uncased", tower, length=65)
