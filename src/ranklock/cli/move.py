"""``ranklock move``."""

from __future__ import annotations

from typing import Annotated

import typer

from ranklock.arms import MOVE_ARMS
from ranklock.cli.inputs import CellOptions, read_inputs
from ranklock.cli.knockout import print_summary
from ranklock.cli.options import (
    EXIT_CODES,
    EXPERIMENT,
    USUAL_MOVE_ARMS,
    ArmNames,
    Average,
    Cell,
    CellRange,
    CellsFile,
    CountsLayer,
    Device,
    GeneColumn,
    Json,
    LayerNumber,
    ModelName,
    Out,
    Overwrite,
    Sample,
    Seed,
    Values,
    VocabularyFile,
    Where,
    arm_names,
    arms_help,
    option,
    print_json,
    reported,
    stage,
)

MOVE = "Where to (name one)"

MOVE_EPILOG = (
    "**Examples**\n\n"
    "A gene to the front of 50 random cells, put in where a cell lacks it:\n\n"
    "    ranklock move cells.h5ad --model ./checkpoint --vocabulary dictionaries/ \\\n"
    "        --gene GATA1 --overexpress --insert --sample 50 --out gata1-up\n\n"
    "Two genes, each on its own, to the middle of the quarter of ranks two below theirs:\n\n"
    "    ranklock move cells.h5ad --model ./checkpoint --vocabulary dictionaries/ \\\n"
    "        --gene NKG7 --gene GNLY --inhibit --quartiles 2 --where cell_type=NK --out nk-down\n\n"
    + arms_help(MOVE_ARMS)
    + EXIT_CODES
)


def move(
    cells: CellsFile,
    model: ModelName,
    gene: Annotated[
        list[str],
        typer.Option(help="Gene to move: symbol, Ensembl ID or token. Give it once a gene."),
    ],
    out: Out,
    vocabulary: VocabularyFile = None,
    overexpress: Annotated[
        bool, option(MOVE, "To the front: rank 0, the highest.", "--overexpress")
    ] = False,
    activate: Annotated[
        bool,
        option(
            MOVE,
            "Up by quarters of the cell's ranks, to the middle of the quarter; from the first "
            "quarter to the front.",
            "--activate",
        ),
    ] = False,
    inhibit: Annotated[
        bool,
        option(
            MOVE,
            "Down by quarters, to the middle of the quarter; from the last to the bottom.",
            "--inhibit",
        ),
    ] = False,
    to_rank: Annotated[int | None, option(MOVE, "To this rank, from 0.", "--to-rank")] = None,
    quartiles: Annotated[
        int | None,
        option(
            MOVE,
            "How many quarters --activate and --inhibit move a gene by: 1 (default), 2 or 3.",
            "--quartiles",
        ),
    ] = None,
    insert: Annotated[
        bool,
        option(
            MOVE,
            "With --overexpress or --to-rank: put the gene into cells that lack it too. Without, "
            "they are left out, counted and reported.",
            "--insert",
        ),
    ] = False,
    cell: Cell = None,
    cell_range: CellRange = None,
    where: Where = None,
    sample: Sample = None,
    seed: Seed = 0,
    values: Values = "counts",
    counts_layer: CountsLayer = None,
    gene_column: GeneColumn = None,
    arms: ArmNames = USUAL_MOVE_ARMS,
    layer: LayerNumber = -1,
    together: Annotated[
        bool,
        option(
            EXPERIMENT,
            "Move all genes of a cell at once, one after another in the order named. Not with "
            "--activate and --inhibit.",
            "--together",
        ),
    ] = False,
    device: Device = None,
    average: Average = False,
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Overexpress, activate or inhibit genes, or move them to a rank, and measure what moves.

    Writes a folder like that of knockout: manifest.json, effects.h5ad, effects.parquet,
    cell_shifts.parquet, rank_shift.png and rank_shift.svg.
    """
    from ranklock.moves import find_move
    from ranklock.run.folder import check_folder

    with reported():
        perturbation = _perturbation(overexpress, activate, inhibit, to_rank)
        find_move(perturbation, quartiles)
        check_folder(out, overwrite=overwrite)
        names = arm_names(arms, backfill=False)
        chosen, loaded = read_inputs(
            CellOptions(
                cells, cell, cell_range, where, sample, seed, values, counts_layer, gene_column
            ),
            model,
            vocabulary,
            device=device,
            arms=names,
            layer=layer,
            genes=gene,
            among=MOVE_ARMS,
        )
        from ranklock import move as run_move

        stage(f"Moving in {loaded!r}")
        run = run_move(
            chosen, loaded, gene, perturbation, names, quartiles=quartiles, insert=insert,
            layer=layer, together=together, average=average,
        )  # fmt: skip
        stage(f"Writing {out}")
        run.save(out, overwrite=overwrite)
    if as_json:
        print_json(run.manifest, out)
    else:
        print_summary(run.manifest, out)


def _perturbation(
    overexpress: bool, activate: bool, inhibit: bool, to_rank: int | None
) -> str | int:
    """The one perturbation that was named."""
    named: list[str | int] = [
        name
        for name, given in (
            ("overexpress", overexpress), ("activate", activate), ("inhibit", inhibit),
        )
        if given
    ]  # fmt: skip
    named += [] if to_rank is None else [to_rank]
    if len(named) != 1:
        raise typer.BadParameter(
            "name one of --overexpress, --activate, --inhibit and --to-rank N."
        )
    return named[0]
