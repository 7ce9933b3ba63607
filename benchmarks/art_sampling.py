"""Sampling of priors over codes: steps, noise, weights in fewer bits, against quality and time.

    python -m benchmarks.art_sampling --runs runs/art runs/art_ordered --count=256 \
        --encoder=mobilenet-v2:mobilenet_v2_imagenet.safetensors \
        --settings steps=8 steps=16 steps=16,weights=int8 steps=16,choice=4.5 temperature=0.9

One half of `--count` doubled training details is what all are compared with; the captions of the
other half are the prompts. "KID" is of the samples, "/recon." over that of the other half's
reconstructions by the same codes, "/random" over that of random codes; "to recon." is the KID
between the samples and reconstructions of those details that they are compared with: what the
prior itself misses. "ms" a picture, the median of the batches after the first; "MiB" of all weights
as they lie in memory, the text tower's, too; "same", the share of codes as by the run's own
settings. "guide=2" draws so far away from the weaker prior of --guide, "style=0" with no style. A
setting is left out for a prior that has not what it changes: steps and choice of one that goes in
order, style of one without, a guide of another kind. "detail=4" adds what the run of --detail draws
in so many steps, to reconstructions and to pictures of random codes, too: its quotients are of
these. Several runs are compared by the same details, prompts and seeds; every run's own settings
come first. --pictures writes the first 32 of each row, the details, reconstructions, random codes.
Settings that were chosen by some details are judged by others: --skip leaves so many out first.
"""

import argparse
import dataclasses
import pathlib
import re
import statistics
import time

import numpy as np

from gen_jax.common import strict_json

FIELDS = {
    "steps": ("num_inference_steps", int),
    "choice": ("choice_temperature", float),
    "temperature": ("temperature", float),
    "guidance": ("guidance_scale", float),
    "guide": ("guide_scale", float),
    "detail": ("detail_steps", int),
    "style": ("style", int),
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
    data = run_data.open_data(
        config.data.to_dict(), model.path, config.training.seed, model.task.batch_spec(), tokenizer
    )
    return model, data


def predictor(model, changes, weights, guide=None, detail=None):
    """Runs a run's predict functions by other settings, and the bytes of its weights."""
    from gen_jax.evaluation import Predictor
    from gen_jax.models import weight_storage
    from gen_jax.parallel.mesh import make_mesh
    from gen_jax.pipelines.model_changes import guided_by, with_refiner

    changes = dict(changes)
    scale = changes.pop("guide_scale", None)
    if scale is not None:
        model = guided_by(model, guide, scale)
    steps = changes.pop("detail_steps", None)
    if steps is not None:
        model = with_refiner(model, detail)
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

        self.rng_streams, self.feature_space = task.rng_streams, None
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


@dataclasses.dataclass
class Compared:
    """What a run's samples are compared with, by features of one tower."""

    encoder: str
    plain: object  # the run's own predict functions
    target: np.ndarray  # details that gave no prompts
    of_target: np.ndarray  # their reconstructions
    reconstructed: dataclasses.InitVar[np.ndarray]  # the others, that gave the prompts
    of_random: dataclasses.InitVar[np.ndarray]  # pictures of random codes

    def __post_init__(self, reconstructed, of_random):
        self.reconstructions = self.distance(reconstructed, self.target).value
        self.random = self.distance(of_random, self.target).value

    def row(self, images: np.ndarray) -> dict:
        """Distances of samples."""
        from gen_jax.metrics import prdc

        found = self.distance(images, self.target)
        target, rows = self._features(self.target), self._features(images)
        return {
            "over_reconstructions": found.value / self.reconstructions,
            "over_random": found.value / self.random,
            "to_reconstructions": self.distance(images, self.of_target).value,
            **found.named("kid"),
            **prdc.prdc(target, rows, min(5, len(rows) - 1))._asdict(),
        }

    def distance(self, images: np.ndarray, target: np.ndarray):
        """KID between two sets of pictures."""
        from gen_jax.metrics import kid

        return kid.kernel_distance(self._features(target), self._features(images))

    def _features(self, images):
        from gen_jax.evaluation.judge import features_by

        return features_by(self.encoder, self.plain, images)


def fits(text: str, task, guide) -> bool:
    """Whether a prior has what a setting changes."""
    named = parsed(text)[0]
    if task.prior.is_causal and any(FIELDS[key][0] in named for key in OF_MASKED):
        return False
    if "style" in named and task.style is None:
        return False
    return "guide_scale" not in named or guide.task.prior.is_causal == task.prior.is_causal


def halves(rows: dict, args, run: str) -> tuple[dict, np.ndarray]:
    """Details that give prompts, and images that all are compared with."""
    found = len(rows["image"]) - args.skip
    half = min(max(found, 0) // 2, args.count) // args.batch * args.batch
    if half < 2:
        raise SystemExit(
            f"{run}: {len(rows['image'])} training details are too few for --skip={args.skip} and "
            f"twice --batch={args.batch}; lower one"
        )
    middle = args.skip + half
    mine = {k: v[args.skip : middle] for k, v in rows.items()}
    return mine, rows["image"][middle : middle + half]


def styled(asked: dict, style: int, task) -> dict:
    """What is asked, with zeros as the style where it is to have none."""
    if style:
        return asked
    return {**asked, "style": np.zeros((len(asked["seed"]), task.style.dim), np.float32)}


def rows_of(run: str, args, guide, detail) -> list[dict]:
    """A row for each setting of a run."""
    model, data = opened(run)
    mine, target = halves(data.read("train", args.skip + 2 * args.count), args, run)
    half = len(target)
    seeds = np.arange(half, dtype=np.uint32)
    asked = {"tokens": mine["tokens"], "token_mask": mine["token_mask"], "seed": seeds}
    plain, _ = predictor(model, {}, "float32")
    show(args, run, "details", mine["image"])
    ends, first, rows = {}, None, []
    for text in ["", *args.settings]:
        if not fits(text, model.task, guide):
            continue
        changes, weights = parsed(text)
        fine = f"detail={changes['detail_steps']}" if "detail_steps" in changes else ""
        if fine not in ends:
            ending, _ = predictor(model, parsed(fine)[0], "float32", detail=detail)
            made, random, again = (
                ending.batched(name, asking, args.batch)["image"]
                for name, asking in (
                    ("reconstruct", {"image": mine["image"]}),
                    ("random", {"seed": seeds}),
                    ("reconstruct", {"image": target}),
                )
            )
            found = ends[fine] = Compared(args.encoder, plain, target, again, made, random)
            print(f"{' '.join(filter(None, (run, fine)))}: KID of reconstructions "
                  f"{found.reconstructions:.4f}, of random codes "
                  f"{found.random:.4f}; {half} samples", flush=True)  # fmt: skip
            show(args, run, f"reconstructions {fine}", made)
            show(args, run, f"random codes {fine}", random)
        asking = styled(asked, changes.pop("style", 1), model.task)
        predict, size = predictor(model, changes, weights, guide, detail)
        images, codes, seconds = drawn(predict, asking, args.batch)
        first = codes if first is None else first
        row = {
            "run": run,
            "settings": text or "the run's own",
            "ms": 1e3 * seconds,
            "mib": size / 2**20,
            "as_first": float((codes == first).mean()),
            **ends[fine].row(images),
        }
        rows.append({k: v if isinstance(v, str) else float(v) for k, v in row.items()})
        print(line(rows[-1]), flush=True)
        show(args, run, text or "own", images)
    return rows


def show(args, run: str, name: str, images: np.ndarray) -> None:
    """Writes the first pictures of a kind, where they were asked for."""
    from gen_jax.common import pictures

    if args.pictures:
        file = re.sub(r"[^\w.=-]+", "_", f"{pathlib.Path(run).name} {name}".strip())
        folder = pathlib.Path(args.pictures)
        folder.mkdir(parents=True, exist_ok=True)
        pictures.save(folder / f"{file}.png", pictures.grid(images[:32], columns=8))


def measure(args) -> list[dict]:
    """A row for each run and setting."""
    from gen_jax.parallel import compilation
    from gen_jax.runs import reader

    compilation.set_up()
    guide, detail = (reader.load(v) if v else None for v in (args.guide, args.detail))
    return [row for run in args.runs for row in rows_of(run, args, guide, detail)]


HEAD = (
    "run", "settings", "KID", "/recon.", "/random", "to recon.", "precision", "recall", "ms", "MiB",
    "same",
)  # fmt: skip


def line(row: dict) -> str:
    """A row as Markdown."""
    return (
        f"| {pathlib.Path(row['run']).name} | {row['settings']} | {row['kid']:.4f} | "
        f"{row['over_reconstructions']:.2f} | {row['over_random']:.3f} | "
        f"{row['to_reconstructions']:.4f} | {row['precision']:.2f} | "
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
    parser.add_argument("--skip", type=int, default=0, help="training details left out first")
    parser.add_argument("--batch", type=int, default=32, help="at once")
    parser.add_argument(
        "--encoder", default="", help="NAME:WEIGHTS; an untrained network's if none"
    )
    parser.add_argument("--pictures", default="", help="folder for pictures, see above")
    parser.add_argument("--out", default="", help="JSON file")
    args = parser.parse_args()
    if args.skip < 0:
        parser.error(f"--skip={args.skip}: expected 0 or more")
    for text in args.settings:
        for key, given in (("guide", args.guide), ("detail", args.detail)):
            if FIELDS[key][0] in parsed(text)[0] and not given:
                parser.error(f"--settings {text}: {key}= needs --{key}=RUN")
    print("| " + " | ".join(HEAD) + " |\n" + "|---" * len(HEAD) + "|")
    rows = measure(args)
    if args.out:
        pathlib.Path(args.out).write_text(
            strict_json.dumps({"count": args.count, "rows": rows}, indent=1)
        )


if __name__ == "__main__":
    main()
