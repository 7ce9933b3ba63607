"""MeanFlow as an objective of latent diffusion: one evaluation of the network per sampling step.

The mathematics are in `diffusion.mean_flow`. The network is conditioned on the length of the
interval, t - r, and on the guidance scale, which is drawn per example (arXiv:2512.02012), so that a
guided sample needs no second evaluation either. Both are embedded and added to `class_labels` of
the UNet. The embedding begins at zero: a run that begins with the parameters of flow matching
(`config.init_from`) begins with its outputs.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from gen_jax.common import ranges
from gen_jax.common.errors import UserError
from gen_jax.diffusion import guidance, mean_flow, samplers
from gen_jax.diffusion.schedules import Process, expand
from gen_jax.models.layers.conv import forward_mode
from gen_jax.models.layers.embeddings import TimestepEmbedding, timestep_embedding

OBJECTIVE = "meanflow"

PARAMS = "mean_flow"
"""Place of the embedding in the parameters of the group "model"."""

GuidedFn = Callable[[Array, Array, Array, Array, Mapping[str, Array]], Array]
"""(x_t, t, r, guidance scale [b], condition) -> average velocity."""

# Fastest waves of the embedding, in radians over the range of t - r and of the scale's logarithm.
_INTERVAL_WAVES, _SCALE_WAVES, _LONGEST = 16.0, 4.0, 16.0
_WIDTH = 32

_TIMES, _VELOCITIES = ("logit_normal", "process"), ("data", "snapshot")

_RANGES = {
    "share": ranges.SHARE,
    "anneal": ranges.NOT_NEGATIVE,
    "end_prob": ranges.SHARE,
    "unguided_prob": ranges.SHARE,
    "max_guidance_scale": ranges.Range(1),
    "weight_power": ranges.NOT_NEGATIVE,
    "weight_epsilon": ranges.POSITIVE,
    "time_std": ranges.POSITIVE,
}


class IntervalEmbedding(nn.Module):
    """Embeds the length of an interval and a guidance scale, zero at initialization.

    Attributes:
      features: Size of the result.
    """

    features: int

    @nn.compact
    def __call__(
        self, interval: Float[Array, "b"], scale: Float[Array, "b"]
    ) -> Float[Array, "b features"]:
        """Returns the embedding.

        Args:
          interval: t - r, from 0 to 1.
          scale: Guidance scale, at least 1.
        """
        waves = [
            timestep_embedding(_INTERVAL_WAVES * interval, _WIDTH, max_period=_LONGEST),
            timestep_embedding(_SCALE_WAVES * jnp.log(scale), _WIDTH, max_period=_LONGEST),
        ]
        dense = TimestepEmbedding(self.features, zero_init=True, name="dense")
        return dense(jnp.concatenate(waves, axis=-1))


@dataclasses.dataclass(frozen=True)
class MeanFlow:
    """Settings of the objective.

    Attributes:
      share: Probability that an example has r < t. The others have r = t and train the velocity.
      anneal: Updates at which that probability begins to rise from 0, and at which it is `share`
        (arXiv:2510.20771); equal numbers for no annealing.
      times: "logit_normal" for two sorted draws per example, or "process" for t as
        `process.timestep_sampling` draws it and r uniform in [0, t].
      time_mean: Mean of the normal numbers of "logit_normal".
      time_std: Standard deviation of the normal numbers of "logit_normal".
      end_prob: Probability that r is 0 if r < t. More of them favor sampling in one step.
      max_guidance_scale: Largest guidance scale in training and sampling. The logarithm of the
        scale is uniform.
      unguided_prob: Probability of a guidance scale of 1.
      velocity: What V is regressed on. "data" for eps - x_0 and guidance by the network's present
        predictions (arXiv:2512.02012). "snapshot" for the guided velocity that the network
        predicted when the share began to rise, at update anneal[0]: it has no variance and does
        not follow the network's errors, but is only as good as the network was, so that the run
        should begin with the parameters of flow matching (`config.init_from`), or `anneal` late.
      weight_power: Power p of the adaptive weight 1 / (error + c)^p.
      weight_epsilon: Constant c of the adaptive weight.
    """

    share: float = 0.5
    anneal: tuple[int, ...] = (0, 0)
    times: str = "logit_normal"
    time_mean: float = -0.4
    time_std: float = 1.0
    end_prob: float = 0.0
    max_guidance_scale: float = 8.0
    unguided_prob: float = 0.0
    velocity: str = "data"
    weight_power: float = 1.0
    weight_epsilon: float = 0.01

    def __post_init__(self):
        ranges.check_fields(self, _RANGES, "config.task.mean_flow")
        if len(self.anneal) != 2:
            raise UserError(
                f"config.task.mean_flow.anneal={self.anneal}: expected two numbers of updates, "
                "where the share begins to rise and where it is reached"
            )
        for name, choices in (("times", _TIMES), ("velocity", _VELOCITIES)):
            if (value := vars(self)[name]) not in choices:
                raise UserError(
                    f"config.task.mean_flow.{name}={value!r}: expected {' or '.join(choices)}"
                )

    def draw_times(
        self, rng: PRNGKeyArray, count: int, updates: Array, process: Process
    ) -> tuple[Float[Array, "b"], Float[Array, "b"]]:
        """Draws times t and r of a batch.

        Args:
          rng: Key.
          count: Examples in the batch.
          updates: Number of updates so far.
          process: Forward process.
        """
        time_key, r_key, end_key, mean_key = jax.random.split(rng, 4)
        if self.times == "logit_normal":
            t, r = mean_flow.logit_normal_times(time_key, count, self.time_mean, self.time_std)
        else:
            t = process.sample_t(time_key, (count,))
            r = t * jax.random.uniform(r_key, (count,))
        r = jnp.where(jax.random.bernoulli(end_key, self.end_prob, (count,)), 0.0, r)
        share = mean_flow.rising_share(updates, self.share, *self.anneal)
        return t, jnp.where(jax.random.bernoulli(mean_key, share, (count,)), r, t)

    def draw_scales(self, rng: PRNGKeyArray, unguided: Bool[Array, "b"]) -> Float[Array, "b"]:
        """Draws a guidance scale per example.

        Args:
          rng: Key.
          unguided: Where the scale is 1 in any case, because the caption is dropped.
        """
        scale_key, one_key = jax.random.split(rng)
        power = jax.random.uniform(scale_key, unguided.shape)
        is_one = unguided | jax.random.bernoulli(one_key, self.unguided_prob, unguided.shape)
        return jnp.where(is_one, 1.0, jnp.float32(self.max_guidance_scale) ** power)


PUBLISHED = MeanFlow()
"""The settings of arXiv:2512.02012, without its guidance intervals."""


def check(task: Any) -> None:
    """Refuses settings of a latent diffusion task that the objective has no use for.

    Args:
      task: A `tasks.ldm.LDMTask`.

    Raises:
      UserError: See above; the message names the key.
    """
    if task.process.objective != OBJECTIVE:
        if task.sampler == mean_flow.SAMPLER:
            raise UserError(
                f"sampler={task.sampler!r}: only runs with process.objective={OBJECTIVE!r} predict "
                f"average velocities; expected one of {', '.join(samplers.SAMPLERS)}"
            )
        return
    largest = task.mean_flow.max_guidance_scale
    if not 1 <= task.guidance_scale <= largest:
        raise UserError(
            f"guidance_scale={task.guidance_scale}: the network is trained for 1 to {largest:g}, "
            "see config.task.mean_flow.max_guidance_scale"
        )
    if task.guidance_rescale:
        raise UserError(
            f"guidance_rescale={task.guidance_rescale}: expected 0 with process.objective="
            f"{OBJECTIVE!r}, whose guidance is an input of the network"
        )
    if task.unet.class_embed_type is None:
        raise UserError(
            "config.task.unet.class_embed_type=None: expected 'projection' with "
            f"process.objective={OBJECTIVE!r}, which adds the interval to class_labels"
        )
    if task.unet.attention_implementation == "cudnn":
        raise UserError(
            "config.task.unet.attention_implementation='cudnn': has no forward-mode derivative, "
            f"which process.objective={OBJECTIVE!r} needs; leave it out or set it to 'xla'"
        )


def init(
    settings: MeanFlow, params: Mapping[str, Any], features: int, rng: PRNGKeyArray
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Returns the parameters of the group "model", and the mutable collections.

    Args:
      settings: Settings of the objective.
      params: Parameters of the group "model" without the embedding.
      features: Size of the UNet's `class_labels`.
      rng: Key.
    """
    one = jnp.ones((1,))
    embedding = IntervalEmbedding(features).init(rng, one, one)["params"]
    params = {**params, PARAMS: embedding}
    extra = {"updates": jnp.zeros((), jnp.int32)}
    if settings.velocity == "snapshot":
        extra["snapshot"] = jax.tree.map(jnp.copy, params)
    return params, extra


def with_snapshot(
    settings: MeanFlow, params: Mapping[str, Any], extra: Mapping[str, Any]
) -> tuple[Mapping[str, Any], dict[str, Any]]:
    """Returns the parameters that predict the velocity to regress on, and the new collections.

    Args:
      settings: Settings of the objective.
      params: Parameters of the group "model".
      extra: Mutable collections.
    """
    params = jax.lax.stop_gradient(params)
    counted = {**extra, "updates": extra["updates"] + 1}
    if settings.velocity == "data":
        return params, counted
    # Until the share begins to rise, the snapshot follows the parameters.
    is_taken = extra["updates"] > settings.anneal[0]
    kept = jax.tree.map(lambda old, new: jnp.where(is_taken, old, new), extra["snapshot"], params)
    return kept, {**counted, "snapshot": kept}


class Network(NamedTuple):
    """A network by the parameters that it has, and what it is conditioned on.

    Attributes:
      u_fn: Average velocity.
      cond: Its condition for the captions of the batch.
    """

    u_fn: GuidedFn
    cond: Mapping[str, Array]


def condition(
    params: Mapping[str, Any],
    cond: Mapping[str, Array],
    interval: Float[Array, "b"],
    scale: Float[Array, "b"],
) -> dict[str, Array]:
    """Returns what the UNet is conditioned on, with the interval t - r and the guidance scale."""
    labels = cond["class_labels"]
    module = IntervalEmbedding(labels.shape[-1])
    embedding = module.apply({"params": params[PARAMS]}, interval, scale)
    return {**cond, "class_labels": labels + embedding}


def guided_fn(denoise: Callable[..., Array], params: Mapping[str, Any], kind: str) -> GuidedFn:
    """Returns the average velocity that the UNet predicts.

    Args:
      denoise: (x_t, t, condition) -> output of the UNet.
      params: Parameters of the group "model".
      kind: Prediction type of the process.
    """

    def u_fn(x_t, t, r, scale, cond):
        output = denoise(x_t, t, condition(params, cond, t - r, scale))
        return mean_flow.from_output(output, x_t, t, kind)

    return u_fn


def loss(
    task: Any,
    trained: Network,
    fixed: Network,
    teacher: Network,
    empty: Mapping[str, Array],
    is_empty: Bool[Array, "b"],
    x_0: Float[Array, "b ..."],
    eps: Float[Array, "b ..."],
    updates: Array,
    rng: PRNGKeyArray,
) -> tuple[Float[Array, ""], dict[str, Array]]:
    """Returns the loss and metrics.

    Args:
      task: A `tasks.ldm.LDMTask`, of which the process and the settings are read.
      trained: The network.
      fixed: The same with constant parameters and without dropout, for du/dt.
      teacher: The network whose parameters `with_snapshot` gives.
      empty: What the teacher is conditioned on without a caption.
      is_empty: Which captions were dropped.
      x_0: Latents.
      eps: Noise.
      updates: Number of updates so far.
      rng: Key of times and guidance scales.
    """
    settings, process, ndim = task.mean_flow, task.process, x_0.ndim
    time_key, scale_key = jax.random.split(rng)
    t, r = settings.draw_times(time_key, len(x_0), updates, process)
    scale = settings.draw_scales(scale_key, is_empty)
    x_t, v = process.add_noise(x_0, eps, t), eps - x_0
    # Outside of the interval the guided velocity is the velocity.
    low, high = task.guidance_interval
    scale_at_t = jnp.where((t >= low) & (t <= high), scale, 1.0)

    # The teacher's velocities with and without the caption, in one call.
    is_data, one = settings.velocity == "data", jnp.ones_like(scale)
    pairs = (
        (x_t, t, t, scale if is_data else one, dict(teacher.cond)),
        (x_t, t, t, one, dict(empty)),
    )
    both = jax.lax.stop_gradient(teacher.u_fn(*jax.tree.map(_side_by_side, *pairs)))
    with_text, without = both[::2], both[1::2]
    if is_data:
        tangent = with_text
        target = mean_flow.guided_velocity(v, with_text, without, scale_at_t)
    else:
        tangent = guidance.combine(with_text, without, scale_at_t)
        target = jnp.where(updates >= settings.anneal[0], tangent, v)

    with forward_mode():
        du = mean_flow.total_derivative(
            lambda state, now, then: fixed.u_fn(state, now, then, scale, dict(fixed.cond)),
            *(x_t, t, r, tangent),
        )
    u = trained.u_fn(x_t, t, r, scale, trained.cond)
    prediction = mean_flow.as_velocity(u, du, t, r)
    error = ((prediction - target) ** 2).mean(axis=tuple(range(1, ndim)))
    weight = mean_flow.adaptive_weight(error, settings.weight_power, settings.weight_epsilon)
    metrics = {
        "model/mse": mean_flow.masked_mean(error, r == t),
        "model/mean_flow_mse": mean_flow.masked_mean(error, r < t),
        "model/mean_flow_share": (r < t).mean(),
    }
    return (weight * error).mean(), metrics


def sample(
    task: Any, u_fn: GuidedFn, cond: Mapping[str, Array], x_T: Float[Array, "b ..."], rng: Array
) -> Float[Array, "b ..."]:
    """Samples latents with one evaluation of the network per step, guided or not.

    Args:
      task: A `tasks.ldm.LDMTask`, whose `sampler_options` place the times.
      u_fn: Average velocity. Samplers other than "meanflow" use its velocity, r = t.
      cond: What the UNet is conditioned on.
      x_T: Noise.
      rng: Key or keys of the samplers that draw noise.
    """
    scale = guidance.within(task.guidance_scale, *task.guidance_interval, task.process)
    steps, options = task.num_inference_steps, task.sampler_options
    if task.sampler == mean_flow.SAMPLER:
        times = np.append(samplers.make_grid(task.process, steps, "euler", options).t, 0.0)
        return mean_flow.sample(lambda x, t, r: u_fn(x, t, r, scale(t), cond), x_T, times)

    def denoise(x, t):
        v = u_fn(x, t, t, scale(t), cond)
        return v if task.process.prediction_type == "flow" else x - expand(t, x.ndim) * v

    at = (task.process, steps, task.sampler)
    return samplers.sample(denoise, x_T, *at, rng=rng, options=options)


def _side_by_side(a: Array, b: Array) -> Array:
    """Interleaves two batches, so that rows stay on their devices."""
    return jnp.stack([a, b], axis=1).reshape(2 * len(a), *a.shape[1:])
