"""Log effects of a sweep, one cell at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from ranklock.errors import InputError, OptionError
from ranklock.run.old_sweep_result import Sweep

Array = npt.NDArray[np.float64]
Ranks = npt.NDArray[np.int64]
Marks = npt.NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class CellEffects:
    """Effects of the knock-outs of one cell under one arm.

    Attributes
    ----------
    replicate
        What the cell is a replicate of: itself, or its donor.
    genes
        Genes in the cell.
    knocked_out, knocked_out_ranks
        Token and rank of each knocked-out gene, highest rank first, shape (knock-outs,).
    responders, responder_ranks
        The same of the responders, shape (responders,).
    log_effects
        log10 of cosine distances, shape (knock-outs, responders). Distances below the noise floor
        count as the floor. NaN for the knocked-out gene itself.
    under_floor
        Which displacements are under the noise floor, same shape.
    """

    replicate: str
    genes: int
    knocked_out: Ranks
    knocked_out_ranks: Ranks
    responders: Ranks
    responder_ranks: Ranks
    log_effects: Array
    under_floor: Marks

    @property
    def present(self) -> Marks:
        """Which entries hold an effect."""
        return np.isfinite(self.log_effects)


def replicates_of(sweep: Sweep, donor: str | None) -> pd.Series:
    """Cell's name → replicate: the cell itself, or its donor.

    Raises
    ------
    InputError
        When the cells have no such column, or a cell has no donor.
    """
    names = pd.Index([str(name) for name in sweep.cells.index])
    if donor is None:
        return pd.Series(names, index=names)
    if donor not in sweep.cells:
        there = ", ".join(map(str, sweep.cells.columns)) or "no columns"
        raise InputError(
            f"The cells of {sweep.folder} have no column {donor!r} (they have {there}); name the "
            "column of obs that holds donors or samples."
        )
    values = sweep.cells[donor]
    if values.isna().any():
        raise InputError(
            f"{int(values.isna().sum())} cells of {sweep.folder} have no {donor}; leave them out, "
            "or name another column."
        )
    return pd.Series(values.astype(str).to_numpy(), index=names)


@dataclass(frozen=True, eq=False)
class SweepEffects:
    """Effects of a sweep under one arm; iterating reads one cell after another.

    Attributes
    ----------
    sweep, arm
        Of what.
    replicates
        Cell's name → replicate. Cells of one replicate come one after another.
    """

    sweep: Sweep
    arm: str
    replicates: pd.Series

    def __iter__(self) -> Iterator[CellEffects]:
        floor = self.sweep.floor
        fields = (self.arm, f"{self.arm}_displacement")
        for layout, numbers in self.sweep.cells_effects(fields, self._order()):
            distances = numbers[self.arm].astype(np.float64)
            if not np.isfinite(distances).any():
                continue
            with np.errstate(divide="ignore"):
                logs = np.log10(np.maximum(distances, floor.cosine_distance))
            under = numbers[f"{self.arm}_displacement"] <= floor.displacement
            done = np.isfinite(distances).any(axis=1)
            yield CellEffects(
                str(self.replicates[layout.name]),
                layout.genes_in_cell,
                layout.knocked_out[done].astype(np.int64),
                layout.knocked_out_ranks[done].astype(np.int64),
                layout.responders.astype(np.int64),
                layout.responder_ranks.astype(np.int64),
                np.where(np.isfinite(logs), logs, np.nan)[done],
                under[done],
            )

    def _order(self) -> list[str]:
        return [str(name) for name in self.replicates.sort_values(kind="stable").index]


def effects_of(sweep: Sweep, arm: str, donor: str | None = None) -> SweepEffects:
    """Effects of a sweep under one arm.

    Raises
    ------
    InputError
        When the sweep did not run the arm, or stored no effects on genes.
    """
    if arm not in sweep.arms:
        raise OptionError(f"{sweep.folder} has no arm {arm!r}; it has: {', '.join(sweep.arms)}.")
    if sweep.manifest["asked"]["read"] == "cell":
        raise InputError(
            f"{sweep.folder} read cell shifts only; run the sweep with --read both, or ask "
            "ranklock knockouts about it."
        )
    return SweepEffects(sweep, arm, replicates_of(sweep, donor))


def arms_of(sweep: Sweep, asked: Sequence[str] | None) -> tuple[str, ...]:
    """Arms to look at: those asked for, or all of the sweep's."""
    arms = tuple(dict.fromkeys(asked or sweep.arms))
    for arm in arms:
        effects_of(sweep, arm)
    return arms
