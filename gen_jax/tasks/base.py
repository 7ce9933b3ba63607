"""The task contract: everything that the trainer and the commands read of a stage."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp

from gen_jax.common.errors import UserError
from gen_jax.common.fields import Part
from gen_jax.encoders.weights import Port
from gen_jax.tasks.feature_space import FeatureSpace

Params = Mapping[str, Any]
"""Group ("model", "disc") -> tree of arrays."""

Extra = Mapping[str, Any]
"""Mutable collections that are not parameters: codebooks, memory banks, running statistics."""

BatchSpec = Mapping[str, jax.ShapeDtypeStruct]
"""Key -> shape and dtype of ONE example; the loader adds the batch dimension in front."""

Rngs = Mapping[str, jax.Array]
"""Stream name -> key, used once."""

Frozen = Mapping[str, Any]
"""Name -> parameters that are read and never trained (a VAE, a frozen text encoder)."""

Variables = Mapping[str, Any]
"""`{"params": Params, "extra": Extra}`, as a predict function takes them."""

Metrics = Mapping[str, jax.Array]

LossFn = Callable[..., tuple[jax.Array, tuple[Metrics, Extra]]]
"""`(params_of_group, params, extra, batch, rngs, frozen) -> (loss, (metrics, extra))`."""

PredictFn = Callable[[Variables, Mapping[str, jax.Array], Rngs, Frozen], Mapping[str, jax.Array]]
"""`(variables, batch, rngs, frozen) -> arrays`."""

SEED = jax.ShapeDtypeStruct((), jnp.uint32)
"""Input of predict functions that draw: all noise of an image comes from its seed."""

Components = Mapping[str, tuple[nn.Module, Params]]
"""Name of a component ("vae", "unet", "encoder") -> its module and parameters."""


def upstream(frozen_tasks: Mapping[str, Any] | None, name: str, kind: type, advice: str) -> Any:
    """Returns the task of the trained model that a stage works on.

    Args:
      frozen_tasks: See `Task.from_config`.
      name: Name in `config.frozen`.
      kind: Class that the task must have.
      advice: What it is needed for, and what to name.

    Raises:
      UserError: There is none, or one of another kind.
    """
    task = (frozen_tasks or {}).get(name)
    if not isinstance(task, kind):
        raise UserError(f"config.frozen.{name}: {advice}")
    return task


class Task:
    """Base of stages: a frozen dataclass of modules and numbers whose methods are pure functions.

    A stage implements `from_config`, `batch_spec`, `init`, `losses` and `predict_fns`. The other
    members have defaults. Nothing outside of this package reads anything else of a task, except a
    pipeline, which may read the fields of the tasks that name it in `pipeline`.

    Attributes:
      rng_streams: Names of the random streams that the losses and predict functions draw from.
      pipeline: Key of `pipelines.PIPELINES`: how `generate` samples from this stage.
      inherited: Names of collections of `extra` that a run begun with another's parameters
        (`config.init_from`) takes as well.
      required: Pattern of "GROUP/PATH" and of names in `inherited`: what a run begun with another's
        parameters must find there, because it is not trained here.
      parts: Nested configs of `config.task`, so that each of their fields can be set.
      text_encoder: Text encoder that the stage is conditioned on, or None.
      is_refiner: Whether it adds detail to the images of another stage.
    """

    rng_streams: ClassVar[tuple[str, ...]] = ()
    pipeline: ClassVar[str] = "samples"
    inherited: ClassVar[tuple[str, ...]] = ()
    required = "^$"
    parts: ClassVar[Mapping[str, Part]] = {}
    text_encoder = None
    is_refiner: ClassVar[bool] = False

    @classmethod
    def from_config(
        cls, config: Mapping[str, Any], frozen_tasks: Mapping[str, Any] | None = None
    ) -> "Task":
        """Builds the task from `config.task`.

        Args:
          config: Plain values.
          frozen_tasks: Name in `config.frozen` ("vae", "vqvae") -> task of that trained model, and
            "text" -> the text encoder if it is a frozen one.

        Raises:
          UserError: A key that does not exist or does not fit, or a model that is missing.
        """
        raise NotImplementedError

    def batch_spec(self) -> BatchSpec:
        """Returns keys, shapes and dtypes that the losses read from the data, for one example."""
        raise NotImplementedError

    def init(self, rng: jax.Array, batch: Mapping[str, jax.Array]) -> tuple[Params, Extra]:
        """Returns fresh parameters by group, and the mutable collections."""
        raise NotImplementedError

    def losses(self) -> Mapping[str, LossFn]:
        """Returns group -> loss, in the order of their updates; two groups are adversarial."""
        raise NotImplementedError

    def predict_fns(self) -> Mapping[str, PredictFn]:
        """Returns what a trained model can do, by name. Evaluators and pipelines use these alone.

        Names with a shared meaning: "generate" gives "image" and "finite" of a "seed", and the
        tokens of a "caption" if the stage writes captions,
        "reconstruct" gives "image" of "image", "encode" and "decode" lead to and from a latent.
        """
        raise NotImplementedError

    def predict_spec(self) -> Mapping[str, BatchSpec]:
        """Returns what each predict function reads of a batch, for one example.

        By default every one reads what the losses read.
        """
        return dict.fromkeys(self.predict_fns(), self.batch_spec())

    def frozen_encoders(self) -> Mapping[str, str]:
        """Returns place in `frozen` -> "NAME:WEIGHTS" of the frozen encoders that the losses read.

        The trainer loads them; predict functions do not see them.
        """
        return {}

    def pretrained(self) -> Mapping[str, str]:
        """Returns place in `params["model"]` -> "NAME:WEIGHTS" of the encoders whose published
        weights a fresh run begins with there.
        """
        return {}

    def untrained(self) -> str:
        """Returns a pattern of paths in `params["model"]` that the optimizer leaves alone, beside
        those of its own `freeze`; "" for none.
        """
        return ""

    @property
    def feature_space(self) -> FeatureSpace | None:
        """Stored features that the stage is trained on, or None."""
        return None

    def as_frozen(self, variables: Variables) -> Mapping[str, Any]:
        """Returns what other stages get as `frozen[NAME]` of a trained model of this one."""
        return {"params": variables["params"]["model"]}

    def as_trained(self, variables: Variables, frozen: Frozen) -> tuple["Task", Variables]:
        """Returns the task and the variables that evaluators and pipelines work with.

        Only low-rank adaptation returns others than its own: the adapted stage, merged parameters.
        """
        return self, variables

    def components(self, variables: Variables, frozen: Frozen) -> Components:
        """Returns the trained networks that other libraries have a format for, by component."""
        return {}

    def lora_components(self) -> Mapping[str, tuple[tuple[str, ...], Port]]:
        """Returns what LoRA files of other libraries adapt, by the component's name in them.

        Each is the path of its parameters, which begins with "params" or "frozen", and the
        spelling of their names in files.
        """
        return {}

    def as_released(self, variables: Variables, frozen: Frozen) -> Any:
        """Returns the stage as a pipeline that others released (`tasks.released`), None by default.

        Raises:
          UserError: It has no such shape; the message is the reason.
        """
        return None

    def sampling_settings(self) -> Mapping[str, Any]:
        """Returns the settings of "generate" that can be changed after training, and their values.

        Each is a field of the task, such as `guidance_scale` or `num_inference_steps`.
        """
        return {}

    def with_settings(self, **changes: Any) -> "Task":
        """Returns the task with other settings of sampling, of those in `sampling_settings`."""
        return dataclasses.replace(self, **changes)
