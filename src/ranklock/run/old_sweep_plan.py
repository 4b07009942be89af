"""What a sweep is going to do, and what that takes: known before the first forward."""

from __future__ import annotations

import time
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ranklock.arms import DECOMPOSITION_ARMS, DEFAULT_ARMS, Arm, ModelInput, apply, find_arms
from ranklock.cells import Cells
from ranklock.engine.blocks import Block, Reading, measure_baseline, measure_block
from ranklock.engine.cost import BlockShape, block_flop, forward_flop, peak_memory
from ranklock.engine.memory import available_memory
from ranklock.errors import InputError, OptionError, OutputError, RanklockWarning
from ranklock.models import Model
from ranklock.models.encoder import output_of_layer
from ranklock.models.head import Head
from ranklock.models.precision import check_precision
from ranklock.quantities import count, duration, free_disk, size
from ranklock.run.old_plan import (
    baseline_of,
    check_fit,
    find_knockouts,
    plan_knockouts,
    shown_genes,
)
from ranklock.run.old_records import DECOMPOSED
from ranklock.run.old_store import CellLayout

READS = ("genes", "cell", "both")
_COMPRESSED = 0.93  # of float32 effects, with zstd: benchmarks/write_path.py prints it
_KNOCKOUTS_TO_TIME = 8


@dataclass(frozen=True, eq=False)
class SweepPlan:
    """What a sweep is going to do.

    Attributes
    ----------
    cells, model
        What it is done to, and with.
    arms
        The arms asked for.
    layouts
        What is knocked out of each cell and what of it is stored; cells in which nothing can be
        knocked out are not in it.
    read
        ``genes``, ``cell`` or ``both``.
    layer, depth
        Layer that is read, and number of layers that are run for it.
    precision
        Number format of the forwards.
    skipped
        For each gene that some cells cannot have knocked out, how many and why.
    states
        Name → embedding, shape (width,), of states that cells may move towards.
    head
        A classifier's label, whose logit is read.
    """

    cells: Cells
    model: Model
    arms: tuple[Arm, ...]
    layouts: tuple[CellLayout, ...]
    read: str
    layer: int
    depth: int
    precision: str
    skipped: list[dict[str, Any]]
    states: Mapping[str, npt.NDArray[np.float64]] = field(default_factory=dict)
    head: Head | None = None

    @cached_property
    def computed(self) -> tuple[Arm, ...]:
        """Arms whose forwards are run: an alias runs as what it is the same as."""
        return find_arms(arm.runs_as or arm.name for arm in self.arms)

    @cached_property
    def effect_fields(self) -> tuple[str, ...]:
        """Names of what is stored of each knock-out and responder."""
        if self.read == "cell":
            return ()
        names = [arm.name for arm in self.arms]
        return (*names, *(f"{n}_displacement" for n in names), *DECOMPOSED * self.decomposes)

    @cached_property
    def knockout_fields(self) -> tuple[str, ...]:
        """Names of what is stored of each knock-out."""
        names = [arm.name for arm in self.arms]
        fields: list[str] = []
        if self.read != "cell":
            fields += [f"{n}_{side}" for n in names for side in ("before", "after")]
            fields += ["shift_along_total", "total_squared"] * self.decomposes
            both = {"hold", "mask"} <= set(names)
            fields += ["mask_beyond_hold_squared", "mask_squared"] * both
        if self.read != "genes":
            fields += [f"{n}_cell_{what}" for n in names for what in ("shift", "displacement")]
            fields += ["cell_shift_artefact_share"] * self.decomposes
            fields += [f"{n}_towards_{state}" for n in names for state in self.states]
        fields += [f"{n}_logit" for n in names if self.head is not None]
        return tuple(fields)

    @cached_property
    def decomposes(self) -> bool:
        """Whether the arms of the decomposition are all there."""
        return set(DECOMPOSITION_ARMS) <= {arm.name for arm in self.arms}

    @property
    def knockouts(self) -> int:
        """Knock-outs, over all cells."""
        return sum(len(layout.knocked_out) for layout in self.layouts)

    @property
    def forwards(self) -> int:
        """Inputs that are pushed through the model, baselines included."""
        return self.knockouts * len(self.computed) + len(self.layouts)

    @property
    def blocks(self) -> int:
        """Blocks that are computed and stored."""
        return sum(len(layout.blocks) for layout in self.layouts)

    @cached_property
    def flop(self) -> int:
        """Floating-point operations of all forwards."""
        return sum(self.flop_of(layout) for layout in self.layouts)

    @cached_property
    def memory(self) -> int:
        """Bytes that it takes at once, at most, in batches that suit the device."""
        return self._memory(None)

    def _memory(self, batch_size: int | None) -> int:
        shapes = {}
        for layout in self.layouts:
            for block in layout.blocks:
                shape = self.shape(layout, block)
                shapes[shape.tokens, shape.knockouts, shape.span, shape.rows] = shape
        return max(
            peak_memory(self.model, self.computed, shape, self.precision, batch_size)
            for shape in shapes.values()
        )

    @cached_property
    def disk(self) -> int:
        """Bytes that it writes, about."""
        numbers = sum(len(lay.knocked_out) * len(lay.responders) for lay in self.layouts)
        small = self.knockouts * len(self.knockout_fields) * 8
        return int(numbers * len(self.effect_fields) * 4 * _COMPRESSED) + small

    def flop_of(self, layout: CellLayout) -> int:
        """Floating-point operations of one cell."""
        tokens = self._tokens(layout)
        total = forward_flop(self.model, tokens, tokens, self.depth)
        for block in layout.blocks:
            shape = self.shape(layout, block)
            for arm in self.computed:
                total += self._flop_of_block(arm, shape)
        return total

    def shape(self, layout: CellLayout, block: int) -> BlockShape:
        """Sizes of a block."""
        ranks = layout.knocked_out_ranks[layout.rows(block)]
        return BlockShape(
            tokens=self._tokens(layout),
            ranks=tuple(ranks.tolist()),
            rows=self.reading(layout).rows,
        )

    def reading(self, layout: CellLayout) -> Reading:
        """What the engine reads of a cell: all genes, where the cell embedding is their mean."""
        frame = self.cells.special_frame
        mean = self.read != "genes" and not frame
        ranks = np.arange(layout.genes_in_cell) if mean else layout.responder_ranks
        states = np.stack(list(self.states.values())) if self.states else None
        return Reading(ranks.astype(np.int64), self.read != "genes", frame, states, self.head)

    def block(self, layout: CellLayout, rows: slice, unperturbed: ModelInput) -> Block:
        """Inputs of some of a cell's knock-outs."""
        ranks = layout.knocked_out_ranks[rows].astype(np.int64)
        below = self.cells.ranked[layout.index][layout.genes_in_cell :].tolist()
        return Block(
            len(unperturbed),
            ranks,
            {
                arm.name: [
                    apply(arm, unperturbed, (int(rank),), self.cells.vocabulary, below)
                    for rank in ranks
                ]
                for arm in self.computed
            },
        )

    def describe(self, *, rate: float | None = None, folder: Path | None = None) -> list[str]:
        """The plan in words, a line each.

        Parameters
        ----------
        rate
            Floating-point operations a second, where they were measured.
        folder
            Where the results are to go.
        """
        free = available_memory(self.model.device)
        disk = "" if folder is None else f" of {size(free_disk(folder))} free"
        lines = [
            f"Plan: {self.knockouts:,} knock-outs in {len(self.layouts):,} cells × "
            f"{len(self.computed)} arms = {self.forwards:,} forwards of {self.depth} "
            + ("layer" if self.depth == 1 else "layers"),
            f"Work: {count(self.flop)}FLOP in {self.precision} on {self.model.device}; memory: "
            f"about {size(self.memory)} of {size(free)} free; disk: about {size(self.disk)}" + disk,
        ]
        if rate is not None:
            lines.append(f"Time: about {duration(self.flop / rate)} at {count(rate)}FLOP/s")
        return lines

    def measure_rate(self) -> float:
        """Floating-point operations a second, from some knock-outs of a cell of median length."""
        by_length = sorted(self.layouts, key=lambda layout: layout.genes_in_cell)
        layout = by_length[len(by_length) // 2]
        rows = slice(0, min(_KNOCKOUTS_TO_TIME, len(layout.knocked_out)))
        cell = baseline_of(self.cells, layout.index, self.model)
        block, reading = self.block(layout, rows, cell), self.reading(layout)
        shape = BlockShape(len(cell), tuple(block.knocked_out.tolist()), reading.rows)
        for _ in range(2):  # the first one warms up
            started = time.perf_counter()
            before = measure_baseline(
                self.model, cell, reading, self.depth, precision=self.precision
            )
            measure_block(self.model, block, reading, before, self.depth, precision=self.precision)
            took = time.perf_counter() - started
        done = forward_flop(self.model, len(cell), len(cell), self.depth)
        done += sum(self._flop_of_block(arm, shape) for arm in self.computed)
        return max(done, 1) / took

    def check_fits(self, folder: Path | None, already: int = 0) -> None:
        """Refuse a sweep that does not fit the machine.

        Parameters
        ----------
        folder
            Where the results are to go.
        already
            Bytes of them that are there.

        Raises
        ------
        InputError, OutputError
            With what would fit.
        """
        free = available_memory(self.model.device)
        least = self._memory(1)  # larger batches are halved until they fit
        if least > free:
            raise InputError(
                f"This takes about {size(least)} of memory on {self.model.device} and "
                f"{size(free)} are free; take fewer arms (--arms), cells with fewer genes, or "
                "another device (--device)."
            )
        room = None if folder is None else free_disk(folder)
        if room is not None and self.disk - already > room:
            cells = int(len(self.layouts) * room / self.disk)
            raise OutputError(
                f"The results take about {size(self.disk)} and {size(room)} are free under "
                f"{folder}; name a folder on another disk, or take about {cells} cells "
                "(--sample), fewer responders (--responder), fewer arms (--arms) or the cell "
                "embedding alone (--read cell)."
            )

    def _tokens(self, layout: CellLayout) -> int:
        return layout.genes_in_cell + 2 * self.cells.special_frame

    def _flop_of_block(self, arm: Arm, shape: BlockShape) -> int:
        return block_flop(self.model, arm, shape, self.depth)


def plan_sweep(
    cells: Cells,
    model: Model,
    genes: Sequence[str | int] | None = None,
    arms: Sequence[str] = DEFAULT_ARMS,
    *,
    responders: Sequence[str | int] | None = None,
    read: str = "both",
    layer: int = -1,
    precision: str = "float32",
    controls: int = 0,
    states: Mapping[str, npt.NDArray[np.float64]] | None = None,
) -> SweepPlan:
    """Plan a sweep, and find out what does not fit.

    Parameters
    ----------
    cells, model, genes, arms, responders, read, layer, precision, controls
        As in :func:`ranklock.sweep`.
    states
        As of the plan.

    Raises
    ------
    InputError
        When something does not fit: a gene that is unknown or in no cell, a vocabulary that
        belongs to another checkpoint, a layer, arm or precision that does not exist.
    """
    check_fit(cells, model, find_arms(arms))
    if controls < 0 or (controls and genes is None):
        raise OptionError(
            "Controls are knocked out beside genes that are named (--gene); a sweep of all genes "
            "has them in it."
        )
    skipped: list[dict[str, Any]] = []
    ranks_of: dict[int, list[int]] = {}
    if genes is None:
        ranks_of = {
            cell: list(range(shown_genes(cells, cell, model))) for cell in range(len(cells))
        }
    else:
        knockouts = find_knockouts(genes, cells, together=False)
        tasks, skipped = plan_knockouts(knockouts, cells, model)
        for task in tasks:
            ranks_of.setdefault(task.cell, []).append(task.ranks[0])
        ranks_of = {
            cell: with_controls(ranks, shown_genes(cells, cell, model), controls)
            for cell, ranks in ranks_of.items()
        }
    return plan_of_ranks(
        cells, model, ranks_of, arms,
        responders=responders, read=read, layer=layer, precision=precision, skipped=skipped,
        states=states,
    )  # fmt: skip


def with_controls(ranks: Sequence[int], genes: int, controls: int) -> list[int]:
    """Ranks, and for each of them as many of the nearest other ranks as controls are asked for.

    Parameters
    ----------
    ranks
        Perturbed ranks of one cell.
    genes
        Genes in the cell.
    controls
        Rank-matched controls of each knock-out; one gene may serve several.

    Returns
    -------
    Ranks, ascending, each once.
    """
    chosen = set(ranks)
    if controls:
        for rank in ranks:
            low = min(max(rank - controls // 2, 0), max(genes - controls - 1, 0))
            chosen.update(range(low, min(low + controls + 1, genes)))
    return sorted(chosen)


def plan_of_ranks(
    cells: Cells,
    model: Model,
    ranks_of: Mapping[int, Sequence[int]],
    arms: Sequence[str] = DEFAULT_ARMS,
    *,
    responders: Sequence[str | int] | None = None,
    read: str = "both",
    layer: int = -1,
    precision: str = "float32",
    skipped: Sequence[Mapping[str, Any]] = (),
    states: Mapping[str, npt.NDArray[np.float64]] | None = None,
    head: Head | None = None,
) -> SweepPlan:
    """Plan a sweep of the genes at given ranks of each cell.

    Parameters
    ----------
    ranks_of
        Row of a cell → ranks whose genes are knocked out.
    cells, model, arms, responders, read, layer, precision
        As in :func:`ranklock.sweep`.
    skipped, states, head
        As of the plan.

    Raises
    ------
    InputError
        When something does not fit.
    """
    chosen = find_arms(arms)
    check_fit(cells, model, chosen)
    depth = output_of_layer(model, layer)
    if not model.device.startswith(("cpu", "cuda")):
        raise OptionError(
            f"Sweeps run on cpu and cuda, not on {model.device}: effects are summed in float64."
        )
    check_precision(precision, model.device)
    if read not in READS:
        raise OptionError(f"--read {read!r} is none of {', '.join(READS)}.")
    wanted = None
    if responders is not None:
        tokens = find_knockouts(responders, cells, together=False)
        wanted = np.array([token for (token,) in tokens], dtype=np.int32)
    layouts = []
    for cell, ranks in ranks_of.items():
        shown = cells.ranked[cell][: shown_genes(cells, cell, model)]
        # Without <cls> a lone gene leaves nothing that could respond.
        if not ranks or (len(shown) < 2 and not cells.special_frame):
            continue
        responds = np.ones(len(shown), bool) if wanted is None else np.isin(shown, wanted)
        rows = np.flatnonzero(responds & (read != "cell")).astype(np.int32)
        if read == "genes" and not len(rows):
            continue
        ordered = np.sort(np.array(ranks, dtype=np.int32))
        layouts.append(
            CellLayout(
                cell, cells.names[cell], len(shown), shown[ordered], ordered, shown[rows], rows
            )
        )
    dropped = len(ranks_of) - len(layouts)
    if layouts and dropped:
        warnings.warn(
            f"{dropped} of {len(cells)} cells have fewer than two genes, or none of the "
            "responders; they are left out.",
            RanklockWarning,
            stacklevel=3,
        )
    if not layouts:
        raise InputError(
            f"Nothing can be knocked out of, or read in, the cells chosen from {cells.source}: "
            + ("no cell has two genes." if wanted is None else "they lack the responders.")
        )
    return SweepPlan(
        cells, model, chosen, tuple(layouts), read, layer, depth, precision,
        [dict(entry) for entry in skipped], states or {}, head,
    )  # fmt: skip
