import json
import pathlib

import nbformat
import pytest

import experiments

ROOT = pathlib.Path(experiments.__file__).parent.parent
PATH = ROOT / "experiments" / "notebook" / "quickstart.ipynb"


def test_notebook_is_kept_without_outputs():
    found = nbformat.read(PATH, as_version=4)
    nbformat.validate(found)
    code = [cell for cell in found.cells if cell.cell_type == "code"]
    assert len(code) == 7
    assert all(cell.outputs == [] and cell.execution_count is None for cell in code)


@pytest.mark.slow
def test_notebook_runs_from_top_to_bottom(tmp_path, monkeypatch):
    nbclient = pytest.importorskip("nbclient")
    monkeypatch.setenv("KD_TF_QUICKSTART", "0.02")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    notebook = nbformat.read(PATH, as_version=4)
    # In a folder of its own, where runs/quickstart is made.
    resources = {"metadata": {"path": str(tmp_path)}}
    nbclient.NotebookClient(notebook, timeout=900, resources=resources).execute()
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    printed = "".join(out.get("text", "") for out in code[5].outputs if out.get("name") == "stdout")
    assert [line.split()[0] for line in printed.splitlines()] == [
        *("teacher", "baseline", "pretrain", "finetune")
    ]
    pictures = [out for out in code[6].outputs if "image/png" in out.get("data", {})]
    assert len(pictures) == 1
    path = tmp_path / "runs" / "quickstart" / "evaluate" / "metrics.json"
    assert set(json.loads(path.read_text())["models"]) >= {"teacher", "finetune"}
