"""A generative restorer on severe damage: distortion against perception, by kind.

    python -m benchmarks.restore_generative --run=runs/restore_ldm \
        --images=restore_color.zip:CBSD68 --encoder=lpips-st-alex:FILE

The middles of the images are degraded by fixed seeds (noise of 50, shrunk 4 times, JPEG 10, and a
mixture of blur, noise and JPEG), restored by the first stage's own estimate, and compared with the
clean middles. Rows are the first stage, and shares of the generated detail at several numbers of
steps. KID is the kernel distance in the features of `dino_tiny`, which no restorer is trained on.
"""

import argparse
import pathlib

import numpy as np

from gen_jax.common import strict_json

KINDS = {
    "noise 50": {"name": "gaussian", "sigma": (50, 50)},
    "x4": {"name": "downscale", "factor": (4, 4), "down": ("matlab",), "up": ("matlab",)},
    "JPEG 10": {"name": "chain", "steps": ({"name": "jpeg", "quality": (10, 10)},)},
    "mixture": {
        "name": "chain",
        "steps": (
            {"name": "blur", "sigma": (1.2, 1.2), "kinds": ("isotropic",)},
            {"name": "gaussian", "sigma": (20, 20)},
            {"name": "jpeg", "quality": (40, 40)},
        ),
    },
}


def _pairs(images: str, size: int):
    """Returns clean middles, uint8 [n, h, w, 3], and kind -> degraded ones, float32."""
    from gen_jax.data import degradations
    from gen_jax.data.degradations.base import from_bytes
    from gen_jax.evaluation.restoration import pictures

    clean = []
    for picture in pictures.listed(images):
        x = picture.pixels()
        top, left = ((side - size) // 2 // 8 * 8 for side in x.shape[:2])
        clean.append(np.broadcast_to(x[top : top + size, left : left + size], (size, size, 3)))
    degraded = {
        kind: np.stack(
            [
                degradations.build(config)(from_bytes(x), np.random.default_rng([3, index]))[0]
                for index, x in enumerate(clean)
            ]
        )
        for kind, config in KINDS.items()
    }
    return np.stack(clean), degraded


def measure(args) -> dict[str, dict[str, float]]:
    """Returns "kind, share, steps" -> measures."""
    import jax

    from gen_jax.data.degradations.base import to_bytes
    from gen_jax.encoders.image_distance import open_distance
    from gen_jax.encoders.image_features import open_features
    from gen_jax.evaluation.restored_crops import compare
    from gen_jax.metrics import interval, kid
    from gen_jax.parallel import compilation
    from gen_jax.pipelines.restore_generative import with_settings
    from gen_jax.runs import reader

    compilation.set_up()
    model = reader.load(args.run)
    clean, degraded = _pairs(args.images, args.size)
    encode = open_features("dino_tiny", side=args.size)
    distance, real, table = open_distance(args.encoder), encode(clean), {}

    def batched(name, steps, given):
        changed = with_settings(model, {"num_inference_steps": steps})
        call = jax.jit(changed.task.predict_fns()[name])
        out = []
        for at in range(0, len(clean), args.batch):
            rows = {k: v[at : at + args.batch] for k, v in given.items()}
            short = args.batch - len(rows["degraded"])
            rows = {k: np.concatenate([v, v[:1].repeat(short, 0)]) for k, v in rows.items()}
            made = call(changed.variables, rows, {}, changed.frozen)
            out.append({k: np.asarray(v)[: args.batch - short] for k, v in made.items()})
        return {k: np.concatenate([o[k] for o in out]) for k in out[0]}

    def add(kind, row, images):
        values = compare(clean, images)
        values["lpips"] = float(np.mean(distance(clean, images)))
        values |= interval.bootstrap(kid.mmd2, real, encode(images), seed=0).named("kid")
        table[f"{kind}, {row}"] = values
        shown = "  ".join(f"{k} {v:.4f}" for k, v in values.items())
        print(f"{kind:<10} {row:<22} {shown}", flush=True)

    for kind, x in degraded.items():
        given = {"degraded": np.float32(x)}
        given["degradation"] = batched("estimate", 1, given)["estimate"]
        given["seed"] = np.arange(len(x)).astype(np.uint32)
        given["strength"] = np.ones(len(x), np.float32)
        for index, steps in enumerate(args.steps):
            out = batched("restore", steps, given)
            first, full = out["first_stage"], out["restored"]
            if index == 0:
                add(kind, "first stage", to_bytes(first))
            for share in args.shares if index == len(args.steps) - 1 else (1.0,):
                images = to_bytes(first + np.float32(share) * (full - first))
                add(kind, f"share {share:g}, {steps} steps", images)
    return table


def main() -> None:
    """Measures, prints, writes."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--run", required=True, help="run of the stage restore_ldm")
    parser.add_argument("--images", required=True, help="folder or FILE.zip[:PREFIX]")
    parser.add_argument("--encoder", required=True, help="NAME:WEIGHTS of an LPIPS encoder")
    parser.add_argument("--size", type=int, default=192, help="side of the middles in pixels")
    parser.add_argument("--batch", type=int, default=17, help="crops at once")
    parser.add_argument("--steps", type=int, nargs="+", default=[1, 4])
    parser.add_argument("--shares", type=float, nargs="+", default=[0.25, 0.5, 0.75, 1.0])
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("restore_generative.json"))
    args = parser.parse_args()
    args.out.write_text(strict_json.dumps(measure(args), indent=1) + "\n")


if __name__ == "__main__":
    main()
