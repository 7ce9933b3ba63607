"""What domain heads are trained by; a new objective is a line in `HEADS`."""

HEADS = {
    "change": "gen_jax.tasks.head_objectives.change:Change",
    "landmarks": "gen_jax.tasks.head_objectives.landmarks:Landmarks",
    "plates": "gen_jax.tasks.head_objectives.plates:Plates",
    "segmentation": "gen_jax.tasks.head_objectives.segmentation:Segmentation",
}
"""Name in a config -> "module:class" of a `head_objectives.base.HeadObjective`."""
