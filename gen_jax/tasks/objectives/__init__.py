"""What a face generator is trained by; a new objective is a line in `OBJECTIVES`."""

from gen_jax.tasks.objectives.adversarial import Adversarial
from gen_jax.tasks.objectives.drifting import Drifting
from gen_jax.tasks.objectives.imle import IMLE
from gen_jax.tasks.objectives.paired import Paired

OBJECTIVES = {
    "paired": Paired,
    "drifting": Drifting,
    "imle": IMLE,
    "adversarial": Adversarial,
}
