"""DINOv2 images a second: our tower against transformers in PyTorch, and from shards to shards.

    python -m benchmarks.features --size=small --batch=16
    python -m benchmarks.features --size=large --batch=128 --dtype=bfloat16 --images=4096

The same random weights and images of 224 x 224 for all, whose outputs are compared; contestants
take turns and medians are compared. Then `featurize` runs from shards of JPEG files to shards of
16 x 16 grids in int8, and its rate, start-up and compilation left out, is compared with the
tower's own. On an accelerator the tower's share of the peak of a large matrix product is printed
as well. Without torch and transformers only ours is measured.
"""

import argparse
import json
import os
import pathlib
import statistics
import time

import numpy as np

from benchmarks import contest, train_step

SIDE, GRID = 224, 16
TARGET, END_TO_END = 1.0, 0.85  # of the fastest peer's rate; of the tower's own
TOLERANCE = 1e-3  # of float32 outputs


def write_weights(folder: pathlib.Path, size: str) -> None:
    """A model folder in Hugging Face's layout with random weights."""
    import jax
    from safetensors.numpy import save_file

    from gen_jax.encoders import dinov2
    from gen_jax.encoders.weights import torch_from_flax

    fields = dinov2.PRESETS[f"dinov2-{size}"]
    module = dinov2.DINOv2(**fields)
    params = jax.jit(module.init)(jax.random.key(0), *module.example_inputs())["params"]
    state = torch_from_flax(jax.tree.map(np.asarray, params), module.port)
    folder.mkdir(exist_ok=True)
    save_file({k: np.ascontiguousarray(v) for k, v in state.items()}, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps({**fields, "model_type": "dinov2"}))


def images(batch: int) -> np.ndarray:
    """Normalised noise: what is on a picture takes no time."""
    return np.random.default_rng(0).normal(size=(batch, SIDE, SIDE, 3)).astype(np.float32)


def ours(args):
    """Our tower under jit, and its share of the peak."""
    import jax
    import jax.numpy as jnp

    from gen_jax import encoders
    from gen_jax.parallel import compilation
    from gen_jax.training import throughput

    compilation.tune_cpu()  # as the doors do
    module, params = encoders.load(
        f"dinov2-{args.size}", f"{args.folder}/weights", dtype=jnp.dtype(args.dtype)
    )
    params = jax.device_put(params)
    forward = jax.jit(lambda p, x: module.apply({"params": p}, x)["patches"])
    x = jax.device_put(images(args.batch))
    flops = throughput.flops_of(forward.lower(params, x)) or 0.0

    def start(name):
        return lambda: [np.asarray(forward(params, x), np.float32)]

    about = {
        "name": "gen_jax",
        "on": f"{jax.devices()[0].device_kind}, jax {jax.__version__}",
        "gflop": flops / args.batch / 1e9,
        "peak": matmul_peak(args.dtype) if jax.default_backend() != "cpu" else None,
    }
    return start, train_step.jax_memory, about


def matmul_peak(dtype: str, n: int = 8192) -> float:
    """FLOP/s of a large square product, the median of ten."""
    import jax
    import jax.numpy as jnp

    a = jnp.ones((n, n), dtype)
    product = jax.jit(lambda a: a @ a)
    product(a).block_until_ready()
    times = []
    for _ in range(10):
        began = time.perf_counter()
        product(a).block_until_ready()
        times.append(time.perf_counter() - began)
    return 2 * n**3 / statistics.median(times)


def theirs(args, compiled: bool):
    """Dinov2Model of transformers."""
    import torch
    import transformers

    device = train_step.torch_device()
    dtype = getattr(torch, args.dtype)
    model = transformers.Dinov2Model.from_pretrained(f"{args.folder}/weights", dtype=dtype)
    model = model.to(device).eval()
    forward = torch.compile(model) if compiled else model
    x = torch.from_numpy(images(args.batch)).permute(0, 3, 1, 2).contiguous().to(device, dtype)

    @torch.inference_mode()
    def run():
        states = forward(pixel_values=x).last_hidden_state
        return [states[:, 1:].float().cpu().numpy().reshape(len(x), GRID, GRID, -1)]

    about = {
        "name": f"transformers, {'torch.compile' if compiled else 'eager'}",
        "on": f"{device}, torch {torch.__version__}, transformers {transformers.__version__}",
    }
    return lambda name: run, train_step.torch_memory, about


CONTESTANTS = {
    "gen_jax": ours,
    "eager": lambda args: theirs(args, compiled=False),
    "compiled": lambda args: theirs(args, compiled=True),
}


def end_to_end(args) -> tuple[float, float]:
    """Images a second of `featurize` between its first and last shard, and of the tower alone."""
    import jax

    from benchmarks.loader import write_files
    from gen_jax.data import dataset
    from gen_jax.data.features.codec import Store
    from gen_jax.data.prepare import build, plan
    from gen_jax.parallel import compilation
    from gen_jax.pipelines.features import job, reading, towers
    from gen_jax.pipelines.features.plan import Options
    from gen_jax.pipelines.features.program import Program

    compilation.tune_cpu()
    folder = pathlib.Path(args.folder)
    (folder / "files").mkdir()
    write_files(folder / "files", args.images)
    rules = plan.Rules(val_fraction=0.0, test_fraction=0.0, near_duplicates=False)
    build.prepare(build.Options(str(folder / "files"), str(folder / "data"), rules=rules))
    options = Options(
        data=str(folder / "data"),
        encoder=f"dinov2-{args.size}:{folder / 'weights'}",
        out=str(folder / "features"),
        grids=(GRID,),
        batch_size=args.batch,
        dtype=args.dtype,
        shard_records=max(args.batch, -(-args.images // 8)),
    )
    job.featurize(options)
    made = [p.stat().st_mtime for p in sorted((folder / "features").glob("*.arrayrecord"))]
    count = dataset.load(folder / "data").num_records("train") - options.shard_records
    rate = count / (made[-1] - made[0])

    tower = towers.open_tower(options)
    program = Program(tower.extractor, tower.params, Store.parse("int8"), {})
    _, records = dataset.open_split(folder / "data", "train")
    size = args.batch * program.num_devices
    chunk = next(
        reading.chunks(records, range(size), size=size, inputs=tower.inputs, num_threads=1)
    )
    times = []
    for _ in range(args.repeats + 1):
        began = time.perf_counter()
        jax.block_until_ready(program.features(chunk.inputs))
        times.append(time.perf_counter() - began)
    return rate, size / statistics.median(times[1:])


def main() -> None:
    """Lets the contestants alternate, then goes from shards to shards."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", default="small", choices=["small", "base", "large", "giant"])
    parser.add_argument("--batch", type=int, default=16, help="images at a time")
    parser.add_argument("--dtype", default="float32", choices=["float32", "bfloat16"])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--images", type=int, default=256, help="of the way from shards to shards")
    contest.add_options(parser)
    args = parser.parse_args()
    if min(args.batch, args.repeats) < 1 or args.images < 2 * args.batch:
        parser.error("--batch and --repeats are at least 1, --images twice the batch")
    names = contest.taking_part(CONTESTANTS, args, "torch", "transformers")
    load = contest.warn_if_busy()
    # This process uses the accelerator beside the contestants, so it must not take most of it.
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    with contest.together("benchmarks.features", names, args) as running:
        write_weights(pathlib.Path(args.folder, "weights"), args.size)
        rows, ratio = compete(running, args)
        for one in running:
            contest.kill_group(one.process)
        rate, alone = end_to_end(args)
    print(
        f"\nshards to shards: {rate:.1f} images/s, {rate / alone:.2f} of the tower's {alone:.1f} "
        f"(target: at least {END_TO_END})"
    )
    rates = {"shards_to_shards": rate, "tower_alone": alone}
    contest.write(args, load=load, rows=rows, ours_over_fastest=ratio, **rates)


def compete(running: list[contest.Contestant], args) -> tuple[list[dict], float | None]:
    """Prints the table; gives its rows and our rate over the fastest peer's."""
    answers = contest.take_turns(running, "forward", args)
    base = contest.arrays(args, "forward", "gen_jax")[0]
    rows = []
    for one in running:
        first, *rest = answers[one.who]
        seconds = statistics.median(a["seconds"] for a in rest)
        off = np.abs(contest.arrays(args, "forward", one.who)[0] - base).max()
        row = {**rest[-1], "seconds": [a["seconds"] for a in rest], "first": first["seconds"]}
        row |= {"rate": args.batch / seconds, "off": float(off / np.abs(base).max())}
        rows.append(row)
    print(
        f"\nDINOv2 {args.size}, {SIDE} px, batch {args.batch}, {args.dtype}, medians of "
        f"{args.repeats}; {rows[0]['gflop']:.1f} GFLOP an image\n"
        + " " * 30
        + "images/s  first s     MiB  ours/it  outputs"
    )
    for row in rows:
        print(
            f"{row['name']:<30}{row['rate']:>8.1f}{row['first']:>9.1f}{row['mib']:>8.0f}"
            f"{rows[0]['rate'] / row['rate']:>9.2f}  {row['off']:.1e}"
        )
    if rows[0]["peak"]:
        share = rows[0]["rate"] * rows[0]["gflop"] * 1e9 / rows[0]["peak"]
        print(f"{100 * share:.0f}% of the {rows[0]['peak'] / 1e12:.0f} TFLOP/s of a large product")
    if len(rows) == 1:
        return rows, None
    if args.dtype == "float32" and not all(row["off"] < TOLERANCE for row in rows):
        print(f"outputs differ by more than {TOLERANCE}: other work, or a device that uses TF32")
    ratio = rows[0]["rate"] / max(row["rate"] for row in rows[1:])
    print(f"ours / fastest peer: {ratio:.2f} (target: at least {TARGET})")
    return rows, ratio


if __name__ == "__main__":
    contest.enter(CONTESTANTS, main)
