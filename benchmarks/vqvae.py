"""VQ-VAE and priors over its codes beside PyTorch twins: train step, sampling, nearest codes.

    python -m benchmarks.vqvae
    python -m benchmarks.vqvae --size=base --batch=64 --dtype=bfloat16 --repeats=20

"train" is the trainer's step of configs/vqvae.py (encoder, codebook of moving averages, decoder,
Adam) on the same weights and images. "search K" finds the nearest of K codes for all places of a
batch. "sample" draws all codes of a batch with the transformer of configs/art.py, by the likeliest
code: "masked N" in N steps, "ordered" one after the other with a cache of keys and values. They
take turns; medians are compared, and outputs: the error of the images, how near the codes found
are, and the logits of the first call. float32 means TF32 for
the products of both where the device has it. Without torch only ours is measured; on a GPU the twin
compiled by torch.compile runs, too.
"""

import argparse
import functools

import numpy as np

from benchmarks import contest, train_step, vqvae_twin
from configs import art, vqvae

TOLERANCES = {"float32": 2e-3, "bfloat16": 5e-2}  # of the largest output
LEARNING_RATE = 1e-3
RES, CODES, TEXT = 128, 1024, (8, 128)


def task_of(size: str, dtype: str, codes: int = CODES):
    """The recipe's task, with gradients as the twin has them and no codes begun anew."""
    from gen_jax.tasks import build_task

    config = vqvae.get_config(f"data=x,res={RES},codes={codes},size={size}").unlock()
    config.task.autoencoder.dtype = dtype
    config.task.quantizer.update(gradient="straight_through", restart_below=0.0)
    config.task.update(perceptual_weight=0.0, l1_weight=0.0, l2_weight=1.0)
    return build_task(config.task.to_dict())


def prior_of(size: str, dtype: str, is_causal: bool):
    """The recipe's transformer."""
    from gen_jax.common.build import build
    from gen_jax.models.token_transformer import TokenTransformer

    fields = art.get_config(f"data=x,size={size}").task.prior.to_dict()
    side = RES // 8
    fields |= {"num_codes": CODES, "grid": (side, side, 1), "dtype": dtype}
    return build(TokenTransformer, {**fields, "is_causal": is_causal}, "prior")


def filled(shapes) -> dict[str, np.ndarray]:
    """Path -> values of the size that keeps activations at about 1."""
    from flax.traverse_util import flatten_dict

    rng, found = np.random.default_rng(1), {}
    for path, leaf in flatten_dict(shapes, sep="/").items():
        fan_in = np.prod(leaf.shape[:-1]) if len(leaf.shape) > 1 else 100.0
        found[path] = rng.standard_normal(leaf.shape, np.float32) * np.float32(fan_in**-0.5)
        if path.endswith("scale"):
            found[path] += 1.0
    return found


def autoencoder_weights(size: str) -> dict[str, np.ndarray]:
    """Of the recipe's autoencoder."""
    import jax

    module, x = task_of(size, "float32").autoencoder, np.zeros((1, RES, RES, 3), np.float32)
    return filled(jax.eval_shape(module.init, jax.random.key(0), x)["params"])


def prior_weights(size: str, is_causal: bool) -> dict[str, np.ndarray]:
    """Of the recipe's transformer."""
    import jax

    module, (tokens, width) = prior_of(size, "float32", is_causal), TEXT
    ids = np.zeros((1, module.length), np.int32)
    text = np.zeros((1, tokens, width), np.float32)
    mask = np.ones((1, tokens), bool)
    found = filled(jax.eval_shape(module.init, jax.random.key(0), ids, text, mask)["params"])
    found["head/kernel"] *= 8.0  # firm choices, which rounding does not change
    return found


def images(args) -> np.ndarray:
    """A batch, uint8."""
    return np.random.default_rng(0).integers(0, 256, (args.batch, RES, RES, 3)).astype(np.uint8)


def text_of(args) -> np.ndarray:
    """States of a text for each picture."""
    return np.random.default_rng(2).standard_normal((args.batch, *TEXT), np.float32)


def latents(args, codes: int) -> tuple[np.ndarray, np.ndarray]:
    """Places of a batch, and a codebook, all of unit length."""
    rng, dim = np.random.default_rng(3), task_of(args.size, "float32").quantizer.dim
    z, book = (
        rng.standard_normal((n, dim), np.float32) for n in (args.batch * (RES // 8) ** 2, codes)
    )
    return tuple(v / np.linalg.norm(v, axis=-1, keepdims=True) for v in (z, book))


def ours(args):
    """Ours under jit; the step is the trainer's."""
    import jax
    import jax.numpy as jnp
    from flax.traverse_util import unflatten_dict

    from gen_jax.diffusion import tokens
    from gen_jax.models.quantizers.nearest import nearest_code
    from gen_jax.parallel import compilation

    compilation.tune_cpu()  # as the doors do

    def train():
        from gen_jax.training import optim, rngs
        from gen_jax.training.state import TrainState
        from gen_jax.training.step import make_train_step

        task = task_of(args.size, args.dtype)
        fields = {"learning_rate": LEARNING_RATE, "schedule": "constant", "clip_norm": 0.0}
        optimizer = optim.make_optimizer({**fields, "warmup_steps": 0, "b2": 0.99}, 1000)
        params = {"model": unflatten_dict(autoencoder_weights(args.size), sep="/")}
        params = jax.tree.map(jnp.asarray, params)
        _, extra = task.init(jax.random.key(0), {"image": images(args)[:1]})
        book = vqvae_twin.codebook(CODES, task.quantizer.dim)
        extra["codebook"] = {
            "codes": jnp.asarray(book[None]),
            "sum": jnp.asarray(book[None]),
            "count": jnp.ones((1, CODES)),
            "updates": jnp.ones((), jnp.int32),  # begun already
        }
        state = TrainState(
            jnp.zeros((), jnp.int32), params, {"model": optimizer.init(params["model"])}, {}, extra
        )
        step = jax.jit(make_train_step(task, {"model": optimizer}), donate_argnums=0)
        batch, key, held = {"image": jnp.asarray(images(args))}, rngs.root_key(0), [state]

        def run():
            held[0], metrics = step(held[0], batch, {}, key)
            return [np.asarray(metrics["model/l2"])[None]]

        return run

    def sample(kind, steps):
        is_causal = kind == "ordered"
        module = prior_of(args.size, args.dtype, is_causal)
        params = unflatten_dict(prior_weights(args.size, is_causal), sep="/")
        params = jax.tree.map(jnp.asarray, params)
        text, mask = jnp.asarray(text_of(args)), jnp.ones((args.batch, TEXT[0]), bool)
        keys = jax.random.split(jax.random.key(0), args.batch)

        @jax.jit
        def draw(params, text):
            variables = {"params": params}
            if is_causal:
                return tokens.ordered_decode(
                    lambda ids, at, cache: module.apply(
                        variables, ids, at, cache, text, mask, method="step"
                    ),
                    module.empty_cache(args.batch),
                    keys,
                    module.length,
                    CODES,
                    temperature=0.0,
                )
            return tokens.parallel_decode(
                lambda ids: module.apply(variables, ids, text, mask),
                keys,
                module.length,
                CODES,
                steps=steps,
                temperature=0.0,
                choice_temperature=0.0,
            )

        hidden = jnp.full((args.batch, module.length), CODES, jnp.int32)
        # What is compared: later calls depend on which of two near equal logits was larger.
        first = np.asarray(jax.jit(module.apply)({"params": params}, hidden, text, mask))
        return lambda: [first, np.asarray(draw(params, text))]

    def search(codes):
        z, book = latents(args, codes)
        find, on_device = jax.jit(nearest_code), (jnp.asarray(z), jnp.asarray(book))
        return lambda: [vqvae_twin.nearness(z, book, np.asarray(find(*on_device)))]

    def start(name):
        kind, *rest = name.split()
        if kind == "train":
            return train()
        if kind == "search":
            return search(int(rest[0]))
        return sample(rest[0], int(rest[1]) if len(rest) > 1 else 0)

    on = f"{jax.devices()[0].device_kind}, jax {jax.__version__}"
    return start, train_step.jax_memory, {"name": "gen_jax", "on": on}


def theirs(args, compiled: bool = False):
    """The twins, eager or compiled."""
    import torch

    device = train_step.torch_device()
    cast = torch.autocast(device, torch.bfloat16, enabled=args.dtype == "bfloat16")

    def start(name):
        kind, *rest = name.split()
        wrap = torch.compile if compiled else lambda f: f
        if kind == "train":
            weights = autoencoder_weights(args.size)
            return vqvae_twin.train(weights, CODES, images(args), device, cast, wrap, LEARNING_RATE)
        if kind == "search":
            return vqvae_twin.search(*latents(args, int(rest[0])), device, wrap)
        weights = prior_weights(args.size, rest[0] == "ordered")
        heads = prior_of(args.size, "float32", False).num_heads
        how = (device, cast, wrap)
        if rest[0] == "ordered":
            return vqvae_twin.ordered(weights, heads, CODES, text_of(args), *how)
        return vqvae_twin.masked(weights, heads, CODES, text_of(args), int(rest[1]), *how)

    name = "PyTorch, torch.compile" if compiled else "PyTorch, eager"
    on = f"{device}, torch {torch.__version__}"
    return start, train_step.torch_memory, {"name": name, "on": on}


CONTESTANTS = {
    "gen_jax": ours,
    "torch": theirs,
    "torch_compiled": functools.partial(theirs, compiled=True),
}


def main() -> None:
    """Lets the contestants alternate at each run."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", default="small", choices=["small", "base"])
    parser.add_argument("--batch", type=int, default=8, help="pictures at a time")
    parser.add_argument("--dtype", default="float32", choices=list(TOLERANCES))
    parser.add_argument("--search", type=int, nargs="*", default=[256, 1024, 8192, 65536])
    parser.add_argument("--runs", nargs="+", default=["train", "sample", "search"])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--compiled", action=argparse.BooleanOptionalAction, default=True)
    contest.add_options(parser)
    args = parser.parse_args()
    if min(args.batch, args.repeats) < 1:
        parser.error("--batch and --repeats are at least 1")
    if unknown := set(args.runs) - {"train", "sample", "search"}:
        parser.error(f"--runs: unknown {sorted(unknown)[0]}; expected train, sample or search")
    who = contest.taking_part(CONTESTANTS, args, "torch", gpu_only=["torch_compiled"])
    if not args.compiled:
        who = [name for name in who if name != "torch_compiled"]
    load = contest.warn_if_busy()
    names = ["train"] * ("train" in args.runs)
    names += ["sample masked 8", "sample masked 12", "sample ordered"] * ("sample" in args.runs)
    names += [f"search {k}" for k in args.search] * ("search" in args.runs)
    results = {}
    with contest.together("benchmarks.vqvae", who, args) as running:
        for name in names:
            results[name] = rows = contest.measured(running, name, args)
            title = f"{name}, batch {args.batch}, {args.dtype}, medians of {args.repeats}"
            contest.print_table(title, "a batch", rows, args.batch, TOLERANCES[args.dtype])
    contest.write(args, load=load, results=results)


if __name__ == "__main__":
    contest.enter(CONTESTANTS, main)
