"""Images or feature pyramids a second: our shards and loader against torch's DataLoader over files.

    python -m benchmarks.loader --images=1024 --workers=2 --repeats=5
    python -m benchmarks.loader --features --images=1024 --workers=2 --repeats=5

Both decode the same 256x256 JPEGs into uint8 batches of 64, or read the same int8 pyramids (grids
of 4, 8, 16 and 32 tokens, 384 channels) from ArrayRecord here and from a file of NumPy's an image
there; shuffled, with the same number of workers (threads here, processes there), from a warm page
cache. The runs alternate, so that a busy machine disturbs both alike; medians are compared.
Without torch only ours is measured.
"""

import argparse
import os
import pathlib
import statistics
import tempfile
import time

import numpy as np
from PIL import Image

from gen_jax.data import dataset, schema
from gen_jax.data import shards as shards_lib
from gen_jax.data.features.pyramid import SCALE
from gen_jax.data.load import steps as data_steps
from gen_jax.data.load.loader import make_loader
from gen_jax.data.prepare import build, plan
from gen_jax.data.prepare.sources.photo_list import PHOTOS
from gen_jax.data.prepare.sources.photos import load

SIZE, BATCH = 256, 64
GRIDS, CHANNELS = (4, 8, 16, 32), 384
FEATURES = tuple(name for n in GRIDS for name in (f"patches_{n}", f"patches_{n}{SCALE}"))


def write_files(folder: pathlib.Path, count: int) -> None:
    """JPEG files of random crops of real photographs."""
    rng = np.random.default_rng(0)
    for i in range(count):
        pixels = load(PHOTOS[i % len(PHOTOS)].file)
        side = min(pixels.shape[:2])
        crop = int(rng.uniform(0.6, 1.0) * side)
        y = int(rng.integers(pixels.shape[0] - crop + 1))
        x = int(rng.integers(pixels.shape[1] - crop + 1))
        image = Image.fromarray(pixels[y : y + crop, x : x + crop]).resize((SIZE, SIZE))
        image.save(folder / f"{i:05d}.jpg", quality=90)


def measure(batches, steps: int, warmup: int) -> float:
    """Images a second over `steps` batches after `warmup`."""
    for _ in range(warmup):
        next(batches)
    start = time.perf_counter()
    for _ in range(steps):
        next(batches)
    return steps * BATCH / (time.perf_counter() - start)


def pyramid(seed: int) -> dict[str, np.ndarray]:
    """The arrays of one image, as featurize stores them."""
    rng = np.random.default_rng(seed)
    arrays = {}
    for n in GRIDS:
        arrays[f"patches_{n}"] = rng.integers(-127, 128, (n, n, CHANNELS), np.int8)
        arrays[f"patches_{n}{SCALE}"] = rng.random(CHANNELS, np.float32)
    return arrays


def write_pyramids(files: pathlib.Path, folder: pathlib.Path, count: int) -> int:
    """The same pyramids as files and as shards; returns the bytes of one."""
    folder.mkdir()
    names = []
    payloads = []
    for i in range(count):
        arrays = pyramid(i)
        np.savez(files / f"{i:05d}.npz", **arrays)
        payloads.append(schema.pack(schema.Record(str(i), b"", SIZE, SIZE, arrays=arrays)))
    for start in range(0, count, 256):
        name = shards_lib.shard_name("train", start // 256, -(-count // 256))
        written = shards_lib.write_shard(folder / name, payloads[start : start + 256])
        names.append(dataset.Shard(name, *written))
    splits = {"train": tuple(names)}
    dataset.write(folder, dataset.DatasetInfo("pyramids", "random", {}, "", splits))
    return sum(x.nbytes for x in arrays.values())


def ours(shards: pathlib.Path, workers: int, steps: int, warmup: int, features: bool) -> float:
    """Our loader over the shards."""
    select = data_steps.select(*FEATURES) if features else None
    with make_loader(
        shards, "train", batch_size=BATCH, seed=0, num_threads=workers, transform=select
    ) as batches:
        return measure(batches, steps, warmup)


def torchs(files: pathlib.Path, workers: int, steps: int, warmup: int, features: bool) -> float:
    """A plain torch Dataset and DataLoader over the files."""
    import torch

    names = sorted(files.glob("*.npz" if features else "*.jpg"))

    class Files(torch.utils.data.Dataset):
        def __len__(self):
            return len(names)

        def __getitem__(self, index):
            if features:
                with np.load(names[index]) as found:
                    return {k: torch.from_numpy(v) for k, v in found.items()}, index
            with Image.open(names[index]) as image:
                return torch.from_numpy(np.array(image.convert("RGB"))), index

    def endless():
        while True:
            yield from loader

    loader = torch.utils.data.DataLoader(
        Files(),
        batch_size=BATCH,
        shuffle=True,
        num_workers=workers,
        drop_last=True,
        persistent_workers=workers > 0,
        prefetch_factor=4 if workers else None,
    )
    return measure(iter(endless()), steps, warmup)


def main() -> None:
    """Prints a median for each and their ratio."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--images", type=int, default=1024)
    parser.add_argument("--workers", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--features", action="store_true", help="pyramids in place of images")
    options = parser.parse_args()
    try:
        import torch

        other = f"torch {torch.__version__} DataLoader"
    except ImportError:
        other = ""
    warmup = 12
    with tempfile.TemporaryDirectory() as folder:
        files, shards = pathlib.Path(folder, "files"), pathlib.Path(folder, "shards")
        files.mkdir()
        size = 0
        if options.features:
            size = write_pyramids(files, shards, options.images)
        else:
            write_files(files, options.images)
            rules = plan.Rules(val_fraction=0.0, test_fraction=0.0, near_duplicates=False)
            build.prepare(build.Options(str(files), str(shards), rules=rules))
        found: dict[str, list[float]] = {"gen_jax": [], other: []}
        for _ in range(options.repeats):
            how = (options.workers, options.steps, warmup, options.features)
            found["gen_jax"].append(ours(shards, *how))
            if other:
                found[other].append(torchs(files, *how))
    unit = "pyramids/s" if size else "images/s"
    for name, values in found.items():
        if values:
            spread = f"{min(values):.0f} to {max(values):.0f}"
            rate = statistics.median(values)
            data = f", {rate * size / 1e9:.2f} GB/s" if size else ""
            print(f"{name}: {rate:.0f} {unit} ({spread}){data}")
    if other:
        pairs = zip(found["gen_jax"], found[other], strict=True)
        what = f"{size / 1e6:.2f} MB a pyramid" if size else f"{SIZE}x{SIZE} JPEG"
        ratio = statistics.median(one / two for one, two in pairs)
        print(f"ratio: {ratio:.2f} with {options.workers} workers each, {what}")
    else:
        print("torch is not installed here: nothing to compare with")


if __name__ == "__main__":
    main()
