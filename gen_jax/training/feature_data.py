"""The data of a stage that is guided by features: a folder of theirs, made where there is none."""

import pathlib

from gen_jax.common.errors import UserError
from gen_jax.common.progress import say
from gen_jax.data import dataset
from gen_jax.data.features import feature_set
from gen_jax.data.features.pyramid import SCALE
from gen_jax.parallel import distributed
from gen_jax.pipelines.features import job, towers
from gen_jax.pipelines.features.plan import Options
from gen_jax.tasks.feature_space import FeatureSpace


def folder_of(data: pathlib.Path, space: FeatureSpace, workdir: pathlib.Path) -> pathlib.Path:
    """The folder of features to read: `data` itself, or what is made of its images.

    Args:
      data: a folder that `prepare` or `featurize` wrote.
      space: the features that the task reads.
      workdir: the run directory, where features go that are not there yet.

    Raises:
      UserError: features of another tower, layer, grid or form, or without their images.
    """
    if (data / feature_set.FILE).is_file():
        _check(data, space)
        return data
    out = workdir / "features"
    # A finished folder is checked against the data and left alone.
    done = job.featurize(_options(data, space, out))
    if done.images:
        say(f"features: {done.images} images through {space.name} into {out}")
    distributed.barrier("features")
    return out


def _options(data, space: FeatureSpace, out, dtype: str = "float32") -> Options:
    return Options(
        data=str(data),
        encoder=space.encoder,
        out=str(out),
        layers=space.layers,
        grids=tuple(space.grids),
        store=space.store,
        dtype=dtype,
        keep_image=True,
    )


def _check(folder: pathlib.Path, space: FeatureSpace) -> None:
    info = feature_set.load(folder)
    again = (
        f"run python -m gen_jax.featurize --data=IMAGES --encoder={space.encoder} "
        f"--layers={space.layers or 'last'} --grids={','.join(map(str, space.grids))} "
        f"--store={space.store} --keep_image --out=NEW, or set config.task.features"
    )
    tower = towers.open_tower(
        _options(folder, space, folder, info.made_with.get("dtype", "float32"))
    )
    if (info.encoder, info.weights_sha256) != (tower.name, tower.sha256):
        raise UserError(
            f"{folder}: holds features of {info.encoder} ({info.weights}), and "
            f"config.task.features.encoder={space.encoder} is another tower or has other weights; "
            f"{again}"
        )
    for name, wanted in space.spec().items():
        if name.endswith(SCALE):
            continue
        found = info.outputs.get(name)
        if found is None:
            raise UserError(
                f"{folder}: has no {name}, which config.task.features asks for, but "
                f"{', '.join(info.outputs)}; {again}"
            )
        if (tuple(found["shape"]), found["dtype"]) != (wanted.shape, str(wanted.dtype)):
            raise UserError(
                f"{folder}: {name} is {found['dtype']} {list(found['shape'])}, and "
                f"config.task.features asks for {wanted.dtype} {list(wanted.shape)}; {again}"
            )
    _, records = dataset.open_split(folder, "train", "none")
    if not _has_image(records):
        raise UserError(f"{folder}: its records hold no images (keep_image); {again}")


def _has_image(records) -> bool:
    from gen_jax.data import schema

    return not len(records) or bool(schema.unpack(records[0]).image)
