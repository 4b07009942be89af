"""Do in-silico knock-outs find the links of a network that is known? ``docs/ground_truth.md``.

    python benchmarks/ground_truth.py --out truth                    # trains the model first
    python benchmarks/ground_truth.py --out truth --model folder     # or takes one that is there

Cells of a planted network (``planted_network.py``), a rank-value BERT trained on them
(``planted_model.py``), all genes of held-out cells knocked out, the factors beside impostors and in
a null model too. Effects, folds over impostors and findings are judged by the network's links,
beside what needs no model. Writes ``ground_truth.json`` and a figure, and prints the tables.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from ground_truth_scores import candidates, co_expression, judge, precision_of_findings
from planted_model import RECIPE, log_probability_changes, masked_accuracy, trained
from planted_network import Design, draw_cells, draw_network, gene_names

import ranklock
from ranklock.arms import decomposed_arm

ARMS = ("delete", "hold", "mask", "shift")
IMPOSTORS = 12  # at most: as many as genes that every cell lacks


def measure(
    out: Path,
    model_folder: Path,
    design: Design,
    recipe: Any,
    cells: int,
    asked_cells: int,
    layers: tuple[int, ...] = (-1, 0),
) -> dict[str, Any]:
    """Everything that is measured."""
    edges = draw_network(design)
    adata = draw_cells(design, edges)
    names = gene_names(design)
    factors = names[: design.factors]
    model_path, vocabulary_path = trained(model_folder, adata, recipe)
    vocabulary = ranklock.read_vocabulary(vocabulary_path)
    held_out = adata[adata.obs["split"] == "held-out"][:cells].copy()
    encoded = ranklock.read_cells(held_out, vocabulary)
    model = ranklock.load_model(model_path, device="cpu")
    pairs = candidates(edges, factors, names)
    content: dict[str, Any] = {
        "design": asdict(design), "recipe": asdict(recipe), "cells": cells,
        "cells_asked_for_log_probabilities": asked_cells,
        "model": masked_accuracy(model_path, adata, vocabulary_path),
        "links": int(pairs["direct"].sum()), "paths": int(pairs["any"].sum()),
        "impostors": impostors_of(encoded), "scores": [], "findings": [], "artefact": [],
    }  # fmt: skip
    scores = pairs.set_index(["gene", "responder"])
    for name, counts in (("these cells", held_out), ("training cells", adata[: design.cells])):
        spearman, partial = co_expression(counts.X.toarray(), names)
        for what, matrix in (("Spearman", spearman), ("partial correlation", partial)):
            scores[f"{what}, {name}"] = [matrix.loc[f, g] for f, g in scores.index]
    baselines = list(scores.columns[2:])
    for layer in layers:
        run = ranklock.perturb(encoded, model, arms=ARMS, layer=layer, out=out / f"run{layer}")
        beside = ranklock.perturb(
            encoded, model, factors, arms=ARMS, layer=layer, impostors=content["impostors"],
            null_model=True, out=out / f"impostors{layer}",
        )  # fmt: skip
        table = ranklock.responders(beside, min_cells=5, progress=False).table
        table = table.assign(
            gene=table["gene"].astype(str),
            responder=table["responder"].astype(str),
            tested=table["status"] == "tested",
        )
        means = run.effects(average=True, min_cells=5)
        for arm in ARMS:
            mean = pd.DataFrame(means.layers[arm], means.obs["gene"], means.var["symbol"]).stack()
            prefix = f"{arm}, layer {layer}"
            scores[f"{prefix}: mean distance"] = mean.rename_axis(scores.index.names)
            rows = table[table["arm"] == arm].set_index(["gene", "responder"])
            if len(rows):  # of an arm that is compared with impostors
                for what in ("effect", "fold"):
                    scores[f"{prefix}: {what}"] = rows[what].where(rows["tested"])
                judged = pairs.join(rows[["tested", "finding"]], on=rows.index.names)
                content["findings"].append(
                    {"arm": arm, "layer": layer, **precision_of_findings(judged)}
                )
            content["artefact"].append(_artefact(run, arm, layer))
        if layer == layers[0]:
            near, level = _of_responders(run)
            scores["nearness in rank"] = near.rename_axis(scores.index.names)
            scores["mean effect on the responder"] = scores.index.get_level_values(1).map(level)
            baselines += ["nearness in rank", "mean effect on the responder"]
    asked = log_probability_changes(model_path, encoded[:asked_cells], factors, names)
    changes = asked["table"].set_index(["gene_id", "responder_id"])["change"]
    scores["|change of log-probability|"] = changes.abs().rename_axis(scores.index.names)
    content["learned"] = _learned(scores.assign(change=changes.rename_axis(scores.index.names)))
    scored = [name for name in scores if name not in ("direct", "any")]
    flat = scores.reset_index()
    for name in scored:
        for truth in ("direct", "any"):
            kind = "baseline" if name in baselines else "model"
            row = {"score": name, "kind": kind, "truth": truth, **judge(flat, name, truth)}
            content["scores"].append(row)
    return content


def impostors_of(cells: ranklock.Cells, most: int = IMPOSTORS) -> int:
    """As many impostors as every cell has genes that it lacks and others show, ``most`` at most."""
    shown = np.unique(np.concatenate(cells.ranked))
    return min(most, *(len(shown) - len(genes) for genes in cells.ranked))


def _of_responders(run: ranklock.Run, min_cells: int = 5) -> tuple[pd.Series, pd.Series]:
    """Nearness in rank of pairs, and mean over all knock-outs of the effect on each responder."""
    hold = run.table[run.table["arm"] == "hold"].astype({"gene": str, "responder": str})
    with np.errstate(divide="ignore"):
        logs = np.log10(hold["cosine_distance"]).replace(-np.inf, np.nan)
    hold = hold.assign(away=hold["gene_rank"] - hold["responder_rank"], logs=logs)
    pairs = hold.groupby(["gene", "responder"]).agg(
        away=("away", "mean"), logs=("logs", "mean"), cells=("away", "size")
    )
    pairs = pairs[pairs["cells"] >= min_cells]
    return -pairs["away"].abs(), (10.0 ** pairs["logs"]).groupby("responder").mean()


def _artefact(run: ranklock.Run, arm: str, layer: int) -> dict[str, Any]:
    """The rank shift in this model: share, step, and what it does to cell shifts."""
    rows = run.shifts[run.shifts["arm"] == arm]
    ranks = rows.groupby("cell", observed=True)[["gene_rank", "cosine_distance"]]
    rho = [part.corr("spearman").iloc[0, 1] for _, part in ranks]
    step = np.log10(rows["median_shifted"] / rows["median_unshifted"])
    step = step.replace([np.inf, -np.inf], np.nan)
    share = rows["shift_along_total"].sum() / rows["displacement_squared"].sum()
    return {
        "arm": arm, "layer": layer,
        "artefact_share": float(share) if arm == decomposed_arm(run.arms) else None,
        "step_log10": float(step.median()),
        "cell_shift_against_rank": float(np.mean(rho)),
    }  # fmt: skip


def _learned(scores: pd.DataFrame) -> dict[str, float]:
    """Mean |change| of a target's log-probability without its factor, and without another's."""
    known = scores.dropna(subset="change")
    targets = known[known.index.get_level_values(1).str.startswith("TARGET")]
    linked = targets.loc[targets["direct"], "change"].abs()
    unlinked = targets.loc[~targets["any"], "change"].abs()
    draw = np.random.default_rng(0)
    by_factor = linked.groupby("gene").mean() - unlinked.groupby("gene").mean()
    values = by_factor.dropna().to_numpy()
    redrawn = [draw.choice(values, len(values)).mean() for _ in range(2000)]
    low, high = np.percentile(redrawn, [2.5, 97.5])
    return {
        "own_factor": float(linked.mean()),
        "other_factor": float(unlinked.mean()),
        "difference_by_factor": float(values.mean()),
        "difference_low": float(low), "difference_high": float(high),
    }  # fmt: skip


def tables(content: dict[str, Any]) -> str:
    """What was measured, as Markdown."""
    model, learned = content["model"], content["learned"]
    lines = [
        f"{content['cells']} held-out cells; {content['links']} links, {content['paths']} paths.",
        "",
        f"Masked genes named rightly: {model['model']:.3f}; by the best guess without the cell "
        f"{model['commonest_at_position_not_in_cell']:.3f}.",
        f"A masked target's |change of log-probability| without its own factor "
        f"{learned['own_factor']:.3f}, without another {learned['other_factor']:.3f}; difference "
        f"{learned['difference_by_factor']:.3f} [{learned['difference_low']:.3f}, "
        f"{learned['difference_high']:.3f}].",
        "",
        "| score | AUROC, links | AUROC, paths | average precision | early precision |",
        "|---|---|---|---|---|",
    ]
    by_score: dict[str, dict[str, Any]] = {}
    for row in content["scores"]:
        by_score.setdefault(row["score"], {})[row["truth"]] = row
    for name, row in by_score.items():
        direct, paths = row["direct"], row["any"]
        lines.append(
            f"| {name} | " + " | ".join(
                f"{of[what]:.3f} [{of[what + '_low']:.3f}, {of[what + '_high']:.3f}]"
                for of, what in ((direct, "auroc"), (paths, "auroc"),
                                 (direct, "average_precision"), (direct, "early_precision"))
            ) + " |"
        )  # fmt: skip
    lines += ["", f"Findings beside {content['impostors']} impostors and the null model; base "
              "rates are those of all pairs that were tested.", "",
              "| arm | layer | tested | findings | of them links | base rate | of them paths | "
              "base rate |", "|---|---|---|---|---|---|---|---|"]  # fmt: skip
    for row in content["findings"]:
        shares = ["" if row[k] is None else f"{row[k]:.3f}"
                  for k in ("direct", "direct_base", "any", "any_base")]  # fmt: skip
        lines.append(
            f"| {row['arm']} | {row['layer']} | {row['tested']:,} | {row['findings']:,} | "
            + " | ".join(shares) + " |"
        )  # fmt: skip
    lines += ["", "| arm | layer | artefact share | step (log10) | cell shift against rank |",
              "|---|---|---|---|---|"]  # fmt: skip
    for row in content["artefact"]:
        share = "" if row["artefact_share"] is None else f"{row['artefact_share']:.3f}"
        lines.append(
            f"| {row['arm']} | {row['layer']} | {share} | {row['step_log10']:.2f} | "
            f"{row['cell_shift_against_rank']:.2f} |"
        )
    return "\n".join(lines)


def figure(content: dict[str, Any], path: Path) -> None:
    """AUROC of every score, links, with its interval."""
    from matplotlib.figure import Figure

    rows = [row for row in content["scores"] if row["truth"] == "direct"]
    rows = sorted(rows, key=lambda row: row["auroc"])
    drawn = Figure(figsize=(7.0, 0.2 * len(rows) + 1), layout="constrained")
    axis = drawn.subplots()
    for place, row in enumerate(rows):
        colour = "#D55E00" if row["kind"] == "baseline" else "#0072B2"
        axis.plot([row["auroc_low"], row["auroc_high"]], [place, place], color=colour)
        axis.plot(row["auroc"], place, "o", color=colour, markersize=4)
    axis.set_yticks(range(len(rows)), [row["score"] for row in rows], fontsize=7)
    axis.axvline(0.5, color="#888888", linewidth=0.8, linestyle=":")
    axis.set_xlabel("AUROC over direct links (blue: of the model; orange: without it)")
    for end in ("top", "right"):
        axis.spines[end].set_visible(False)
    for kind in ("png", "svg"):
        drawn.savefig(path / f"ground_truth.{kind}", dpi=150)


def main() -> None:
    """Parse, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="Folder for what is written.")
    parser.add_argument("--model", type=Path, help="Folder of a trained model; made if not there.")
    parser.add_argument("--cells", type=int, default=200, help="Held-out cells to perturb.")
    parser.add_argument("--asked", type=int, default=60, help="Of them, for log-probabilities.")
    parser.add_argument("--seed", type=int, default=0, help="Of network and cells.")
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    model = given.model or given.out / "model"
    content = measure(
        given.out,
        model,
        Design(seed=given.seed),
        RECIPE,
        given.cells,
        min(given.asked, given.cells),
    )
    (given.out / "ground_truth.json").write_text(json.dumps(content, indent=1) + "\n")
    figure(content, given.out)
    print(tables(content))


if __name__ == "__main__":
    main()
