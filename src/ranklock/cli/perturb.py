"""``ranklock perturb``."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import typer

from ranklock.cli import options as o
from ranklock.cli.groups import grouped
from ranklock.cli.inputs import CellOptions, GeneOptions, StateOptions, genes_of, read_model
from ranklock.cli.inputs import use_threads as set_threads
from ranklock.errors import OptionError

PERTURB_EPILOG = (
    "**Examples**\n\n"
    "One gene, one cell of a tokenised dataset:\n\n"
    "    ranklock perturb cells.dataset --model ctheodoris/Geneformer/Geneformer-V1-10M \\\n"
    "        --vocabulary dictionaries/ --gene FAM136A --cell 0 --out fam136a\n\n"
    "Every gene of 20 random cells, all arms; the same command goes on after a stop:\n\n"
    "    ranklock perturb cells.h5ad --model ./checkpoint --vocabulary dictionaries/ \\\n"
    "        --genes all --sample 20 --seed 1 --out genome-wide\n\n"
    "A list of genes, deleted and overexpressed, read as shifts of diseased cells towards healthy "
    "ones of the same donor:\n\n"
    "    ranklock perturb cells.h5ad --model ./fine-tuned --vocabulary dictionaries/ \\\n"
    "        --genes factors.csv --do knock-out,overexpress --read cell --state-key disease \\\n"
    "        --start dcm --goal nf --alternative hcm --within donor_id --out towards-nf\n\n"
    "Which responders are the model's knowledge of these genes: with impostors in each one's "
    "place, and the same of a model that has learned nothing (then **ranklock test spi1**):\n\n"
    "    ranklock perturb cells.h5ad --model ./checkpoint --vocabulary dictionaries/ \\\n"
    "        --gene SPI1 --gene CEBPB --sample 100 --arms delete,hold --impostors 12 \\\n"
    "        --null-model --out spi1\n\n"
    "What would it take?\n\n"
    "    ranklock perturb cells.h5ad --model ./checkpoint --vocabulary dictionaries/ \\\n"
    "        --genes all --sample 20 --dry-run\n\n"
    "Then look: **ranklock show genome-wide**\n\n" + o.ARMS_HELP + o.EXIT_CODES
)


@dataclass(frozen=True)
class ExperimentOptions:
    """What is done to genes, and what is read."""

    do: o.Do = "knock-out"
    arms: Annotated[
        str | None,
        o.option(
            o.EXPERIMENT,
            f"Arms to run, with commas between them, listed below; each kind takes those that it "
            f"has. Default: {o.USUAL_ARMS} of knock-outs, {o.USUAL_MOVE_ARMS} of moves.",
            "--arms",
        ),
    ] = None
    read: o.Read = "genes,cell"
    together: o.Together = False
    insert: o.Insert = False
    impostors: o.Impostors = 0
    null_model: o.NullModel = False
    min_cells: o.MinCells = 1
    strict: o.Strict = False
    responder: o.Responder = None
    responders: o.Responders = None
    layer: o.LayerNumber = -1
    precision: o.Precision = "auto"
    accuracy: o.Accuracy = 0.01
    donor: o.Donor = None
    count_noise: o.CountNoise = False


@grouped
def perturb(
    cells: CellOptions,
    model: o.ModelName,
    genes: GeneOptions,
    experiment: ExperimentOptions,
    states: StateOptions,
    vocabulary: o.VocabularyFile = None,
    device: o.Device = None,
    threads: o.Threads = None,
    batch_size: Annotated[
        int | None, o.option(o.EXPERIMENT, "Tasks in one forward; found if not given.",
                             "--batch-size"),
    ] = None,
    out: Annotated[Path | None, o.option(o.RESULTS, "Folder to write the run to.", "--out")] = None,
    overwrite: o.Overwrite = False,
    dry_run: o.DryRun = False,
    as_json: o.Json = False,
) -> None:  # fmt: skip
    """Perturb genes of cells in silico under several arms, and read what moves.

    Any genes, singly or together, in any cells; knocked out, overexpressed or moved; read as
    effects on genes, shifts of the cell, shifts towards states, and logits. Stopped, the same
    command goes on. Several processes may work on one --out.
    """
    with o.reported("what was done is kept; the same command goes on from there"):
        set_threads(threads)
        if out is None and not dry_run:
            raise OptionError("Name a folder for the results (--out), or ask for --dry-run.")
        from ranklock.run.asked import Asked
        from ranklock.run.perturb import perturb_null_model, plan_perturbations
        from ranklock.significance.design import describe_design

        asked = Asked(
            do=o.listed(experiment.do),
            arms=() if experiment.arms is None else o.listed(experiment.arms),
            read=o.listed(experiment.read),
            layer=experiment.layer,
            precision=experiment.precision,
            accuracy=experiment.accuracy,
            donor=experiment.donor,
            min_cells=experiment.min_cells,
            strict=experiment.strict,
            seed=cells.seed,
            count_noise=experiment.count_noise,
        )
        cells.selection()
        states.states()
        loaded, names = read_model(model, vocabulary, device=device, layer=asked.layer)
        named = genes.names(names)
        responders = genes_of(experiment.responder, experiment.responders, None, names)
        asked = replace(
            asked,
            genes=tuple(named or ()),
            responders=tuple(responders or ()),
            together=experiment.together,
            insert=experiment.insert,
            impostors=experiment.impostors,
            null_model=experiment.null_model,
        )
        chosen, towards = states.read(cells, names)
        plan, states_asked = plan_perturbations(
            chosen, loaded, asked, states=towards, out=out, progress=True
        )
        if dry_run:
            lines = plan.describe(rate=plan.measure_rate(), folder=out)
            typer.echo("\n".join([*lines, *describe_design(plan)]))
            plan.check_fits(out)
            return
        from ranklock.run.execute import execute
        from ranklock.run.text import describe_run

        if out is None:
            raise OptionError("Name a folder for the results (--out).")
        for line in describe_design(plan):
            typer.echo(line, err=True)
        run = execute(
            plan, out, states_asked=states_asked, overwrite=overwrite, batch_size=batch_size
        )
        if asked.null_model:
            perturb_null_model(chosen, loaded, asked, out, states=towards, batch_size=batch_size)
        if as_json:
            o.print_json(run.manifest.to_json(), out)
        else:
            typer.echo("\n".join([*describe_run(run), f"Results: {out}"]))
