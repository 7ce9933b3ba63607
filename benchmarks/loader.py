"""Images a second: our shards and loader against torch's DataLoader over the same JPEG files.

    python -m benchmarks.loader --images=1024 --workers=2 --repeats=5

Both decode the same 256x256 JPEGs into uint8 batches of 64, shuffled, with the same
number of workers (threads here, processes there), from a warm page cache. The runs
alternate, so that a busy machine disturbs both alike; medians are compared. Without
torch only ours is measured.
"""

import argparse
import os
import pathlib
import statistics
import tempfile
import time

import numpy as np
from PIL import Image

from gen_jax.data import build, plan
from gen_jax.data.loader import make_loader
from gen_jax.data.sources.photo_list import PHOTOS
from gen_jax.data.sources.photos import load

SIZE, BATCH = 256, 64


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


def ours(shards: pathlib.Path, workers: int, steps: int, warmup: int) -> float:
    """Our loader over the shards."""
    with make_loader(shards, "train", batch_size=BATCH, seed=0, num_threads=workers) as batches:
        return measure(batches, steps, warmup)


def torchs(files: pathlib.Path, workers: int, steps: int, warmup: int) -> float:
    """A plain torch Dataset and DataLoader over the files."""
    import torch

    names = sorted(files.glob("*.jpg"))

    class Files(torch.utils.data.Dataset):
        def __len__(self):
            return len(names)

        def __getitem__(self, index):
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
        write_files(files, options.images)
        rules = plan.Rules(val_fraction=0.0, test_fraction=0.0, near_duplicates=False)
        build.prepare(build.Options(str(files), str(shards), rules=rules))
        found: dict[str, list[float]] = {"gen_jax": [], other: []}
        for _ in range(options.repeats):
            found["gen_jax"].append(ours(shards, options.workers, options.steps, warmup))
            if other:
                found[other].append(torchs(files, options.workers, options.steps, warmup))
    for name, values in found.items():
        if values:
            spread = f"{min(values):.0f} to {max(values):.0f}"
            print(f"{name}: {statistics.median(values):.0f} images/s ({spread})")
    if other:
        pairs = zip(found["gen_jax"], found[other], strict=True)
        ratio = statistics.median(one / two for one, two in pairs)
        print(f"ratio: {ratio:.2f} with {options.workers} workers each, {SIZE}x{SIZE} JPEG")
    else:
        print("torch is not installed here: nothing to compare with")


if __name__ == "__main__":
    main()
