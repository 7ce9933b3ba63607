"""What `featurize` computes with a tower of images or of text: named features, purely."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from gen_jax.common.errors import UserError
from gen_jax.encoders import bert, inception_inputs, preprocess
from gen_jax.encoders.clip import CLIPText, CLIPVision
from gen_jax.encoders.dinov2 import DINOv2
from gen_jax.encoders.image_features import default_side
from gen_jax.encoders.inception import InceptionV3
from gen_jax.encoders.mobilenet_v2 import MobileNetV2

GRIDS = (4, 8, 16, 32)


@dataclasses.dataclass(frozen=True)
class Extractor:
    """A tower as a pure function.

    Attributes:
      sizes: of what it reads: sides of square images in pixels, where the inputs are "image_SIDE",
        uint8 [b, side, side, 3]; or tokens of a caption, where they are "tokens", int32
        [b, captions, n], and "token_mask", bool.
      call: (params, inputs) -> feature -> [b, ..., channels].
      input_of: feature -> pixels a side, or tokens, of the input that it comes from.
    """

    sizes: tuple[int, ...]
    call: Callable[[Mapping[str, Any], Mapping[str, jax.Array]], dict[str, jax.Array]]
    input_of: Callable[[str], int]


def of_images(
    name: str, module: nn.Module, layers: str = "", grids: Sequence[int] = GRIDS
) -> Extractor:
    """The extractor of a tower that reads images.

    DINOv2 and CLIP give patch grids, "patches_N" [N, N, c], and class tokens, "cls_N" [c]; with
    several layers they are called "layer5.patches_N". DINOv2's are taken after the final norm,
    CLIP's as the blocks leave them. CLIP gives "embedding" too, its place in the joint space, and
    so do Inception and MobileNetV2, their pooled features.

    Args:
      name: the tower's, in the catalog.
      module: the tower.
      layers: comma-separated: "last", a block counted from 0, or from -1 at the end, and
        "pooled" for what the tower gives of the whole image alone. "" is "last" for DINOv2 and
        "pooled" for the others.
      grids: tokens a side of the grids of DINOv2.

    Raises:
      UserError: a tower that this does not fit, or layers that it does not have.
    """
    if isinstance(module, DINOv2):
        return _dinov2(name, module, layers, grids)
    if isinstance(module, CLIPVision):
        return _clip(name, module, layers)
    if layers not in ("", "pooled"):
        raise UserError(f"layers={layers}: {name} gives pooled features only")
    if isinstance(module, InceptionV3 | MobileNetV2):
        side = inception_inputs.SIDE if isinstance(module, InceptionV3) else default_side(module)

        def pooled(params, inputs):
            x = preprocess.normalize(inputs[f"image_{side}"], name)
            return {"embedding": module.apply({"params": params}, x).pooled}

        return Extractor((side,), pooled, lambda feature: side)
    raise UserError(f"encoder {name!r} has no features to store: it is a {type(module).__name__}")


def _dinov2(name: str, module: DINOv2, layers: str, grids: Sequence[int]) -> Extractor:
    wanted, patch = _layers(layers or "last", module.num_hidden_layers, name), module.patch_size
    if wanted == ("pooled",):
        grids = (default_side(module) // patch,)
    sizes = tuple(n * patch for n in grids)
    blocks = tuple(i for i in wanted if i != "pooled")

    def call(params, inputs):
        out = {}
        for n, side in zip(grids, sizes, strict=True):
            x = preprocess.normalize(inputs[f"image_{side}"], name)
            found = module.apply({"params": params}, x, layers=blocks)
            if not blocks:
                out[f"cls_{n}"] = found["cls"]
            for block, of_block in zip(blocks, found["intermediate"], strict=True):
                prefix = f"layer{block}." if len(blocks) > 1 else ""
                out[f"{prefix}patches_{n}"] = of_block["patches"]
                out[f"{prefix}cls_{n}"] = of_block["cls"]
        return out

    return Extractor(sizes, call, lambda feature: patch * int(feature.rpartition("_")[2]))


def _clip(name: str, module: CLIPVision, layers: str) -> Extractor:
    wanted = _layers(layers or "pooled", module.num_hidden_layers, name)
    blocks = tuple(i for i in wanted if i != "pooled")
    side, grid = module.image_size, module.image_size // module.patch_size

    def call(params, inputs):
        x = preprocess.normalize(inputs[f"image_{side}"], name)
        found = module.apply({"params": params}, x)
        out = {"embedding": found.get("image_embeds", found["pooled"])}
        for block in blocks:
            prefix = f"layer{block}." if len(blocks) > 1 else ""
            tokens = found["hidden_states"][block + 1][:, 1:]
            out[f"{prefix}patches_{grid}"] = tokens.reshape(-1, grid, grid, tokens.shape[-1])
        return out

    return Extractor((side,), call, lambda feature: side)


def of_text(name: str, module: nn.Module, layers: str = "", length: int = 0) -> Extractor:
    """The extractor of a tower that reads captions.

    "embedding" [captions, c] is CLIP's in the joint space, or the normalised mean of BERT's states
    over real tokens, as sentence-transformers takes it; "tokens" [captions, n, c] are
    the states of a layer ("layer5.tokens" with several), CLIP's last after its final norm, and
    "token_mask" [captions, n, 1] is 1 at real tokens.

    Args:
      name: the tower's, in the catalog.
      module: of CLIP or BERT.
      layers: as in `of_images`; "" is "pooled".
      length: tokens of a caption, 0 for all that the tower reads.

    Raises:
      UserError: a length or layers that it does not have.
    """
    longest = module.max_position_embeddings
    length = length or min(longest, 512)
    if not 2 <= length <= longest:
        raise UserError(f"max_length={length}: {name} reads 2 to {longest} tokens")
    wanted = _layers(layers or "pooled", module.num_hidden_layers, name)
    blocks = tuple(i for i in wanted if i != "pooled")
    last = module.num_hidden_layers - 1

    def call(params, inputs):
        b, captions, n = inputs["tokens"].shape
        tokens = inputs["tokens"].reshape(b * captions, n)
        mask = inputs["token_mask"].reshape(b * captions, n)
        if isinstance(module, CLIPText):
            found = module.apply({"params": params}, tokens)
            pooled = found.get("text_embeds", found["pooled"])
        else:
            found = module.apply({"params": params}, tokens, mask)
            pooled = bert.sentence_embedding(found["last_hidden_state"], mask)
        out = {"embedding": pooled}
        for block in blocks:
            prefix = f"layer{block}." if len(blocks) > 1 else ""
            states = found["hidden_states"][block + 1]
            out[f"{prefix}tokens"] = found["last_hidden_state"] if block == last else states
        if blocks:
            out["token_mask"] = mask[..., None].astype(jnp.float32)
        return {k: v.reshape(b, captions, *v.shape[1:]) for k, v in out.items()}

    return Extractor((length,), call, lambda feature: length)


def _layers(layers: str, count: int, name: str) -> tuple[int | str, ...]:
    """Blocks counted from 0, in the order given, and "pooled"."""
    found: list[int | str] = []
    for item in (part.strip() for part in layers.split(",")):
        if item == "pooled":
            found.append(item)
            continue
        text = "-1" if item == "last" else item
        if not text.removeprefix("-").isdigit() or not -count <= int(text) < count:
            raise UserError(
                f"layers={layers}: {item!r} is not a layer of {name}: expected last, pooled, or a "
                f"block from 0 to {count - 1} (from -{count} to -1 counted from the end)"
            )
        found.append(int(text) % count)
    if len(set(found)) < len(found):
        raise UserError(f"layers={layers}: a layer is named twice")
    return tuple(found)


def shapes(
    extractor: Extractor, params: Any, inputs: Mapping[str, Any]
) -> dict[str, jax.ShapeDtypeStruct]:
    """Feature -> shape and dtype without the batch, computing nothing."""
    found = jax.eval_shape(extractor.call, params, inputs)
    return {k: jax.ShapeDtypeStruct(v.shape[1:], jnp.float32) for k, v in found.items()}
