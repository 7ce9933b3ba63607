import collections

import numpy as np

from gen_jax.data import dataset, images, schema
from gen_jax.data.prepare.sources import photos
from gen_jax.data.prepare.sources.photo_list import PHOTOS


def test_every_photograph_is_there_with_true_looking_captions():
    assert 16 <= len(PHOTOS) <= 18
    assert len({photo.name for photo in PHOTOS}) == len(PHOTOS)
    for photo in PHOTOS:
        pixels = photos.load(photo.file)
        assert pixels.dtype == np.uint8 and min(pixels.shape[:2]) >= 170
        assert len(set(photo.captions)) >= 5
        # The subject is named in each, by its name or a part of it.
        words = [word.rstrip("s") for word in photo.name.split()]
        for text in photo.captions:
            assert any(word in text for word in words), (photo.name, text)


def test_crops_hold_the_subject_and_stay_inside():
    rng = np.random.default_rng(0)
    for photo in PHOTOS:
        height, width = photos.load(photo.file).shape[:2]
        short = min(height, width)
        for _ in range(50):
            x, y, side = photos.crop_box(photo, width, height, 96, rng)
            assert 0.6 * short <= side <= short
            assert 0 <= x <= width - side and 0 <= y <= height - side
            assert x <= photo.keep[0] * width + 1 and x + side >= photo.keep[2] * width - 1
            assert y <= photo.keep[1] * height + 1 and y + side >= photo.keep[3] * height - 1


def test_prepared_photos(make_dataset):
    folder = make_dataset("photos", num=68, size=32)
    info = dataset.load(folder)
    assert info.label_names == tuple(photo.name for photo in PHOTOS)
    counts = collections.Counter()
    for split in info.splits:
        _, records = dataset.open_split(folder, split, verify="digest")
        for i in range(len(records)):
            record = schema.unpack(records[i])
            counts[record.label] += 1
            assert images.decode_fast(record.image).shape == (32, 32, 3)
            assert record.captions == PHOTOS[record.label].captions
            assert record.attributes["photo"] == PHOTOS[record.label].file
            assert bool(record.attributes.get("no_flip")) != PHOTOS[record.label].mirror
    assert set(counts.values()) == {4} and len(counts) == len(PHOTOS)
    assert info.quality["accepted"] == 68
    assert (folder / "contact_sheet.png").is_file()
    assert 0.2 < info.statistics["train"]["channel_mean"][0] < 0.7
