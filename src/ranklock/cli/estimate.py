"""``ranklock estimate``."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import typer

from ranklock.cli import options as o
from ranklock.cli.groups import grouped
from ranklock.cli.inputs import CellOptions, StateOptions, genes_of, read_model
from ranklock.cli.inputs import use_threads as set_threads
from ranklock.errors import OptionError

ESTIMATE_EPILOG = (
    "**How it works**: one forward and one pass back through a cell estimate what every knock-out "
    "of it does, with positions held, so that no rank shift enters. The largest are then knocked "
    "out by forwards (--verify), and so are some of the others at random (--recheck), which tells "
    "what the estimates miss. Cells whose estimates prove bad are measured whole.\n\n"
    "**Overexpression and moves** have no estimate of this kind that is worth having (see "
    "docs/estimates.md): use `ranklock perturb --do overexpress`.\n\n"
    "**Examples**\n\n"
    "Which knock-outs turn naive T cells towards memory, each towards its own donor's?\n\n"
    "    ranklock estimate cells.h5ad --model ./checkpoint --vocabulary dictionaries/ \\\n"
    "        --state-key cell_type --start Naive --goal Memory --within donor --out to-memory\n\n"
    "Which lower the logit of a fine-tuned classifier?\n\n"
    "    ranklock estimate cells.h5ad --model ./fine-tuned --vocabulary dictionaries/ \\\n"
    "        --classifier hypertrophic --out logit\n\n"
    "Which move the other genes most, or those of a pathway, or one gene?\n\n"
    "    ranklock estimate cells.h5ad --model ./checkpoint --vocabulary dictionaries/ \\\n"
    "        --potency --sample 100 --out potency\n\n"
    "    ranklock estimate cells.h5ad --model ./checkpoint --vocabulary dictionaries/ \\\n"
    "        --gene-set hypoxia.txt --out hypoxia\n\n"
    "    ranklock estimate cells.h5ad --model ./checkpoint --vocabulary dictionaries/ \\\n"
    "        --responder FTL --where cell_type=Monocyte --out regulators-of-FTL\n\n"
    "Then: **ranklock show potency**, and **ranklock perturb --gene ... --impostors 12 "
    "--null-model** of the genes on top: a large effect alone is no finding.\n\n" + o.EXIT_CODES
)

_QUESTION, _MEASURED = "The question: one of these, or a goal state", "What is measured exactly"


@dataclass(frozen=True)
class QuestionOptions:
    """What is asked of every knock-out, where it is not the way to a state."""

    classifier: Annotated[
        str | None, o.option(_QUESTION, "Change of this label's logit, of a fine-tuned checkpoint.")
    ] = None
    potency: Annotated[
        bool, o.option(_QUESTION, "Mean effect on all other genes of the cell.", "--potency")
    ] = False
    gene_set: Annotated[
        Path | None,
        o.option(
            _QUESTION, "Mean effect on the genes that this file names: one a line, or a table."
        ),
    ] = None
    gene_set_column: Annotated[
        str | None, o.option(_QUESTION, "Column of that table, if not found.")
    ] = None
    responder: Annotated[
        str | None,
        o.option(
            _QUESTION,
            "Effect on this one gene: symbol, Ensembl ID or token. Cells without it are left out.",
        ),
    ] = None


@dataclass(frozen=True)
class MeasuringOptions:
    """What of the estimates is measured."""

    verify: Annotated[
        int,
        o.option(
            _MEASURED,
            "Genes with the largest estimates; of suspicious ones up to half as many more.",
        ),
    ] = 50
    recheck: Annotated[
        int, o.option(_MEASURED, "Other genes, at random, to learn what is missed.")
    ] = 25
    verify_cells: Annotated[
        int, o.option(_MEASURED, "Cells of each of these genes, at random.")
    ] = 20
    fallback_cells: Annotated[
        int, o.option(_MEASURED, "Cells with bad estimates that are measured whole, at most.")
    ] = 10
    donor: o.Donor = None
    min_cells: Annotated[int, o.option(o.RESULTS, "Genes in fewer cells are not ranked.")] = 5


@grouped
def estimate(
    cells: CellOptions,
    model: o.ModelName,
    out: o.Out,
    question: QuestionOptions,
    states: StateOptions,
    measuring: MeasuringOptions,
    arms: Annotated[
        str,
        o.option(
            _MEASURED,
            "Arms of these forwards; with delete,hold,mask,shift an audit can be made of them.",
        ),
    ] = "hold",
    vocabulary: o.VocabularyFile = None,
    probes: Annotated[
        int,
        o.option(
            o.EXPERIMENT,
            "For mean effects: random signs, each a pass back. An estimate is good to √(2/probes).",
        ),
    ] = 32,
    layer: Annotated[
        int | None,
        o.option(
            o.EXPERIMENT,
            "Layer to read (Geneformer's emb_layer): 0 last, -1 second to last (default; a "
            "classifier reads the last).",
        ),
    ] = None,
    precision: o.Precision = "float32",
    device: o.Device = None,
    threads: o.Threads = None,
    top: Annotated[int, o.option(o.RESULTS, "How many of the largest effects to print.")] = 10,
    overwrite: o.Overwrite = False,
    as_json: o.Json = False,
) -> None:
    """Rank all genes by what knocking them out does to one number, measured where it matters.

    For a goal or a classifier, estimates of a full-length cell take less than a hundredth of the
    forwards of all its knock-outs; mean effects, with 32 probes, a twentieth. Stopped, the same
    command goes on. Several processes may work on one --out.
    """
    with o.reported("what was done is kept; the same command goes on from there"):
        set_threads(threads)
        asked = (states.states(), question.classifier, question.gene_set, question.responder)
        if sum(part is not None for part in asked) + question.potency != 1:
            raise OptionError(
                "Estimates answer one question: a goal state (--state-key, --start and --goal), "
                "--classifier, --potency, --gene-set or --responder."
            )
        cells.selection()
        loaded, names = read_model(model, vocabulary, device=device, layer=layer or 0)
        gene_set = None
        if question.gene_set is not None:
            gene_set = genes_of(None, str(question.gene_set), question.gene_set_column, names)
        if question.responder is not None and names is not None:
            names.token(question.responder)
        chosen, goal = states.read(cells, names)
        from ranklock import estimate as run_estimate
        from ranklock.estimates.text import describe_estimates

        o.stage(f"Estimating with {loaded!r}")
        estimates = run_estimate(
            chosen, loaded, out, goal=goal, classifier=question.classifier,
            potency=question.potency, gene_set=gene_set, responder=question.responder,
            **asdict(measuring), arms=o.listed(arms), probes=probes, layer=layer,
            precision=precision, seed=cells.seed, overwrite=overwrite,
        )  # fmt: skip
        if as_json:
            o.print_json(estimates.manifest.to_json(), out)
            return
        typer.echo("\n".join(describe_estimates(estimates, top)))
        if estimates.complete:
            typer.echo(f"Results: {out} (estimates.parquet, verified.parquet, run/, ...)")
