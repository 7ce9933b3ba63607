"""Golden file of SCUNet: what spandrel's copy of the authors' network computes.

Run where torch, spandrel and torchvision (which spandrel imports) are installed:

    python tests/golden/make_scunet.py

Neither weights nor images are stored: both are drawn from names, in the script and in the tests.
spandrel mirrors at the edges where it pads; the authors repeat the last pixel, and so does this
script before it calls the network. Made with torch 2.13.0 (CPU) and spandrel 0.4.2.
"""

import functools
import io
import json
import pathlib
import sys

import numpy as np

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

from make_diffusers import named_weights, noise  # noqa: E402

FILE = HERE / "scunet.npz"
DIM, HEAD_DIM = 16, 8
PTH_SIZE = (4, 2)  # dim and width of a head
SHALLOW, DEEP = (2, 1, 1, 2, 1, 1, 1), (2,) * 7

# name -> channels, depths, size, nominal resolution.
CASES = {
    "gray_padded": (1, SHALLOW, (72, 56), 256),
    "colour_nominal_64": (3, SHALLOW, (64, 64), 64),  # the body's windows are not shifted
    "gray_deep": (1, DEEP, (64, 64), 256),
    "colour_deep_padded": (3, DEEP, (72, 56), 256),
}


def weights(shapes: dict[str, tuple[int, ...]]) -> dict[str, np.ndarray]:
    """Drawn by name; biases of relative positions of about 1, so that they tell."""
    return {
        key: value * np.float32(15 if key.endswith("relative_position_params") else 1)
        for key, value in named_weights(shapes).items()
    }


def pth_values(shape: tuple[int, ...]) -> np.ndarray:
    return np.float32(np.arange(np.prod(shape)) % 7).reshape(shape) / 4


def image(name: str) -> np.ndarray:
    """A grainy picture about [0, 1], [1, h, w, c]."""
    channels, _, size, _ = CASES[name]
    return 0.5 + np.float32(0.2) * noise(name, (1, *size, channels))


def direction(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """Weights of the output's numbers in the sum whose gradient is compared."""
    return noise(f"{name}.direction", shape)


def nhwc(x) -> np.ndarray:
    return np.ascontiguousarray(x.detach().numpy().transpose(0, 2, 3, 1))


def network(channels, depths, resolution, dim, head_width):
    from spandrel.architectures.SCUNet.__arch import SCUNet as arch

    block = arch.ConvTransBlock

    @functools.wraps(block)
    def narrow(conv_dim, trans_dim, head_dim, *args):  # it has no setting for heads' width
        return block(conv_dim, trans_dim, head_width, *args)

    arch.ConvTransBlock = narrow
    fields = dict(in_nc=channels, config=list(depths), dim=dim, input_resolution=resolution)
    model = arch.SCUNet(**fields).eval()
    arch.ConvTransBlock = block
    return model


def published_file() -> np.ndarray:
    """Bytes of a tiny network's .pth, with few different values so that it packs well."""
    import torch

    state = network(3, (1,) * 7, 256, *PTH_SIZE).state_dict()
    for key, value in state.items():
        value.copy_(torch.from_numpy(pth_values(tuple(value.shape))))
        if key.endswith("relative_position_params"):  # the authors' are views, axes swapped
            state[key] = value.permute(1, 2, 0).contiguous().permute(2, 0, 1)
    buffer = io.BytesIO()
    torch.save(state, buffer)
    return np.frombuffer(buffer.getvalue(), np.uint8)


def run(name: str) -> dict[str, np.ndarray]:
    import torch

    channels, depths, (height, width), resolution = CASES[name]
    model = network(channels, depths, resolution, DIM, HEAD_DIM)
    shapes = {k: tuple(v.shape) for k, v in model.state_dict().items()}
    model.load_state_dict({k: torch.from_numpy(v) for k, v in weights(shapes).items()})
    body = []
    model.m_body.register_forward_hook(lambda *call: body.append(call[-1]))
    x = torch.from_numpy(image(name).transpose(0, 3, 1, 2).copy()).requires_grad_()
    pads = (0, -width % 64, 0, -height % 64)
    out = model(torch.nn.functional.pad(x, pads, mode="replicate"))[..., :height, :width]
    (out.permute(0, 2, 3, 1) * torch.from_numpy(direction(name, nhwc(out).shape))).sum().backward()
    return {
        "keys": np.array(json.dumps(shapes)),
        "out": nhwc(out),
        "body": nhwc(body[0])[..., ::4],
        "slope": nhwc(x.grad),
    }


def golden_files() -> dict[str, dict[str, np.ndarray]]:
    """Returns the outputs of the golden file by its name; `published_file` has its bytes."""
    arrays = {f"{name}/{key}": v for name in CASES for key, v in run(name).items()}
    return {FILE.stem: arrays}


def main():
    arrays = golden_files()[FILE.stem]
    np.savez_compressed(FILE, **arrays, **{"file/pth": published_file()})
    print(f"{FILE}: {FILE.stat().st_size / 1e3:.0f} kB")
    for key, value in arrays.items():
        if value.ndim:
            print(f"{key} {value.shape} deviation {value.std():.3g}")


if __name__ == "__main__":
    main()
