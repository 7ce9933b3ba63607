"""Small images with manifests, and keys to sign them with."""

import io

import numpy as np
from PIL import Image

from gen_jax.provenance import keys, manifest
from tests.provenance.test_manifest import FACTS


def image(kind="PNG", seed=0, size=(24, 16), **options):
    """An image file of random pixels."""
    rng = np.random.default_rng(seed)
    pixels = rng.integers(0, 256, (size[1], size[0], 3)).astype(np.uint8)
    buffer = io.BytesIO()
    options |= {"lossless": True} if kind == "WEBP" else {}
    Image.fromarray(pixels).save(buffer, kind, **options)
    return buffer.getvalue()


def facts(kind="restore", **values):
    """A manifest without the digest of the file."""
    return manifest.new(kind, {**FACTS, **values})


def key(folder, name="key.pem"):
    """A new development key: its signer and the text of its trusted certificate."""
    trust = keys.make(folder / name)
    return keys.load(str(folder / name)), trust.read_text()
