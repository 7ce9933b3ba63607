"""What a restorer does to each kind of damage: PSNR, SSIM and LPIPS, before and after.

    python -m benchmarks.restore_kinds --images=restore_color.zip:CBSD68 --run=package:restore \
        --encoder=lpips-st-alex:weights_small.zip:stlpips_alex_backbone.safetensors

Each picture is damaged by a fixed seed, rounded to 8 bits as a file would be, and restored by the
restorer's own estimate. The last row is the clean picture: how close to itself it stays.
"""

import argparse
import pathlib

import numpy as np

from gen_jax.common import strict_json

KINDS = {
    "noise 15": {"name": "gaussian", "sigma": (15, 15)},
    "noise 25": {"name": "gaussian", "sigma": (25, 25)},
    "noise 50": {"name": "gaussian", "sigma": (50, 50)},
    "photon noise 15": {"name": "poisson", "shot": (15, 15), "gray": 0.0},
    "camera, ISO high": {
        "name": "camera",
        "shot": (0.004, 0.004),
        "coarse": 0.0,
        "again": 1.0,
    },
    "camera, coarse noise": {
        "name": "camera",
        "shot": (0.002, 0.002),
        "smooth": 0.0,
        "coarse": 1.0,
        "coarse_sigma": (1.0, 1.0),
        "coarse_share": (0.7, 0.7),
        "again": 0.0,
    },
    "JPEG 10": {"name": "jpeg", "quality": (10, 10)},
    "JPEG 40": {"name": "jpeg", "quality": (40, 40)},
    "WebP 20": {"name": "webp", "quality": (20, 20)},
    "Gaussian blur 1.6": {"name": "blur", "sigma": (1.6, 1.6), "kinds": ("isotropic",)},
    "motion blur 1.6": {"name": "blur", "sigma": (1.6, 1.6), "kinds": ("motion",)},
    "defocus 1.6": {"name": "blur", "sigma": (1.6, 1.6), "kinds": ("defocus",)},
    "bicubic x2": {"name": "downscale", "factor": (2, 2), "down": ("matlab",), "up": ("matlab",)},
    "bicubic x4": {"name": "downscale", "factor": (4, 4), "down": ("matlab",), "up": ("matlab",)},
    "blur, noise, JPEG": {
        "name": "chain",
        "steps": (
            {"name": "blur", "sigma": (1.0, 1.0), "kinds": ("isotropic",)},
            {"name": "gaussian", "sigma": (10, 10)},
            {"name": "jpeg", "quality": (60, 60)},
        ),
    },
    "nothing": {"name": "chain", "steps": ()},
}


def measure(args) -> dict[str, dict[str, float]]:
    """Kind -> mean of each measure, before and after."""
    from gen_jax.data import degradations
    from gen_jax.data.degradations.base import from_bytes, to_bytes
    from gen_jax.encoders import image_distance
    from gen_jax.evaluation.restoration import pictures
    from gen_jax.evaluation.restoration.score import score
    from gen_jax.parallel import compilation
    from gen_jax.pipelines.restoration import Restorer
    from gen_jax.runs import reader

    compilation.set_up()
    restorer = Restorer(reader.load(args.run))
    distance = image_distance.open_distance(args.encoder, batch_size=1) if args.encoder else None
    clean = [p.pixels() for p in pictures.listed(args.images)][: args.count]
    clean = [np.ascontiguousarray(np.broadcast_to(c, (*c.shape[:2], 3))) for c in clean]
    found = {}
    for kind, config in KINDS.items():
        how, rows = degradations.build(config), []
        for index, x in enumerate(clean):
            y = to_bytes(how(from_bytes(x), np.random.default_rng([0, index]))[0])
            restored = restorer(y, prompt=args.prompt).pixels
            before, after = (score(from_bytes(v), x, distance=distance) for v in (y, restored))
            rows.append({**{f"{k}_before": v for k, v in before.items()}, **after})
        # A picture equal to its reference has no finite PSNR.
        found[kind] = {k: float(np.mean([row[k] for row in rows])) for k in rows[0]}
        shown = "  ".join(f"{k} {v:.4f}" for k, v in found[kind].items())
        print(f"{kind:<20} {shown}", flush=True)
    return found


def table(found: dict[str, dict[str, float]]) -> str:
    """Markdown."""
    names = [n for n in ("psnr", "ssim", "lpips") if n in next(iter(found.values()))]
    head = "| damage | " + " | ".join(f"{n.upper()} before | after" for n in names) + " |"
    lines = [head, "|---" * (1 + 2 * len(names)) + "|"]
    for kind, values in found.items():
        cells = []
        for name in names:
            digits = 2 if name == "psnr" else 4
            cells += [f"{values[k]:.{digits}f}" for k in (f"{name}_before", name)]
        lines.append(f"| {kind} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    """Measures, prints, writes."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--run", default="package:restore", help="run of the stage restore")
    parser.add_argument("--images", required=True, help="folder or FILE.zip[:PREFIX]")
    parser.add_argument("--count", type=int, default=None, help="pictures at most")
    parser.add_argument("--encoder", default="", help="NAME:WEIGHTS of an LPIPS tower")
    parser.add_argument("--prompt", default="", help="an instruction")
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("restore_kinds.json"))
    args = parser.parse_args()
    found = measure(args)
    print(table(found))
    args.out.write_text(strict_json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
