r"""Trains and evaluates a config: from data to weights, samples and a table of metrics.

    python -m gen_jax.main --config=configs/ldm.py --workdir=runs/ldm
    python -m gen_jax.main --config=configs/ldm.py:data=shapes --workdir=runs/shapes \
        --config.training.num_steps=4000

The same command resumes a run that was interrupted. A second one in the same directory is refused
while the first one runs. The recipes are in configs/; any value can be set as
--config.key.sub=value, including fields that the recipe leaves at their defaults.
"""

from absl import flags

from gen_jax.common import app, paths
from gen_jax.common import config as config_lib
from gen_jax.common.errors import UserError


def _complete(config):
    from gen_jax.training import defaults

    return defaults.complete(config)


_CONFIG = config_lib.define(
    "Recipe, FILE or FILE:ARG, for example configs/ldm.py:data=shapes.", _complete
)
flags.declare_key_flag("config")  # so that --help lists it
_WORKDIR = paths.DEFINE_path("workdir", None, "Run directory; made if it is not there.")


def main(_) -> int:
    """Runs the stages of the config, first those that it requires."""
    config = config_lib.value(_CONFIG)
    if not _WORKDIR.value:
        raise UserError("--workdir is missing: name a folder for the run, such as runs/ldm")
    from gen_jax.parallel import compilation, distributed
    from gen_jax.runs import layout, lock

    distributed.initialize()
    compilation.set_up()
    workdir = layout.make(_WORKDIR.value, "--workdir")
    from gen_jax.training import stage

    with lock.held(workdir, "--workdir"):
        try:
            return stage.run(config, workdir)
        except KeyboardInterrupt:
            print(f"the same command resumes {workdir} from its last checkpoint", flush=True)
            raise


if __name__ == "__main__":
    app.run(main)
