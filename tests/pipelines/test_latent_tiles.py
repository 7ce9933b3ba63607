"""Large images through autoencoders in tiles, against the whole image at once."""

import jax
import numpy as np
import pytest
from skimage import data

from gen_jax.common import pixels
from gen_jax.common.errors import UserError
from gen_jax.pipelines import latent_tiles, tiles
from gen_jax.runs import reader
from gen_jax.tasks import first_stage


class Functions:
    """The predict functions of an autoencoder."""

    def __init__(self, module, frozen):
        self.module, self.factor = module, module.downscale_factor
        self.shapes = set()
        encode = jax.jit(lambda x: first_stage.encode(module, frozen, pixels.to_signed(x), None))
        decode = jax.jit(lambda z: first_stage.to_images(first_stage.decode(module, frozen, z)))
        self._encode, self._decode = encode, decode

    def encode(self, batch):
        self.shapes.add(batch["image"].shape)
        return {"latent": self._encode(batch["image"])}

    def decode(self, batch):
        self.shapes.add(batch["latent"].shape)
        return self._decode(batch["latent"])


@pytest.fixture(scope="module")
def photos():
    model = reader.load("package:vae_photos")
    return Functions(model.task.autoencoder, model.task.as_frozen(model.variables))


@pytest.fixture(scope="module")
def image():
    """A photograph, 384 pixels wide and 256 high: six times what the autoencoder learned on."""
    return data.astronaut()[None, :256, :384]


def test_seams_vanish(photos, image):
    """Tiles are normalized by statistics of their own, but nothing shows where they meet."""
    latents = latent_tiles.encode(photos.encode, image, 0, photos.factor)
    whole, finite = latent_tiles.decode(photos.decode, latents, 0, photos.factor)
    assert whole.shape == image.shape and finite.all()
    photos.shapes.clear()
    tile = latent_tiles.side_of_tiles((384, 256), 128, photos.factor)
    tiled, finite = latent_tiles.decode(photos.decode, latents, tile, photos.factor)
    assert photos.shapes == {(1, 32, 32, 4)} and finite.all()
    difference = tiled.astype(float) - whole
    assert np.abs(difference).mean() < 2 and np.abs(difference).max() < 25
    # Jumps of the difference where a tile begins, and everywhere.
    jumps = np.abs(np.diff(difference, axis=2)).mean((0, 1, 3))
    begins = [4 * b for b in tiles.starts(96, 32, 8, 1)[1:]]
    assert jumps[np.array(begins) - 1].mean() < 1.5 * jumps.mean()

    encoded = latent_tiles.encode(photos.encode, image, tile, photos.factor)
    assert photos.shapes == {(1, 32, 32, 4), (1, 128, 128, 3)}
    assert np.abs(encoded - latents).mean() < 0.03
    there_and_back, _ = latent_tiles.decode(photos.decode, encoded, tile, photos.factor)
    errors = [np.abs(x.astype(float) - image).mean() for x in (there_and_back, whole)]
    assert errors[0] < errors[1] + 0.5


def test_a_tile_that_covers_all_is_exact(photos, image):
    latents = latent_tiles.encode(photos.encode, image[:, :64, :96], 0, photos.factor)
    for tile in (0, 24, 32):
        tiled, _ = latent_tiles.decode(photos.decode, latents, tile, photos.factor)
        whole = photos.decode({"latent": latents})["image"]
        np.testing.assert_array_equal(tiled, whole)
        encoded = latent_tiles.encode(photos.encode, image[:, :64, :96], tile, photos.factor)
        np.testing.assert_allclose(encoded, latents, atol=1e-6)


def test_large_images_are_tiled_and_others_are_not():
    sides = latent_tiles.side_of_tiles
    assert sides((1024, 1024), None, 8) == 0 and sides((1024, 1032), None, 8) == 64
    assert sides((512, 512), 256, 8) == 32 and sides((4096, 4096), 0, 8) == 0
    assert sides((512, 256), 512, 8) == 0
    for tile in (-16, 100, 10**6):
        with pytest.raises(UserError, match=f"tile={tile}"):
            sides((512, 512), tile, 8)


def test_an_image_that_is_not_finite_is_found_in_its_tile():
    def run(batch):
        image = np.zeros((1, *batch["latent"].shape[1:3], 3), np.uint8)
        return {"image": image, "finite": np.isfinite(batch["latent"]).all((1, 2, 3))}

    latents = np.zeros((2, 40, 40, 1), np.float32)
    latents[1, 30, 30] = np.nan
    _, finite = latent_tiles.decode(run, latents, 16, 1)
    assert finite.tolist() == [True, False]
