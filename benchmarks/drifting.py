"""What the field of drifting costs by the size of its bank: time of a gradient, and memory.

    python -m benchmarks.drifting
    python -m benchmarks.drifting --banks 0 4096 65536 --generated=256 --repeats=20

Random features in the shapes of configs/faces.py at `--res`: places of two layers' grids, their
means and deviations, class tokens, the small image, and all of them as one vector. "bank" is the
memory that its features take in the state, which grows with it in proportion; "peak" is the
process's or the device's, the largest so far.
"""

import argparse
import pathlib
import statistics
import time

from benchmarks import train_step
from configs import faces
from gen_jax.common import strict_json


def sets_of(res: int) -> dict[str, tuple[int, int]]:
    """Kind -> places and channels, as `tasks.objectives.Drifting` makes them."""
    import jax.numpy as jnp

    from gen_jax.tasks import build_task

    task = build_task(faces.get_config(f"res={res},gray").task.to_dict())
    features = {k: jnp.zeros((1, *v)) for k, v in task.features.shapes.items()}
    found = task.objective._sets(features, jnp.zeros((1, res, res, 1)))
    shapes = {
        f"{kind} {name}": (x.shape[0], x.shape[2])
        for kind, sets in found.items()
        for name, x in sets.items()
    }
    once = (s * c for k, (s, c) in shapes.items() if not k.startswith("pooled"))
    return {**shapes, "joint": (1, sum(once))}


def measure(bank: int, shapes: dict[str, tuple[int, int]], args) -> dict[str, float]:
    """Median seconds of value and gradient, seconds of the first run, and MiB."""
    import jax

    from gen_jax.losses.drifting import drifting

    def draw(count, seed):
        keys = jax.random.split(jax.random.key(seed), len(shapes))
        return {
            name: jax.random.normal(key, (s, count, c))
            for key, (name, (s, c)) in zip(keys, shapes.items(), strict=True)
        }

    @jax.jit
    def run(generated, real):
        def total(generated):
            return sum(drifting(x, real[k])[0].mean() for k, x in generated.items())

        return jax.value_and_grad(total)(generated)

    generated = draw(args.generated, 0)
    real = jax.block_until_ready(draw(args.real + bank, 1))
    seconds = []
    for _ in range(1 + args.repeats):
        began = time.perf_counter()
        jax.block_until_ready(run(generated, real))
        seconds.append(time.perf_counter() - began)
    kept = sum(4 * bank * s * c for k, (s, c) in shapes.items() if k != "joint")
    return {
        "bank": bank,
        "seconds": statistics.median(seconds[1:]),
        "first": seconds[0],
        "bank_mib": kept / 2**20,
        "peak_mib": train_step.jax_memory(),
    }


def main() -> None:
    """Prints a row a size."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--banks", type=int, nargs="+", default=[0, 256, 1024, 4096])
    parser.add_argument("--res", type=int, default=32, help="pixels a side, for the shapes")
    parser.add_argument("--generated", type=int, default=64, help="images of a step")
    parser.add_argument("--real", type=int, default=256, help="images of a batch")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--out", help="a JSON file for all numbers")
    args = parser.parse_args()
    if min(args.generated, args.real, args.repeats) < 1 or min(args.banks) < 0:
        parser.error("--generated, --real and --repeats are at least 1, --banks at least 0")
    from gen_jax.parallel import compilation

    compilation.tune_cpu()  # as the doors do
    shapes, rows = sets_of(args.res), []
    print(f"{args.generated} generated and {args.real} real images, medians of {args.repeats}")
    print(f"{'bank':>8}{'ms':>10}{'first s':>9}{'bank MiB':>10}{'peak MiB':>10}")
    for bank in sorted(args.banks):
        rows.append(row := measure(bank, shapes, args))
        print(
            f"{bank:>8}{1e3 * row['seconds']:>10.1f}{row['first']:>9.1f}{row['bank_mib']:>10.1f}"
            f"{row['peak_mib']:>10.0f}",
            flush=True,
        )
    if args.out:
        pathlib.Path(args.out).write_text(
            strict_json.dumps({**vars(args), "rows": rows}, indent=2) + "\n"
        )


if __name__ == "__main__":
    main()
