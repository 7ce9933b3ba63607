"""Numbers of a run on disk: strict JSON, and a warning if the best is chosen by none of them."""

import json
import math

from gen_jax.evaluation.base import Result
from gen_jax.training import report
from gen_jax.training.logging import MetricWriter, read_metrics


def test_numbers_that_are_not_finite_are_strict_json_and_come_back(tmp_path):
    writer = MetricWriter(tmp_path, tensorboard=False)
    writer.scalars(1, {"a": math.inf, "b": math.nan, "c": 0.5})
    writer.scalars(2, {"a": 1.0})
    writer.rewind(1)
    text = (tmp_path / "metrics.jsonl").read_text()
    line = json.loads(text, parse_constant=lambda token: f"the token {token}")
    assert line["a"] == "Infinity" and line["b"] == "NaN"
    (read,) = read_metrics(tmp_path)
    assert read["a"] == math.inf and math.isnan(read["b"]) and read["c"] == 0.5


def test_a_best_metric_that_nothing_measures_is_a_warning():
    result = Result({"art/kid_untrained": 1.0})
    assert report.with_best(result, "art/kid_untrained").warnings == ()
    assert report.with_best(result, "").warnings == ()
    (warning,) = report.with_best(result, "art/kid").warnings
    assert "best_metric=art/kid is not measured" in warning and "art/kid_untrained?" in warning
