"""Golden files of torch.save: both layouts, and what tensors in them can look like.

Run where torch and transformers are installed:

    python tests/golden/make_torch_pickles.py

Made with torch 2.13.0 (CPU) and transformers 5.23.0. `files/NAME` are the bytes of a file,
`values/KEY` the values of `tensors`, `bert/KEY` those of the tower; bfloat16 as float32.
"""

import io
import pathlib
from collections import OrderedDict

import numpy as np
import torch
from transformers import BertConfig, BertModel

FILE = pathlib.Path(__file__).resolve().parent / "torch_pickles.npz"
BERT = dict(
    vocab_size=20,
    hidden_size=16,
    num_hidden_layers=1,
    num_attention_heads=2,
    intermediate_size=32,
    max_position_embeddings=8,
)


def tensors() -> OrderedDict:
    base = torch.arange(60.0).reshape(6, 10)
    return OrderedDict(
        base=base,
        view=base[1:, 1::3].t(),
        half=torch.linspace(-1, 1, 5).half(),
        brain=torch.linspace(-2, 3, 7).bfloat16(),
        brain_view=torch.linspace(-2, 3, 12).bfloat16().reshape(3, 4)[1:, ::2],
        double=torch.tensor([1e-300, -2.5], dtype=torch.float64),
        count=torch.tensor(2**40),
        ids=torch.arange(8)[2:5],
        small=torch.tensor([-3, 4], dtype=torch.int8),
        mask=torch.tensor([True, False]),
        empty=torch.zeros(0, 3),
        spread=torch.tensor([[7.0]]).expand(2, 3),
        parameter=torch.nn.Parameter(torch.full((2, 2), 0.5)),
    )


def bert() -> OrderedDict:
    """A BERT's state dict with few different values, so that the file is small."""
    torch.manual_seed(0)
    model = BertModel(BertConfig(**BERT), add_pooling_layer=False)
    state = model.state_dict()  # an OrderedDict that carries the versions of the modules
    for value in state.values():
        if value.is_floating_point():
            value.copy_(torch.randint(-2, 3, value.shape) / 4)
    return state


def saved(thing, legacy: bool = False) -> np.ndarray:
    buffer = io.BytesIO()
    torch.save(thing, buffer, _use_new_zipfile_serialization=not legacy)
    return np.frombuffer(buffer.getvalue(), np.uint8)


def values(prefix: str, state) -> dict[str, np.ndarray]:
    return {
        f"{prefix}/{key}": (value.float() if value.dtype == torch.bfloat16 else value)
        .detach()
        .numpy()
        for key, value in state.items()
    }


def main():
    state, tower = tensors(), bert()
    optimizer = {"step": torch.tensor(3.0), "lr": 0.1}
    files = {
        "zip.pth": saved(state),
        "legacy.pth": saved(state, legacy=True),
        "nested.pth": saved({"epoch": 3, "optimizer": optimizer, "state_dict": state}),
        "nested_legacy.pth": saved(
            {"optimizer": optimizer, "model": state, "name": "x"}, legacy=True
        ),
        "bert.pth": saved(tower),
        "bert_legacy.pth": saved(tower, legacy=True),
        "module.pth": saved(torch.nn.Linear(1, 1)),
        "number.pth": saved(3),
    }
    np.savez_compressed(
        FILE,
        **{f"files/{name}": data for name, data in files.items()},
        **values("values", state),
        **values("bert", tower),
    )


if __name__ == "__main__":
    main()
