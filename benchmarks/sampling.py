"""Sampling with our UNet and sampler in one program against diffusers in PyTorch.

    python -m benchmarks.sampling --size=tiny --batch=4 --steps=20
    python -m benchmarks.sampling --size=sd15 --batch=8 --dtype=bfloat16 --decode --out=sd15.json

Text states and noise to latents (with --decode to images), under guidance by one doubled
batch. All get the same random weights, noise and times; the table says how far their latents
are from ours, the largest difference over our largest value. Each contestant is a process
that waits for its turn, the runs alternate, and medians are compared. Without torch and
diffusers only ours is measured.
"""

import argparse
import statistics

import numpy as np

from benchmarks import contest, train_step

SAMPLERS = {"dpmpp_2m": "DPMSolverMultistepScheduler", "euler": "EulerDiscreteScheduler"}
GUIDANCE = 7.5
TARGET = 0.9  # of the fastest peer's time
TOLERANCE = 1e-3  # of float32 latents: far above rounding, far below any other computation


def ours(args):
    """`start(sampler)`, which gives a function that samples; and what to say about it.

    It is the first to run, and writes what all read: noise, text states, diffusers folders.
    """
    import jax
    import jax.numpy as jnp

    from gen_jax.common import pixels
    from gen_jax.common.build import build
    from gen_jax.diffusion import guidance, samplers
    from gen_jax.diffusion.schedules import make_process
    from gen_jax.encoders.diffusers_folder import param_shapes, save_diffusers
    from gen_jax.models import presets
    from gen_jax.models.autoencoder_kl import AutoencoderKL
    from gen_jax.models.unet_2d_condition import UNet2DConditionModel
    from gen_jax.parallel import compilation
    from gen_jax.tasks import first_stage

    compilation.tune_cpu()  # as the doors do
    rng = np.random.default_rng(0)

    def make(cls, config, name):
        module = build(cls, {**config, "dtype": args.dtype}, name)
        params = jax.tree_util.tree_map_with_path(contest.random_leaf(rng), param_shapes(module))
        save_diffusers(f"{args.folder}/{name}", module, params)
        return module, jax.tree.map(lambda p: jnp.asarray(p, args.dtype), params)

    config, weights = train_step.config_of(args.size), {}
    unet, weights["unet"] = make(UNet2DConditionModel, config, "unet")
    if args.decode:
        vae, params = make(AutoencoderKL, presets.SD15_VAE, "vae")
        std = jnp.full((vae.latent_channels,), 1 / vae.scaling_factor)
        weights["vae"] = {"params": params, "latent_mean": 0 * std, "latent_std": std}
    text = (train_step.TOKENS[args.size], config["cross_attention_dim"])
    shapes = {"noise": (config["sample_size"],) * 2 + (4,), "cond": text, "uncond": text}
    inputs = {k: rng.standard_normal((args.batch, *v), np.float32) for k, v in shapes.items()}
    np.savez(f"{args.folder}/inputs.npz", **inputs)
    inputs = jax.tree.map(jnp.asarray, inputs)
    process = make_process("scaled_linear", "epsilon")

    def start(sampler):
        @jax.jit
        def generate(weights, noise, cond, uncond):
            def denoise(x, t, text):
                return unet.apply({"params": weights["unet"]}, x, process.model_time(t), text)

            guided = guidance.guided_batched(denoise, cond, uncond, GUIDANCE)
            z = samplers.sample(guided, noise, process, args.steps, sampler)
            if not args.decode:
                return (z,)
            return z, pixels.from_signed(first_stage.decode(vae, weights["vae"], z))

        return lambda: [np.asarray(a) for a in generate(weights, **inputs)]

    on = f"{jax.devices()[0].device_kind}, jax {jax.__version__}"
    return start, train_step.jax_memory, {"name": "gen_jax", "on": on}


def theirs(args, compiled: bool):
    """The same with diffusers, as its pipelines do it."""
    import diffusers
    import torch

    device, dtype = train_step.torch_device(), getattr(torch, args.dtype)

    def load(cls, name):
        model = cls.from_pretrained(f"{args.folder}/{name}", torch_dtype=dtype).to(device)
        return model.to(memory_format=torch.channels_last) if device == "cuda" else model

    arrays = np.load(f"{args.folder}/inputs.npz").items()
    data = {k: torch.from_numpy(v).to(device) for k, v in arrays}
    noise = data["noise"].permute(0, 3, 1, 2).contiguous()
    text = torch.cat([data["uncond"], data["cond"]]).to(dtype)
    unet = load(diffusers.UNet2DConditionModel, "unet")
    denoise = torch.compile(unet) if compiled else unet
    if args.decode:
        vae = load(diffusers.AutoencoderKL, "vae")
        decode = torch.compile(vae.decode) if compiled else vae.decode
    betas = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012}

    def start(sampler):
        scheduler = getattr(diffusers, SAMPLERS[sampler])(timestep_spacing="trailing", **betas)

        @torch.inference_mode()
        def generate():
            scheduler.set_timesteps(args.steps, device=device)
            x = noise
            if sampler == "euler":  # it works with x / alpha
                x = x * (scheduler.sigmas[0] ** 2 + 1) ** 0.5
            for t in scheduler.timesteps:
                both = scheduler.scale_model_input(torch.cat([x, x]), t).to(dtype)
                out = denoise(both, t, encoder_hidden_states=text, return_dict=False)[0].float()
                uncond, cond = out.chunk(2)
                x = scheduler.step(uncond + GUIDANCE * (cond - uncond), t, x).prev_sample
            results = [x]
            if args.decode:
                z = (x / vae.config.scaling_factor).to(dtype)
                image = decode(z, return_dict=False)[0].float()
                results.append(((image + 1) * 127.5).round().clamp(0, 255).to(torch.uint8))
            return [a.permute(0, 2, 3, 1).cpu().numpy() for a in results]

        return generate

    name = f"diffusers, {'torch.compile' if compiled else 'eager'}"
    on = f"{device}, torch {torch.__version__}, diffusers {diffusers.__version__}"
    return start, train_step.torch_memory, {"name": name, "on": on}


CONTESTANTS = {
    "gen_jax": ours,
    "eager": lambda args: theirs(args, compiled=False),
    "compiled": lambda args: theirs(args, compiled=True),
}


def compete(running: list[contest.Contestant], sampler: str, args) -> list[dict]:
    """Alternating runs of all that still run, ours first, and how they compare."""
    answers = contest.take_turns(running, sampler, args)
    rows = []
    for one in running:
        first, *rest = answers[one.who]
        found = [contest.arrays(args, sampler, who) for who in ("gen_jax", one.who)]
        off = [float(np.abs(a - 1.0 * b).max()) for a, b in zip(*found, strict=True)]
        times = {"seconds": [a["seconds"] for a in rest], "first": first["seconds"]}
        row = {**rest[-1], **times, "median": statistics.median(times["seconds"])}
        row["latents_off"] = off[0] / float(np.abs(found[0][0]).max())
        rows.append({"sampler": sampler, **row, "pixels_off": off[1:]})
    return rows


def show(rows: list[dict], args) -> float | None:
    """Prints a sampler's table; gives our time as a share of the fastest peer's."""
    print(
        f"\n{rows[0]['sampler']}: UNet {args.size}, batch {args.batch}, {args.dtype}, {args.steps} "
        f"steps{', decoded' * args.decode}, guidance {GUIDANCE}, medians of {args.repeats}"
    )
    print(" " * 28 + "s/batch    least  images/s  first s     MiB  ours/it  latents")
    for r in rows:
        print(
            f"{r['name']:<26}{r['median']:>9.3f}{min(r['seconds']):>9.3f}"
            f"{args.batch / r['median']:>10.2f}{r['first']:>9.1f}{r['mib']:>8.0f}"
            f"{rows[0]['median'] / r['median']:>9.2f}  {r['latents_off']:.1e}"
            + "".join(f", pixels {p:.0f}" for p in r["pixels_off"])
        )
    if len(rows) == 1:
        return None
    if args.dtype == "float32" and not all(r["latents_off"] < TOLERANCE for r in rows):
        print(f"latents differ by more than {TOLERANCE}: other work, or a device that uses TF32")
    ratio = rows[0]["median"] / min(r["median"] for r in rows[1:])
    print(f"ours / fastest peer: {ratio:.2f} (target: at most {TARGET})")
    return ratio


def main() -> None:
    """Starts the contestants, lets them alternate and prints a table a sampler."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", default="tiny", choices=sorted(train_step.TOKENS))
    parser.add_argument("--batch", type=int, default=4, help="the UNet sees twice as many")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--dtype", default="float32", choices=["float32", "bfloat16"])
    parser.add_argument("--samplers", nargs="+", default=[*SAMPLERS], choices=[*SAMPLERS])
    parser.add_argument("--decode", action="store_true", help="with AutoencoderKL; sd sizes only")
    parser.add_argument("--repeats", type=int, default=5)
    contest.add_options(parser)
    args = parser.parse_args()
    if args.decode and not args.size.startswith("sd"):
        parser.error(f"--decode: there is no autoencoder of size {args.size}")
    if min(args.batch, args.steps, args.repeats) < 1:
        parser.error("--batch, --steps and --repeats are at least 1")
    names = contest.taking_part(CONTESTANTS, args, "torch", "diffusers")
    rows, ratios, load = [], {}, contest.warn_if_busy()
    with contest.together("benchmarks.sampling", names, args) as running:
        for sampler in args.samplers:
            of_sampler = compete(running, sampler, args)
            rows += of_sampler
            ratios[sampler] = show(of_sampler, args)
    contest.write(args, guidance=GUIDANCE, load=load, rows=rows, ours_over_fastest=ratios)


if __name__ == "__main__":
    contest.enter(CONTESTANTS, main)
