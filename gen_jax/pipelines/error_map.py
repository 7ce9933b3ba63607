"""The expected error of a restored image of any size, by a run of the stage `restore_error`."""

from typing import Any

import jax
import numpy as np
from jaxtyping import Float

from gen_jax.common.errors import UserError
from gen_jax.data.degradations import as_vector
from gen_jax.data.photographs.reading import Pixels
from gen_jax.pipelines import tiles
from gen_jax.pipelines.enlarged import Enlarged
from gen_jax.pipelines.restoration import TILE, Restored, Restorer
from gen_jax.runs import layout
from gen_jax.runs.reader import TrainedModel

CALIBRATION = "calibration.json"
"""File in a run directory."""


def read_calibration(model: TrainedModel) -> dict[str, Any] | None:
    """Returns the calibration of a run, or None if it has none.

    Raises:
      UserError: The file cannot be read, or belongs to other weights.
    """
    path = model.path / CALIBRATION
    if not path.is_file():
        return None
    values = layout.read_json(path, "a calibration")
    if values.get("weights_sha256") != model.digest or "threshold" not in values:
        raise UserError(
            f"{path}: a calibration of other weights; make it again, or delete the file"
        )
    return values


class ErrorEstimator:
    """Calls a trained model of the stage `restore_error` behind its restorer.

    Attributes:
      model: As `runs.reader.load` gives it.
      calibration: Contents of the run's calibration.json (`evaluation.calibration`), or None.
    """

    def __init__(self, model: TrainedModel, restorer: Restorer):
        """Checks that the model belongs to the restorer.

        Raises:
          UserError: It is of another stage, or was trained on the errors of another restorer.
        """
        self.model, self._restorer = model, restorer
        known = model.task.predict_fns()
        if "error" not in known:
            raise UserError(
                f"error_run={model.path}: a run of another stage, which expects no errors; name a "
                "run of configs/restore_error.py"
            )
        if model.frozen_digests.get("first_stage") != restorer.model.digest:
            raise UserError(
                f"error_run={model.path}: trained on the errors of another restorer than "
                f"{restorer.model.path}; train it with first_stage={restorer.model.path}"
            )
        self._error = jax.jit(known["error"])
        self.calibration = read_calibration(model)

    def __call__(
        self, pixels: Pixels, restored: Restored, scale: int = 1
    ) -> Float[np.ndarray, "h2 w2"]:
        """Returns the expected absolute error of each pixel, in 1/255 of the range of values.

        Args:
          pixels: The image that was restored, as it went into the restorer.
          restored: What the restorer made of it, at `scale` times its size. Where nothing was to be
            removed nothing was changed, and the map is zero.
          scale: Factor that it was enlarged by.
        """
        before = Enlarged(pixels, scale)
        after = Enlarged(restored.pixels, 1)
        out = np.zeros(before.size, np.float32)
        if not restored.told:
            return out
        vector, channels = as_vector(restored.told)[None], self._restorer.channels
        parts = [self._restorer.source(picture) for picture in (before, after)]

        def source(top, bottom, left, right):
            return np.concatenate([part(top, bottom, left, right) for part in parts], -1)

        def forward(x):
            batch = {"degraded": x[..., :channels], "restored": x[..., channels:]}
            batch["degradation"] = vector
            made = self._error(self.model.variables, batch, {}, self.model.frozen)
            return np.asarray(made["error"])

        def sink(first, rows):
            out[first : first + len(rows)] = rows[..., 0]

        tiles.apply(forward, source, before.size, sink, tile=TILE, is_padded=max(out.shape) > TILE)
        return out
