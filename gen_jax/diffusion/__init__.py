"""Schedules, prediction types, guidance and samplers, as plain functions.

Two lines make a sampler:

    process = make_process(schedule="scaled_linear", prediction_type="v_prediction")
    x_0 = sample(guided(cond, uncond, scale=5.0), x_T, process, num_steps=20)
"""

from gen_jax.diffusion.guidance import DenoiseFn, combine, guided, guided_batched, within
from gen_jax.diffusion.samplers import SAMPLERS, Trajectory, make_grid, sample
from gen_jax.diffusion.schedules import Process, make_process

__all__ = [
    "SAMPLERS",
    "DenoiseFn",
    "Process",
    "Trajectory",
    "combine",
    "guided",
    "guided_batched",
    "make_grid",
    "make_process",
    "sample",
    "within",
]
