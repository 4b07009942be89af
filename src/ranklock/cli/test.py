"""``ranklock test``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ranklock.cli import options as o
from ranklock.cli.inputs import genes_of
from ranklock.errors import InputError, OptionError

if TYPE_CHECKING:
    from ranklock.significance.results import Section

TEST_EPILOG = (
    "**What is tested**, as far as the run read it: which responders each perturbation moves "
    "beyond what the ranks of both genes, the potency of the one and the responsiveness of the "
    "other explain; and which perturbations shift cells, turn them to a state or change a "
    "classifier's logit more than others at like ranks of the same cell. Findings rest on `hold`; "
    "`shift`, the placebo beside it, should find nothing. Under `delete` this takes out the bias "
    "of the rank shift, so old results can still be used.\n\n"
    "**One folder** holds all of it: responders*.parquet, responders.h5ad, shifts*.parquet, "
    "combinations.parquet, figures and a manifest. `ranklock show` prints it again.\n\n"
    "**Examples**\n\n"
    "Of a run that is there, donors as replicates:\n\n"
    "    ranklock test genome-wide --donor donor_id --out tested\n\n"
    "Against a list of genes that should do nothing:\n\n"
    "    ranklock test genome-wide --null housekeeping.txt --out tested\n\n"
    "Of a handful of genes, with rank-matched controls that are run beside them:\n\n"
    "    ranklock perturb cells.h5ad --model ./checkpoint --vocabulary dictionaries/ \\\n"
    "        --gene SPI1 --gene CEBPB --controls 50 --sample 100 --out spi1\n\n"
    "    ranklock test spi1 --out spi1-tested\n\n"
    "Of a table that was made elsewhere (columns cell, gene, gene_rank, shift):\n\n"
    "    ranklock test old_results.csv --out tested\n\n"
    "Genes perturbed together, against the sum of what each does alone:\n\n"
    "    ranklock test pair --singles genome-wide --out tested\n\n" + o.EXIT_CODES
)

Source = Annotated[
    Path,
    typer.Argument(help="Folder of a run; or a table of shifts (.csv, .tsv, .txt, .parquet)."),
]
Arms = Annotated[
    str | None,
    typer.Option("--arms", help="Arms, with commas between them. Default: all that are there."),
]
Genes = Annotated[
    list[str] | None,
    typer.Option(
        "--gene",
        help="Perturbed gene whose responders are reported: symbol or Ensembl ID. Repeat it.",
    ),
]
GeneList = Annotated[
    Path | None, typer.Option("--genes", help="File that names such genes: text or a table.")
]
Donor = Annotated[
    str | None,
    typer.Option(
        "--donor",
        help="Column that names donors or samples: they are the replicates then. Default: the "
        "run's.",
    ),
]
MinCells = Annotated[
    int, typer.Option("--min-cells", help="Genes, and pairs of genes, in fewer cells are left out.")
]
Null = Annotated[
    Path | None,
    typer.Option("--null", help="File that names genes to test shifts against as well."),
]
Singles = Annotated[
    Path | None,
    typer.Option(
        "--singles",
        help="Run of single genes, to whose sum those of the run, perturbed together, are "
        "compared.",
    ),
]
Top = Annotated[int, typer.Option("--top", help="How many of the surest to print.")]


def run_tests(
    source: Source,
    out: o.Out,
    arms: Arms = None,
    gene: Genes = None,
    genes: GeneList = None,
    donor: Donor = None,
    min_cells: MinCells = 5,
    null: Null = None,
    singles: Singles = None,
    seed: Annotated[int, typer.Option(help="Seed of the swaps.")] = 0,
    top: Top = 10,
    overwrite: o.Overwrite = False,
    as_json: o.Json = False,
) -> None:
    """Say which effects of a run are more than what other genes at like ranks do.

    Reads what is there, without a forward, and tests responders, cell shifts and combinations over
    cells or donors.
    """
    with o.reported():
        from ranklock.run.folder import check_folder, read_folder
        from ranklock.significance.results import write_tests
        from ranklock.significance.text import describe_tests

        check_folder(out, overwrite=overwrite)
        sections = _tested(
            source, None if arms is None else o.listed(arms), genes_of(gene, genes),
            genes_of(None, null) or (), singles, donor=donor, min_cells=min_cells, seed=seed,
        )  # fmt: skip
        write_tests(out, sections, overwrite=overwrite)
        if as_json:
            o.print_json(read_folder(out), out)
        else:
            typer.echo("\n".join(describe_tests(out, top)))
            files = [name for section in sections for name in section.writers]
            typer.echo(f"Results: {out} ({', '.join(files)})")


def _tested(
    source: Path,
    arms: Sequence[str] | None,
    genes: list[str] | None,
    null: Sequence[str],
    singles: Path | None,
    **options: Any,
) -> list[Section]:
    """All tests that a source allows."""
    from ranklock.run.asked import ESTIMATE
    from ranklock.run.fields import CELL, GENES, LOGITS
    from ranklock.run.run import as_run
    from ranklock.significance.combinations import combinations, section_of
    from ranklock.significance.responders import responders
    from ranklock.significance.shifts import is_table, shifts

    if is_table(source):
        if genes or singles:
            raise OptionError(
                f"{source} is a table of shifts: --gene, --genes and --singles need a run."
            )
        return [shifts(source, arms, null=null, **options).section()]
    run = as_run(source)
    has_shifts = bool(run.reads & {CELL, LOGITS}) and run.manifest.asked.purpose != ESTIMATE
    if genes and GENES not in run.reads:
        raise OptionError(f"{source} read no effects on genes; leave out --gene and --genes.")
    if null and not has_shifts:
        raise OptionError(f"{source} has no shifts that can be tested; leave out --null.")
    sections = []
    if GENES in run.reads:
        sections.append(responders(run, arms, genes=genes, **options).section())
    if has_shifts:
        sections.append(shifts(run, arms, null=null, **options).section())
    if singles is not None:
        alone = as_run(singles)
        table = combinations(run, alone, options["min_cells"])
        sections.append(section_of(table, run, alone, options["min_cells"]))
    if not sections:
        raise InputError(f"{source} holds nothing that can be tested.")
    return sections
