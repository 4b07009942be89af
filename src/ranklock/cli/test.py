"""``ranklock test``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ranklock.cli import options as o

if TYPE_CHECKING:
    from ranklock.significance.results import Section

TEST_EPILOG = (
    "**What is tested**, of a run with impostors: which responders each perturbation moves, and "
    "which perturbations shift cells, turn them to a state or change a classifier's logit, more "
    "than what impostors do: other genes, put in the same place of the same cell. A finding is "
    "larger than theirs by more than --minimum, at a false-discovery rate of 5 %, and, where the "
    "run has its null model, at most one in twenty of the findings would be made in a model that "
    "has learned nothing. It says that the model responds more to this gene than to others in its "
    "place; not that genes are linked in biology.\n\n"
    "**One folder** holds all of it: responders*.parquet, responders.h5ad, shifts*.parquet, "
    "combinations.parquet, figures and a manifest. `ranklock show` prints it again.\n\n"
    "**Examples**\n\n"
    "A run with impostors and its null model, and what of it is found; donors as replicates:\n\n"
    "    ranklock perturb cells.h5ad --model ./checkpoint --vocabulary dictionaries/ \\\n"
    "        --gene SPI1 --gene CEBPB --sample 100 --arms delete,hold --impostors 12 \\\n"
    "        --null-model --donor donor_id --out spi1\n\n"
    "    ranklock test spi1 --out spi1-tested\n\n"
    "A handful of donors, exactly:\n\n"
    "    ranklock test spi1 --exact --out spi1-exact\n\n"
    "Genes perturbed together, against the sum of what each does alone:\n\n"
    "    ranklock test pair --singles genome-wide --out tested\n\n" + o.EXIT_CODES
)

Source = Annotated[
    Path,
    typer.Argument(help="Folder of a run with impostors."),
]
Arms = Annotated[
    str | None,
    typer.Option("--arms", help="Arms, with commas between them. Default: all that are there."),
]
Minimum = Annotated[
    float,
    typer.Option(
        "--minimum", help="How many times as large as impostors' an effect must be, at least 1."
    ),
]
Exact = Annotated[
    bool,
    typer.Option(
        "--exact",
        help="Exact signed-rank tests with Holm's correction, for a handful of donors; moderated t "
        "tests with false-discovery rates otherwise.",
    ),
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
    int,
    typer.Option("--min-cells", help="Genes, and pairs of genes, in fewer cells are not tested."),
]
Singles = Annotated[
    Path | None,
    typer.Option(
        "--singles",
        help="Run of single genes, to whose sum those of the run, perturbed together, are "
        "compared.",
    ),
]
Top = Annotated[int, typer.Option("--top", help="How many of the largest findings to print.")]


def run_tests(
    source: Source,
    out: o.Out,
    arms: Arms = None,
    minimum: Minimum = 1.5,
    donor: Donor = None,
    min_cells: MinCells = 5,
    exact: Exact = False,
    singles: Singles = None,
    top: Top = 10,
    overwrite: o.Overwrite = False,
    as_json: o.Json = False,
) -> None:
    """Say which effects of a run exceed what impostors do, by a size that matters.

    Reads what is there, without a forward, and tests responders, shifts and combinations over
    cells or donors.
    """
    with o.reported():
        from ranklock.run.folder import check_folder, read_folder
        from ranklock.significance.results import write_tests
        from ranklock.significance.text import describe_tests

        check_folder(out, overwrite=overwrite)
        listed = None if arms is None else o.listed(arms)
        sections = _tested(
            source, listed, singles, minimum=minimum, donor=donor, min_cells=min_cells, exact=exact
        )
        write_tests(out, sections, overwrite=overwrite)
        if as_json:
            o.print_json(read_folder(out), out)
        else:
            typer.echo("\n".join(describe_tests(out, top)))
            files = [name for section in sections for name in section.writers]
            typer.echo(f"Results: {out} ({', '.join(files)})")


def _tested(
    source: Path, arms: Sequence[str] | None, singles: Path | None, **options: Any
) -> list[Section]:
    """All tests that a run allows."""
    from ranklock.run.asked import ESTIMATE
    from ranklock.run.fields import CELL, GENES, LOGITS
    from ranklock.run.run import as_run
    from ranklock.significance.combinations import combinations, section_of
    from ranklock.significance.responders import responders
    from ranklock.significance.shifts import shifts

    run = as_run(source)
    sections = []
    if singles is not None:
        alone = as_run(singles)
        table = combinations(run, alone, options["min_cells"])
        sections.append(section_of(table, run, alone, options["min_cells"]))
    if run.manifest.asked.impostors or not sections:
        if GENES in run.reads:
            sections.insert(0, responders(run, arms, **options).section())
        if run.reads & {CELL, LOGITS} and run.manifest.asked.purpose != ESTIMATE:
            sections.insert(1, shifts(run, arms, **options).section())
    return sections
