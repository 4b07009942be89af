"""Natural knock-outs: in-silico knock-outs beside cells that truly lack the gene."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from ranklock.arms import Arm, Role, capacity, find_arms
from ranklock.cells import Cells
from ranklock.errors import InputError, OptionError, OutputError
from ranklock.kinds import KNOCK_OUT
from ranklock.models import Model
from ranklock.models.encoder import output_of_layer
from ranklock.models.permuted import permuted
from ranklock.perturbseq.natural_design import Design, NaturalOptions, design_of
from ranklock.perturbseq.natural_forwards import (
    Array,
    forwards_of_knock_outs,
    knock_out_cosines,
    lack_directions,
)
from ranklock.perturbseq.natural_scores import (
    NaturalSummary,
    own_against_others,
    summarise_arm,
)
from ranklock.perturbseq.text import plain
from ranklock.progress import progress as show_progress
from ranklock.run.folder import read_folder, write_folder
from ranklock.run.plan import check_fit
from ranklock.run.run import Run, as_run
from ranklock.statistics.relabelling import relabelling_p

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COMMAND = "evaluate-natural"
TABLE, CONTENT = "natural.parquet", "natural.json"
FIGURES = ("natural.png", "natural.svg")
NULL = "null_"  # before the columns of the null model


@dataclass(frozen=True, eq=False, repr=False)
class NaturalKnockOuts:
    """Knock-outs beside cells that truly lack the gene, in a checkpoint and in its null model.

    Attributes
    ----------
    table
        A row a gene and arm; of a gene that was not judged one row, with ``why_not``. Columns
        ``gene``, ``gene_id``, ``arm``, ``why_not``, ``lacking_cells``, ``having_cells``, ``pairs``,
        ``genes_apart`` (mean number of genes that the lacking cell of a pair shows less the number
        that the other shows), ``held_out_cells``, ``replicates``, and ``cosine``,
        ``cosine_of_others``, ``difference``, ``low``, ``high`` and ``place`` of
        :func:`ranklock.perturbseq.natural_scores.own_against_others`; of the null model the same
        with ``null_`` before them.
    arms
        Arm → its summary over genes.
    content
        What was asked, of what, and the summaries, for programs.
    """

    table: pd.DataFrame
    arms: dict[str, NaturalSummary]
    content: dict[str, Any]

    def __repr__(self) -> str:
        verdicts = ", ".join(f"{name}: {arm.verdict}" for name, arm in self.arms.items())
        return f"NaturalKnockOuts: {self.content['genes']['judged']} genes; {verdicts}"

    def figure(self) -> Figure:
        """Place in the checkpoint against place in the null model, a panel an arm."""
        from ranklock.perturbseq.natural_report import natural_figure

        return natural_figure(self.table, list(self.arms.values()))

    def text(self) -> str:
        """All of it in words."""
        from ranklock.perturbseq.natural_report import describe_natural

        return "\n".join(describe_natural(self.content, self.table, list(self.arms.values())))

    def save(self, folder: str | Path, *, overwrite: bool = False) -> Path:
        """Write the folder, whole or not at all.

        Raises
        ------
        OutputError
            When it exists and may not be replaced, or cannot be written.
        """
        from ranklock.page.style import draw

        folder = Path(folder)
        figure = self.figure()
        text = json.dumps(self.content, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
        write_folder(
            folder,
            {key: self.content[key] for key in ("version", "asked", "run", "model", "cells")},
            {
                TABLE: lambda path: self.table.to_parquet(path, index=False),
                CONTENT: lambda path: path.write_text(text, encoding="utf-8"),
                **{name: partial(draw, figure) for name in FIGURES},
            },
            overwrite=overwrite,
        )
        return folder


def natural_knock_outs(
    run: Run | str | Path,
    cells: Cells,
    model: Model,
    *,
    genes: Sequence[str | int] | None = None,
    arms: Sequence[str] | None = None,
    match: Sequence[str] = (),
    donor: str | None = None,
    min_cells: int = 10,
    max_pairs: int = 100,
    max_apart: float = 0.1,
    held_out: int = 60,
    max_genes: int = 100,
    seed: int = 0,
    progress: bool = False,
) -> NaturalKnockOuts:
    """Hold a run's knock-outs against cells that truly lack the gene.

    The direction of a gene is the mean embedding of cells that lack it minus that of cells that
    have it, each lacking cell matched to one with as many genes. In cells that are on neither side
    of any direction, the gene and all others are knocked out. Does the gene's own knock-out point
    its way more than the other genes' knock-outs do in the same cells? And more than in the null
    model, the checkpoint with its weights permuted?

    Parameters
    ----------
    run
        A run with knock-outs of single genes, by this model (object or folder): its genes, arms and
        layer are taken.
    cells
        Cells to judge by, from :func:`ranklock.read_cells`: the run's own, or more.
    model
        The checkpoint of the run.
    genes
        Genes of the run to judge, by symbol, Ensembl ID or token; all by default.
    arms
        Arms of the run to judge; all by default.
    match, donor, min_cells, max_pairs, max_apart, held_out, max_genes, seed
        See :class:`ranklock.perturbseq.natural_design.NaturalOptions`. Without ``match``, a gene
        that only some types of cells have has the direction of those types.
    progress
        Whether to show progress on stderr.

    Returns
    -------
    NaturalKnockOuts

    Raises
    ------
    OptionError
        When an option has no such value, or the run no such arm.
    InputError
        Before the first forward: when run, model and cells do not fit each other, or too few genes
        have enough cells.

    Notes
    -----
    A cell that lacks a gene was not perturbed: what else sets it apart (its type where ``match``
    does not name it, how deeply it was sequenced, other genes that come and go with this one) is
    in the direction too. A null model's knock-outs point that way as well, for cells that lack a
    gene lack its token; only what the checkpoint does beyond that is its knowledge.
    """
    options = NaturalOptions(
        (match,) if isinstance(match, str) else tuple(match), donor, min_cells, max_pairs,
        max_apart, held_out, max_genes, seed,
    )  # fmt: skip
    run = as_run(run)
    _check_made_from(run, cells, model)
    kept = run.arms_of(arms, _knock_outs_of(run))
    if not kept:
        raise OptionError(f"{run.folder} has no knock-outs under {', '.join(arms or ())}.")
    judged_arms = find_arms(kept, KNOCK_OUT)
    depth = output_of_layer(model, run.manifest.asked.layer)
    most = capacity(model.input_size, special_frame=cells.special_frame)
    design = design_of(cells, _tokens(run, cells, genes), most, options)
    models = {"": model, NULL: permuted(model, options.seed)}
    cosines: dict[str, Mapping[str, Array]] = {}
    for_directions = int((design.weights != 0).any(axis=0).sum())
    forwards = for_directions + forwards_of_knock_outs(design, judged_arms)
    with show_progress(len(models) * forwards, "forwards", shown=progress) as advance:
        for prefix, each in models.items():
            directions = lack_directions(cells, each, design, depth, advance)
            cosines[prefix] = knock_out_cosines(
                cells, each, design, directions, judged_arms, depth, advance
            )
    units = "cells" if donor is None else "donors"
    parts, summaries = [], {}
    claims = sum(arm.role is not Role.PLACEBO for arm in judged_arms)
    for arm in judged_arms:
        part, p = _of_arm(design, {k: c[arm.name] for k, c in cosines.items()}, units, seed)
        summaries[arm.name] = summarise_arm(
            arm.name, part, p, max(claims, 1), placebo=arm.role is Role.PLACEBO
        )
        parts.append(_named(part, cells, design, arm))
    judged = pd.concat(parts, ignore_index=True)
    left_out = _about(cells, design, judged=False)
    # Gene by gene as they were judged; what is not known of the others is missing, not "no effect".
    table = judged.reindex(range(len(judged) + len(left_out)))
    for column in left_out:
        table.loc[len(judged) :, column] = left_out[column].to_numpy()
    counts = ["lacking_cells", "having_cells", "pairs"]
    table[counts] = table[counts].astype(int)
    content = {
        "version": version("ranklock"),
        "asked": {"command": COMMAND, **asdict(options), "match": list(options.match),
                  "arms": [arm.name for arm in judged_arms]},
        "run": {"name": str(run.folder), "layer": run.manifest.asked.layer},
        "model": {"name": model.name, "sha256": model.sha256, "null": models[NULL].sha256},
        "cells": {"source": cells.source, "number": len(cells), "sha256": cells.sha256(),
                  "for_directions": for_directions,
                  "held_out": len(design.held_out)},
        "genes": {"asked": len(design.candidates), "judged": len(design.genes)},
        "arms": {name: plain(asdict(summary)) for name, summary in summaries.items()},
    }  # fmt: skip
    return NaturalKnockOuts(table, summaries, content)


def read_natural_knock_outs(folder: str | Path) -> NaturalKnockOuts:
    """Read natural knock-outs back from their folder.

    Raises
    ------
    OutputError
        When the folder holds none, or a file in it was damaged or changed.
    """
    folder = Path(folder)
    manifest = read_folder(folder)
    if manifest["asked"]["command"] != COMMAND:
        raise OutputError(
            f"{folder} holds a {manifest['asked']['command']}, no natural knock-outs."
        )
    content = json.loads((folder / CONTENT).read_text(encoding="utf-8"))
    table = pd.read_parquet(folder / TABLE)
    p = {name: (arm["model"]["p"], arm["null"]["p"]) for name, arm in content["arms"].items()}
    claims = sum(find_arms([name], KNOCK_OUT)[0].role is not Role.PLACEBO for name in p)
    summaries = {
        name: summarise_arm(
            name, table[table["arm"] == name], p[name], max(claims, 1),
            placebo=find_arms([name], KNOCK_OUT)[0].role is Role.PLACEBO,
        )
        for name in p
    }  # fmt: skip
    return NaturalKnockOuts(table, summaries, content)


def _check_made_from(run: Run, cells: Cells, model: Model) -> None:
    """See that the model and the tokens are those of the run."""
    made_from = run.manifest.made_from
    if model.permutation is not None:
        raise InputError(
            f"{model.name} is a null model already; name the checkpoint itself, beside which a "
            "null model is judged."
        )
    if made_from.model.sha256 != model.sha256:
        raise InputError(
            f"{run.folder} was computed with {made_from.model.name}, whose configuration or "
            f"weights are not those of {model.name}; name the checkpoint of the run (--model)."
        )
    if made_from.vocabulary.sha256 != cells.vocabulary.sha256:
        raise InputError(
            f"{cells.source} is in tokens of {cells.vocabulary.source}, {run.folder} in those of "
            f"{made_from.vocabulary.source}; use the run's vocabulary (--vocabulary)."
        )
    if made_from.cells.special_frame != cells.special_frame:
        raise InputError(
            f"{cells.source} and the cells of {run.folder} do not both stand between <cls> and "
            "<eos>; encode them alike."
        )
    check_fit(cells, model, [])


def _knock_outs_of(run: Run) -> str:
    if KNOCK_OUT.name not in run.kinds:
        raise InputError(
            f"{run.folder} holds {', '.join(run.kinds)} and no knock-outs; a cell that lacks a "
            "gene says nothing of those (ranklock perturb --do knock-out)."
        )
    return KNOCK_OUT.name


def _tokens(run: Run, cells: Cells, genes: Sequence[str | int] | None) -> list[int]:
    """Tokens of the genes that the run knocks out one by one, ascending."""
    table = run.perturbations
    single = (table["kind"] == KNOCK_OUT.name) & (table["tokens"].map(len) == 1)
    of_run = {int(tokens[0]) for tokens in table.loc[single, "tokens"]}
    if not of_run:
        raise InputError(
            f"{run.folder} knocks out several genes at once and none alone, and a cell without one "
            "gene speaks of that gene; run them without --together."
        )
    if genes is None:
        return sorted(of_run)
    asked = {cells.vocabulary.token(gene) for gene in genes}
    missing = sorted(asked - of_run)
    if missing:
        named = ", ".join(cells.vocabulary.symbol(token) for token in missing[:5])
        raise InputError(
            f"{run.folder} does not knock out {named}; leave out what it lacks, or perturb more."
        )
    return sorted(asked)


def _of_arm(
    design: Design, cosines: Mapping[str, Array], units: str, seed: int
) -> tuple[pd.DataFrame, tuple[float, float]]:
    """A row a gene, of both models, and p of either."""
    replicates = design.replicates[design.held_out]
    tables, p = {}, {}
    for prefix, of_model in cosines.items():
        tables[prefix], place_of = own_against_others(of_model, design.judged, replicates, units)
        p[prefix] = relabelling_p(place_of, seed)
    shared = ["held_out_cells", "replicates", "replicates_are"]
    null = tables[NULL].drop(columns=shared).add_prefix(NULL)
    return tables[""].join(null), (p[""], p[NULL])


def _named(part: pd.DataFrame, cells: Cells, design: Design, arm: Arm) -> pd.DataFrame:
    """The same with what each gene is, and how its cells were matched."""
    about = _about(cells, design, judged=True)
    about.insert(2, "arm", arm.name)
    return about.join(part)


def _about(cells: Cells, design: Design, *, judged: bool) -> pd.DataFrame:
    rows = []
    for gene in design.candidates:
        if judged != (not gene.why_not):
            continue
        apart = design.shown[gene.pairs[:, 0]] - design.shown[gene.pairs[:, 1]]
        rows.append(
            {
                "gene": cells.vocabulary.symbol(gene.token),
                "gene_id": cells.vocabulary.gene(gene.token),
                "why_not": gene.why_not, "lacking_cells": gene.lacking,
                "having_cells": gene.having, "pairs": len(gene.pairs),
                "genes_apart": float(apart.mean()) if len(apart) else np.nan,
            }
        )  # fmt: skip
    columns = ["gene", "gene_id", "why_not", "lacking_cells", "having_cells", "pairs",
               "genes_apart"]  # fmt: skip
    return pd.DataFrame(rows, columns=columns)
