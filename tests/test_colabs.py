"""The notebooks run from their first cell on any machine; some are stored with their outputs."""

import json
import pathlib
import sys

import pytest

nbclient = pytest.importorskip("nbclient", reason="nbclient is not installed: requirements-dev.txt")

import nbformat  # noqa: E402
from jupyter_client.kernelspec import KernelSpecManager  # noqa: E402
from jupyter_client.manager import AsyncKernelManager  # noqa: E402
from jupyter_core.utils import run_sync  # noqa: E402

from tests.processes import ROOT, environment  # noqa: E402

NOTEBOOKS = sorted((ROOT / "colabs").glob("*.ipynb"))
# As .pre-commit-config.yaml excludes them from nbstripout.
WITH_OUTPUTS = {"engravings", "restore", "sample_ldm"}
# Notebook -> code that takes minutes -> what tests run instead: fewer and smaller programs.
SMALLER = {
    "engravings": {
        "pipelines.load(model)": "pipelines.load(model, num_inference_steps=2)",
        '"the owl", "a church", "a portrait of the king", "beetle"': '"the owl"',
    },
    "restore": {"astronaut()[16:176, 144:304]": "astronaut()[48:112, 176:240]"},
    "sample_art": {"[1.0, 2.0, 4.0]": "[4.0]", "(2, 6, 12)": "(2,)"},
    "sample_faces": {"[0.3, 0.6, 1.0]": "[0.6]"},
    "sample_ldm": {
        "pipe = pipelines.load(model)": "pipe = pipelines.load(model, num_inference_steps=2)",
        "guidance_scale=scale)": "guidance_scale=scale, num_inference_steps=2)",
        "[1.0, 3.0, 6.0]": "[6.0]",
        "gen_jax.load(RUN)": "gen_jax.load(RUN, num_inference_steps=4)",
        "strength in (0.4, 0.6, 0.8, 0.95)": "strength in (0.6,)",
        "for s in (0.4, 0.6, 0.8, 0.95)": "for s in (0.6,)",
        "BATCH = 8": "BATCH = 2",
    },
    "train_ldm": {
        "NUM_SCENES = 20000": "NUM_SCENES = 400",
        "STEPS = 700": "STEPS = 1",
        "SAMPLES = 64": "SAMPLES = 8",
        "ldm.get_config()": 'ldm.get_config("debug")',
    },
}
_MOST_BYTES = 2_000_000


def read(path: pathlib.Path) -> nbformat.NotebookNode:
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    return notebook


def code_cells(notebook: nbformat.NotebookNode) -> list[nbformat.NotebookNode]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def make_smaller(notebook: nbformat.NotebookNode, changes: dict[str, str]) -> None:
    """Replaces code; raises if a piece is not there exactly once."""
    for old, new in changes.items():
        cells = [cell for cell in code_cells(notebook) if old in cell.source]
        assert len(cells) == 1 and cells[0].source.count(old) == 1, old
        cells[0].source = cells[0].source.replace(old, new)


def execute(notebook: nbformat.NotebookNode, folder: pathlib.Path) -> None:
    """Runs every cell with this interpreter in `colabs/`, where Jupyter starts; outputs go in."""
    specs, temporary = folder / "kernels", folder / "tmp"
    temporary.mkdir()
    (specs / "here").mkdir(parents=True)
    command = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    spec = {"argv": command, "display_name": "here", "language": "python"}
    (specs / "here" / "kernel.json").write_text(json.dumps(spec))
    manager = AsyncKernelManager(
        kernel_name="here",
        kernel_spec_manager=KernelSpecManager(kernel_dirs=[str(specs)]),
        connection_file=str(folder / "connection.json"),
    )
    client = nbclient.NotebookClient(
        notebook,
        km=manager,
        timeout=900,
        resources={"metadata": {"path": str(ROOT / "colabs")}},
    )
    try:
        client.execute(env=environment(TMPDIR=str(temporary), IPYTHONDIR=str(folder / "ipython")))
    finally:
        # The client leaves a kernel of another manager running, with all that it holds in memory.
        run_sync(manager.shutdown_kernel)(now=True)


def test_there_are_notebooks():
    assert NOTEBOOKS


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_outputs_are_stored_where_they_are_meant_to_be(path):
    cells = code_cells(read(path))
    if path.stem not in WITH_OUTPUTS:
        assert all(cell.outputs == [] and cell.execution_count is None for cell in cells)
        return
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    outputs = [output for cell in cells for output in cell.outputs]
    assert sum("image/png" in output.get("data", {}) for output in outputs) >= 4
    assert not [output for output in outputs if output.output_type == "error"]
    assert path.stat().st_size < _MOST_BYTES
    assert str(ROOT) not in path.read_text()


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_runs_from_the_first_cell(path, tmp_path):
    notebook = read(path)
    make_smaller(notebook, SMALLER.get(path.stem, {}))
    execute(notebook, tmp_path)  # raises at the first cell that fails
    cells = code_cells(notebook)
    outputs = [output for cell in cells for output in cell.outputs]
    assert not [o for o in outputs if o.output_type == "error"]
    assert all(cell.execution_count for cell in cells)
    assert "CpuDevice" in "".join(o.text for o in cells[0].outputs if o.output_type == "stream")
    images = [o.data["image/png"] for o in outputs if "image/png" in o.get("data", {})]
    assert len(images) >= 4
