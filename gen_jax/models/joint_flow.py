"""A flow over the latents of an image and its caption, any of them from any other.

Straight ways from noise to data (arXiv:2210.02747) with a time of its own for the image and for the
caption, as in UniDiffuser (arXiv:2303.06555) and in multi-modal latent diffusion
(arXiv:2306.04445): the side that is given stays at time 1, a side that is unknown and not asked for
stays at time 0, which is pure noise.
"""

from typing import Any, NamedTuple

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from gen_jax.models.layers.heads import attend
from gen_jax.models.layers.norms import layer_norm

_ZERO = nn.initializers.zeros_init()
_WAVES = 16
_IMAGE, _CAPTION = range(2)


@flax.struct.dataclass
class JointLatents:
    """Latents of images and captions.

    Attributes:
      spatial: Where things are, [b, h, w, z].
      pooled: What the image shows and its hand, [b, d].
      caption: What the caption says, [b, c].
    """

    spatial: Any
    pooled: Any
    caption: Any


class Times(NamedTuple):
    """Times of the image and of the caption, [b], from 0 (noise) to 1 (data)."""

    image: Any
    caption: Any


class JointFlow(nn.Module):
    """Velocity of joint latents: a diffusion transformer (arXiv:2212.09748).

    The modulations of all blocks come from one layer, to which each block adds an offset of its own
    (arXiv:2310.00426): a fraction of the parameters.

    Attributes:
      hidden_size: Width of the tokens.
      num_layers: Blocks.
      num_heads: Attention heads, a divisor of the width.
      pooled_tokens: Tokens that the pooled latent is split into, a divisor of its size.
      caption_tokens: Tokens that the caption's latent is split into, a divisor of its size.
      dtype: Compute dtype; parameters and velocities are float32.
    """

    hidden_size: int = 256
    num_layers: int = 6
    num_heads: int = 8
    pooled_tokens: int = 8
    caption_tokens: int = 4
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: JointLatents, times: Times) -> JointLatents:
        """Returns the velocity of each latent at the times of its side."""
        width, dtype = self.hidden_size, self.dtype
        tokens, sizes = self._tokens(x)
        condition = self._condition(times)
        modulations = nn.Dense(6 * width, kernel_init=_ZERO, name="modulation")(nn.silu(condition))
        # Tokens of the caption follow those of the image.
        counts = jnp.array([sizes[0] + sizes[1], sizes[2]])
        side = jnp.repeat(jnp.arange(2), counts, total_repeat_length=sum(sizes))
        for index in range(self.num_layers):
            block = FlowBlock(width, self.num_heads, dtype, name=f"blocks_{index}")
            tokens = block(tokens, modulations, side)
        tokens = layer_norm("final_norm", dtype=dtype)(tokens)
        spatial, pooled, caption = jnp.split(tokens, [sizes[0], sizes[0] + sizes[1]], axis=1)
        return JointLatents(
            spatial=self._out("spatial_out", spatial, x.spatial),
            pooled=self._out("pooled_out", pooled, x.pooled),
            caption=self._out("caption_out", caption, x.caption),
        )

    def _tokens(self, x: JointLatents):
        """Returns tokens [b, n, width], and how many there are of each latent."""
        b, height, width, channels = x.spatial.shape
        parts = {
            # A latent without channels has no tokens.
            "spatial": x.spatial.reshape(b, height * width if channels else 0, channels),
            "pooled": x.pooled.reshape(b, self.pooled_tokens, -1),
            "caption": x.caption.reshape(b, self.caption_tokens, -1),
        }
        tokens = []
        for name, part in parts.items():
            if not part.size:
                continue
            y = nn.Dense(self.hidden_size, dtype=self.dtype, name=f"{name}_in")(part)
            shape = (part.shape[1], self.hidden_size)
            position = self.param(f"{name}_position", nn.initializers.normal(0.3), shape)
            tokens.append(y + position[None].astype(self.dtype))
        return jnp.concatenate(tokens, axis=1), [part.shape[1] for part in parts.values()]

    def _condition(self, times: Times) -> Float[Array, "b 2 c"]:
        """Returns what each side is modulated by: its own time and that of the other."""
        waves = jnp.concatenate([_waves(times.image), _waves(times.caption)], axis=-1)
        h = nn.silu(nn.Dense(self.hidden_size, name="time_in")(waves))
        h = nn.Dense(2 * self.hidden_size, name="time_out")(h)
        return jnp.stack(jnp.split(h, 2, axis=-1), axis=1)

    def _out(self, name: str, tokens: Array, like: Array) -> Array:
        if not like.size:
            return like
        # Zero at first: the mean velocity of all times.
        channels = like[0].size // tokens.shape[1]
        y = nn.Dense(channels, kernel_init=_ZERO, dtype=self.dtype, name=name)(tokens)
        return y.reshape(like.shape).astype(jnp.float32)


class FlowBlock(nn.Module):
    """Self-attention and MLP, each shifted, scaled and gated by the times (adaLN).

    Attributes:
      width: Width of the tokens.
      num_heads: Attention heads.
      dtype: Compute dtype.
    """

    width: int
    num_heads: int
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x, modulations, side):
        """Maps tokens [b, n, c] to tokens.

        Args:
          x: Tokens of both sides.
          modulations: Shifts, scales and gates of each side, [b, 2, 6 c].
          side: 0 for tokens of the image, 1 for tokens of the caption, [n].
        """
        offset = self.param("modulation", _gates_open, (2, 6 * self.width))
        both = (modulations + offset[None]).astype(self.dtype)[:, side]
        shift1, scale1, gate1, shift2, scale2, gate2 = jnp.split(both, 6, axis=-1)
        h = layer_norm("norm1", dtype=self.dtype)(x) * (1.0 + scale1) + shift1
        q, k, v = jnp.split(nn.Dense(3 * self.width, dtype=self.dtype, name="to_qkv")(h), 3, -1)
        heads = (*q.shape[:2], self.num_heads, self.width // self.num_heads)
        h = attend(*(y.reshape(heads) for y in (q, k, v))).reshape(x.shape)
        x = x + gate1 * nn.Dense(self.width, dtype=self.dtype, name="to_out")(h)
        h = layer_norm("norm2", dtype=self.dtype)(x) * (1.0 + scale2) + shift2
        h = nn.gelu(nn.Dense(4 * self.width, dtype=self.dtype, name="fc1")(h))
        return x + gate2 * nn.Dense(self.width, dtype=self.dtype, name="fc2")(h)


def _gates_open(key, shape, dtype=jnp.float32):
    """Returns modulations that leave a block as a plain one, with its branches at a small scale."""
    width = shape[1] // 6
    gate = jnp.full((shape[0], width), 0.2, dtype)
    rest = jnp.zeros((shape[0], 2 * width), dtype)
    return jnp.concatenate([rest, gate, rest, gate], axis=-1)


def _waves(t: Float[Array, " b"]) -> Float[Array, "b w"]:
    angle = t[:, None] * (jnp.pi * 2.0 ** jnp.linspace(0.0, 6.0, _WAVES))[None]
    return jnp.concatenate([jnp.sin(angle), jnp.cos(angle)], axis=-1)


def noise_like(key: jax.Array, x: JointLatents) -> JointLatents:
    """Returns standard normal latents of the shapes of `x`."""
    leaves, tree = jax.tree.flatten(x)
    keys = jax.random.split(key, len(leaves))
    return tree.unflatten([jax.random.normal(k, leaf.shape) for k, leaf in zip(keys, leaves)])


def between(noise: JointLatents, x: JointLatents, times: Times) -> JointLatents:
    """Returns the points of the straight ways from noise to data at the times of each side."""

    def at(start, end, t):
        t = t.reshape(-1, *(1 for _ in end.shape[1:]))
        return (1.0 - t) * start + t * end

    return JointLatents(
        spatial=at(noise.spatial, x.spatial, times.image),
        pooled=at(noise.pooled, x.pooled, times.image),
        caption=at(noise.caption, x.caption, times.caption),
    )


def training_times(key: jax.Array, count: int) -> tuple[Times, Times]:
    """Draws the times of training examples, and which sides their losses count.

    Half of the examples have one time for both sides. A fifth has the caption given, a tenth has it
    unknown, which is what guidance compares with, and a fifth has the image given.

    Returns:
      The times, and weights of the losses, 0 for a side that is given or unknown.
    """
    keys = jax.random.split(key, 2)
    # A time from each part of the range: less noise in the loss than independent draws have.
    t = (jnp.arange(count) + jax.random.uniform(keys[0], (count,))) / count
    t = jax.random.permutation(keys[1], t)
    # The modes take turns, so that each batch has its share of all.
    mode = jnp.arange(count) % 10
    has_caption, lacks_caption = (mode >= 5) & (mode < 7), mode == 7
    has_image = mode >= 8
    times = Times(
        image=jnp.where(has_image, 1.0, t),
        caption=jnp.where(has_caption, 1.0, jnp.where(lacks_caption, 0.0, t)),
    )
    weights = Times(
        image=jnp.where(has_image, 0.0, 1.0),
        caption=jnp.where(has_caption | lacks_caption, 0.0, 1.0),
    )
    return times, weights


def joint_flow_loss(
    flow: JointFlow, params: Any, x: JointLatents, key: jax.Array, caption_weight: float = 0.25
) -> Float[Array, " b"]:
    """Returns the squared error of the velocities, each side's mean over its numbers.

    Args:
      flow: The flow.
      params: Its parameters.
      x: Latents of data.
      key: Key of times and noise.
      caption_weight: Weight of the caption's side relative to the image's.
    """
    keys = jax.random.split(key)
    times, weights = training_times(keys[0], len(x.pooled))
    noise = noise_like(keys[1], x)
    velocity = flow.apply({"params": params}, between(noise, x, times), times)
    error = jax.tree.map(lambda v, end, start: jnp.square(v - (end - start)), velocity, x, noise)
    image = jnp.concatenate([y.reshape(len(y), -1) for y in (error.spatial, error.pooled)], axis=-1)
    sides = (image.mean(-1), caption_weight * error.caption.mean(-1))
    return weights.image * sides[_IMAGE] + weights.caption * sides[_CAPTION]


def sample(
    flow: JointFlow,
    params: Any,
    noise: JointLatents,
    given: JointLatents,
    is_given: Times,
    *,
    guidance_scale: float = 1.0,
    steps: int = 16,
) -> JointLatents:
    """Draws what is not given, by Heun's method and classifier-free guidance (arXiv:2207.12598).

    Args:
      flow: The flow.
      params: Its parameters.
      noise: Standard normal latents to begin with.
      given: Latents of the sides that are given.
      is_given: Whether the image's and the caption's side of each example is given, bool [b].
      guidance_scale: Scale of the guidance by what is given, 1 for none.
      steps: Steps of the integration.

    Returns:
      The latents; a side that is given comes back as it is.
    """
    fixed = Times(*(side.astype(jnp.float32) for side in is_given))
    start = between(noise, given, fixed)
    has_any = is_given.image | is_given.caption

    def velocity(x, t):
        moving = jnp.full(has_any.shape, t)
        times = Times(*(jnp.where(side, 1.0, moving) for side in is_given))
        v = flow.apply({"params": params}, x, times)
        if guidance_scale != 1.0:
            # Without what is given: its side is noise, at time 0.
            blind = Times(*(jnp.where(side, 0.0, moving) for side in is_given))
            lacking = flow.apply({"params": params}, _replace_given(x, noise, is_given), blind)
            scale = jnp.where(has_any, guidance_scale, 1.0)
            v = jax.tree.map(lambda a, b: b + _column(scale, a) * (a - b), v, lacking)
            # An example without anything given is not guided: both velocities are the same one.
        return _only_drawn(v, is_given)

    def step(x, index):
        t = index / steps
        here = velocity(x, t)
        there = velocity(jax.tree.map(lambda a, v: a + v / steps, x, here), t + 1.0 / steps)
        x = jax.tree.map(lambda a, v, w: a + (v + w) / (2.0 * steps), x, here, there)
        return x, None

    return jax.lax.scan(step, start, jnp.arange(steps, dtype=jnp.float32))[0]


def _column(values: Float[Array, " b"], like: Array) -> Array:
    return values.reshape(-1, *(1 for _ in like.shape[1:]))


def _replace_given(x: JointLatents, noise: JointLatents, is_given: Times) -> JointLatents:
    kept = Times(*(~side for side in is_given))
    return between(noise, x, Times(*(side.astype(jnp.float32) for side in kept)))


def _only_drawn(v: JointLatents, is_given: Times) -> JointLatents:
    """Returns velocities that are 0 at the sides that are given."""
    zero = jax.tree.map(jnp.zeros_like, v)
    return between(zero, v, Times(*((~side).astype(jnp.float32) for side in is_given)))
