"""What can go wrong, in the three kinds that a caller tells apart."""

from __future__ import annotations


class RanklockError(Exception):
    """Base of every error that Ranklock raises on purpose.

    The message is one line that says what was wrong, where, and what to do next.
    """

    exit_code = 1


class InputError(RanklockError):
    """Cells, vocabulary, checkpoint or gene names that cannot be used as given."""

    exit_code = 3


class OptionError(InputError):
    """An option that has no such value, whatever the input."""

    exit_code = 2


class OutputError(RanklockError):
    """Results that cannot be written, or read back."""

    exit_code = 4


class RanklockWarning(UserWarning):
    """Something was left out or assumed; the run goes on and its manifest says so."""
