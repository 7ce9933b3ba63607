"""Memory of a full-size latent diffusion train step by XLA's own estimate; nothing is trained.

    python -m benchmarks.step_memory --variants=sd15,sd2 --batches=1,2,4

Compiles the trainer's own step of `configs/ldm.py:variant=...` from shapes alone: text encoder,
autoencoder, UNet, AdamW, and for a full step the moving average. Prints a row per step: "state" is
what is held between steps (parameters, moments, average), "frozen" the models that are only read,
"temporary" what the step itself needs (activations, gradients, workspace), all per device.

The program is compiled for this machine's device. For a CPU, XLA computes convolutions and products
in float32 whatever the config says, so that its "temporary" is above an accelerator's.
"""

import argparse
import dataclasses
import itertools
import pathlib
import time
from typing import Any

from gen_jax.common import strict_json

KINDS = ("full", "lora")
_GIB = 2**30


@dataclasses.dataclass(frozen=True)
class Estimate:
    """Memory of one compiled step, in GiB.

    Attributes:
      variant: Size of the UNet, as in `configs/ldm.py`.
      kind: "full" or "lora".
      remat: Whether the UNet's blocks are recomputed in the backward pass.
      batch: Number of images per step.
      state: Parameters that are trained, with their moments and their average.
      frozen: Models that are only read.
      temporary: Peak size of the buffers that the step allocates itself.
      seconds: Time that compiling took.
    """

    variant: str
    kind: str
    remat: bool
    batch: int
    state: float
    frozen: float
    temporary: float
    seconds: float

    @property
    def total(self) -> float:
        """Sum of the three parts."""
        return self.state + self.frozen + self.temporary


def build_step(config) -> tuple[Any, Any, dict[str, Any]]:
    """Builds the task of a config, its optimizers, and the shapes of what its step only reads.

    Args:
      config: Config of `configs/ldm.py`; `config.lora.match` chooses low-rank factors.

    Returns:
      Task, parameter group -> optimizer, and `frozen` as a tree of shapes.
    """
    import jax
    import jax.numpy as jnp

    from gen_jax.configs import vae
    from gen_jax.encoders import catalog
    from gen_jax.encoders.diffusers_folder import param_shapes
    from gen_jax.tasks import build_task, text
    from gen_jax.tasks.lora import BASE, LowRank, LowRankTask
    from gen_jax.training import optim

    sd = "debug,variant=sd" if config.task.image_size < 64 else "variant=sd"
    first_stage = build_task(vae.get_config(sd).task.to_dict())
    models, frozen = {"vae": first_stage}, {}
    text_config = config.task.text_encoder
    if "tower" in text_config:
        module = catalog.module_of(text_config.tower)
        ids = dict(bos_id=0, eos_id=1, pad_id=1)
        models["text"] = text.FrozenText(module, text_config.max_length, text_config.layer, **ids)
        frozen["text"] = {"params": param_shapes(module)}
    task = build_task(config.task.to_dict(), models)

    def vae_variables(rng):
        params, extra = _init(first_stage, rng)
        return first_stage.as_frozen({"params": params, "extra": extra})

    frozen["vae"] = jax.eval_shape(vae_variables, jax.random.key(0))
    lora = LowRank.of_run(config)
    if lora.match:
        base = jax.eval_shape(lambda key: _init(task, key)[0], jax.random.key(0))
        dtype = jnp.dtype(lora.base_dtype)
        frozen[BASE] = jax.tree.map(
            lambda x: jax.ShapeDtypeStruct(x.shape, dtype if len(x.shape) > 1 else x.dtype), base
        )
        task = LowRankTask(task, lora)
    steps = config.training.num_steps
    optimizers = {
        group: optim.make_optimizer(values.to_dict(), steps)
        for group, values in config.optimizer.items()
    }
    return task, optimizers, frozen


def _init(task, key):
    from gen_jax.training.state import zero_batch

    return task.init(key, zero_batch(task.batch_spec(), 1))


def estimate(variant: str, kind: str, batch: int, *, remat: bool, debug: bool = False) -> Estimate:
    """Compiles one step and reads XLA's analysis of it.

    Args:
      variant: "sd15" or "sd2".
      kind: "full" or "lora".
      batch: Number of images per step.
      remat: Whether the UNet's blocks are recomputed in the backward pass.
      debug: Whether the shapes are tiny, for tests.
    """
    import jax

    from gen_jax.configs import ldm
    from gen_jax.parallel.mesh import make_mesh
    from gen_jax.training import rngs
    from gen_jax.training.state import abstract_state
    from gen_jax.training.step import make_train_step

    arg = f"variant={variant},vae=given" + (",lora=8" if kind == "lora" else "")
    arg += ",debug,text=compact" if debug else ",text=clip"
    config = ldm.get_config(arg)
    with config.unlocked():
        config.task.unet.remat = remat
    task, optimizers, frozen = build_step(config)
    ema = config.training.ema if kind == "full" else 0.0
    groups = ("model",) if ema else ()
    mesh = make_mesh({"replica": 1, "fsdp": 1, "tensor": 1}, jax.devices()[:1])
    state = abstract_state(task, optimizers, groups, mesh, ((".*", "replicate"),))
    rows = {
        name: jax.ShapeDtypeStruct((batch, *spec.shape), spec.dtype)
        for name, spec in task.batch_spec().items()
    }
    step = jax.jit(make_train_step(task, optimizers, ema=ema), donate_argnums=0)
    lowered = step.lower(state, rows, frozen, rngs.root_key(0))
    began = time.perf_counter()
    # Which buffers there are does not depend on how well the machine code is optimized.
    cpu = jax.default_backend() == "cpu"
    compiled = lowered.compile({"xla_backend_optimization_level": 0} if cpu else {})
    seconds = time.perf_counter() - began
    return Estimate(
        variant=variant,
        kind=kind,
        remat=remat,
        batch=batch,
        state=_bytes(state) / _GIB,
        frozen=_bytes(frozen) / _GIB,
        temporary=compiled.memory_analysis().temp_size_in_bytes / _GIB,
        seconds=seconds,
    )


def _bytes(tree) -> int:
    import jax
    import numpy as np

    return sum(int(np.prod(x.shape)) * x.dtype.itemsize for x in jax.tree.leaves(tree))


def row(result: Estimate) -> str:
    """Returns a line of the table, in Markdown."""
    remat = "yes" if result.remat else "no"
    sizes = (result.state, result.frozen, result.temporary, result.total)
    values = (result.variant, result.kind, remat, result.batch, *(f"{x:.2f}" for x in sizes))
    return "| " + " | ".join(map(str, values)) + " |"


def main() -> None:
    """Prints the table, a row as soon as it is there."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--variants", default="sd15", help="sd15 or sd2, separated by commas")
    parser.add_argument("--kinds", default=",".join(KINDS), help="full or lora")
    parser.add_argument("--batches", default="1,2,4", help="images per step")
    parser.add_argument("--remat", default="1", help="0, 1 or 0,1")
    parser.add_argument("--json", type=pathlib.Path, help="file for the same figures")
    args = parser.parse_args()
    print("| variant | trains | remat | batch | state | frozen | temporary | total, GiB |")
    print("|---|---|---|---|---|---|---|---|", flush=True)
    results = []
    chosen = (args.variants, args.kinds, args.remat, args.batches)
    for variant, kind, remat, batch in itertools.product(*(x.split(",") for x in chosen)):
        result = estimate(variant, kind, int(batch), remat=remat == "1")
        results.append(dataclasses.asdict(result) | {"total": result.total})
        print(row(result), flush=True)
    if args.json:
        args.json.write_text(strict_json.dumps(results) + "\n")


if __name__ == "__main__":
    main()
