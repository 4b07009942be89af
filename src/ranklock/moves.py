"""Moves: to which rank a gene goes that is overexpressed, activated or inhibited.

Geneformer's documentation describes ``overexpress`` (to the front), and ``activate`` and
``inhibit`` by quartiles of the rank value encoding, which it marks as still to come. The rule for
quartiles here is the one it states: a gene goes to the middle of the quarter that lies so many
quarters up or down, and past the first or last quarter to the very front or bottom.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ranklock.errors import OptionError

QUARTERS = 4

# Perturbation → what was done to a gene, in words.
SAID = {
    "overexpress": "overexpressed",
    "activate": "activated",
    "inhibit": "inhibited",
    "to-rank": "moved",
}


@dataclass(frozen=True)
class Move:
    """A perturbation that moves genes to other ranks.

    Attributes
    ----------
    perturbation
        Its name in results, a key of :data:`SAID`.
    first
        Rank that the first gene goes to, the others following in the order named; None for a move
        by quarters.
    quarters
        Quarters down the ranks (up, where negative) of a move by quarters.
    """

    perturbation: str
    first: int | None = None
    quarters: int = 0

    def destinations(self, ranks: Sequence[int], genes: int) -> tuple[int, ...]:
        """Ranks that genes of one cell go to.

        Parameters
        ----------
        ranks
            Where they stand. Only a move by quarters looks at it.
        genes
            Number of genes that the model is shown of the cell; at least four for quarters.
        """
        if self.first is not None:
            return tuple(self.first + place for place in range(len(ranks)))
        return tuple(self._by_quarters(rank, genes) for rank in ranks)

    def _by_quarters(self, rank: int, genes: int) -> int:
        quarter = quarter_of(rank, genes) + self.quarters
        if quarter < 0:
            return 0
        return genes - 1 if quarter >= QUARTERS else middle_of(quarter, genes)


def find_move(perturbation: str | int, quartiles: int | None = None) -> Move:
    """The move of a name.

    Parameters
    ----------
    perturbation
        ``"overexpress"``, ``"activate"``, ``"inhibit"``, or a rank to move to, from 0.
    quartiles
        For ``"activate"`` and ``"inhibit"`` alone: by how many quarters, 1 to 3; one by default.

    Raises
    ------
    OptionError
        When there is no such move.
    """
    if perturbation in ("activate", "inhibit"):
        number = 1 if quartiles is None else quartiles
        if number not in range(1, QUARTERS):
            raise OptionError(f"A gene moves by 1, 2 or 3 quartiles, not {number}.")
        return Move(str(perturbation), quarters=-number if perturbation == "activate" else number)
    if quartiles is not None:
        raise OptionError("quartiles is for activate and inhibit; leave it out.")
    if perturbation == "overexpress":
        return Move("overexpress", first=0)
    if isinstance(perturbation, int) and not isinstance(perturbation, bool):
        if perturbation < 0:
            raise OptionError(f"{perturbation} is no rank; ranks count from 0, the highest.")
        return Move("to-rank", first=perturbation)
    raise OptionError(
        f"There is no perturbation {perturbation!r}; there are overexpress, activate, inhibit, and "
        "a rank to move to, as a number."
    )


def quarter_of(rank: int, genes: int) -> int:
    """Quarter of a cell's genes that a rank lies in, 0 (highest) to 3."""
    return QUARTERS * rank // genes


def middle_of(quarter: int, genes: int) -> int:
    """Middle rank of a quarter: the upper one of two where the quarter is even.

    Quarters are those of :func:`quarter_of`; with four genes or more none is empty.
    """
    first, end = (-(-q * genes // QUARTERS) for q in (quarter, quarter + 1))
    return (first + end - 1) // 2
