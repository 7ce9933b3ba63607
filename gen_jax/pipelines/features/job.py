"""`featurize` as a function: from a data set to a folder of features.

Tasks of one job share nothing but the folder: each makes its own shards, whole or not at all, and
whichever finds all of them there writes the descriptions. So one process, many, and any that were
killed and started again end in the same bytes.
"""

import dataclasses
import pathlib

from gen_jax.common import folder_lock
from gen_jax.common.app import place_error
from gen_jax.common.errors import UserError
from gen_jax.data import dataset
from gen_jax.data.features import codec, feature_set
from gen_jax.parallel import job_array
from gen_jax.pipelines.features import bases, parts, plan, towers
from gen_jax.pipelines.features.maker import Maker
from gen_jax.pipelines.features.plan import Options
from gen_jax.pipelines.features.program import Program


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What a task leaves behind.

    Attributes:
      info: of the whole folder, or None while other tasks have shards to make.
      images: examples that this task computed.
      shards: that it made; those that stood before are not counted.
      left: shards that are not there yet.
    """

    info: feature_set.FeaturesInfo | None
    images: int
    shards: int
    left: int


def featurize(options: Options) -> Outcome:
    """Makes this task's shards, and the descriptions where it is the last.

    Raises:
      UserError: an option, the data, the weights or the folder is not usable.
    """
    plan.check(options)
    store = codec.Store.parse(options.store)
    task, tasks = job_array.task_of(options.task, options.tasks)
    info = dataset.load(options.data)
    whole_job = plan.parts_of(options, info)
    if not whole_job:
        raise UserError(f"{options.data}: holds no records")
    records = {
        split: dataset.open_split(options.data, split)[1]
        for split in dict.fromkeys(part.split for part in whole_job)
    }
    tower = towers.open_tower(options)
    out = pathlib.Path(options.out)
    fingerprint = plan.fingerprint(options, info, tower.sha256)
    try:
        plan.claim(out, fingerprint)
        mine = whole_job[task::tasks]
        # The same task a second time would remove the first one's unfinished files.
        lock = out / plan.PARTS / f"task_{task}_of_{tasks}.lock"
        with folder_lock.held(out, lock, "out"):
            todo = [part for part in mine if not parts.stands(out, part)]
            images = 0
            if todo:
                # Of the first split in every task: the basis must not depend on who fits it.
                fitted = bases.of_job(tower, store, options, records[whole_job[0].split], out)
                program = Program(tower.extractor, tower.params, store, fitted)
                images = Maker(tower, program, options, records).run(todo, len(mine) - len(todo))
            left = sum(not parts.is_left(out, part) for part in whole_job)
            described = None
            if not left:
                described = parts.describe(tower, options, info, whole_job, fingerprint)
            return Outcome(described, images, len(todo), left)
    except OSError as error:
        raise (place_error(error) or error) from error
