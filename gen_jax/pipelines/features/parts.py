"""What a task leaves beside each of its shards, and what all of them together say."""

import collections
import json
import pathlib
import platform
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jaxlib

from gen_jax import __version__
from gen_jax.common import checksum, files, strict_json
from gen_jax.common.errors import UserError
from gen_jax.data import dataset, shards
from gen_jax.data.features import codec, feature_set
from gen_jax.pipelines.features import plan
from gen_jax.pipelines.features.fidelity import Fidelity, merge
from gen_jax.pipelines.features.plan import Options, Part
from gen_jax.pipelines.features.towers import Tower


def _place(out: pathlib.Path, part: Part) -> pathlib.Path:
    return out / plan.PARTS / f"{part.name}.json"


def leave(
    out: pathlib.Path,
    part: Part,
    written: shards.Written,
    measured: Mapping[str, Fidelity],
    skipped: Mapping[str, str],
) -> None:
    """Says that a shard is there, and what was measured while it was made."""
    values = {
        "shard": {"file": part.name, **written._asdict()},
        "fidelity": {name: of.to_json() for name, of in sorted(measured.items())},
        "skipped": dict(skipped),
        "made_with": {
            "gen_jax": __version__,
            "jax": jax.__version__,
            "jaxlib": jaxlib.__version__,
            "device": jax.local_devices()[0].device_kind,
            "machine": platform.machine(),
        },
    }
    files.write_text(_place(out, part), strict_json.dumps(values) + "\n")


def is_left(out: pathlib.Path, part: Part) -> bool:
    """Whether a task says so."""
    return _place(out, part).exists()


def stands(out: pathlib.Path, part: Part) -> bool:
    """Whether the shard is there and has its digest."""
    if not is_left(out, part):
        return False
    try:
        shard = _shard(_read(out, part))
        dataset.check_shard(out / part.name, shard, "digest")
    except UserError:
        return False
    return shard.records == part.records


def _read(out: pathlib.Path, part: Part) -> dict[str, Any]:
    path = _place(out, part)
    try:
        return json.loads(files.read_text(path))
    except ValueError:
        raise UserError(f"{path}: damaged; delete it and run featurize again") from None


def _shard(left: Mapping[str, Any]) -> dataset.Shard:
    return dataset.Shard(**left["shard"])


def describe(
    tower: Tower,
    options: Options,
    info: dataset.DatasetInfo,
    parts: Sequence[Part],
    fingerprint: str,
) -> feature_set.FeaturesInfo:
    """Writes dataset.json and features.json; two tasks that do it at once write the same.

    Raises:
      UserError: a shard is missing or has another size than its task says.
    """
    out = pathlib.Path(options.out)
    left = {part.name: _read(out, part) for part in parts}
    made = {name: _shard(values) for name, values in left.items()}
    for name, shard in made.items():
        dataset.check_shard(out / name, shard, "size")
    splits = plan.splits_of(options, info)
    description = dataset.DatasetInfo(
        name=info.name,
        source=f"{options.encoder} of {info.source}",
        arguments=plan.arguments(options),
        fingerprint=fingerprint,
        splits={s: tuple(made[p.name] for p in parts if p.split == s) for s in splits},
        label_names=info.label_names,
        statistics={split: info.statistics[split] for split in splits if split in info.statistics},
    )
    for leftover in out.glob(".*.arrayrecord.*.tmp"):  # by a task that was killed
        leftover.unlink(missing_ok=True)
    found = _features(tower, options, description, made, left)
    dataset.write(out, description)
    feature_set.write(out, found)
    return found


def _features(
    tower: Tower,
    options: Options,
    description: dataset.DatasetInfo,
    made: Mapping[str, dataset.Shard],
    left: Mapping[str, Mapping[str, Any]],
) -> feature_set.FeaturesInfo:
    skipped = {key: why for values in left.values() for key, why in values["skipped"].items()}
    images = sum(shard.records for shard in made.values()) - len(skipped)
    by_name: dict[str, list[Fidelity]] = collections.defaultdict(list)
    for values in left.values():
        for name, of in values["fidelity"].items():
            by_name[name].append(Fidelity(**of))
    measured = {name: merge(of) for name, of in by_name.items()}
    whole = merge(measured.values())
    bases_sha256, bases = _bases(options)
    kinds = [values["made_with"] for values in left.values()]
    return feature_set.FeaturesInfo(
        encoder=tower.name,
        weights=tower.weights,
        weights_sha256=tower.sha256,
        layers=options.layers,
        store=options.store,
        outputs=_outputs(tower, options, measured, bases),
        images=images,
        skipped=skipped,
        bytes_per_image=sum(s.bytes for s in made.values()) / max(images, 1),
        cosine_mean=whole.cosine_mean(),
        cosine_p1=whole.cosine_percentile(0.01),
        shards={
            name: {"records": s.records, "bytes": s.bytes, "sha256": s.sha256}
            for name, s in made.items()
        },
        data={"name": description.name, "splits": list(description.splits)},
        bases_sha256=bases_sha256,
        made_with={
            **plan.arguments(options),
            **{key: sorted({kind[key] for kind in kinds}) for key in kinds[0]},
        },
    )


def _bases(options: Options) -> tuple[str, dict[str, Any]]:
    if not codec.Store.parse(options.store).components:
        return "", {}
    path = pathlib.Path(options.out) / feature_set.BASES
    return checksum.of_file(path), feature_set.read_bases(path)


def _outputs(
    tower: Tower, options: Options, measured: Mapping[str, Fidelity], bases: Mapping[str, Any]
) -> dict[str, dict[str, Any]]:
    store = codec.Store.parse(options.store)
    outputs = {}
    for name, of in tower.outputs.items():
        fidelity = measured.get(name, Fidelity())
        mean, std = fidelity.mean_and_std()
        outputs[name] = {
            "shape": list(of.shape),
            "dtype": "int8" if codec.is_quantized(store, of.shape) else "bfloat16",
            "input": tower.extractor.input_of(name),
            "cosine_mean": fidelity.cosine_mean(),
            "cosine_p1": fidelity.cosine_percentile(0.01),
            "mean": mean,
            "std": std,
        }
        if name in bases:
            outputs[name]["explained"] = float(bases[name]["explained"])
    return outputs
