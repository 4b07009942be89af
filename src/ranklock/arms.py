"""Arms: the exact ways of expressing a perturbation as model input.

Every arm is two independent choices, an **edit** of the tokens and what happens to the
**positions**; one arm also lets a gene in from below the input size. :func:`apply` is the only
place where they are carried out, :data:`KNOCK_OUT_ARMS` and :data:`MOVE_ARMS` the only places where
they are listed.
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
from ranklock.kinds import Kind

NOT_RANKED = -1

Integers = npt.NDArray[np.int32]
Bools = npt.NDArray[np.bool_]


class Role(Enum):
    """What an arm is for."""

    WHOLE = "what people run today: the edit and the rank shift together"
    EDIT = "the edit alone"
    PLACEBO = "the rank shift alone"
    CONTROL = "what any other gene in this place would do"


class Edit(Enum):
    """What happens to the tokens of the perturbed genes."""

    NONE = "none"
    REMOVE = "the token is removed"
    HIDE = "the token is hidden as a key in every layer"
    MASK = "the token is replaced with `<mask>`"
    MOVE = "the token is moved to another rank"
    REPLACE = "the token is replaced with another gene's"


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
    role
        What it is for.
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
    role: Role
    edit: Edit
    positions: Positions
    isolates: str
    backfill: bool = False
    runs_as: str | None = None

    @property
    def computed_as(self) -> str:
        """Name of the arm whose forwards are run for this one."""
        return self.runs_as or self.name


def _by_name(*arms: Arm) -> dict[str, Arm]:
    return {arm.name: arm for arm in arms}


_SHIFT = Arm("shift", Role.PLACEBO, Edit.NONE, Positions.RENUMBERED,
             "rank shift alone: the placebo")  # fmt: skip

KNOCK_OUT_ARMS: dict[str, Arm] = _by_name(
    Arm("delete", Role.WHOLE, Edit.REMOVE, Positions.RENUMBERED,
        "Geneformer's knock-out: removal + rank shift"),
    Arm("hold", Role.EDIT, Edit.REMOVE, Positions.HELD, "removal alone"),
    Arm("attention-mask", Role.EDIT, Edit.HIDE, Positions.HELD,
        "removal alone: the same as hold for every other gene", runs_as="hold"),
    Arm("mask", Role.EDIT, Edit.MASK, Positions.HELD, 'removal + "some gene is here"'),
    _SHIFT,
    Arm("delete-backfill", Role.WHOLE, Edit.REMOVE, Positions.RENUMBERED,
        "Geneformer's knock-out, with the next gene let in below the cut", backfill=True),
)  # fmt: skip

MOVE_ARMS: dict[str, Arm] = _by_name(
    Arm("move", Role.WHOLE, Edit.MOVE, Positions.RENUMBERED,
        "Geneformer's overexpression: the move + rank shift of the genes it passes"),
    Arm("hold", Role.EDIT, Edit.MOVE, Positions.HELD, "the move alone"),
    _SHIFT,
)  # fmt: skip

# Every name that there is, knock-outs' first. Arms that moves have too share name and role.
ARMS: dict[str, Arm] = KNOCK_OUT_ARMS | {
    name: arm for name, arm in MOVE_ARMS.items() if name not in KNOCK_OUT_ARMS
}
# What is done to make a control of every task: another gene stands in the perturbed one's place.
IMPOSTOR = Arm("impostor", Role.CONTROL, Edit.REPLACE, Positions.HELD,
               "what another gene in this place does")  # fmt: skip
DEFAULT_ARMS = {False: ("delete", "hold", "mask", "shift"), True: tuple(MOVE_ARMS)}


def arms_of(kind: Kind) -> Mapping[str, Arm]:
    """The arms that a kind of perturbation has."""
    return MOVE_ARMS if kind.moves else KNOCK_OUT_ARMS


def find_arms(names: Iterable[str] | None, kind: Kind) -> tuple[Arm, ...]:
    """Of some arms, those that a kind of perturbation has, each once, in the order given.

    Parameters
    ----------
    names
        Their names; the usual ones of the kind when None.
    kind
        What is done to genes.

    Raises
    ------
    OptionError
        When there is no such arm, or the kind has none of them.
    """
    known = arms_of(kind)
    if names is None:
        names = DEFAULT_ARMS[kind.moves]
    if isinstance(names, str):
        raise OptionError(f"arms is a list; write arms=[{names!r}].")
    asked = list(dict.fromkeys(names))
    for name in asked:
        if name not in ARMS:
            raise OptionError(f"There is no arm {name!r}; there are: {', '.join(ARMS)}.")
    arms = tuple(known[name] for name in asked if name in known)
    if not arms:
        named = ", ".join(asked) or "none"
        raise OptionError(
            f"No arm of {kind.name} was asked for ({named}); it has: {', '.join(known)}."
        )
    return arms


def role_of(name: str) -> Role:
    """Role of an arm by its name."""
    return ARMS[name].role


def edit_arm(arms: Iterable[str]) -> str | None:
    """Of some arms the one that is the edit alone, nothing in its place; None where none is."""
    names = [name for name in ARMS if name in set(arms)]
    edits = [n for n in names if role_of(n) is Role.EDIT and ARMS[n].edit is not Edit.MASK]
    return min(edits, key=lambda name: ARMS[name].runs_as is not None, default=None)


def whole_arm(arms: Iterable[str]) -> str | None:
    """Of some arms the one that people run today; None where none is."""
    names = set(arms)
    wholes = (n for n in ARMS if n in names and role_of(n) is Role.WHOLE and not ARMS[n].backfill)
    return next(wholes, None)


def placebo_arm(arms: Iterable[str]) -> str | None:
    """Of some arms the one that is the rank shift alone; None where none is."""
    names = set(arms)
    return next((n for n in ARMS if n in names and role_of(n) is Role.PLACEBO), None)


def decomposed_arm(arms: Iterable[str]) -> str | None:
    """Of some arms the one whose effects the edit and the placebo beside it decompose, or None."""
    names = list(arms)
    complete = edit_arm(names) is not None and placebo_arm(names) is not None
    return whole_arm(names) if complete else None


def compared_arms(arms: Iterable[Arm]) -> tuple[Arm, ...]:
    """Of some arms of one kind those in which impostors are perturbed beside the gene.

    Those that take the gene out: an impostor taken out leaves the very same input. Of moves, the
    move alone, or else what people run today: a moved impostor is an input of its own.
    """
    listed = list(arms)
    removing = tuple(arm for arm in listed if arm.edit in _REMOVING)
    moving = [arm for arm in listed if arm.edit is Edit.MOVE]
    alone = [arm for arm in moving if arm.role is Role.EDIT]
    return (*removing, *(alone or moving)[:1])


_REMOVING = (Edit.REMOVE, Edit.HIDE, Edit.MASK)


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

    tokens: Integers
    positions: Integers
    visible: Bools
    ranks: Integers

    def __len__(self) -> int:
        return len(self.tokens)

    def take(self, places: npt.NDArray[Any]) -> ModelInput:
        """The tokens at some places, or under a mask, each with its position."""
        return ModelInput(
            self.tokens[places], self.positions[places], self.visible[places], self.ranks[places]
        )


@dataclass(frozen=True)
class Change:
    """A perturbation in one cell.

    Attributes
    ----------
    tokens
        The genes that are perturbed together, in the order named.
    ranks
        Where each stands in the input; ``NOT_RANKED`` for one that it lacks.
    to_ranks
        Rank that each goes to; empty for a knock-out.
    """

    tokens: tuple[int, ...]
    ranks: tuple[int, ...]
    to_ranks: tuple[int, ...] = ()

    @property
    def inserted(self) -> int:
        """How many genes are put into the input that it lacked."""
        return sum(rank == NOT_RANKED for rank in self.ranks)


def capacity(input_size: int, *, special_frame: bool) -> int:
    """How many genes fit into the input: special tokens stand inside the cut."""
    return input_size - 2 if special_frame else input_size


def baseline(genes: Integers, vocabulary: Vocabulary, *, special_frame: bool) -> ModelInput:
    """Input of the unperturbed cell.

    Parameters
    ----------
    genes
        Tokens of the genes that the model is shown, highest rank first.
    vocabulary
        Where ``<cls>`` and ``<eos>`` come from.
    special_frame
        Whether the genes stand between them.
    """
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


def perturbed_tokens(cell: ModelInput, change: Change) -> Bools:
    """Which tokens of an unperturbed cell are perturbed, shape (length,).

    Raises
    ------
    InputError
        When a rank is not one of the cell's or stands for another gene, or a gene that the cell
        lacks is to be knocked out.
    """
    if change.inserted and not change.to_ranks:
        raise InputError(f"{change.inserted} of the genes are not in this cell.")
    present = [rank for rank in change.ranks if rank != NOT_RANKED]
    perturbed: Bools = np.isin(cell.ranks, present)
    if perturbed.sum() != len(present) or len(set(present)) != len(present):
        raise InputError(f"Ranks {present} are not all ranks of this cell.")
    if set(cell.tokens[perturbed].tolist()) != {
        token for token, rank in zip(change.tokens, change.ranks, strict=True) if rank != NOT_RANKED
    }:
        raise InputError(f"Ranks {present} hold other genes than {list(change.tokens)}.")
    return perturbed


def ranks_after(cell: ModelInput, change: Change) -> Integers:
    """Ranks that a move leaves the tokens of a cell at.

    Parameters
    ----------
    cell
        The unperturbed cell, from :func:`baseline`.
    change
        The move.

    Returns
    -------
    Shape (length,). The genes that are not moved fill the other ranks in the order that they have.
    ``NOT_RANKED`` for special tokens.

    Raises
    ------
    InputError
        When two genes go to one rank, or one goes beyond the end.
    """
    genes = cell.ranks != NOT_RANKED
    moved = perturbed_tokens(cell, change)
    length = int(genes.sum()) + change.inserted
    goals = np.array(change.to_ranks, dtype=np.int64)
    inside = ((goals >= 0) & (goals < length)).all()
    if not len(goals) or len(np.unique(goals)) != len(goals) or not inside:
        raise InputError(f"Ranks {goals.tolist()} are not ranks of their own among {length} genes.")
    after = cell.ranks.copy()
    after[genes & ~moved] = np.setdiff1d(np.arange(length), goals)
    goal_of = dict(zip(change.tokens, change.to_ranks, strict=True))
    after[moved] = [goal_of[token] for token in cell.tokens[moved].tolist()]
    return after


def rank_shift(cell: ModelInput, change: Change) -> Integers:
    """How far every token makes way for a perturbation, shape (length,).

    In ranks, downwards positive: knock-outs lift what stands below, moves shift what they pass.
    Zero for the perturbed genes of a move themselves.
    """
    perturbed = perturbed_tokens(cell, change)
    if not change.to_ranks:
        return (perturbed.astype(np.int32) - np.cumsum(perturbed)).astype(np.int32)
    genes = cell.ranks != NOT_RANKED
    shift = np.where(genes & ~perturbed, ranks_after(cell, change) - cell.ranks, 0)
    behind = ~genes & (np.cumsum(genes) == genes.sum()) & (np.arange(len(cell)) > 0)  # <eos>
    shift[behind] = change.inserted
    return shift.astype(np.int32)


def apply(
    arm: Arm,
    cell: ModelInput,
    change: Change,
    vocabulary: Vocabulary,
    next_genes: Sequence[int] = (),
) -> ModelInput:
    """Input of a perturbed cell, under one arm.

    Parameters
    ----------
    arm
        The arm, of the kind of perturbation that this is.
    cell
        The unperturbed cell, from :func:`baseline`.
    change
        What is done to it.
    vocabulary
        Where ``<mask>`` comes from.
    next_genes
        Tokens of the genes below the cut, highest rank first; only backfill looks at them.

    Returns
    -------
    The perturbed input. Genes keep the rank that they had in the unperturbed cell. A model knows
    the order of its tokens by their positions alone, so moved genes stay in their place in the
    sequence, and inserted ones stand at its end.

    Raises
    ------
    InputError
        When a rank is not one of the cell's, a move goes beyond its end, or the vocabulary has no
        ``<mask>`` and it is needed.
    """
    perturbed = perturbed_tokens(cell, change)
    changed = cell
    if arm.positions is Positions.RENUMBERED:
        positions = cell.positions + rank_shift(cell, change)
        changed = replace(cell, positions=positions.astype(np.int32))
    match arm.edit:
        case Edit.REMOVE:
            changed = changed.take(~perturbed)
        case Edit.HIDE:
            changed = replace(changed, visible=cell.visible & ~perturbed)
        case Edit.MASK:
            check_tokens(arm, vocabulary)
            tokens = np.where(perturbed, vocabulary.special[MASK], cell.tokens)
            changed = replace(changed, tokens=tokens.astype(np.int32))
        case Edit.MOVE:
            changed = _moved(changed, cell, change, perturbed)
        case Edit.NONE:
            pass
    return _let_in(changed, next_genes[: len(change.tokens)]) if arm.backfill else changed


def with_impostors(cell: ModelInput, change: Change, impostors: Sequence[int]) -> ModelInput:
    """The unperturbed cell with other genes in the place of those that are perturbed.

    Parameters
    ----------
    cell, change
        As of :func:`apply`.
    impostors
        Tokens of the other genes, one for each of the change's; those of genes that the cell lacks
        stand nowhere.

    Raises
    ------
    InputError
        When a rank is not one of the cell's.
    """
    perturbed = perturbed_tokens(cell, change)
    impostor_of = dict(zip(change.tokens, impostors, strict=True))
    tokens = cell.tokens.copy()
    tokens[perturbed] = [impostor_of[token] for token in cell.tokens[perturbed].tolist()]
    return replace(cell, tokens=tokens)


def _moved(changed: ModelInput, cell: ModelInput, change: Change, perturbed: Bools) -> ModelInput:
    """Give moved genes their new positions, and put inserted ones behind all others."""
    first = int(len(cell) > 0 and cell.ranks[0] == NOT_RANKED)  # behind <cls>
    after = ranks_after(cell, change)
    positions = np.where(perturbed, after + first, changed.positions)
    changed = replace(changed, positions=positions.astype(np.int32))
    inserted = [k for k, rank in enumerate(change.ranks) if rank == NOT_RANKED]
    if not inserted:
        return changed
    return ModelInput(
        np.append(changed.tokens, [change.tokens[k] for k in inserted]).astype(np.int32),
        np.append(changed.positions, [first + change.to_ranks[k] for k in inserted]).astype(
            np.int32
        ),
        np.append(changed.visible, np.ones(len(inserted), dtype=bool)),
        np.append(changed.ranks, np.full(len(inserted), NOT_RANKED)).astype(np.int32),
    )


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
