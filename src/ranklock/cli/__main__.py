"""``python -m ranklock.cli``."""

from ranklock.cli import main

main()
