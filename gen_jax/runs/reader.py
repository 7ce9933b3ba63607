"""Reads a trained model from a run directory, a packaged model or a folder of diffusers."""

import dataclasses
import hashlib
import pathlib
from collections.abc import Mapping
from typing import Any

import ml_collections
import numpy as np

from gen_jax.common import config as config_lib
from gen_jax.common.errors import UserError
from gen_jax.data.text import tokenizer_file
from gen_jax.data.text.tokenizer import Tokenizer
from gen_jax.runs import layout, manifest, pipeline_folder, renamed, sources, text_tower, weights
from gen_jax.runs.sources import PACKAGED as PACKAGED
from gen_jax.runs.sources import resolve as resolve
from gen_jax.tasks import build_task
from gen_jax.tasks.lora import LowRank, is_adapted, merged


@dataclasses.dataclass(frozen=True)
class Factors:
    """Low-rank factors of a run, and the model that they adapt.

    Attributes:
      params: Group -> tree of factors.
      config: What is adapted, and by how much.
      base: Where the model was read from.
      base_digest: SHA-256 of its weights.
    """

    params: Mapping[str, Any]
    config: LowRank
    base: str
    base_digest: str


@dataclasses.dataclass(frozen=True)
class TrainedModel:
    """A task with its weights.

    Attributes:
      path: where it was read from.
      config: of the run.
      task: the task, built.
      variables: `{"params", "extra"}` as NumPy, averaged parameters where there are some.
      frozen: parameters of the models it works on.
      step: training steps taken.
      digest: SHA-256 of `variables`.
      frozen_digests: name -> SHA-256 of the weights of each model in `frozen`.
      mean_of: the same of the runs that it is the mean of.
      lora: low-rank factors that are merged into `variables`, or None.
      merged_files: path, SHA-256 and scale of the LoRA files that are merged into `variables` and
        `frozen`; `digest` is that of the weights without them.
    """

    path: pathlib.Path
    config: ml_collections.ConfigDict
    task: Any
    variables: Mapping[str, Any]
    frozen: Mapping[str, Any]
    step: int
    digest: str
    frozen_digests: Mapping[str, str] = dataclasses.field(default_factory=dict)
    mean_of: tuple[str, ...] = ()
    lora: Factors | None = None
    merged_files: tuple[Mapping[str, Any], ...] = ()

    def tokenizer(self) -> Tokenizer:
        """Reads the tokenizer by which the model reads text.

        Raises:
          UserError: It is missing or damaged.
        """
        known = text_tower.tokenizer(self.config.to_dict().get("task", {}), self.path)
        return known or tokenizer_file.load(self.path / layout.TOKENIZER)

    @property
    def is_released(self) -> bool:
        """Returns whether this is a pipeline that others released, rather than a run."""
        return sources.is_pipeline(str(self.path))

    @property
    def has_tokenizer(self) -> bool:
        """Returns whether the model was trained on texts by a tokenizer of its own."""
        task = self.config.get("task", {})
        has_file = (self.path / layout.TOKENIZER).is_file()
        return bool(task.get("text_encoder")) and (has_file or text_tower.is_frozen(task))


@dataclasses.dataclass(frozen=True)
class FrozenModels:
    """All trained models that a run works on.

    Attributes:
      models: Name in `config.frozen` -> the model; "text" is a frozen text encoder.
      tokenizer: Tokenizer of that text encoder, or None.
    """

    models: Mapping[str, TrainedModel]
    tokenizer: Tokenizer | None = None

    @property
    def tasks(self) -> dict[str, Any]:
        """Name -> task, as `tasks.build_task` takes them."""
        return {name: model.task for name, model in self.models.items()}

    @property
    def trees(self) -> dict[str, Any]:
        """Name -> parameters, as losses and predict functions take them."""
        return {name: m.task.as_frozen(m.variables) for name, m in self.models.items()}

    @property
    def digests(self) -> dict[str, str]:
        """Name -> SHA-256 of the parameters."""
        return {name: model.digest for name, model in self.models.items()}


def name_of(model: TrainedModel) -> str:
    """Returns where a model was read from: "package:NAME", or its folder."""
    return sources.name_of(model.path)


def load(source: str, step: str = "best", dtype: str | None = None) -> TrainedModel:
    """Reads a run.

    Args:
      source: a run directory, `package:NAME`, a diffusers folder of an autoencoder or of a whole
        pipeline (`pipeline_folder`), or `hub:OWNER/NAME[@REVISION]` for a pipeline.
      step: "best", "last" or a number of steps; a folder with exported weights has only one.
        A damaged best or last checkpoint is named on standard error and the newest undamaged
        one read in its place.
      dtype: Compute dtype of a pipeline, "float32" (default) or "bfloat16"; a run has its own.

    Raises:
      UserError: nothing there, damaged, or no finished checkpoint.
    """
    path = resolve(source)
    if sources.is_pipeline(str(path)):
        return _from_pipeline(path, dtype or "float32")
    if dtype is not None:
        raise UserError(f"dtype={dtype}: {path} computes as its config says; leave dtype out")
    if not (path / layout.CONFIG).is_file():
        raise UserError(f"{path}: no {layout.CONFIG}; expected a run directory")
    found = layout.read_json(path / layout.CONFIG, "a config")
    if "_class_name" in found:
        return _from_diffusers(path)
    if "model_type" in found:
        raise UserError(
            f"{path}: is an encoder in Hugging Face's layout, no run; name it where an encoder is "
            "asked for"
        )
    config = config_lib.from_json(config_lib.to_json(renamed.current(found)))
    manifest.check(path)
    frozen = load_all_frozen(config, path)
    task = build_task(config.task.to_dict(), frozen.tasks)
    if (path / layout.WEIGHTS).is_file():
        variables, at = weights.load(path / layout.WEIGHTS), -1
        variables.setdefault("extra", {})
    else:
        variables, at = _from_checkpoint(path, step)
        for name in manifest.changed_weights(path, frozen.digests):
            manifest.note(f"{path}: was trained on other weights of {name!r} than those read now")
    model = TrainedModel(
        path=path,
        config=config,
        task=task,
        variables=variables,
        frozen=frozen.trees,
        step=at,
        digest=weights.digest(variables),
        frozen_digests=frozen.digests,
    )
    # Exported weights are merged already.
    is_merged = (path / layout.WEIGHTS).is_file()
    return model if is_merged else _with_base(model)


def _with_base(model: TrainedModel) -> TrainedModel:
    """Merges the low-rank factors of a run into the model that they adapt.

    Raises:
      UserError: That model is not there, or has other weights than the factors were trained on.
    """
    params = model.variables["params"]
    factors = {group: tree for group, tree in params.items() if is_adapted(tree)}
    if not factors:
        return model
    config, source = LowRank.of_run(model.config), model.config.init_from
    try:
        base = load(sources.located(model.path, source))
    except UserError as error:
        raise UserError(f"{model.path} holds low-rank factors of another run: {error}") from error
    manifest.check_base(model.path, source, base.digest)
    params = merged(params, base.variables["params"], config.scale)
    # Of what was stored: the product of the factors may round differently elsewhere.
    text = f"{model.digest} {base.digest} {config.scale}"
    return dataclasses.replace(
        model,
        variables={**model.variables, "params": params},
        digest=hashlib.sha256(text.encode()).hexdigest(),
        lora=Factors(factors, config, source, base.digest),
    )


def load_all_frozen(config: ml_collections.ConfigDict, base: pathlib.Path) -> FrozenModels:
    """Reads all that a run works on: the models of `config.frozen` and a frozen text encoder.

    Args:
      config: Config of the run.
      base: The run directory, which relative paths count from.
    """
    models = load_frozen(config.frozen.to_dict(), base)
    if not text_tower.is_frozen(config.task):
        # A stage that works on a model with a text encoder reads the words of that model.
        reading = [model for model in models.values() if model.has_tokenizer]
        return FrozenModels(models, reading[0].tokenizer() if reading else None)
    task, params, tokenizer = text_tower.load(config.task.to_dict(), base)
    return FrozenModels({**models, "text": _trained(base, task, params)}, tokenizer)


def load_frozen(named: Mapping[str, str], base: pathlib.Path) -> dict[str, TrainedModel]:
    """Reads each model that a run works on.

    Args:
      named: Name -> source. Of a pipeline the component of that name is read.
      base: The run directory, which relative paths count from.
    """
    located = {name: sources.located(base, source) for name, source in named.items()}
    return {name: load(sources.component(source, name)) for name, source in located.items()}


def _from_checkpoint(path: pathlib.Path, which: str) -> tuple[dict[str, Any], int]:
    """Reads and verifies a checkpoint of a run directory.

    Args:
      path: The run directory.
      which: "best" or "last", of which the newest undamaged other one takes the place if it is
        damaged, or a number of steps.

    Returns:
      "params" (averaged where there are averages) and "extra", and the step that was read.

    Raises:
      UserError: There is no such checkpoint, or it is damaged.
    """
    from gen_jax.runs import checkpoint_files

    folder = path / layout.CHECKPOINTS
    steps = checkpoint_files.steps(folder)
    if not steps:
        raise UserError(f"{path}: no finished checkpoint; train it with gen_jax.main first")
    faults: dict[int, str] = {}
    for step in _candidates(path, which, steps):
        try:
            tree = checkpoint_files.read_model(folder / str(step))
        except checkpoint_files.Damaged as error:
            if (folder / str(step)).exists():  # else a run that goes on has just removed it
                faults[step] = str(error)
            continue
        if faults:
            manifest.note(f"{folder}: {_listed(faults)}; using {step}")
        params = {**tree["params"], **(tree.get("ema") or {})}
        return {"params": params, "extra": tree.get("extra") or {}}, step
    others = [step for step in steps if step not in faults]
    advice = f"choose another step of {others}" if others else "put back a copy"
    raise UserError(f"{folder}: {_listed(faults)}; {advice}")


def _candidates(path: pathlib.Path, which: str, steps: list[int]) -> list[int]:
    """Returns the steps to try, the one that is meant first."""
    newest_first = steps[::-1]
    if which == "last":
        return newest_first
    if which == "best":
        best = _best(path)
        return sorted(newest_first, key=lambda step: step != best)
    if which.isdigit() and int(which) in steps:
        return [int(which)]
    raise UserError(f"{path}: no checkpoint {which!r}; there are {steps}, 'best' and 'last'")


def _best(path: pathlib.Path) -> int | None:
    """Returns the best step that done.json names; None in a run that goes on."""
    file = path / layout.DONE
    if not file.exists():
        return None
    try:
        return int(layout.read_json(file, "best and last step")["best"])
    except (UserError, KeyError, TypeError, ValueError):
        manifest.note(f"{file}: damaged, it names no best step; using the newest checkpoint")
        return None


def _listed(faults: Mapping[int, str]) -> str:
    return "; ".join(f"checkpoint {step} is damaged ({fault})" for step, fault in faults.items())


def _from_pipeline(path: pathlib.Path, dtype: str) -> TrainedModel:
    """Reads a pipeline of diffusers as a latent diffusion run that is finished."""
    from gen_jax.encoders.diffusers_folder import load_diffusers

    config = pipeline_folder.run_config(path, dtype)
    frozen = load_all_frozen(config, path)
    task = build_task(config.task.to_dict(), frozen.tasks)
    unet, params = load_diffusers(path / "unet", dtype=task.unet.dtype)
    # The folder's own module remembers how its files are laid out.
    unet = unet.clone(sample_size=task.unet.sample_size)
    model = _trained(path, dataclasses.replace(task, unet=unet), {"unet": params})
    return dataclasses.replace(
        model, config=config, frozen=frozen.trees, frozen_digests=frozen.digests
    )


def _from_diffusers(path: pathlib.Path) -> TrainedModel:
    from gen_jax.encoders.diffusers_folder import load_diffusers
    from gen_jax.tasks.vae import VAETask

    module, params = load_diffusers(path)
    if not hasattr(module, "decode"):
        raise UserError(f"{path}: is a {type(module).__name__}; expected an autoencoder's folder")
    mean, _ = _latent_shape(module, params)
    channels = mean.shape[-1]
    scale = getattr(module, "scaling_factor", None) or 1.0
    shift = getattr(module, "shift_factor", None) or 0.0
    extra = {
        "latent_mean": np.full((channels,), shift, np.float32),
        "latent_var": np.full((channels,), 1.0 / scale**2, np.float32),
    }
    return _trained(path, VAETask(autoencoder=module), params, extra)


def _trained(path: pathlib.Path, task, params, extra: Mapping[str, Any] | None = None):
    """A model that no run of ours trained."""
    variables = {"params": {"model": params}, "extra": dict(extra or {})}
    return TrainedModel(
        path=path,
        config=ml_collections.ConfigDict(),
        task=task,
        variables=variables,
        frozen={},
        step=-1,
        digest=weights.digest(variables),
    )


def _latent_shape(module, params):
    import jax
    import jax.numpy as jnp

    image = jax.ShapeDtypeStruct((1, 64, 64, 3), jnp.float32)
    return jax.eval_shape(
        lambda p, x: module.apply({"params": p}, x, method="encode"), params, image
    )
