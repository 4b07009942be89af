import ast
import subprocess
import sys
from pathlib import Path

import pytest

import ranklock

SOURCE = Path(ranklock.__file__).parent

# DESIGN.md, section 8: data flows one way, and a stage imports only those before it.
STAGES = [
    "errors", "quantities", "progress", "genes", "cells", "models", "kinds", "arms", "engine",
    "effects", "folds", "page", "run", "statistics", "significance", "audits", "estimates",
    "perturbseq", "demo", "cli",
]  # fmt: skip


def imports_of(path: Path) -> set[str]:
    """Stages that a file imports, those of public names included."""
    stages = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if not isinstance(node, ast.ImportFrom):
            continue
        if node.module == "ranklock":
            homes = {alias.name: ranklock._HOME.get(alias.name) for alias in node.names}
            stages |= {(home or name).split(".")[0] for name, home in homes.items()}
        elif (node.module or "").startswith("ranklock."):
            stages.add(node.module.split(".")[1])
    return stages - {"__version__"}


@pytest.mark.parametrize(
    "path", sorted(SOURCE.rglob("*.py")), ids=lambda p: str(p.relative_to(SOURCE))
)
def test_a_stage_imports_only_those_above_it(path):
    stage = path.relative_to(SOURCE).parts[0].removesuffix(".py")
    if stage == "__init__":
        return
    assert imports_of(path) <= set(STAGES[: STAGES.index(stage) + 1])


def test_import_is_light():
    code = (
        "import sys, ranklock; dir(ranklock); ranklock.InputError; ranklock.ARMS; "
        "print([m for m in ('torch', 'transformers', 'anndata', 'datasets') if m in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"


def test_everything_public_is_there_and_documented():
    for name in ranklock.__all__:
        assert getattr(ranklock, name).__doc__
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = ranklock.nonsense
