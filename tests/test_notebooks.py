"""The notebooks run, from a clean kernel, as they are."""

import os
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

NOTEBOOKS = Path(__file__).resolve().parents[1] / "notebooks"


def run(name: str, folder: Path) -> nbformat.NotebookNode:
    """Run a notebook in a process of its own: the browser's event loop may be in this one."""
    done = folder / name
    code = (
        "import sys, nbformat, nbclient\n"
        "notebook = nbformat.read(sys.argv[1], 4)\n"
        "where = {'metadata': {'path': sys.argv[3]}}\n"
        "nbclient.NotebookClient(notebook, timeout=600, kernel_name='python3', resources=where)"
        ".execute()\n"
        "nbformat.write(notebook, sys.argv[2])\n"
    )
    arguments = [str(NOTEBOOKS / name), str(done), str(NOTEBOOKS)]
    subprocess.run([sys.executable, "-c", code, *arguments], check=True, env=dict(os.environ))
    return nbformat.read(done, 4)


def printed(notebook: nbformat.NotebookNode) -> str:
    return "\n".join(
        output.get("text", "") for cell in notebook.cells for output in cell.get("outputs", [])
    )


def figures(notebook: nbformat.NotebookNode) -> int:
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    return sum("image/png" in output.get("data", {}) for output in outputs)


def test_the_demo_from_cells_to_the_five_answers(tmp_path):
    notebook = run("rank_shift.ipynb", tmp_path)
    kept = nbformat.read(NOTEBOOKS / "rank_shift.ipynb", 4)
    for text in (printed(notebook), printed(kept)):  # what it does, and what a reader sees of it
        assert "Yes. Under delete" in text
        assert "Use hold in place of delete" in text
    assert figures(notebook) == figures(kept) == 3


@pytest.mark.usefixtures("shared")
def test_the_cell_of_the_report(tmp_path):
    text = printed(run("genecorpus_row_0.ipynb", tmp_path))
    assert "token 519 at rank 1000 is FAM136A" in text
    assert "delete   7.6e-07 8.2e-02" in text
    assert "the largest jump is there in 100% of knock-outs" in text
