import functools
import pathlib
import sys

import pytest

# The helper that the tests of models and encoders share lies beside those of models.
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "models"))


@pytest.fixture(scope="module", autouse=True)
def _traced_once():
    """Has loaders trace each architecture once per file: a UNet takes seconds."""
    from gen_jax.encoders import catalog, diffusers_folder, scunet_files

    shapes = functools.cache(diffusers_folder.param_shapes)
    with pytest.MonkeyPatch.context() as patch:
        for module in (catalog, diffusers_folder, scunet_files):
            patch.setattr(module, "param_shapes", shapes)
        yield
