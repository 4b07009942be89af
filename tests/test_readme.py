"""The README says what the code does: its table of arms and its commands are the code's own."""

import re
from pathlib import Path

import typer

from ranklock.arms import ARMS
from ranklock.cli import app

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_table_of_arms_is_that_of_the_code():
    for arm in ARMS.values():
        positions = arm.positions.value.partition(":")[0]
        row = f"| `{arm.name}` | {arm.edit.value} | {positions} | {arm.isolates} |"
        assert row in README, f"README.md lacks the row\n{row}"


def test_every_option_that_it_names_exists():
    commands = typer.main.get_command(app).commands
    known = {name for command in commands.values() for p in command.params for name in p.opts}
    commands_of_ours = re.sub(
        r"`python benchmarks/[^`]*`", "", README
    )  # benchmarks have options of theirs
    named = set(re.findall(r"(?<![\w-])(--[a-z][a-z0-9]*(?:-[a-z]+)*)", commands_of_ours)) - {
        "--help",
        "--version",
        "--no-deps",  # pip's
    }
    assert named <= known


def test_every_file_that_it_links_to_exists():
    for target in re.findall(r"\]\(([^)#]+)\)", README):
        assert target.startswith("http") or (ROOT / target).exists(), target
