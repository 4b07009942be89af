"""Kinds of perturbation: a knock-out, or a move to another rank.

Geneformer's documentation describes ``overexpress`` (to the front), and ``activate`` and
``inhibit`` by quartiles of the rank value encoding, which it marks as still to come. The rule for
quartiles here is the one it states: a gene goes to the middle of the quarter that lies so many
quarters up or down, and past the first or last quarter to the very front or bottom.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ranklock.errors import OptionError

QUARTERS = 4

Ranks = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Kind:
    """What is done to a gene.

    Attributes
    ----------
    name
        As it is written on the command line and in results: ``overexpress``, ``activate:1``.
    participle
        The same after a gene's name: "overexpressed".
    moves
        Whether genes go to other ranks; otherwise they are knocked out.
    first
        Rank that the first gene goes to, those perturbed with it following in the order named.
    quarters
        Quarters down the ranks (up, where negative).
    factor
        What the gene's counts are multiplied by; its rank is then that of the new counts.
    """

    name: str
    participle: str
    moves: bool = True
    first: int | None = None
    quarters: int = 0
    factor: float | None = None

    @property
    def takes_sets(self) -> bool:
        """Whether several genes of a cell can be perturbed so together, or put into a cell."""
        return not self.moves or self.first is not None


KNOCK_OUT = Kind("knock-out", "knocked out", moves=False)

# Kind → how it is written, for help and messages.
GRAMMAR = {
    "knock-out": "knock-out",
    "overexpress": "overexpress (to the front)",
    "activate": "activate:1 to activate:3 (quarters up)",
    "inhibit": "inhibit:1 to inhibit:3 (quarters down)",
    "to-rank": "to-rank:100 (ranks count from 0)",
    "factor": "factor:0.5 (counts times that, ranked anew)",
}


def find_kind(text: str) -> Kind:
    """The kind that a text names.

    Raises
    ------
    OptionError
        When there is no such kind.
    """
    word, _, amount = str(text).strip().partition(":")
    try:
        match word, amount:
            case "knock-out", "":
                return KNOCK_OUT
            case "overexpress", "":
                return Kind("overexpress", "overexpressed", first=0)
            case "activate" | "inhibit", _:
                quarters = int(amount or 1)
                if quarters not in range(1, QUARTERS):
                    raise OptionError(f"A gene moves by 1, 2 or 3 quarters, not {quarters}.")
                participle = f"{word}d".replace("td", "ted")
                signed = -quarters if word == "activate" else quarters
                return Kind(f"{word}:{quarters}", participle, quarters=signed)
            case "to-rank", _ if amount:
                rank = int(amount)
                if rank < 0:
                    raise OptionError(f"{rank} is no rank; ranks count from 0, the highest.")
                return Kind(f"to-rank:{rank}", f"moved to rank {rank}", first=rank)
            case "factor", _ if amount:
                factor = float(amount)
                if not 0 < factor < np.inf:
                    raise OptionError(f"{amount} is no factor for counts; it is larger than 0.")
                return Kind(f"factor:{factor:g}", f"at {factor:g} times its counts", factor=factor)
    except ValueError:
        pass
    raise OptionError(
        f"There is no perturbation {text!r}; there are {', '.join(GRAMMAR.values())}."
    )


def find_kinds(texts: str | Iterable[str]) -> tuple[Kind, ...]:
    """Kinds by name, each once, in the order given; one text may name several, with commas.

    Raises
    ------
    OptionError
        When there is no such kind, or none is named.
    """
    named = texts.split(",") if isinstance(texts, str) else list(texts)
    kinds = tuple(dict.fromkeys(find_kind(text) for text in named))
    if not kinds:
        raise OptionError(f"Nothing is to be done; name {', '.join(GRAMMAR.values())}.")
    return kinds


def quarter_of(rank: Ranks | int, genes: int) -> Ranks:
    """Quarter of a cell's genes that a rank lies in, 0 (highest) to 3."""
    return np.asarray(QUARTERS * np.asarray(rank) // genes)


def middle_of(quarter: Ranks | int, genes: int) -> Ranks:
    """Middle rank of a quarter: the upper one of two where the quarter is even.

    Quarters are those of :func:`quarter_of`; with four genes or more none is empty.
    """
    first, end = (-(-np.asarray(q) * genes // QUARTERS) for q in (quarter, np.add(quarter, 1)))
    return np.asarray((first + end - 1) // 2)


def rank_by_quarters(ranks: Ranks, quarters: int, genes: int) -> Ranks:
    """Ranks that genes go to that are moved by quarters.

    Parameters
    ----------
    ranks
        Where they stand.
    quarters
        Quarters down; up where negative.
    genes
        Number of genes that the model is shown of the cell; at least four.
    """
    quarter = quarter_of(ranks, genes) + quarters
    inside = middle_of(np.clip(quarter, 0, QUARTERS - 1), genes)
    return np.where(quarter < 0, 0, np.where(quarter >= QUARTERS, genes - 1, inside))
