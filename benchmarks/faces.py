"""The face generator's speed by resolution: samples, and train steps beside a PyTorch twin.

    python -m benchmarks.faces
    python -m benchmarks.faces --res 64 128 256 --batch=64 --dtype=bfloat16 --repeats=20

The generator of configs/faces.py with the same random weights and latents for both. "sample" makes
`--batch` pictures; "train" is forward, backward and Adam of a mean squared error on them. They take
turns, medians and outputs are compared. float32 means TF32 for the products of both where the
device has it. Without torch only ours is measured; on a GPU the twin compiled by torch.compile
runs, too.
"""

import argparse
import functools

import numpy as np

from benchmarks import contest, train_step
from configs import faces

TOLERANCES = {"float32": 1e-3, "bfloat16": 5e-2}  # of the largest output
LEARNING_RATE = 1e-3


def generator_of(res: int, dtype: str):
    """The recipe's module without its noise, of which two libraries have different kinds."""
    from gen_jax.common.build import build
    from gen_jax.models.progressive_generator import ProgressiveGenerator

    fields = faces.get_config(f"res={res},gray").task.generator.to_dict()
    return build(ProgressiveGenerator, {**fields, "noise": False, "dtype": dtype}, "generator")


def inputs(args, res: int) -> dict[str, np.ndarray]:
    """Latents, and pictures to come near to; what is on them takes no time."""
    rng = np.random.default_rng(0)
    z = rng.standard_normal((args.batch, 128), np.float32)
    return {"z": z, "target": rng.standard_normal((args.batch, res, res, 1), np.float32)}


def weights_of(module) -> dict[str, np.ndarray]:
    """Path -> values of the size that keeps activations at about 1."""
    import jax
    from flax.traverse_util import flatten_dict

    z = np.zeros((1, module.z_dim), np.float32)
    shapes = jax.eval_shape(module.init, jax.random.key(0), z)["params"]
    rng = np.random.default_rng(1)
    found = {}
    for path, leaf in flatten_dict(shapes, sep="/").items():
        fan_in = np.prod(leaf.shape[:-1]) if len(leaf.shape) > 1 else 100.0
        found[path] = rng.standard_normal(leaf.shape, np.float32) * np.float32(fan_in**-0.5)
    return found


def ours(args):
    """Ours under jit; the step is the trainer's."""
    import jax
    import jax.numpy as jnp
    from flax.traverse_util import unflatten_dict

    from gen_jax.parallel import compilation

    compilation.tune_cpu()  # as the doors do

    def start(name):
        kind, res = name.split()
        module = generator_of(int(res), args.dtype)
        params = jax.tree.map(jnp.asarray, unflatten_dict(weights_of(module), sep="/"))
        data = jax.tree.map(jnp.asarray, inputs(args, int(res)))
        if kind == "sample":
            apply = jax.jit(module.apply)
            return lambda: [np.asarray(apply({"params": params}, data["z"]))]

        def loss(params, batch):
            out = module.apply({"params": params}, batch["z"])
            return jnp.square(out - batch["target"]).mean()

        return train_step.our_step(loss, params, data, learning_rate=LEARNING_RATE, b1=0.5)

    on = f"{jax.devices()[0].device_kind}, jax {jax.__version__}"
    return start, train_step.jax_memory, {"name": "gen_jax", "on": on}


def twin(weights, device):
    """The same network as a function of PyTorch: (its parameters, their pictures of latents)."""
    import torch
    import torch.nn.functional as F

    params = {k: torch.from_numpy(v).to(device).requires_grad_() for k, v in weights.items()}

    def dense(x, name):
        return x @ params[f"{name}/kernel"] + params[f"{name}/bias"]

    def style_conv(x, w, name, demodulate=True):
        kernel, style = params[f"{name}/kernel"], dense(w, f"{name}/style")
        x = x * style[:, :, None, None].to(x.dtype)
        x = F.conv2d(x, kernel.permute(3, 2, 0, 1), padding="same")
        if demodulate:
            power = style.float().square() @ kernel.square().sum((0, 1))
            x = x * (power + 1e-8).rsqrt()[:, :, None, None].to(x.dtype)
        return x + params[f"{name}/bias"][None, :, None, None].to(x.dtype)

    def doubled(x):
        return F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)

    def forward(z):
        w = z * (z.square().mean(-1, keepdim=True) + 1e-8).rsqrt()
        index = 0
        while f"mapping_{index}/kernel" in params:
            w, index = F.leaky_relu(dense(w, f"mapping_{index}"), 0.2), index + 1
        x, image, side = dense(w, "initial").reshape(len(z), 4, 4, -1).permute(0, 3, 1, 2), 0, 4
        while f"block_{side}/conv_0/kernel" in params:
            if side > 4:
                x, image = doubled(x), doubled(image)
            for conv in ("conv_0", "conv_1"):
                x = F.leaky_relu(style_conv(x, w, f"block_{side}/{conv}"), 0.2) * 2**0.5
            image = image + style_conv(x, w, f"block_{side}/rgb", demodulate=False)
            side *= 2
        return image.permute(0, 2, 3, 1)

    return list(params.values()), forward


def theirs(args, compiled: bool = False):
    """The twin, eager or compiled, with torch's Adam."""
    import torch

    device = train_step.torch_device()
    cast = torch.autocast(device, torch.bfloat16, enabled=args.dtype == "bfloat16")

    def start(name):
        kind, res = name.split()
        params, forward = twin(weights_of(generator_of(int(res), "float32")), device)
        apply = torch.compile(forward) if compiled else forward
        data = {k: torch.from_numpy(v).to(device) for k, v in inputs(args, int(res)).items()}
        adam = torch.optim.Adam(params, LEARNING_RATE, (0.5, 0.99), fused=device == "cuda")

        @torch.inference_mode()
        def sample():
            with cast:
                out = apply(data["z"])
            return [out.float().cpu().numpy()]

        def train():
            with cast:
                out = apply(data["z"])
            loss = (out.float() - data["target"]).square().mean()
            adam.zero_grad(set_to_none=True)
            loss.backward()
            adam.step()
            if device == "cuda":
                torch.cuda.synchronize()
            return [loss.detach().cpu().numpy()]

        return sample if kind == "sample" else train

    name = "PyTorch, torch.compile" if compiled else "PyTorch, eager"
    on = f"{device}, torch {torch.__version__}"
    return start, train_step.torch_memory, {"name": name, "on": on}


CONTESTANTS = {
    "gen_jax": ours,
    "torch": theirs,
    "torch_compiled": functools.partial(theirs, compiled=True),
}


def main() -> None:
    """Lets the contestants alternate at each resolution and run."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--res", type=int, nargs="+", default=[32, 64], help="pixels a side")
    parser.add_argument("--batch", type=int, default=32, help="pictures at a time")
    parser.add_argument("--dtype", default="float32", choices=list(TOLERANCES))
    parser.add_argument("--repeats", type=int, default=7)
    contest.add_options(parser)
    args = parser.parse_args()
    if min(args.batch, args.repeats) < 1:
        parser.error("--batch and --repeats are at least 1")
    names = contest.taking_part(CONTESTANTS, args, "torch", gpu_only=["torch_compiled"])
    load, results = contest.warn_if_busy(), {}
    with contest.together("benchmarks.faces", names, args) as running:
        for name in (f"{kind} {res}" for res in args.res for kind in ("sample", "train")):
            results[name] = rows = contest.measured(running, name, args)
            title = f"{name}, batch {args.batch}, {args.dtype}, medians of {args.repeats}"
            contest.print_table(title, "a batch", rows, args.batch, TOLERANCES[args.dtype])
    contest.write(args, load=load, results=results)


if __name__ == "__main__":
    contest.enter(CONTESTANTS, main)
