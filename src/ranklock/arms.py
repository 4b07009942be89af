"""Arms: the exact ways of expressing a knock-out, or a move to another rank, as model input.

Every arm is two independent choices, an **edit** of the tokens and what happens to the
**positions**; one arm also lets a gene in from below the input size. :func:`apply` (knock-outs) and
:func:`apply_move` are the only places where they are carried out, :data:`ARMS` and
:data:`MOVE_ARMS` the only places where they are listed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from typing import Any

import numpy as np
import numpy.typing as npt

from ranklock.errors import InputError, OptionError
from ranklock.genes.vocabulary import CLS, EOS, MASK, Vocabulary

NOT_RANKED = -1


class Edit(Enum):
    """What happens to the tokens of the perturbed genes."""

    NONE = "none"
    REMOVE = "the token is removed"
    HIDE = "the token is hidden as a key in every layer"
    MASK = "the token is replaced with `<mask>`"
    MOVE = "the token is moved to another rank"


class Positions(Enum):
    """What happens to the positions of the other genes."""

    HELD = "held: everyone keeps their own"
    RENUMBERED = "renumbered: the gap closes"


@dataclass(frozen=True)
class Arm:
    """One exact way of expressing a perturbation as model input.

    Attributes
    ----------
    name
        Name in commands and results.
    edit, positions
        The two choices.
    isolates
        What its effects are effects of, in words.
    backfill
        Whether the gene that the input size kept out is let in at the end.
    runs_as
        Another arm that gives every other gene the same embedding with less arithmetic, and is
        computed instead.
    """

    name: str
    edit: Edit
    positions: Positions
    isolates: str
    backfill: bool = False
    runs_as: str | None = None


ARMS: dict[str, Arm] = {
    arm.name: arm
    for arm in (
        Arm("delete", Edit.REMOVE, Positions.RENUMBERED,
            "Geneformer's knock-out: removal + rank shift"),
        Arm("hold", Edit.REMOVE, Positions.HELD, "removal alone"),
        Arm("attention-mask", Edit.HIDE, Positions.HELD,
            "removal alone: the same as hold for every other gene", runs_as="hold"),
        Arm("mask", Edit.MASK, Positions.HELD, 'removal + "some gene is here"'),
        Arm("shift", Edit.NONE, Positions.RENUMBERED, "rank shift alone: the placebo"),
        Arm("delete-backfill", Edit.REMOVE, Positions.RENUMBERED,
            "Geneformer's knock-out, with the next gene let in below the cut", backfill=True),
    )
}  # fmt: skip

MOVE_ARMS: dict[str, Arm] = {
    arm.name: arm
    for arm in (
        Arm("move", Edit.MOVE, Positions.RENUMBERED,
            "Geneformer's overexpression: the move + rank shift of the genes it passes"),
        Arm("hold", Edit.MOVE, Positions.HELD, "the move alone"),
        ARMS["shift"],
    )
}  # fmt: skip

DECOMPOSITION_ARMS = ("hold", "shift", "delete")
DEFAULT_ARMS = ("delete", "hold", "mask", "shift")
DEFAULT_MOVE_ARMS = tuple(MOVE_ARMS)

# The arm that is an edit and the rank shift together → what its edit is called. Its effects are
# split between the two wherever `hold` and `shift` were run beside it.
EDIT_OF_WHOLE = {"delete": "removal", "move": "move"}


def whole_of(arms: Iterable[str]) -> str | None:
    """Of some arms, the one whose effects the others decompose; None where they do not."""
    names = set(arms)
    return next((whole for whole in EDIT_OF_WHOLE if {"hold", "shift", whole} <= names), None)


def find_arms(names: Iterable[str], among: Mapping[str, Arm] = ARMS) -> tuple[Arm, ...]:
    """Arms by name, each once, in the order given.

    Parameters
    ----------
    names
        Their names.
    among
        The arms there are: those of knock-outs, or :data:`MOVE_ARMS`.

    Raises
    ------
    InputError
        When there is no such arm, or none is asked for.
    """
    if isinstance(names, str):
        raise OptionError(f"arms is a list; write arms=[{names!r}].")
    arms = []
    for name in dict.fromkeys(names):
        if name not in among:
            raise OptionError(f"There is no arm {name!r}; there are: {', '.join(among)}.")
        arms.append(among[name])
    if not arms:
        raise OptionError(f"No arm was asked for; there are: {', '.join(among)}.")
    return tuple(arms)


@dataclass(frozen=True, eq=False)
class ModelInput:
    """What the model is given for one cell: tokens, positions, visible.

    Attributes
    ----------
    tokens
        Shape (length,).
    positions
        Index into the position-embedding table of each token, shape (length,).
    visible
        Whether a token can be attended to, shape (length,).
    ranks
        Rank in the unperturbed cell of each token, shape (length,); ``NOT_RANKED`` for special
        tokens, and for a gene that was let in by backfill or inserted by a move.
    """

    tokens: npt.NDArray[np.int32]
    positions: npt.NDArray[np.int32]
    visible: npt.NDArray[np.bool_]
    ranks: npt.NDArray[np.int32]

    def __len__(self) -> int:
        return len(self.tokens)

    def take(self, places: npt.NDArray[Any]) -> ModelInput:
        """The tokens at some places, or under a mask, each with its position."""
        return ModelInput(
            self.tokens[places], self.positions[places], self.visible[places], self.ranks[places]
        )


def capacity(input_size: int, *, special_frame: bool) -> int:
    """How many genes fit into the input: special tokens stand inside the cut."""
    return input_size - 2 if special_frame else input_size


def baseline(
    ranked: npt.NDArray[np.int32], input_size: int, vocabulary: Vocabulary, *, special_frame: bool
) -> ModelInput:
    """Input of the unperturbed cell.

    Parameters
    ----------
    ranked
        Tokens of the cell's genes, highest rank first, uncut.
    input_size
        Number of positions that the model has.
    vocabulary
        Where ``<cls>`` and ``<eos>`` come from.
    special_frame
        Whether the genes stand between them.
    """
    genes = ranked[: capacity(input_size, special_frame=special_frame)]
    ranks = np.arange(len(genes))
    tokens = genes
    if special_frame:
        tokens = np.concatenate([[vocabulary.special[CLS]], genes, [vocabulary.special[EOS]]])
        ranks = np.concatenate([[NOT_RANKED], ranks, [NOT_RANKED]])
    return ModelInput(
        tokens=tokens.astype(np.int32),
        positions=np.arange(len(tokens), dtype=np.int32),
        visible=np.ones(len(tokens), dtype=bool),
        ranks=ranks.astype(np.int32),
    )


def check_tokens(arm: Arm, vocabulary: Vocabulary) -> None:
    """Refuse an arm that needs a special token which the vocabulary lacks.

    Raises
    ------
    InputError
        When the arm masks and there is no ``<mask>``.
    """
    if arm.edit is Edit.MASK and MASK not in vocabulary.special:
        raise InputError(
            f"{vocabulary.source} has no <mask>, so the arm {arm.name!r} cannot be run; leave it "
            "out of --arms."
        )


def apply(
    arm: Arm,
    cell: ModelInput,
    knocked_out: Sequence[int],
    vocabulary: Vocabulary,
    next_genes: Sequence[int] = (),
) -> ModelInput:
    """Input of a cell with genes knocked out, under one arm.

    Parameters
    ----------
    arm
        The arm.
    cell
        The unperturbed cell, from :func:`baseline`.
    knocked_out
        Ranks of the genes to knock out, together.
    vocabulary
        Where ``<mask>`` comes from.
    next_genes
        Tokens of the genes below the cut, highest rank first; only backfill looks at them.

    Returns
    -------
    The perturbed input. Genes keep the rank that they had in the unperturbed cell.

    Raises
    ------
    InputError
        When a rank is not one of the cell's, or the vocabulary has no ``<mask>`` and it is needed.
    """
    ranks = np.unique(np.asarray(knocked_out, dtype=np.int64))
    perturbed = np.isin(cell.ranks, ranks)
    if not len(ranks) or perturbed.sum() != len(ranks):
        raise InputError(f"Ranks {list(knocked_out)} are not all ranks of this cell.")

    changed = cell
    if arm.positions is Positions.RENUMBERED:
        # Each token moves up by the number of knocked-out genes before it in the sequence.
        before: npt.NDArray[np.int_] = np.cumsum(perturbed) - perturbed
        changed = replace(changed, positions=(cell.positions - before).astype(np.int32))
    match arm.edit:
        case Edit.REMOVE:
            changed = changed.take(~perturbed)
        case Edit.HIDE:
            changed = replace(changed, visible=cell.visible & ~perturbed)
        case Edit.MASK:
            check_tokens(arm, vocabulary)
            tokens = np.where(perturbed, vocabulary.special[MASK], cell.tokens)
            changed = replace(changed, tokens=tokens.astype(np.int32))
        case Edit.NONE:
            pass
    return _let_in(changed, next_genes[: len(ranks)]) if arm.backfill else changed


def _let_in(cell: ModelInput, genes: Sequence[int]) -> ModelInput:
    """Put genes after the last gene; what follows it (``<eos>``) moves down."""
    if not len(genes):
        return cell
    ranked = np.flatnonzero(cell.ranks != NOT_RANKED)
    end = int(ranked[-1]) + 1 if len(ranked) else int((cell.ranks == NOT_RANKED).sum() > 0)
    first = int(cell.positions[end - 1]) + 1 if end else 0
    positions = np.insert(cell.positions, end, first + np.arange(len(genes)))
    positions[end + len(genes) :] += len(genes)
    return ModelInput(
        tokens=np.insert(cell.tokens, end, np.asarray(genes)).astype(np.int32),
        positions=positions.astype(np.int32),
        visible=np.insert(cell.visible, end, np.ones(len(genes), dtype=bool)),
        ranks=np.insert(cell.ranks, end, np.full(len(genes), NOT_RANKED)).astype(np.int32),
    )


def ranks_after(cell: ModelInput, to: Mapping[int, int]) -> npt.NDArray[np.int32]:
    """Ranks that a move leaves the tokens of a cell at.

    Parameters
    ----------
    cell
        The unperturbed cell, from :func:`baseline`.
    to
        Token of each gene that is moved, or inserted where the cell lacks it → the rank it goes to.

    Returns
    -------
    Shape (length,). The genes that are not moved fill the other ranks in the order that they have.
    After an insertion the last of them may exceed the cell's genes by the number of genes inserted.
    ``NOT_RANKED`` for special tokens.

    Raises
    ------
    InputError
        When two genes go to one rank, or one goes beyond the end.
    """
    genes = cell.ranks != NOT_RANKED
    moved = genes & np.isin(cell.tokens, list(to))
    length = int(genes.sum()) + len(to) - int(moved.sum())
    taken = np.array(list(to.values()), dtype=np.int64)
    if not len(taken) or len(np.unique(taken)) != len(taken) or not _within(taken, length):
        raise InputError(f"Ranks {taken.tolist()} are not ranks of their own among {length} genes.")
    after = cell.ranks.copy()
    after[genes & ~moved] = np.setdiff1d(np.arange(length), taken)
    after[moved] = [to[token] for token in cell.tokens[moved].tolist()]
    return after


def apply_move(arm: Arm, cell: ModelInput, to: Mapping[int, int], most: int) -> ModelInput:
    """Input of a cell with genes moved to other ranks, or inserted there, under one arm.

    Parameters
    ----------
    arm
        One of :data:`MOVE_ARMS`.
    cell, to
        As :func:`ranks_after` takes them.
    most
        How many genes fit into the input, from :func:`capacity`.

    Returns
    -------
    The perturbed input. A model knows the order of its tokens by their positions alone, so they
    stay in the order of the unperturbed cell (inserted ones stand at the end) and only positions
    change. What is moved beyond the last position falls out.

    Raises
    ------
    InputError
        As :func:`ranks_after`, or when a gene goes beyond the input.
    """
    after = ranks_after(cell, to)
    if not _within(np.array(list(to.values())), most):
        raise InputError(f"Ranks {list(to.values())} are not all within the input of {most} genes.")
    genes = cell.ranks != NOT_RANKED
    named = genes & np.isin(cell.tokens, list(to))
    goes = np.zeros(len(cell), dtype=bool)
    if arm.edit is Edit.MOVE:
        goes |= named
    if arm.positions is Positions.RENUMBERED:
        goes |= genes & ~named
    # Rank and position of a gene differ by the special tokens before it, which do not move.
    positions = np.where(goes, cell.positions + after - cell.ranks, cell.positions)
    inserted = [token for token in to if token not in set(cell.tokens[named].tolist())]
    if arm.positions is Positions.RENUMBERED:
        count = int(genes.sum())
        behind = ~genes & (np.cumsum(genes) == count) & (np.arange(len(cell)) > 0)  # <eos>
        positions[behind] += min(count + len(inserted), most) - count
    changed = replace(cell, positions=positions.astype(np.int32)).take(~(goes & (after >= most)))
    if arm.edit is not Edit.MOVE or not inserted:
        return changed
    first = int(cell.ranks[0] == NOT_RANKED) if len(cell) else 0
    extra = ModelInput(
        tokens=np.array(inserted, dtype=np.int32),
        positions=np.array([first + to[token] for token in inserted], dtype=np.int32),
        visible=np.ones(len(inserted), dtype=bool),
        ranks=np.full(len(inserted), NOT_RANKED, dtype=np.int32),
    )
    return ModelInput(
        *(
            np.concatenate([getattr(part, name) for part in (changed, extra)])
            for name in ("tokens", "positions", "visible", "ranks")
        )
    )


def _within(ranks: npt.NDArray[np.int_], length: int) -> bool:
    return bool(((ranks >= 0) & (ranks < length)).all())
