"""``ranklock evaluate``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ranklock.cli import options as o
from ranklock.cli.evaluate_natural import NaturalGroup, evaluate_natural
from ranklock.cli.groups import grouped
from ranklock.cli.inputs import genes_of
from ranklock.errors import OptionError

if TYPE_CHECKING:
    from ranklock.perturbseq.evaluate import Evaluation
    from ranklock.perturbseq.natural import NaturalKnockOuts

EVALUATE_EPILOG = (
    "**Examples**\n\n"
    "A run of all genes against a table of differential expression:\n\n"
    "    ranklock evaluate genome-wide --truth screen_de.csv --out genome-wide-screen\n\n"
    "Against the cells of a screen, as scPerturb has them:\n\n"
    "    ranklock evaluate genome-wide --truth ReplogleWeissman2022_K562_essential.h5ad \\\n"
    "        --out genome-wide-k562\n\n"
    "Specific effects from an .h5ad, with the run that they are from as the cells:\n\n"
    "    ranklock evaluate tests/responders.h5ad --layer hold_specific --cells genome-wide \\\n"
    "        --truth screen_de.csv --out specific-screen\n\n"
    "**Columns of a table** are recognised by the names that scanpy, pertpy, SCEPTRE, Seurat, "
    "DESeq2, limma and edgeR give them; name them where they are others. **Perturbations** may be "
    "`GENE`, a guide of it (`GENE_sgRNA1`, `GENE-2`), or `GENE+ctrl`. Combinations of genes, and "
    "labels that are not understood, are left out, counted and reported.\n\n"
    "**Baselines** need no model, or not this perturbation: the responder's mean effect under the "
    "run's other perturbations, its mean change under the screen's others, its expression, its "
    "variance, its nearness in rank. Only what scores add to these says anything of the gene that "
    "was perturbed.\n\n"
    "**Knock-outs as wholes**: do those that shift cells most do most in the screen (changed "
    "genes, distance of the perturbed cells from the controls), beyond what expression explains; "
    "and is a perturbation's own profile the one that its prediction is most like? `--null-run` "
    "judges a run of the null model beside it.\n\n"
    "**Natural knock-outs** need no screen. Cells that truly lack a gene are matched to cells that "
    "have it and as many genes; from these to those points a direction. In other cells all genes "
    "are knocked out: does the gene's own knock-out point that way more than the other genes' do, "
    "and more than in the null model, the checkpoint with its weights permuted?\n\n"
    "    ranklock evaluate genome-wide --natural --cells cells.h5ad --model ./checkpoint \\\n"
    "        --vocabulary dictionaries/ --match cell_type --donor donor_id --out natural\n\n"
    "A null model's knock-outs point there too, for cells that lack a gene lack its token. So the "
    "answer is the difference from the null model; it may be that there is none, and is said. "
    "Without --match, a gene that only some types of cells have has the direction of those types."
    "\n\n" + o.EXIT_CODES
)

TRUTH, SCREEN_CELLS = "The screen", "The screen, from its cells (.h5ad)"


def _column(meaning: str) -> object:
    return o.option(TRUTH, f"Column of the table with {meaning}, if not recognised.")


@grouped
def evaluate(
    run: Annotated[
        Path,
        typer.Argument(
            help="Folder of a run, an audit or an estimate; or an .h5ad with obs = perturbations, "
            "var = responders and layers of scores."
        ),
    ],
    out: o.Out,
    natural: NaturalGroup,
    truth: Annotated[
        Path | None,
        typer.Option(
            help="The screen: a table of differential expression (.csv, .tsv, .parquet), or its "
            "cells (.h5ad, as of scPerturb). Not with --natural."
        ),
    ] = None,
    layer: Annotated[
        list[str] | None,
        typer.Option(
            help="Arm or layer to judge, larger meaning: changed more. Repeat it for more. "
            "Default: all arms."
        ),
    ] = None,
    kind: Annotated[
        str | None,
        typer.Option(
            help="Kind of perturbation to judge, as overexpress. Default: knock-out, where there "
            "are any."
        ),
    ] = None,
    cells: Annotated[
        Path | None,
        typer.Option(
            help="With --natural: the cells to judge by (.h5ad, .dataset, .parquet). For an .h5ad "
            "of scores: the run they are from, for baselines and coverage."
        ),
    ] = None,
    null_run: Annotated[
        Path | None,
        o.option(
            TRUTH,
            "Run of the null model (ranklock.permuted), judged beside it: what it shows too is no "
            "knowledge.",
        ),
    ] = None,
    max_q: Annotated[float, o.option(TRUTH, "Adjusted p of a changed gene, at most.")] = 0.05,
    min_fold_change: Annotated[
        float, o.option(TRUTH, "Its |log fold change|, at least, in the screen's base.")
    ] = 0.0,
    min_changed: Annotated[int, o.option(TRUTH, "Changed genes that a perturbed gene needs.")] = 5,
    exclude_list: Annotated[
        Path | None, o.option(TRUTH, "File of genes that are never scored, one a line.")
    ] = None,
    control: Annotated[
        list[str] | None,
        o.option(TRUTH, "Label of control cells, if not recognised. Repeat it for more."),
    ] = None,
    unlisted: Annotated[
        str,
        o.option(
            TRUTH,
            "What a gene without a row of the table is: left-out (it was not tested), or unchanged "
            "(the table lists changed genes only).",
        ),
    ] = "left-out",
    perturbed_column: Annotated[str | None, _column("the perturbed gene")] = None,
    responder_column: Annotated[str | None, _column("the responder")] = None,
    effect_column: Annotated[str | None, _column("the log fold change")] = None,
    p_column: Annotated[str | None, _column("p, unadjusted")] = None,
    adjusted_p_column: Annotated[str | None, _column("adjusted p")] = None,
    perturbation_column: Annotated[
        str | None, o.option(SCREEN_CELLS, "Column of obs with the perturbation.")
    ] = None,
    screen_min_cells: Annotated[
        int, o.option(SCREEN_CELLS, "Cells that a perturbed gene and the controls need.")
    ] = 20,
    max_controls: Annotated[
        int,
        o.option(
            SCREEN_CELLS, "Control cells to compare with; drawn at random where there are more."
        ),
    ] = 2000,
    values: o.Values = "counts",
    counts_layer: o.CountsLayer = None,
    seed: Annotated[int, o.option(o.RESULTS, "Seed of what is drawn at random.")] = 0,
    overwrite: o.Overwrite = False,
    as_json: Annotated[
        bool,
        o.option(
            o.RESULTS, "Print the numbers (the .json file) on stdout, and nothing else.", "--json"
        ),
    ] = False,
) -> None:
    """Judge a run by a laboratory screen (Perturb-seq), or by cells that lack a gene.

    Do its effects rank the genes that really changed, and better than what is known of genes
    without perturbing this one? With --natural: do its knock-outs point to cells that truly lack
    the gene, more than in a model without knowledge? Writes tables, numbers as .json, and a figure.
    """
    with o.reported():
        from ranklock.run.folder import check_folder

        if natural.natural == (truth is not None):
            raise OptionError("Judge a run by a screen (--truth), or by natural knock-outs "
                              "(--natural): one of the two.")  # fmt: skip
        check_folder(out, overwrite=overwrite)
        judged: Evaluation | NaturalKnockOuts
        if truth is None:
            judged = evaluate_natural(
                run, natural, cells, arms=layer, values=values, counts_layer=counts_layer, seed=seed
            )
        else:
            from ranklock.perturbseq.evaluate import evaluate as evaluate_run
            from ranklock.perturbseq.screen_cells import ScreenOptions
            from ranklock.perturbseq.screen_table import TableColumns

            judged = evaluate_run(
                run,
                truth,
                layers=layer,
                kind=kind,
                cells=cells,
                null=null_run,
                max_q=max_q,
                min_fold_change=min_fold_change,
                min_changed=min_changed,
                exclude=genes_of(None, exclude_list) or (),
                columns=TableColumns(
                    perturbed_column, responder_column, effect_column, p_column, adjusted_p_column
                ),
                unlisted=unlisted,
                controls=control or (),
                screen_options=ScreenOptions(
                    perturbation_column,
                    control or (),
                    screen_min_cells,
                    max_controls,
                    seed,
                    values,  # type: ignore[arg-type]
                    counts_layer or "X",
                ),
                seed=seed,
                progress=True,
            )
        judged.save(out, overwrite=overwrite)
        if as_json:
            typer.echo(json.dumps(judged.content, indent=1))
        else:
            typer.echo(judged.text())
            name = "evaluation" if truth is not None else "natural"
            typer.echo(f"Figure:  {out / name}.png")
            typer.echo(f"Results: {out / name}.parquet (and {name}.json beside it)")
