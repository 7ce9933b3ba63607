"""Golden file of the convolutional towers: what the published architectures compute.

Run where torch is installed:

    python tests/golden/make_convolutional.py

The architectures have their full size, but neither weights nor images are stored: both are
drawn from names, in the script and in the tests. Of each map some hundred numbers are kept.
Made with torch 2.13.0 (CPU).
"""

import pathlib
import sys
import zlib

import numpy as np

HERE = pathlib.Path(__file__).resolve().parent
FILE = HERE / "convolutional.npz"

# The size of each pair of images. On the way down both sides come by odd and even lengths, so
# that windows end inside, at the edge and, in SqueezeNet, half outside.
SIZE = (65, 47)
CHANNELS = {
    "alex": (64, 192, 384, 256, 256),
    "vgg": (64, 128, 256, 512, 512),
    "squeeze": (64, 128, 256, 384, 384, 512, 512),
    "st_alex": (64, 192, 384, 256, 256),
}
INCEPTION_SIZE, RESIZED_FROM = (107, 89), ((40, 61), (350, 333))
MOBILENETS = {"full": (70, 49), "narrow": (33, 64)}
MOBILENET_CHANNELS = {
    "full": (32, 16, 24, 32, 64, 96, 160, 320, 1280),
    "narrow": (16, 8, 8, 16, 24, 32, 56, 112, 1280),  # torchvision's at width_mult=0.35
}
KEPT = 256  # numbers of a map, about


def seeded_weights(shapes: dict[str, tuple[int, ...]]) -> dict[str, np.ndarray]:
    """float32 weights that depend on each tensor's name and shape alone."""
    weights = {}
    for name, shape in shapes.items():
        rng = np.random.default_rng(zlib.crc32(name.encode()))
        noise = rng.standard_normal(shape, np.float32)
        if name.startswith("lin"):
            weights[name] = np.abs(noise)
        elif len(shape) > 1:
            # He's scale keeps the maps about 1 in size through any depth.
            weights[name] = noise * np.float32(np.sqrt(2 / np.prod(shape[1:])))
        elif name.endswith("running_var"):
            weights[name] = np.exp(np.float32(0.3) * noise)
        else:
            weights[name] = np.float32(name.endswith("weight")) + np.float32(0.1) * noise
    return weights


def images(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """Smooth and grainy pictures in [-1, 1], [2, h, w, 3]."""
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    waves = rng.standard_normal((2, 3, 3, 2)).astype("f4")  # frequencies, a channel and wave
    rows, columns = np.linspace(0, 6, shape[0], dtype="f4"), np.linspace(0, 6, shape[1], dtype="f4")
    phase = waves[..., 0, None, None] * rows[:, None] + waves[..., 1, None, None] * columns
    smooth = np.sin(phase).mean(2).transpose(0, 2, 3, 1)
    grain = rng.standard_normal(smooth.shape).astype("f4")
    return np.clip(0.7 * smooth + 0.2 * grain, -1, 1)


def thinned(x: np.ndarray) -> np.ndarray:
    """Some hundred numbers of a map, spread over all its axes."""
    if x.size <= KEPT:
        return x.reshape(-1)
    step = max(3, x.size // KEPT)
    # A step that shares no factor with any axis visits every row, column and channel.
    while any(np.gcd(step, n) > 1 for n in x.shape if n > 1):
        step += 1
    return x.reshape(-1)[::step]


def direction(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """Weights of an output's numbers in the sum whose slope is compared."""
    rng = np.random.default_rng(zlib.crc32(f"{name}.direction".encode()))
    return rng.standard_normal(shape, np.float32) / np.float32(np.sqrt(np.prod(shape)))


def nhwc(x) -> np.ndarray:
    x = x.detach().numpy()
    return np.ascontiguousarray(x.transpose(0, 2, 3, 1)) if x.ndim == 4 else x


def nchw(x: np.ndarray):
    import torch

    x = np.ascontiguousarray(x.transpose(0, 3, 1, 2))
    return torch.from_numpy(x).requires_grad_()


def filled(model):
    import torch

    state = {k: v for k, v in model.state_dict().items() if "num_batches" not in k}
    weights = seeded_weights({k.removeprefix("net."): tuple(v.shape) for k, v in state.items()})
    weights = {k: torch.from_numpy(weights[k.removeprefix("net.")]) for k in state}
    model.load_state_dict(weights, strict=False)
    return model.eval().requires_grad_(False)


def distance_case(reference, name: str) -> dict[str, np.ndarray]:
    model = filled(reference.Distance(getattr(reference, name)(), CHANNELS[name]))
    x, y = (nchw(images(f"{name}.{which}", SIZE)) for which in "xy")
    out = {f"tap{i}": thinned(nhwc(tap)) for i, tap in enumerate(model.net(x))}
    distance = model(x, y)
    distance.sum().backward()
    return out | {"distance": nhwc(distance), "slope": thinned(nhwc(x.grad))}


def outputs_case(model, name: str, size: tuple[int, int]) -> dict[str, np.ndarray]:
    """All outputs, and the slope of a weighted sum of each."""
    import torch

    x = nchw(images(f"{name}.x", size))
    outputs = model(x)
    out = {f"tap{i}": thinned(nhwc(tap)) for i, tap in enumerate(outputs)}
    total = 0
    for i, tap in enumerate(outputs):
        weights = torch.from_numpy(direction(f"{name}.tap{i}", nhwc(tap).shape))
        tap = tap.permute(0, 2, 3, 1) if tap.ndim == 4 else tap
        total = total + (tap * weights).sum()
    total.backward()
    return out | {"slope": thinned(nhwc(x.grad))}


def main():
    import torch
    import torch.nn.functional as F

    sys.path.insert(0, str(HERE))
    import convolutional_reference as reference

    torch.set_num_threads(1)
    cases = {name: distance_case(reference, name) for name in CHANNELS}
    inception = filled(reference.Inception())
    cases["inception"] = outputs_case(inception, "inception", INCEPTION_SIZE)
    for size in RESIZED_FROM:
        name = f"inception_{size[0]}"
        x = nchw((images(f"{name}.x", size)[:1] + 1) / 2)
        x = 2 * F.interpolate(x, (299, 299), mode="bilinear", align_corners=False) - 1
        with torch.no_grad():
            outputs = inception(x)
        cases[name] = {"resized": thinned(nhwc(x))} | {
            f"tap{i}": thinned(nhwc(tap)) for i, tap in enumerate(outputs)
        }
    for kind, size in MOBILENETS.items():
        model = filled(reference.MobileNet(MOBILENET_CHANNELS[kind]))
        cases[f"mobilenet_{kind}"] = outputs_case(model, f"mobilenet_{kind}", size)
    arrays = {f"{name}/{key}": v for name, case in cases.items() for key, v in case.items()}
    np.savez_compressed(FILE, **arrays)
    print(f"{FILE}: {FILE.stat().st_size / 1e3:.0f} kB")
    for key, value in arrays.items():
        print(f"{key} {value.shape} deviation {value.std():.3g}")


if __name__ == "__main__":
    main()
