"""``ranklock screen`` and ``ranklock regulators``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ranklock.cli import options as o
from ranklock.cli.inputs import CellOptions, genes_of, read_inputs, use_threads
from ranklock.errors import OptionError

if TYPE_CHECKING:
    from ranklock.estimates.result import Screen

_HOW = (
    "**How it works**: one forward and one pass back through a cell estimate what every knock-out "
    "of it does, with positions held, so that no rank shift enters. The largest are then knocked "
    "out by forwards (--verify), and so are some of the others at random (--recheck), which "
    "tells what the estimates miss. Cells whose estimates prove bad are measured whole.\n\n"
    "**Overexpression and moves** have no estimate of this kind that is worth having (see "
    "docs/screen.md): use `ranklock move`.\n\n"
)
SCREEN_EPILOG = (
    _HOW + "**Examples**\n\n"
    "Which knock-outs turn naive T cells towards memory?\n\n"
    "    ranklock screen cells.h5ad --model ./checkpoint --vocabulary dictionaries/ \\\n"
    "        --state-key cell_type --start Naive --goal Memory --out towards-memory\n\n"
    "Which lower the logit of a fine-tuned classifier?\n\n"
    "    ranklock screen cells.h5ad --model ./fine-tuned --vocabulary dictionaries/ \\\n"
    "        --classifier hypertrophic --out logit\n\n"
    "Which move the other genes most, or those of a pathway?\n\n"
    "    ranklock screen cells.h5ad --model ./checkpoint --vocabulary dictionaries/ \\\n"
    "        --potency --sample 100 --out potency\n\n"
    "    ranklock screen cells.h5ad --model ./checkpoint --vocabulary dictionaries/ \\\n"
    "        --gene-set hypoxia.txt --out hypoxia\n\n"
    "Then: **ranklock show potency**, or **ranklock responders potency --out claims**\n\n"
    + o.EXIT_CODES
)
REGULATORS_EPILOG = (
    _HOW + "**Example**\n\n"
    "    ranklock regulators FTL cells.h5ad --model ./checkpoint --vocabulary dictionaries/ \\\n"
    "        --where cell_type=Monocyte --out regulators-of-FTL\n\n" + o.EXIT_CODES
)

_QUESTION, _CHECKS = "The question: one of these", "What is measured exactly"
Classifier = Annotated[
    str | None,
    o.option(
        _QUESTION, "Change of this label's logit, of a fine-tuned checkpoint.", "--classifier"
    ),
]
Potency = Annotated[
    bool, o.option(_QUESTION, "Mean effect on all other genes of the cell.", "--potency")
]
GeneSet = Annotated[
    Path | None,
    o.option(_QUESTION, "Mean effect on the genes that this file names, one a line.", "--gene-set"),
]
StateKey = Annotated[
    str | None,
    o.option(_QUESTION, "Column of obs that holds the cells' state, for --goal.", "--state-key"),
]
Start = Annotated[
    str | None, o.option(_QUESTION, "State of the cells that are screened.", "--start")
]
Goal = Annotated[
    str | None, o.option(_QUESTION, "State that knock-outs may turn them to.", "--goal")
]
Verify = Annotated[
    int,
    o.option(
        _CHECKS,
        "Genes with the largest estimates; of suspicious ones up to half as many more.",
        "--verify",
    ),
]
Recheck = Annotated[
    int, o.option(_CHECKS, "Other genes, at random, to learn what is missed.", "--recheck")
]
VerifyCells = Annotated[
    int, o.option(_CHECKS, "Cells of each of these genes, at random.", "--verify-cells")
]
FallbackCells = Annotated[
    int,
    o.option(
        _CHECKS,
        "Cells with bad estimates that are measured whole, at most.",
        "--fallback-cells",
    ),
]
Arms = Annotated[
    str,
    o.option(
        _CHECKS,
        "Arms of these forwards; with delete,hold,mask,shift an audit can be made of them.",
        "--arms",
    ),
]
Probes = Annotated[
    int,
    o.option(
        o.EXPERIMENT,
        "For mean effects: random signs, each a pass back. An estimate is good to √(2/probes).",
        "--probes",
    ),
]
Donor = Annotated[
    str | None,
    o.option(
        o.RESULTS, "Column of obs that names donors or samples: they are replicates then.",
        "--donor",
    ),
]  # fmt: skip
MinCells = Annotated[
    int, o.option(o.RESULTS, "Genes in fewer cells are neither ranked nor tested.", "--min-cells")
]
Layer = Annotated[
    int | None,
    o.option(
        o.EXPERIMENT,
        "Layer to read (Geneformer's emb_layer): 0 last, -1 second to last (default; a classifier "
        "reads the last).",
        "--layer",
    ),
]
Top = Annotated[int, o.option(o.RESULTS, "How many of the largest effects to print.", "--top")]


def screen(
    cells: o.CellsFile,
    model: o.ModelName,
    out: o.Out,
    state_key: StateKey = None,
    start: Start = None,
    goal: Goal = None,
    classifier: Classifier = None,
    potency: Potency = False,
    gene_set: GeneSet = None,
    verify: Verify = 50,
    recheck: Recheck = 25,
    verify_cells: VerifyCells = 20,
    fallback_cells: FallbackCells = 10,
    arms: Arms = "hold",
    vocabulary: o.VocabularyFile = None,
    cell: o.Cell = None,
    cell_range: o.CellRange = None,
    where: o.Where = None,
    sample: o.Sample = None,
    seed: o.Seed = 0,
    values: o.Values = "counts",
    counts_layer: o.CountsLayer = None,
    gene_column: o.GeneColumn = None,
    probes: Probes = 32,
    layer: Layer = None,
    precision: o.Precision = "float32",
    device: o.Device = None,
    threads: o.Threads = None,
    donor: Donor = None,
    min_cells: MinCells = 5,
    top: Top = 10,
    overwrite: o.Overwrite = False,
    as_json: o.Json = False,
) -> None:
    """Rank all genes by what knocking them out does to one number, measured where it matters.

    For a goal or a classifier, estimates of a full-length cell take less than a hundredth of its
    sweep; mean effects, with 32 probes, a twentieth. Results go to disk as they come; killed or
    stopped, the same command goes on where it was. Several processes may work on one folder.
    """
    with o.reported("what was done is kept; the same command goes on from there"):
        states = o.states_of(state_key, start, goal)
        named = genes_of(None, gene_set)
        if sum((states is not None, classifier is not None, potency, gene_set is not None)) != 1:
            raise OptionError(
                "A screen asks one question: --goal (with --state-key and --start), --classifier, "
                "--potency or --gene-set."
            )
        chosen = CellOptions(
            cells, cell, cell_range, where, sample, seed, values, counts_layer, gene_column
        )
        found = _run(
            chosen, model, vocabulary, out, device=device, threads=threads, layer=layer,
            genes=named or [],
            options={
                "goal": states, "classifier": classifier, "potency": potency, "gene_set": named,
                "verify": verify, "recheck": recheck, "verify_cells": verify_cells,
                "fallback_cells": fallback_cells, "arms": o.arm_names(arms, backfill=False),
                "probes": probes, "precision": precision, "donor": donor, "min_cells": min_cells,
                "seed": seed, "overwrite": overwrite,
            },
        )  # fmt: skip
        _say(found, out, top, as_json=as_json)


def regulators(
    gene: Annotated[
        str, typer.Argument(help="The responder: symbol, Ensembl ID or token of one gene.")
    ],
    cells: o.CellsFile,
    model: o.ModelName,
    out: o.Out,
    verify: Verify = 50,
    recheck: Recheck = 25,
    verify_cells: VerifyCells = 20,
    fallback_cells: FallbackCells = 10,
    arms: Arms = "hold",
    vocabulary: o.VocabularyFile = None,
    cell: o.Cell = None,
    cell_range: o.CellRange = None,
    where: o.Where = None,
    sample: o.Sample = None,
    seed: o.Seed = 0,
    values: o.Values = "counts",
    counts_layer: o.CountsLayer = None,
    gene_column: o.GeneColumn = None,
    probes: Probes = 32,
    layer: Layer = None,
    precision: o.Precision = "float32",
    device: o.Device = None,
    threads: o.Threads = None,
    donor: Donor = None,
    min_cells: MinCells = 5,
    top: Top = 10,
    overwrite: o.Overwrite = False,
    as_json: o.Json = False,
) -> None:
    """Which knock-outs would move this gene: a screen of one responder.

    From a few passes back through each cell that has it, in place of a forward for each knock-out;
    the largest are then measured.
    """
    with o.reported("what was done is kept; the same command goes on from there"):
        chosen = CellOptions(
            cells, cell, cell_range, where, sample, seed, values, counts_layer, gene_column
        )
        found = _run(
            chosen, model, vocabulary, out, device=device, threads=threads, layer=layer,
            genes=[gene],
            options={
                "gene_set": [gene], "verify": verify, "recheck": recheck,
                "verify_cells": verify_cells, "fallback_cells": fallback_cells,
                "arms": o.arm_names(arms, backfill=False), "probes": probes,
                "precision": precision, "donor": donor, "min_cells": min_cells, "seed": seed,
                "overwrite": overwrite,
            },
        )  # fmt: skip
        _say(found, out, top, as_json=as_json)


def _run(
    cells: CellOptions,
    model: str,
    vocabulary: Path | None,
    out: Path,
    *,
    device: str | None,
    threads: int | None,
    layer: int | None,
    genes: list[str],
    options: Mapping[str, Any],
) -> Screen:
    use_threads(threads)
    chosen, loaded = read_inputs(
        cells, model, vocabulary, device=device, arms=options["arms"], layer=layer or 0,
        genes=genes,
    )  # fmt: skip
    from ranklock import screen as run_screen

    o.stage(f"Screening with {loaded!r}")
    return run_screen(chosen, loaded, out, layer=layer, **options)


def _say(found: Screen, out: Path, top: int, *, as_json: bool) -> None:
    from ranklock.significance.text import describe_screen

    if as_json:
        o.print_json(found.manifest, out)
        return
    typer.echo("\n".join(describe_screen(found, top)))
    if found.complete:
        typer.echo(f"Results: {out} (screen.parquet, verified.parquet, screen.png, sweep/, ...)")
