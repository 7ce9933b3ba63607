"""Train step of our UNet against diffusers' UNet2DConditionModel in PyTorch, eager and compiled.

    python -m benchmarks.train_step --size=tiny --batch=8
    python -m benchmarks.train_step --size=sd2 --batch=32 --dtype=bfloat16 --steps=300

The same architecture, batch, loss (mean squared error) and AdamW in one run. Prints medians,
memory and compile time (cold and from the persistent cache), and our time as a share of each
peer's. Without torch and diffusers only ours is measured. "full recipe" is what the trainer
really runs: clipping and the moving average besides. With JAX_COMPILATION_CACHE_DIR set, programs
are kept there, and the first compilation may find its program already.
"""

import argparse
import dataclasses
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time

from benchmarks import contest
from gen_jax.common import memory, strict_json

SIZES = {
    # A few million parameters: what a laptop trains.
    "tiny": dict(
        sample_size=16,
        block_out_channels=(48, 96),
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        layers_per_block=1,
        cross_attention_dim=96,
        attention_head_dim=4,
        norm_num_groups=16,
    ),
    "small": dict(
        sample_size=32,
        block_out_channels=(64, 128, 256),
        down_block_types=("CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
        layers_per_block=2,
        cross_attention_dim=256,
        attention_head_dim=8,
    ),
}
TOKENS = {"tiny": 32, "small": 77, "sd15": 77, "sd2": 77}


def config_of(size: str) -> dict:
    """UNet fields by name of a size."""
    if size in SIZES:
        return SIZES[size]
    from gen_jax.models import presets

    return {"sd15": presets.SD15_UNET, "sd2": presets.SD2_UNET}[size]


def rss_mib() -> float:
    """Peak resident memory of this process so far, MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def jax_memory() -> float:
    """Peak memory of JAX's device so far, MiB; of this process where the device is the host."""
    import jax

    stats = jax.devices()[0].memory_stats() or {}
    return stats.get("peak_bytes_in_use", 0) / 2**20 or rss_mib()


def torch_memory() -> float:
    """The same of torch's."""
    import torch

    return torch.cuda.max_memory_allocated() / 2**20 if torch.cuda.is_available() else rss_mib()


def torch_device() -> str:
    """Torch's device, with what XLA does by itself there: TF32, and a search for convolutions."""
    import torch

    if not torch.cuda.is_available():
        return "cpu"
    torch.set_float32_matmul_precision("high")
    torch.backends.cudnn.benchmark = True
    return "cuda"


def task_of(loss):
    """Returns a task with one group, whose loss is `loss(params, batch)`."""
    from gen_jax.tasks.base import Task

    @dataclasses.dataclass(frozen=True)
    class OneLoss(Task):
        def losses(self):
            return {"model": self.loss}

        def loss(self, params, everything, extra, batch, keys, frozen):
            return loss(params, batch), ({}, extra)

    return OneLoss()


def our_step(loss, params, batch, **optimizer):
    """The trainer's own step of `loss(params, batch)`, as a function that takes one more.

    `optimizer` holds fields of `training.optim`; the rate is constant, nothing is clipped.
    """
    import jax
    import jax.numpy as jnp
    import numpy as np

    from gen_jax.training import optim, rngs
    from gen_jax.training.state import TrainState
    from gen_jax.training.step import make_train_step

    fields = {"schedule": "constant", "warmup_steps": 0, "b2": 0.999, "clip_norm": 0.0, **optimizer}
    optimizers = {"model": optim.make_optimizer(fields, 10)}
    copied = jax.tree.map(jnp.copy, params)  # the step takes its state's memory
    state = TrainState(
        step=jnp.zeros((), jnp.int32),
        params={"model": copied},
        opt_state={"model": optimizers["model"].init(copied)},
        ema={},
        extra={},
    )
    step = jax.jit(make_train_step(task_of(loss), optimizers, ema=0.0), donate_argnums=0)
    key = rngs.root_key(0)

    def run():
        nonlocal state
        state, metrics = step(state, batch, {}, key)
        jax.block_until_ready(state)
        return [np.asarray(metrics["model/loss"])]

    return run


@dataclasses.dataclass
class Measured:
    """One contestant.

    Attributes:
      name: Library, and what of it.
      on: Device and version.
      median: Median of a step, in seconds.
      first: Compilation, for a peer its first step, in seconds.
      cached: Compilation from the persistent cache, in seconds.
      mib: Peak memory, in MiB.
    """

    name: str
    on: str
    median: float
    first: float
    cached: float
    mib: float


def ours(args, full: bool) -> Measured:
    """Our train step through the trainer's own `make_train_step`."""
    import jax
    import jax.numpy as jnp
    import numpy as np

    from gen_jax.common.build import build
    from gen_jax.models.unet_2d_condition import UNet2DConditionModel
    from gen_jax.parallel import compilation
    from gen_jax.training import optim, rngs
    from gen_jax.training.state import TrainState
    from gen_jax.training.step import make_train_step

    compilation.tune_cpu()  # as the doors do
    kept = os.environ.get("JAX_COMPILATION_CACHE_DIR")
    jax.config.update("jax_compilation_cache_dir", kept or tempfile.mkdtemp())
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    config = config_of(args.size)
    unet = build(UNet2DConditionModel, {**config, "dtype": args.dtype}, "unet")

    def loss(params, batch):
        out = unet.apply({"params": params}, batch["x"], batch["t"], batch["text"])
        return ((out - batch["target"]) ** 2).mean()

    shape = (args.batch, config["sample_size"], config["sample_size"], 4)
    rng = np.random.default_rng(0)
    batch = {
        "x": jnp.asarray(rng.normal(size=shape), jnp.float32),
        "target": jnp.asarray(rng.normal(size=shape), jnp.float32),
        "t": jnp.full((args.batch,), 500.0),
        "text": jnp.asarray(
            rng.normal(size=(args.batch, TOKENS[args.size], config["cross_attention_dim"])),
            jnp.float32,
        ),
    }
    shapes = jax.eval_shape(unet.init, jax.random.key(0), batch["x"], batch["t"], batch["text"])
    params = {
        "model": jax.tree.map(
            lambda s: jnp.asarray(rng.normal(size=s.shape) * 0.02, s.dtype), shapes["params"]
        )
    }
    optimizers = {
        "model": optim.make_optimizer(
            {
                "learning_rate": 1e-4,
                "schedule": "constant",
                "warmup_steps": 0,
                "b2": 0.999,
                "clip_norm": 1.0 if full else 0.0,
            },
            10,
        )
    }
    state = TrainState(
        step=jnp.zeros((), jnp.int32),
        params=params,
        opt_state={"model": optimizers["model"].init(params["model"])},
        ema={"model": jax.tree.map(jnp.copy, params["model"])} if full else {},
        extra={},
    )
    step = make_train_step(task_of(loss), optimizers, ema=0.999 if full else 0.0)
    jitted = jax.jit(step, donate_argnums=0)
    seconds = []
    for _ in range(2):  # cold, then from the persistent cache
        jax.clear_caches()
        began = time.perf_counter()
        compiled = jitted.lower(state, batch, {}, rngs.root_key(0)).compile()
        seconds.append(time.perf_counter() - began)
    times = []
    for index in range(args.warmup + args.steps):
        began = time.perf_counter()
        state, metrics = compiled(state, batch, {}, rngs.root_key(0))
        jax.block_until_ready(metrics)
        if index >= args.warmup:
            times.append(time.perf_counter() - began)
    name = "gen_jax, full recipe" if full else "gen_jax"
    on = f"{jax.devices()[0].device_kind}, jax {jax.__version__}"
    return Measured(name, on, statistics.median(times), *seconds, jax_memory())


def theirs(args, compiled: bool) -> Measured:
    """The UNet of diffusers with torch's AdamW."""
    import torch
    from diffusers import UNet2DConditionModel

    device = torch_device()
    config = config_of(args.size)
    torch.manual_seed(0)
    unet = UNet2DConditionModel(**config).to(device)
    if device == "cuda":
        unet = unet.to(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(unet.parameters(), 1e-4, weight_decay=0.0, fused=device == "cuda")
    side = config["sample_size"]
    x = torch.randn(args.batch, 4, side, side, device=device)
    target = torch.randn_like(x)
    t = torch.full((args.batch,), 500, device=device)
    text = torch.randn(args.batch, TOKENS[args.size], config["cross_attention_dim"], device=device)
    forward = torch.compile(unet) if compiled else unet
    half = args.dtype == "bfloat16"

    def step():
        with torch.autocast(device, torch.bfloat16, enabled=half):
            out = forward(x, t, encoder_hidden_states=text).sample
        loss = ((out.float() - target) ** 2).mean()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        if device == "cuda":
            torch.cuda.synchronize()

    began = time.perf_counter()
    step()
    first = time.perf_counter() - began
    times = []
    for index in range(args.warmup + args.steps):
        began = time.perf_counter()
        step()
        if index >= args.warmup:
            times.append(time.perf_counter() - began)
    name = "diffusers, torch.compile" if compiled else "diffusers, eager"
    on = f"{device}, torch {torch.__version__}"
    return Measured(name, on, statistics.median(times), first, float("nan"), torch_memory())


def isolated(args, who: str) -> Measured:
    """Measures one contestant in a process of its own, so that memory is its own."""
    command = [sys.executable, "-m", "benchmarks.train_step", *sys.argv[1:], f"--only={who}"]
    # Caches of compiled code go with the folder. Files rather than pipes: what a killed
    # process leaves behind would keep a pipe open, and us waiting.
    with (
        tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder,
        tempfile.TemporaryFile("w+") as out,
        tempfile.TemporaryFile("w+") as err,
    ):
        # All get the memory settings that our doors give themselves.
        env = {**os.environ, **memory.settings(os.environ), "TMPDIR": folder}
        process = subprocess.Popen(command, stdout=out, stderr=err, env=env, start_new_session=True)
        try:
            code = process.wait(args.timeout)
        except subprocess.TimeoutExpired:
            raise RuntimeError(f"no result in {args.timeout:g} s") from None
        finally:
            contest.kill_group(process)
        out.seek(0)
        err.seek(0)
        if code:
            raise RuntimeError([f"exit code {code}", *err.read().strip().splitlines()][-1])
        return Measured(**strict_json.loads(out.read().strip().splitlines()[-1]))


CONTESTANTS = {
    "gen_jax": lambda args: ours(args, full=False),
    "gen_jax_full": lambda args: ours(args, full=True),
    # The stronger peer first: a limit of time may leave the other out.
    "compiled": lambda args: theirs(args, compiled=True),
    "eager": lambda args: theirs(args, compiled=False),
}


def main() -> None:
    """Runs the contestants one after another and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", default="tiny", choices=sorted(TOKENS))
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--dtype", default="float32", choices=["float32", "bfloat16"])
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--warmup", type=int, default=3)
    contest.add_options(parser)
    parser.add_argument("--only", choices=sorted(CONTESTANTS), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.only:
        print(json.dumps(dataclasses.asdict(CONTESTANTS[args.only](args))))
        return
    rows = {}
    for who in contest.taking_part(CONTESTANTS, args, "torch", "diffusers"):
        try:
            rows[who] = isolated(args, who)
        except RuntimeError as error:  # it takes too long, or something it needs is missing
            print(f"{who}: not measured ({str(error)[:160]})", flush=True)
            if who == "gen_jax":
                sys.exit(1)  # there is nothing to compare with
            continue
        # After each: whoever is stopped keeps what was measured until then.
        contest.write(args, rows=[{"who": w, **dataclasses.asdict(r)} for w, r in rows.items()])
    base = rows["gen_jax"].median
    print(f"\nUNet {args.size}, batch {args.batch}, {args.dtype}, medians of {args.steps} steps")
    heads = f"{'ms/step':>9}{'images/s':>10}{'compile s':>11}{'cached s':>10}{'MiB':>8}  ours/it"
    print(f"{'':<26}{heads}")
    for r in rows.values():
        print(
            f"{r.name:<26}{1e3 * r.median:>9.1f}{args.batch / r.median:>10.1f}{r.first:>11.1f}"
            f"{r.cached:>10.1f}{r.mib:>8.0f}  {base / r.median:.2f}"
        )


if __name__ == "__main__":
    contest.end_on_sigterm()
    main()
