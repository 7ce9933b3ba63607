"""Scheduler configs against diffusers' pipelines (tests/golden/make_schedulers.py)."""

import json
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gen_jax.diffusion import make_process, predictions, samplers
from gen_jax.diffusion.scheduler_config import from_diffusers
from gen_jax.diffusion.schedules import tables

GOLDEN = np.load(pathlib.Path(__file__).parent.parent / "golden" / "schedulers.npz")
CASES = json.loads(str(GOLDEN["cases"]))
TOLERANCE = 1e-4  # of the largest value
SHAPE = (6, 4)


def inputs():
    """An image, noise that a run starts with, and the noise of its steps, as in the script."""
    random = np.random.RandomState(1)
    return (
        jnp.asarray(random.randn(*shape).astype(np.float32))
        for shape in (SHAPE, SHAPE, (20, *SHAPE))
    )


def toy_denoiser(process):
    """The exact denoiser of a mixture of N(-0.5, 0.7^2) and N(0.5, 0.7^2), as in the script."""
    ratios = tables(process)[2]

    def denoise(x, t):
        ratio = np.interp(np.asarray(t[:1], np.float64), range(len(ratios)), ratios)
        alpha = 1 / np.sqrt(1 + ratio**2)
        sigma, mean, variance = ratio * alpha, 0.5, 0.7**2
        alpha, sigma = (jnp.asarray(a, jnp.float32)[:, None] for a in (alpha, sigma))
        total = alpha**2 * variance + sigma**2
        x_0 = variance * alpha / total * x
        x_0 = x_0 + (1 - variance * alpha**2 / total) * mean * jnp.tanh(alpha * mean * x / total)
        eps = (x - alpha * x_0) / sigma
        return predictions.target(x_0, eps, alpha, sigma, process.prediction_type)

    return denoise


def looped(step, carry, xs):
    """Does what `jax.lax.scan` does call by call: a hundred cases would compile for a minute."""
    xs, traces = jax.tree.map(np.asarray, xs), []
    for i in range(len(jax.tree.leaves(xs)[0])):
        carry, trace = step(carry, jax.tree.map(lambda a, i=i: jnp.asarray(a[i]), xs))
        traces.append(trace)
    return carry, jax.tree.map(lambda *entries: np.stack(entries), *traces)


def describe(case):
    options = [v if isinstance(v, str) else f"{k}={v}" for k, v in case["config"].items()]
    name = case["config"]["_class_name"].removesuffix("Scheduler")
    shown = [str(o) for o in options if "beta" not in str(o) and str(o)[0] != "_"]
    return f"{name}-{case['num_steps']}-{case['first_step']}-{'-'.join(shown)}"


@pytest.mark.parametrize("index", range(len(CASES)), ids=[describe(c) for c in CASES])
def test_config_samples_as_in_diffusers(index, monkeypatch):
    case = CASES[index]
    read = from_diffusers(case["config"], "scheduler_config.json")
    process, options = make_process(**read.process), samplers.SamplerOptions(**read.options)
    image, start, noise = inputs()
    at = (process, case["num_steps"], read.sampler)
    if case["first_step"]:
        x = samplers.noised(image, start, *at, case["first_step"], options)
    else:
        x = start * samplers.noise_scale(*at, options)
    monkeypatch.setattr(jax.lax, "scan", looped)
    ours = samplers.sample(
        toy_denoiser(process),
        x,
        *at,
        options=options,
        first_step=case["first_step"],
        noise=noise,
    )
    want = GOLDEN["results"][index]
    difference = np.abs(ours - want).max() / np.abs(want).max()
    print(f"largest difference {difference:.1e}")
    assert difference < TOLERANCE
