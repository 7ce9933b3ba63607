"""Speed and memory of a restorer by the size of its tiles, each in a process of its own.

    python -m benchmarks.restore_tiles --width=2048 --height=1536 --tiles 256 512 1024 0
    python -m benchmarks.restore_tiles --width=8192 --height=8192 --tiles 512 --repeats=1

The picture is made of noise and of waves, in memory: nothing is read or written. Memory is the most
that the process held, less what it held before the picture; 0 is the whole picture at once.
"""

import argparse
import multiprocessing
import pathlib
import statistics
import time

from benchmarks.train_step import rss_mib
from gen_jax.common import strict_json


def picture(height: int, width: int):
    """uint8 [h, w, 3]."""
    import numpy as np

    rng = np.random.default_rng(0)
    out = np.empty((height, width, 3), np.uint8)
    x = np.arange(width)[None, :, None] * np.array([0.02, 0.023, 0.027])
    for top in range(0, height, 256):  # in bands: floats of the whole would count as memory
        y = np.arange(top, min(top + 256, height))[:, None, None] * 0.017
        band = 128 + 70 * np.sin(x) * np.cos(y) + 15 * rng.standard_normal((len(y), width, 3))
        out[top : top + 256] = band.clip(0, 255)
    return out


def measure(run: str, height: int, width: int, tile: int, repeats: int, pipe) -> None:
    """Sends seconds of each repeat, and MiB."""
    from gen_jax.parallel import compilation
    from gen_jax.pipelines.restoration import Restorer
    from gen_jax.runs import reader

    compilation.set_up()
    restorer = Restorer(reader.load(run))
    before, seconds = rss_mib(), []
    image = picture(height, width)
    for _ in range(repeats + 1):  # the first compiles
        began = time.monotonic()
        restorer(image, tile=tile)
        seconds.append(time.monotonic() - began)
    pipe.send((seconds, rss_mib() - before, rss_mib()))


def main() -> None:
    """Measures, prints, writes."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--run", default="package:restore", help="run of the stage restore")
    parser.add_argument("--width", type=int, default=2048)
    parser.add_argument("--height", type=int, default=1536)
    parser.add_argument("--tiles", type=int, nargs="+", default=(256, 512, 1024, 0))
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("restore_tiles.json"))
    args = parser.parse_args()
    megapixels, rows = args.width * args.height / 1e6, []
    print(f"{args.width}x{args.height}, median of {args.repeats}")
    print(f"{'tile':>6}  {'ms/megapixel':>12}  {'picture, MiB':>12}  {'process, MiB':>12}")
    context = multiprocessing.get_context("spawn")
    for tile in args.tiles:
        ours, theirs = context.Pipe()
        given = (args.run, args.height, args.width, tile, args.repeats, theirs)
        process = context.Process(target=measure, args=given)
        process.start()
        theirs.close()
        try:
            seconds, extra, peak = ours.recv()
        except EOFError:
            print(f"{tile or 'whole':>6}  not measured: the process died", flush=True)
            continue
        finally:
            process.join()
        speed = 1000 * statistics.median(seconds[1:] or seconds) / megapixels
        rows.append({"tile": tile, "seconds": seconds, "picture_mib": extra, "process_mib": peak})
        print(f"{tile or 'whole':>6}  {speed:12.0f}  {extra:12.0f}  {peak:12.0f}", flush=True)
    size = {"width": args.width, "height": args.height}
    args.out.write_text(strict_json.dumps({**size, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
