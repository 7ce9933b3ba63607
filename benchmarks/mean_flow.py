"""Time of a train step with MeanFlow against flow matching, in one run.

    python -m benchmarks.mean_flow
    python -m benchmarks.mean_flow --recipe=data=photos --batch=8 --repeats=20 --out=ratio.json

Both steps are the trainer's, with the networks, optimizer and batch of one recipe on random images.
They take turns, and medians are compared. A step of MeanFlow with guidance as an input evaluates
the network three times and its derivative along the path once, where flow matching evaluates it
once; both have one backward pass.
"""

import argparse
import json
import pathlib
import statistics
import time

import numpy as np

OBJECTIVES = ("denoise", "meanflow")


def make_step(recipe: str, objective: str, batch_size: int):
    """Returns a function without arguments that takes one train step and waits for it.

    Args:
      recipe: Argument of configs/ldm.py, of a recipe behind a packaged autoencoder.
      objective: One of `OBJECTIVES`, appended to the argument.
      batch_size: Examples per step, 0 for the recipe's own.
    """
    import jax

    from configs import ldm
    from gen_jax.parallel.mesh import make_mesh
    from gen_jax.runs import reader
    from gen_jax.tasks import build_task
    from gen_jax.training import optim, rngs
    from gen_jax.training import state as state_lib
    from gen_jax.training.step import make_train_step

    config = ldm.get_config(f"{recipe},objective={objective}")
    vae = reader.load(config.frozen.vae)
    frozen = {"vae": vae.task.as_frozen(vae.variables)}
    task = build_task(config.task.to_dict(), {"vae": vae.task})
    size, steps = batch_size or config.training.batch_size, config.training.num_steps
    optimizers = {
        name: optim.make_optimizer(values, steps)
        for name, values in config.optimizer.to_dict().items()
    }
    mesh = make_mesh({"fsdp": 1}, jax.devices()[:1])
    rules = config.sharding.to_dict()["rules"]
    state = state_lib.create_state(task, optimizers, ("model",), mesh, rules, seed=0)
    rng = np.random.default_rng(0)
    batch = {
        name: rng.integers(0, 2 if spec.dtype == bool else 200, (size, *spec.shape)).astype(
            spec.dtype
        )
        for name, spec in task.batch_spec().items()
    }
    step_fn = jax.jit(
        make_train_step(task, optimizers, ema=config.training.ema), donate_argnums=(0,)
    )

    def step():
        nonlocal state
        state, metrics = step_fn(state, batch, frozen, rngs.root_key(0))
        jax.block_until_ready(metrics)

    return step


def measure(steps, repeats: int) -> dict[str, list[float]]:
    """Returns objective -> seconds of each step; the steps take turns, the first is left out."""
    seconds = {name: [] for name in steps}
    for _ in range(repeats + 1):
        for name, step in steps.items():
            began = time.perf_counter()
            step()
            seconds[name].append(time.perf_counter() - began)
    return {name: values[1:] for name, values in seconds.items()}


def main() -> None:
    """Measures, prints the ratio and writes the numbers."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--recipe", default="data=shapes", help="argument of configs/ldm.py")
    parser.add_argument("--batch", type=int, default=0, help="examples; 0 for the recipe's own")
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--out", type=pathlib.Path, default=None, help="JSON file to write")
    args = parser.parse_args()
    if args.repeats < 1 or args.batch < 0:
        parser.error("--repeats is at least 1, --batch at least 0")
    from gen_jax.parallel import compilation

    compilation.set_up()
    steps = {name: make_step(args.recipe, name, args.batch) for name in OBJECTIVES}
    seconds = measure(steps, args.repeats)
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    ratio = medians["meanflow"] / medians["denoise"]
    for name, median in medians.items():
        spread = f"{min(seconds[name]):.3f} to {max(seconds[name]):.3f}"
        print(f"{name:<10} {median:.3f} s per step, median of {args.repeats} ({spread})")
    print(f"meanflow takes {ratio:.2f} times as long as flow matching per step")
    if args.out:
        report = {"recipe": args.recipe, "seconds": seconds, "medians": medians, "ratio": ratio}
        args.out.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
