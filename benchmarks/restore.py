"""SCUNet, forward and train step: ours against spandrel's in PyTorch on the same device.

    python -m benchmarks.restore
    python -m benchmarks.restore --dtype=bfloat16 --size=1024 --batch=24 --repeats=20

The published size (17.9M parameters) with the same random weights and images for all.
"forward" restores one image of `--size`; "train" is forward, backward and AdamW of an L1 loss on
`--batch` crops of `--crop`. They take turns, medians and outputs are compared. Without torch and
spandrel (which imports torchvision) only ours is measured; on a GPU spandrel's compiled by
torch.compile runs, too. float32 means TF32 for the products of all where the device has it.
"""

import argparse
import functools

import numpy as np

from benchmarks import contest, train_step

RUNS = {"forward": "an image", "train": "a step"}
TARGETS = {"spandrel": 1.3, "spandrel_compiled": 0.7}  # of PyTorch's time, on a CPU and on a GPU
TOLERANCES = {"float32": 1e-3, "bfloat16": 5e-2}  # of the largest output
LEARNING_RATE = 1e-4


def inputs(args) -> dict[str, np.ndarray]:
    """Grainy images; what is on them takes no time."""
    rng = np.random.default_rng(0)
    crops = (args.batch, args.crop, args.crop, args.channels)
    shapes = {"image": (1, args.size, args.size, args.channels), "noisy": crops, "clean": crops}
    return {name: rng.uniform(size=shape).astype(np.float32) for name, shape in shapes.items()}


def ours(args):
    """Ours under jit; the step is the trainer's. The first to run, it writes the weights."""
    import jax
    import jax.numpy as jnp
    from safetensors.numpy import save_file

    from gen_jax.encoders.diffusers_folder import param_shapes
    from gen_jax.encoders.scunet_files import PORT
    from gen_jax.encoders.weights import torch_from_flax
    from gen_jax.models.scunet import SCUNet
    from gen_jax.parallel import compilation

    compilation.tune_cpu()  # as the doors do
    depths = (args.depth,) * 7
    module = SCUNet(args.channels, args.channels, depths, args.dim, args.head_dim, dtype=args.dtype)
    rng = np.random.default_rng(1)

    params = jax.tree_util.tree_map_with_path(contest.random_leaf(rng), param_shapes(module))
    save_file(torch_from_flax(params, PORT), f"{args.folder}/weights.safetensors")
    params = jax.tree.map(jnp.asarray, params)
    data = jax.tree.map(jnp.asarray, inputs(args))

    def forward():
        apply = jax.jit(module.apply)
        return lambda: [np.asarray(apply({"params": params}, data["image"]))]

    def train():
        def loss(params, batch):
            out = module.apply({"params": params}, batch["noisy"])
            return jnp.abs(out - batch["clean"]).mean()

        return train_step.our_step(loss, params, data, learning_rate=LEARNING_RATE)

    runs = {"forward": forward, "train": train}
    on = f"{jax.devices()[0].device_kind}, jax {jax.__version__}"
    return lambda name: runs[name](), train_step.jax_memory, {"name": "gen_jax", "on": on}


def theirs(args, compiled: bool = False):
    """SCUNet of spandrel, eager or compiled, with torch's AdamW."""
    import torch
    from safetensors.torch import load_file
    from spandrel.architectures.SCUNet import SCUNet

    device = train_step.torch_device()
    model = SCUNet(in_nc=args.channels, config=[args.depth] * 7, dim=args.dim).to(device)
    model.load_state_dict(load_file(f"{args.folder}/weights.safetensors"))
    apply = torch.compile(model) if compiled else model
    cast = torch.autocast(device, torch.bfloat16, enabled=args.dtype == "bfloat16")
    data = {
        k: torch.from_numpy(v).permute(0, 3, 1, 2).contiguous().to(device)
        for k, v in inputs(args).items()
    }
    optimizer = torch.optim.AdamW(
        model.parameters(), LEARNING_RATE, weight_decay=0.0, fused=device == "cuda"
    )

    @torch.inference_mode()
    def forward():
        with cast:
            out = apply(data["image"])
        return [out.float().permute(0, 2, 3, 1).cpu().numpy()]

    def train():
        with cast:
            out = apply(data["noisy"])
        loss = (out.float() - data["clean"]).abs().mean()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        if device == "cuda":
            torch.cuda.synchronize()
        return [loss.detach().cpu().numpy()]

    runs = {"forward": forward, "train": train}
    on = f"{device}, torch {torch.__version__}"
    name = "spandrel, torch.compile" if compiled else "spandrel, eager"
    return runs.get, train_step.torch_memory, {"name": name, "on": on}


CONTESTANTS = {
    "gen_jax": ours,
    "spandrel": theirs,
    "spandrel_compiled": functools.partial(theirs, compiled=True),
}


def compete(running: list[contest.Contestant], name: str, args) -> dict:
    """Prints the table of a run; gives its rows and our time over the peer's."""
    rows = contest.measured(running, name, args)
    side, batch = (args.size, 1) if name == "forward" else (args.crop, args.batch)
    what = f"{side} px, batch {batch}, {args.channels} channels, {args.dtype}"
    title = f"SCUNet {name}, {what}, medians of {args.repeats}"
    contest.print_table(title, RUNS[name], rows, batch, TOLERANCES[args.dtype])
    ratios = {row["who"]: rows[0]["median"] / row["median"] for row in rows[1:]}
    for who, ratio in ratios.items():
        print(f"ours / {who}: {ratio:.2f} (target: at most {TARGETS[who]})")
    return {"rows": rows, "ratios": ratios}


def main() -> None:
    """Lets the contestants alternate at each run."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--channels", type=int, default=3, choices=[1, 3])
    parser.add_argument("--size", type=int, default=256, help="of the image to restore")
    parser.add_argument("--crop", type=int, default=128, help="side of a training crop")
    parser.add_argument("--batch", type=int, default=2, help="training crops at a time")
    parser.add_argument("--dtype", default="float32", choices=list(TOLERANCES))
    parser.add_argument("--dim", type=int, default=64)
    parser.add_argument("--depth", type=int, default=4, help="blocks of each of the seven stages")
    parser.add_argument("--head_dim", type=int, default=32, help="other than 32 without a peer")
    parser.add_argument("--runs", nargs="+", default=list(RUNS), choices=list(RUNS))
    parser.add_argument("--repeats", type=int, default=7)
    contest.add_options(parser, timeout=900.0)
    args = parser.parse_args()
    if min(args.batch, args.repeats) < 1 or args.size % 64 or args.crop % 64:
        parser.error("--batch and --repeats are at least 1, --size and --crop multiples of 64")
    names = contest.taking_part(
        CONTESTANTS, args, "torch", "spandrel", gpu_only=["spandrel_compiled"]
    )
    load = contest.warn_if_busy()
    with contest.together("benchmarks.restore", names, args) as running:
        report = {name: compete(running, name, args) for name in args.runs}
    contest.write(args, load=load, results=report)


if __name__ == "__main__":
    contest.enter(CONTESTANTS, main)
