"""Golden file of the convolutional encoders: what the published code computes on random weights.

Run where torch, torchvision, lpips, pytorch-fid and stlpips-pytorch are installed (README.md
beside this file has the commands):

    python tests/golden/make_convolutional.py

The architectures have their full size, but neither weights nor images are stored: both are
drawn from names, in the script and in the tests. Of each map some hundred numbers are kept.
Made with torch 2.14.1 (CPU), torchvision 0.29.1, lpips 0.1.4, pytorch-fid 0.3.0 and
stlpips-pytorch 0.0.2.
"""

import pathlib
import re
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
MOBILENET_WIDTHS = {"full": 1.0, "narrow": 0.35}
MOBILENET_CHANNELS = {
    "full": (32, 16, 24, 32, 64, 96, 160, 320, 1280),
    "narrow": (16, 8, 8, 16, 24, 32, 56, 112, 1280),
}
MOBILENET_TAPS = (0, 1, 3, 6, 10, 13, 16, 17, 18)  # the stem, the end of each stage, the last
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


def torchvision_name(key: str) -> str:
    """Returns torchvision's name of a tensor that lpips keeps in a slice of the network."""
    return re.sub(r"^net\.slice\d\.", "features.", key)


def nhwc(x) -> np.ndarray:
    x = x.detach().numpy()
    return np.ascontiguousarray(x.transpose(0, 2, 3, 1)) if x.ndim == 4 else x


def nchw(x: np.ndarray):
    import torch

    x = np.ascontiguousarray(x.transpose(0, 3, 1, 2))
    return torch.from_numpy(x).requires_grad_()


def drawn_state(model) -> dict:
    """Returns a state dict of `model` with the drawn weights and the model's own constants."""
    import torch

    state, shapes = model.state_dict(), {}
    for key, value in state.items():
        # `lins` lists the heads `lin0`, `lin1`, ... once more.
        if not re.search(r"^lins\.|^scaling_layer\.|\.filt$|\.num_batches_tracked$", key):
            shapes[torchvision_name(key)] = tuple(value.shape)
    drawn = seeded_weights(shapes)
    for key in state:
        name = torchvision_name(re.sub(r"^lins\.(\d)\.", r"lin\1.", key))
        if name in drawn:
            state[key] = torch.from_numpy(drawn[name])
    return state


def filled(model):
    model.load_state_dict(drawn_state(model))
    return model.eval().requires_grad_(False)


def distance_model(name: str):
    if name == "st_alex":
        from stlpips_pytorch import stlpips

        return stlpips.LPIPS(net="alex", variant="shift_tolerant", pretrained=False, verbose=False)
    import lpips

    return lpips.LPIPS(net=name, pretrained=False, pnet_rand=True, verbose=False)


def distance_case(name: str) -> dict[str, np.ndarray]:
    model = filled(distance_model(name))
    x, y = (nchw(images(f"{name}.{which}", SIZE)) for which in "xy")
    taps = model.net(model.scaling_layer(x))
    out = {f"tap{i}": thinned(nhwc(tap)) for i, tap in enumerate(taps)}
    distance = model(x, y)
    distance.sum().backward()
    return out | {"distance": distance.detach().numpy().reshape(-1), "slope": thinned(nhwc(x.grad))}


def slope(x, outputs, name: str) -> np.ndarray:
    """Returns the gradient with respect to the image of a weighted sum of each output."""
    import torch

    total = 0
    for i, tap in enumerate(outputs):
        weights = torch.from_numpy(direction(f"{name}.tap{i}", nhwc(tap).shape))
        tap = tap.permute(0, 2, 3, 1) if tap.ndim == 4 else tap
        total = total + (tap * weights).sum()
    total.backward()
    return thinned(nhwc(x.grad))


def taps_of(outputs) -> dict[str, np.ndarray]:
    return {f"tap{i}": thinned(nhwc(tap)) for i, tap in enumerate(outputs)}


def inception_cases() -> dict[str, dict[str, np.ndarray]]:
    """pytorch-fid's network, with drawn weights for the file that it would download."""
    from unittest import mock

    import torch
    from pytorch_fid import inception

    plain = inception._inception_v3(num_classes=1008, aux_logits=False, weights=None)
    state = drawn_state(plain)

    def outputs(net, x):
        """Returns the four taps and the logits."""
        *maps, pooled = net(x)
        return [*maps, pooled.flatten(1), whole.fc(pooled.flatten(1))]

    with mock.patch.object(inception, "load_state_dict_from_url", lambda *_, **__: state):
        whole = inception.fid_inception_v3().eval().requires_grad_(False)
        bare = inception.InceptionV3(range(4), resize_input=False, normalize_input=False).eval()
        resizing = inception.InceptionV3(range(4)).eval()
    x = nchw(images("inception.x", INCEPTION_SIZE))
    maps = outputs(bare, x)
    cases = {"inception": taps_of(maps) | {"slope": slope(x, maps, "inception")}}
    # torchvision's own forward pass ends in the same logits.
    np.testing.assert_allclose(whole(x).detach(), maps[-1].detach(), rtol=1e-5)
    seen = []
    resizing.blocks[0].register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    for size in RESIZED_FROM:
        name = f"inception_{size[0]}"
        with torch.no_grad():
            maps = outputs(resizing, nchw((images(f"{name}.x", size)[:1] + 1) / 2))
        cases[name] = {"resized": thinned(nhwc(seen.pop()))} | taps_of(maps)
    return cases


def mobilenet_case(kind: str) -> dict[str, np.ndarray]:
    import torchvision
    from torchvision.transforms.functional import normalize

    name = f"mobilenet_{kind}"
    model = filled(torchvision.models.mobilenet_v2(width_mult=MOBILENET_WIDTHS[kind]))
    outputs = []
    for i in MOBILENET_TAPS:
        model.features[i].register_forward_hook(lambda *call: outputs.append(call[-1]))
    model.classifier.register_forward_pre_hook(lambda _, inputs: outputs.append(inputs[0]))
    published = torchvision.models.MobileNet_V2_Weights.IMAGENET1K_V1.transforms()
    x = nchw(images(f"{name}.x", MOBILENETS[kind]))
    outputs.append(model(normalize((x + 1) / 2, published.mean, published.std)))
    return taps_of(outputs) | {"slope": slope(x, outputs, name)}


def golden_files() -> dict[str, dict[str, np.ndarray]]:
    """Returns the arrays of the golden file by its name."""
    cases = {name: distance_case(name) for name in CHANNELS} | inception_cases()
    cases |= {f"mobilenet_{kind}": mobilenet_case(kind) for kind in MOBILENETS}
    arrays = {f"{name}/{key}": v for name, case in cases.items() for key, v in case.items()}
    return {FILE.stem: arrays}


def main():
    import torch

    torch.set_num_threads(1)
    arrays = golden_files()[FILE.stem]
    np.savez_compressed(FILE, **arrays)
    print(f"{FILE}: {FILE.stat().st_size / 1e3:.0f} kB")
    for key, value in arrays.items():
        print(f"{key} {value.shape} deviation {value.std():.3g}")


if __name__ == "__main__":
    main()
