"""Sampling of priors over codes: steps, noise, weights in fewer bits, against quality and time.

    python -m benchmarks.art_sampling --runs runs/art runs/art_ordered --count=256 \
        --encoder=mobilenet-v2:mobilenet_v2_imagenet.safetensors \
        --settings steps=8 steps=16 steps=16,weights=int8 steps=16,choice=4.5 temperature=0.9

One half of `--count` doubled training details is what all are compared with; the captions of the
other half are the prompts. "KID" is of the samples, "/recon." over that of the other half's
reconstructions by the same codes, "/random" over that of random codes; "ms" a picture, the median
of the batches after the first; "MiB" of all weights as they lie in memory, the text tower's, too.
"guide=2" draws so far away from the weaker prior of --guide. A setting that names steps or choice
is left out for a prior that goes in order, and one that names guide where the guide is of another
kind. "detail=4" adds what the run of --detail draws in so many steps, to reconstructions and to
pictures of random codes, too: its quotients are of these. Several runs are compared by the same
details, prompts and seeds; every run's own settings come first.
"""

import argparse
import dataclasses
import json
import pathlib
import statistics
import time

import numpy as np

FIELDS = {
    "steps": ("num_inference_steps", int),
    "choice": ("choice_temperature", float),
    "temperature": ("temperature", float),
    "guidance": ("guidance_scale", float),
    "guide": ("guide_scale", float),
    "detail": ("detail_steps", int),
}
OF_MASKED = ("steps", "choice")


def parsed(text: str) -> tuple[dict, str]:
    """Changes of the task, and how weights are stored, of one of `--settings`."""
    changes, weights = {}, "float32"
    for part in filter(None, text.split(",")):
        key, _, value = part.partition("=")
        if key == "weights":
            weights = value
        elif key in FIELDS:
            name, kind = FIELDS[key]
            changes[name] = kind(value)
        else:
            raise SystemExit(f"--settings {text}: expected {', '.join((*FIELDS, 'weights'))}")
    return changes, weights


def opened(run: str):
    """A run's model, and its data."""
    from gen_jax.runs import data as run_data
    from gen_jax.runs import reader, text_tower

    model = reader.load(run)
    config = model.config
    tokenizer = text_tower.tokenizer(config.task.to_dict(), model.path)
    data = run_data.open_data(config.data.to_dict(), model.path, config.training.seed, tokenizer)
    return model, data


def predictor(model, changes, weights, guide=None, detail=None):
    """Runs a run's predict functions by other settings, and the bytes of its weights."""
    from gen_jax.evaluation import Predictor
    from gen_jax.models import weight_storage
    from gen_jax.parallel.mesh import make_mesh
    from gen_jax.pipelines.autoguidance import guided_by
    from gen_jax.pipelines.detail import with_detail

    changes = dict(changes)
    scale = changes.pop("guide_scale", None)
    if scale is not None:
        model = guided_by(model, guide, scale)
    steps = changes.pop("detail_steps", None)
    if steps is not None:
        model = with_detail(model, detail)
        changes["detail"] = dataclasses.replace(detail.task, num_inference_steps=steps)
    task = dataclasses.replace(model.task, **changes)
    kept = [weight_storage.stored(dict(v), weights) for v in (model.variables, model.frozen)]
    return Predictor(_Reading(task), *kept, make_mesh({"fsdp": -1})), sum(
        map(weight_storage.size_of, kept)
    )


class _Reading:
    """A task whose parameters are stored ones."""

    def __init__(self, task):
        from gen_jax.models import weight_storage

        self.rng_streams, self.features = task.rng_streams, None
        self._found = {k: weight_storage.reading(f) for k, f in task.predict_fns().items()}

    def predict_fns(self):
        """Those of the task."""
        return self._found


def drawn(predict, asked, batch_size: int) -> tuple[np.ndarray, np.ndarray, float]:
    """Pictures, their codes, and seconds a picture."""
    count, found, seconds = len(asked["seed"]), [], []
    for start in range(0, count, batch_size):
        part = {k: v[start : start + batch_size] for k, v in asked.items()}
        began = time.perf_counter()
        found.append(predict("generate", part))
        seconds.append(time.perf_counter() - began)
    images, codes = (np.concatenate([f[k] for f in found]) for k in ("image", "codes"))
    return images, codes, statistics.median(seconds[1:] or seconds) / batch_size


def measure(args) -> list[dict]:
    """A row for each run and setting."""
    from gen_jax.evaluation.judge import features_by
    from gen_jax.metrics import kid, prdc
    from gen_jax.parallel import compilation
    from gen_jax.runs import reader

    compilation.set_up()
    guide, detail = (reader.load(v) if v else None for v in (args.guide, args.detail))
    rows = []
    for run in args.runs:
        model, data = opened(run)
        both = data.read("train", 2 * args.count)
        half = len(both["image"]) // 2 // args.batch * args.batch
        if half < 2:
            raise SystemExit(f"{run}: {len(both['image'])} training details; --batch is too large")
        mine = {k: v[:half] for k, v in both.items()}
        seeds = np.arange(half, dtype=np.uint32)
        asked = {"tokens": mine["tokens"], "token_mask": mine["token_mask"], "seed": seeds}
        plain, _ = predictor(model, {}, "float32")

        def of(images, plain=plain, target=both["image"][half:]):
            target, rows = (features_by(args.encoder, plain, v) for v in (target, images))
            nearest = min(5, len(rows) - 1)
            return kid.kernel_distance(target, rows), prdc.prdc(target, rows, nearest)

        ends = {"reconstruct": {"image": mine["image"]}, "random": {"seed": seeds}}
        limits = {}
        first = None
        for text in ["", *args.settings]:
            if model.task.prior.is_causal and any(f"{k}=" in text for k in OF_MASKED):
                continue
            if "guide=" in text and guide.task.prior.is_causal != model.task.prior.is_causal:
                continue
            changes, weights = parsed(text)
            fine = f"detail={changes['detail_steps']}" if "detail_steps" in changes else ""
            if fine not in limits:
                ending, _ = predictor(model, parsed(fine)[0], "float32", detail=detail)
                made = {k: ending.batched(k, v, args.batch)["image"] for k, v in ends.items()}
                limits[fine] = {k: of(v)[0].value for k, v in made.items()}
                print(f"{' '.join(filter(None, (run, fine)))}: KID of reconstructions "
                      f"{limits[fine]['reconstruct']:.4f}, of random codes "
                      f"{limits[fine]['random']:.4f}; {half} samples", flush=True)  # fmt: skip
            predict, size = predictor(model, changes, weights, guide, detail)
            images, codes, seconds = drawn(predict, asked, args.batch)
            first = codes if first is None else first
            distance, spread = of(images)
            row = {
                "run": run,
                "settings": text or "the run's own",
                "over_reconstructions": distance.value / limits[fine]["reconstruct"],
                "over_random": distance.value / limits[fine]["random"],
                "ms": 1e3 * seconds,
                "mib": size / 2**20,
                "as_first": float((codes == first).mean()),
                **distance.named("kid"),
                **spread._asdict(),
            }
            rows.append({k: v if isinstance(v, str) else float(v) for k, v in row.items()})
            print(line(rows[-1]), flush=True)
    return rows


HEAD = ("run", "settings", "KID", "/recon.", "/random", "precision", "recall", "ms", "MiB", "same")


def line(row: dict) -> str:
    """A row as Markdown; "same" is the share of codes as by the run's own settings."""
    return (
        f"| {pathlib.Path(row['run']).name} | {row['settings']} | {row['kid']:.4f} | "
        f"{row['over_reconstructions']:.2f} | {row['over_random']:.3f} | {row['precision']:.2f} | "
        f"{row['recall']:.2f} | {row['ms']:.0f} | {row['mib']:.1f} | {row['as_first']:.2f} |"
    )


def main() -> None:
    """Measures, prints, writes."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--runs", nargs="+", required=True, help="run directories of configs/art.py"
    )
    parser.add_argument("--settings", nargs="*", default=[], help="see above")
    parser.add_argument("--guide", default="", help="run of a weaker prior, for guide= in settings")
    parser.add_argument("--detail", default="", help="run of configs/detail.py, for detail=")
    parser.add_argument("--count", type=int, default=256, help="samples of each setting")
    parser.add_argument("--batch", type=int, default=32, help="at once")
    parser.add_argument(
        "--encoder", default="", help="NAME:WEIGHTS; an untrained network's if none"
    )
    parser.add_argument("--out", default="", help="JSON file")
    args = parser.parse_args()
    for text in args.settings:
        for key, given in (("guide", args.guide), ("detail", args.detail)):
            if FIELDS[key][0] in parsed(text)[0] and not given:
                parser.error(f"--settings {text}: {key}= needs --{key}=RUN")
    print("| " + " | ".join(HEAD) + " |\n" + "|---" * len(HEAD) + "|")
    rows = measure(args)
    if args.out:
        pathlib.Path(args.out).write_text(json.dumps({"count": args.count, "rows": rows}, indent=1))


if __name__ == "__main__":
    main()
