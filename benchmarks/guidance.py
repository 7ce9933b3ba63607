"""Guidance scale against adherence: does the text steer, and where does more of it hurt?

    python -m benchmarks.guidance --run=runs/ldm --out=guidance.json --plot=guidance.png

Runs the run's own adherence evaluator (`shapes_accuracy` or `prompt_accuracy`) once per scale, each
with its controls under shuffled and empty prompts, prints a table, and writes the numbers and a
plot.
"""

import argparse
import dataclasses
import pathlib

from gen_jax.common import strict_json

SCALES = (1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 8.0)
EVALUATORS = ("shapes_accuracy", "prompt_accuracy")
# What is plotted of either evaluator; the others stand in the JSON file.
SHOWN = {
    "shapes_accuracy": (
        "color_accuracy",
        "shape_accuracy",
        "heldout_pair_accuracy",
        "multi_all_accuracy",
        "prompt_accuracy_shuffled",
        "prompt_accuracy_empty",
    ),
    "prompt_accuracy": (
        "prompt_accuracy",
        "prompt_accuracy_shuffled",
        "prompt_accuracy_empty",
    ),
}


def measure(
    run: str, scales, sampler_steps: int | None, count: int | None, interval=None
) -> tuple[str, dict[float, dict]]:
    """The evaluator's name, and scale -> its metrics."""
    from gen_jax.diffusion.guidance import checked_interval
    from gen_jax.evaluation import Predictor, build_evaluators
    from gen_jax.parallel import compilation
    from gen_jax.parallel.mesh import make_mesh
    from gen_jax.runs import data as run_data
    from gen_jax.runs import reader

    compilation.set_up()
    model = reader.load(run)
    config = model.config
    names = [n for n in EVALUATORS if n in config.evaluators]
    if not names:
        raise SystemExit(f"{run}: its config has none of the evaluators {', '.join(EVALUATORS)}")
    name = names[0]
    data = run_data.open_data(
        config.data.to_dict(), model.path, config.training.seed, model.task.batch_spec()
    )
    values = {name: config.evaluators[name].to_dict()}
    if count:
        values[name] |= {k: count for k in ("count", "others") if k in values[name]}
    _, evaluator = build_evaluators(values, config.task.name)[name]
    found = {}
    for scale in scales:
        changes = {"guidance_scale": scale}
        if sampler_steps:
            changes["num_inference_steps"] = sampler_steps
        if interval:
            changes["guidance_interval"] = checked_interval(interval, "--interval")
        task = dataclasses.replace(model.task, **changes)
        predict = Predictor(task, model.variables, model.frozen, make_mesh({"fsdp": -1}))
        found[scale] = dict(evaluator(predict, data).metrics)
        shown = ", ".join(f"{k} {found[scale].get(k, float('nan')):.3f}" for k in SHOWN[name])
        print(f"guidance {scale:g}: {shown}", flush=True)
    return name, found


def plot(path: pathlib.Path, found: dict[float, dict], keys) -> None:
    """One line a metric over the scale."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axis = plt.subplots(figsize=(6, 4), layout="constrained")
    for key in keys:
        axis.plot(list(found), [m[key] for m in found.values()], marker="o", label=key)
    axis.set(xlabel="guidance scale", ylabel="share of samples", ylim=(0, 1.02))
    axis.grid(alpha=0.3)
    axis.legend(fontsize=8)
    figure.savefig(path, dpi=100)
    plt.close(figure)


def main() -> None:
    """Measures, prints, writes."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--run", required=True, help="run directory of an ldm")
    parser.add_argument("--scales", type=float, nargs="+", default=SCALES)
    parser.add_argument("--sampler-steps", type=int, default=None)
    parser.add_argument(
        "--interval",
        type=float,
        nargs=2,
        metavar=("LOW", "HIGH"),
        default=None,
        help="guided part of the time range instead of the run's own, 0 to 1",
    )
    parser.add_argument("--count", type=int, default=None, help="samples instead of the run's own")
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("guidance.json"))
    parser.add_argument("--plot", type=pathlib.Path, default=pathlib.Path("guidance.png"))
    args = parser.parse_args()
    name, found = measure(args.run, args.scales, args.sampler_steps, args.count, args.interval)
    args.out.write_text(strict_json.dumps(found, indent=1) + "\n")
    plot(args.plot, found, [k for k in SHOWN[name] if k in found[args.scales[0]]])
    print(f"wrote {args.out} and {args.plot}")


if __name__ == "__main__":
    main()
