"""DINOv2 vision transformers (arXiv:2304.07193), with and without registers (arXiv:2309.16588).

The files are those of Hugging Face: facebook/dinov2-small, facebook/dinov2-with-registers-small
and so on up to -giant. Images are RGB in [0, 1], normalised with `MEAN` and `STD`.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from gen_jax.common.errors import UserError
from gen_jax.encoders.hf_config import check_model_type, square, take
from gen_jax.encoders.patches import PatchEmbed, resize_positions
from gen_jax.encoders.transformer import PreNormBlock
from gen_jax.encoders.weights import Port
from gen_jax.models.layers.norms import layer_norm

MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)

PORT = Port(
    rename=(
        (r"^blocks\.", "encoder.layer."),
        (r"\.attention\.(query|key|value)\.", r".attention.attention.\1."),
        (r"\.attention\.out\.", ".attention.output.dense."),
        (r"\.(layer_scale\d)$", r".\1.lambda1"),
        (r"^patch_embed\.", "embeddings.patch_embeddings.projection."),
        (r"^(\w+_tokens?|position_embeddings)$", r"embeddings.\1"),
        (r"^norm\.", "layernorm."),
    ),
    aliases=(
        (r"^dinov2(_with_registers)?\.", ""),
        (r"\.attention\.q_proj\.", ".attention.attention.query."),
        (r"\.attention\.k_proj\.", ".attention.attention.key."),
        (r"\.attention\.v_proj\.", ".attention.attention.value."),
        (r"\.attention\.o_proj\.", ".attention.output.dense."),
    ),
    ignore=(r"^classifier\.",),
)


class DINOv2(nn.Module):
    """The tower; fields as in transformers' `Dinov2Config`.

    Attributes:
      hidden_size: width of the tokens.
      num_hidden_layers: blocks.
      num_attention_heads: heads a block.
      mlp_ratio: width of the MLP over the tokens'.
      hidden_act: activation of the MLP.
      use_swiglu_ffn: the giant's gated MLP, of two thirds the width, rounded up to 8.
      qkv_bias: biases of query, key and value.
      layer_norm_eps: added to the variance.
      image_size: pixels a side that the positions were learnt at.
      patch_size: pixels a side of a token.
      num_register_tokens: 0 or 4.
      use_mask_token: whether the file has one (all published do).
      antialias: how positions are resized; transformers does it for models with registers.
      remat: recompute the blocks in the backward pass.
      attention_implementation: passed to `jax.nn.dot_product_attention`.
      dtype: compute dtype; parameters are float32.
    """

    hidden_size: int = 768
    num_hidden_layers: int = 12
    num_attention_heads: int = 12
    mlp_ratio: float | int = 4
    hidden_act: str = "gelu"
    use_swiglu_ffn: bool = False
    qkv_bias: bool = True
    layer_norm_eps: float = 1e-6
    image_size: int = 224
    patch_size: int = 14
    num_register_tokens: int = 0
    use_mask_token: bool = True
    antialias: bool = False
    remat: bool = False
    attention_implementation: str | None = None
    dtype: Any = jnp.float32

    @property
    def port(self) -> Port:
        """How the files spell the parameters."""
        return PORT

    def example_inputs(self) -> tuple[jax.Array, ...]:
        """Arguments for `init`."""
        return (jnp.zeros((1, self.patch_size, self.patch_size, 3), jnp.float32),)

    @nn.compact
    def __call__(
        self,
        images: Float[Array, "b h w 3"],
        masked: Bool[Array, "b rows columns"] | None = None,
        *,
        layers: Sequence[int] = (),
        norm: bool = True,
    ) -> dict[str, Any]:
        """Encodes.

        Args:
          images: normalised; both sides are multiples of `patch_size`.
          masked: patches that the mask token stands in for (True), as in pretraining.
          layers: blocks whose outputs are wanted too, counted from 0, or from -1 at the end.
          norm: whether those outputs go through the final norm, as in DINOv2's
            get_intermediate_layers.

        Returns:
          `cls` [b, c], `registers` [b, num_register_tokens, c] and `patches`
          [b, h / patch_size, w / patch_size, c], all after the final norm; `intermediate`, a
          tuple with one such dict for each entry of `layers`, in that order.

        Raises:
          UserError: a size or a layer that this tower does not have.
        """
        wanted = [self._layer(i) for i in layers]
        x = PatchEmbed(self.hidden_size, self.patch_size, dtype=self.dtype, name="patch_embed")(
            images
        )
        b, rows, columns, width = x.shape
        if self.use_mask_token:
            token = self._token("mask_token", (1, width))
            if masked is not None:
                x = jnp.where(masked[..., None], token[None, None], x)
        elif masked is not None:
            raise UserError("masked: this tower has no mask token (use_mask_token=False)")

        side = self.image_size // self.patch_size
        positions = self.param(
            "position_embeddings",
            nn.initializers.normal(0.02),
            (1, side * side + 1, width),
            jnp.float32,
        )
        grid = resize_positions(jnp.asarray(positions[0, 1:]), rows, columns, self.antialias)
        x = x.reshape(b, rows * columns, width) + grid.astype(self.dtype)[None]
        first = self._token("cls_token", (1, 1, width)) + positions[:, :1].astype(self.dtype)
        prefix = [first]
        if self.num_register_tokens:
            prefix.append(self._token("register_tokens", (1, self.num_register_tokens, width)))
        prefix = [jnp.broadcast_to(t, (b, *t.shape[1:])) for t in prefix]
        x = jnp.concatenate([*prefix, x], axis=1)

        block = nn.remat(PreNormBlock) if self.remat else PreNormBlock
        outputs = []
        for i in range(self.num_hidden_layers):
            x = block(
                num_heads=self.num_attention_heads,
                intermediate_size=self._intermediate_size(),
                hidden_act=self.hidden_act,
                layer_norm_eps=self.layer_norm_eps,
                qkv_bias=self.qkv_bias,
                swiglu=self.use_swiglu_ffn,
                layer_scale=True,
                attention_implementation=self.attention_implementation,
                dtype=self.dtype,
                name=f"blocks_{i}",
            )(x)
            outputs.append(x)

        final = layer_norm("norm", self.layer_norm_eps, self.dtype)

        def split(x: jax.Array) -> dict[str, jax.Array]:
            start = 1 + self.num_register_tokens
            return {
                "cls": x[:, 0],
                "registers": x[:, 1:start],
                "patches": x[:, start:].reshape(b, rows, columns, width),
            }

        intermediate = tuple(split(final(outputs[i]) if norm else outputs[i]) for i in wanted)
        return {**split(final(x)), "intermediate": intermediate}

    def _token(self, name: str, shape: tuple[int, ...]) -> jax.Array:
        token = self.param(name, nn.initializers.normal(0.02), shape, jnp.float32)
        return jnp.asarray(token, self.dtype)

    def _layer(self, index: int) -> int:
        count = self.num_hidden_layers
        if not -count <= index < count:
            raise UserError(f"layers: {index} is none of this tower's {count} blocks")
        return index % count

    def _intermediate_size(self) -> int:
        size = int(self.hidden_size * self.mlp_ratio)
        return (size * 2 // 3 + 7) // 8 * 8 if self.use_swiglu_ffn else size


def from_hf_config(config: Mapping[str, Any], **options: Any) -> DINOv2:
    """The tower that a config.json of `dinov2` or `dinov2_with_registers` describes.

    Args:
      config: the parsed config.json; keys that it lacks have transformers' defaults.
      **options: fields of ours (`dtype`, `remat`, `attention_implementation`).
    """
    kind = check_model_type(config, "dinov2", "dinov2_with_registers")
    fields = take(
        config,
        *("hidden_size", "num_hidden_layers", "num_attention_heads", "mlp_ratio", "hidden_act"),
        *("use_swiglu_ffn", "qkv_bias", "layer_norm_eps"),
    )
    registers = kind == "dinov2_with_registers"
    if registers:
        fields["num_register_tokens"] = config.get("num_register_tokens", 4)
    else:
        fields |= take(config, "use_mask_token")
    fields["image_size"] = square(config.get("image_size", 224), "image_size")
    fields["patch_size"] = square(config.get("patch_size", 16 if registers else 14), "patch_size")
    return DINOv2(**fields, antialias=registers, **options)


def to_hf_config(module: DINOv2) -> dict[str, Any]:
    """The config.json that `from_hf_config` reads as this tower; the inverse of it."""
    same = (
        *("hidden_size", "num_hidden_layers", "num_attention_heads", "mlp_ratio", "hidden_act"),
        *("use_swiglu_ffn", "qkv_bias", "layer_norm_eps", "image_size", "patch_size"),
    )
    config: dict[str, Any] = {name: getattr(module, name) for name in same}
    if module.num_register_tokens:
        config |= {"model_type": "dinov2_with_registers"}
        return config | {"num_register_tokens": module.num_register_tokens}
    return config | {"model_type": "dinov2", "use_mask_token": module.use_mask_token}


def _preset(width: int, layers: int, heads: int, registers: bool) -> dict[str, Any]:
    size = {
        "hidden_size": width,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "image_size": 518,
        "use_swiglu_ffn": width == 1536,
    }
    return {**size, "num_register_tokens": 4, "antialias": True} if registers else size


_SIZES = {
    "small": (384, 12, 6),
    "base": (768, 12, 12),
    "large": (1024, 24, 16),
    "giant": (1536, 40, 24),
}

# The encoder of our own, see gen_jax/weights/dino_tiny/README.md.
TINY: dict[str, Any] = {
    "hidden_size": 192,
    "num_hidden_layers": 4,
    "num_attention_heads": 3,
    "hidden_act": "relu",
    "image_size": 64,
    "patch_size": 8,
}

# Constructor fields by the name of the repository under huggingface.co/facebook.
PRESETS: dict[str, dict[str, Any]] = {
    **{f"dinov2-{name}": _preset(*size, False) for name, size in _SIZES.items()},
    **{f"dinov2-with-registers-{name}": _preset(*size, True) for name, size in _SIZES.items()},
}
