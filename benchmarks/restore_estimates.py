"""Whether visible damage is estimated and changed: files saved twice, grain, motion blur.

    python -m benchmarks.restore_estimates --images=restore_color.zip:CBSD68 --run=package:restore

The middles of the images are degraded by fixed seeds and rounded to 8 bits. The table gives the
true and the estimated strength, the median absolute error of the estimates, and the PSNR before and
after. Of a file saved twice the lower quality counts.
"""

import argparse
import pathlib

import numpy as np

from gen_jax.common import strict_json


def _saved(first, second):
    qualities = ({"name": "jpeg", "quality": (q, q)} for q in (first, second))
    return "jpeg", {"name": "chain", "steps": tuple(qualities)}


def _grain(sigma, size, gray=1.0, midtones=0.0):
    fields = {"sigma": (sigma, sigma), "size": (size, size), "gray": gray, "midtones": midtones}
    return "sigma", {"name": "chain", "steps": ({"name": "grain", **fields},)}


KINDS = {
    "JPEG 30, then 12": _saved(30, 12),
    "JPEG 12, then 30": _saved(12, 30),
    "JPEG 15, then 90": _saved(15, 90),
    "JPEG 40, then 60": _saved(40, 60),
    "gray grain 12, fine": _grain(12, 0.5),
    "gray grain 12, coarse": _grain(12, 1.2),
    "gray grain 25, coarse": _grain(25, 1.2),
    "color grain 15, coarse": _grain(15, 1.0, gray=0.0),
    "film grain 20": _grain(20, 0.8, midtones=1.0),
    "motion blur 2": (
        "blur",
        {"name": "chain", "steps": ({"name": "blur", "sigma": (2, 2), "kinds": ("motion",)},)},
    ),
}
"""Name -> parameter whose estimate counts, and degradation."""


def measure(args) -> dict[str, dict[str, float]]:
    """Returns the measures of each kind."""
    from gen_jax.data import degradations
    from gen_jax.data.degradations.base import from_bytes, to_bytes
    from gen_jax.evaluation.restoration import pictures
    from gen_jax.evaluation.restoration.score import score
    from gen_jax.parallel import compilation
    from gen_jax.pipelines.restoration import Restorer
    from gen_jax.runs import reader

    compilation.set_up()
    restorer = Restorer(reader.load(args.run))
    clean = [p.pixels() for p in pictures.listed(args.images)][:: args.every]
    side = args.size
    # Off the grid of 8 pixels that the images themselves may have been saved on.
    clean = [np.ascontiguousarray(c[5 : 5 + side, 5 : 5 + side]) for c in clean]
    table = {}
    for kind, (name, config) in KINDS.items():
        degrade, rows = degradations.build(config), []
        for index, x in enumerate(clean):
            degraded, drawn = degrade(from_bytes(x), np.random.default_rng([7, index]))
            y = to_bytes(degraded)
            result = restorer(y)
            before, after = (score(from_bytes(v), x)["psnr"] for v in (y, result.pixels))
            rows.append((drawn[name], result.told[name], before, after))
        true, estimated, before, after = np.array(rows).T
        table[kind] = {
            "true": float(true.mean()),
            "estimated": float(estimated.mean()),
            "error": float(np.median(np.abs(estimated - true))),
            "relative": float(np.median(np.abs(estimated - true) / np.maximum(true, 1e-6))),
            "before": float(before.mean()),
            "after": float(after.mean()),
        }
        shown = "  ".join(f"{k} {v:.2f}" for k, v in table[kind].items())
        print(f"{kind:<24} {name:<6} {shown}", flush=True)
    return table


def main() -> None:
    """Measures, prints, writes."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--run", default="package:restore", help="run of the stage restore")
    parser.add_argument("--images", required=True, help="folder or FILE.zip[:PREFIX]")
    parser.add_argument("--every", type=int, default=3, help="every so many-th image")
    parser.add_argument("--size", type=int, default=256, help="side of the middles in pixels")
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("restore_estimates.json"))
    args = parser.parse_args()
    args.out.write_text(strict_json.dumps(measure(args), indent=1) + "\n")


if __name__ == "__main__":
    main()
