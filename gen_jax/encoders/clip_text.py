"""Texts to CLIP's joint space: a tower, and the tokenizer that lies beside its weights."""

import functools
from collections.abc import Callable, Sequence

import numpy as np

from gen_jax.common.errors import UserError
from gen_jax.encoders import catalog, files, text_tokenizer
from gen_jax.encoders.batched import Batched
from gen_jax.encoders.clip import CLIPText


@functools.lru_cache(maxsize=2)
def open_texts(spec: str, batch_size: int = 256) -> Callable[[Sequence[str]], np.ndarray]:
    """Loads CLIP's text tower and its tokenizer.

    Args:
      spec: "NAME[:WEIGHTS]", see `catalog.parse`; weights that have the tokenizer beside them.
      batch_size: texts at once.

    Returns:
      A function of texts: their embeddings [n, projection_dim], not normalised.

    Raises:
      UserError: a tower that has no joint space, no fitting weights, or no tokenizer.
    """
    name, weights = catalog.parse(spec)
    module, params = catalog.load(name, weights)
    if not isinstance(module, CLIPText) or module.projection_dim is None:
        raise UserError(f"encoder {name!r}: expected a text tower of CLIP with its projection")
    where = files.folder_of(weights or catalog.TOWERS[name].hub or "")
    tokenizer = text_tokenizer.find(name, module, where)

    def forward(params, tokens):
        return module.apply({"params": params}, tokens)["text_embeds"]

    run = Batched(forward, params, batch_size)
    return lambda texts: run(tokenizer.encode(texts, module.max_position_embeddings).ids)
