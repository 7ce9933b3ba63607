"""The CPU's compiler flag: set for the measured version, never over the user's own."""

import os

import jaxlib
import pytest

from gen_jax.parallel import compilation

FLAG = "--xla_cpu_experimental_ynn_fusion_type"
OURS = f"{FLAG}=LIBRARY_FUSION_TYPE_REDUCE"


@pytest.mark.parametrize(
    "version, given, expected",
    [
        ("0.10.2", "", OURS),
        ("0.10.2", "--a=1", f"--a=1 {OURS}"),
        ("0.10.2", f"{FLAG}=", f"{FLAG}="),
        ("0.11.0", "--a=1", "--a=1"),
    ],
)
def test_flag(monkeypatch, version, given, expected):
    monkeypatch.setattr(jaxlib, "__version__", version)
    monkeypatch.setenv("XLA_FLAGS", given)
    compilation.tune_cpu()
    assert os.environ["XLA_FLAGS"] == expected
