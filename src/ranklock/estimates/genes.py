"""What is known of each gene: its estimate, mended by what was measured exactly."""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy import special

from ranklock.estimates.choice import LARGEST, RANDOM
from ranklock.statistics.intervals import Estimate, mean_spearman, without_interval
from ranklock.statistics.missed import FEWEST_CHECKED, Approximated, Recall, recall_of_largest

_MOST_ERROR = 0.5  # of the exact effects' length, above which a cell's estimates are not believed
_MOST_LOG_ERROR = float(np.log(2.0))
_FOR_AN_INTERVAL, _ALL_BUT_ONE = 10, 0.9999  # Fisher's z says nothing of a few, or at one
_FEWEST_IN_CELL = 5  # exact effects by which a cell is judged
_TOPS = (10, 20)


def judge_cells(pairs: pd.DataFrame, probes: int) -> pd.DataFrame:
    """How far the estimates of each cell are from what was measured in it.

    ``probes``, the random signs behind an estimate of a mean effect, are 0 for a number with a
    sign.

    Returns
    -------
    By cell: ``agreement``, ``measured`` (genes), ``error`` (NaN below five genes), and ``bad``.
    The error is ‖exact − estimate‖ / ‖exact‖ of numbers with a sign, and the root mean square of
    ln(estimate / exact) of mean effects.

    Notes
    -----
    Bad is an error of more than one half, or a factor of two. The logarithm of a mean of m squared
    signs scatters by itself, which says nothing against a cell: twice its root mean square, that
    of ln(χ²_m / m), is let pass.
    """
    known = pairs.dropna(subset=["estimate", "exact"])
    if probes:
        known = known[(known["estimate"] > 0) & (known["exact"] > 0)]
        squared = np.log(known["estimate"] / known["exact"]) ** 2
        error = np.sqrt(squared.groupby(known["cell"]).mean())
        half = probes / 2
        of_signs = special.polygamma(1, half) + (special.digamma(half) - np.log(half)) ** 2
        limit = max(_MOST_LOG_ERROR, 2 * float(np.sqrt(of_signs)))
    else:
        difference = ((known["exact"] - known["estimate"]) ** 2).groupby(known["cell"]).sum()
        total = (known["exact"] ** 2).groupby(known["cell"]).sum()
        error, limit = np.sqrt(difference / total.where(total > 0)), _MOST_ERROR
    measured = known.groupby("cell").size()
    table = pd.DataFrame({"agreement": pairs.groupby("cell")["agreement"].first()})
    table["measured"] = measured.reindex(table.index).fillna(0).astype(int)
    table["error"] = error.where(measured >= _FEWEST_IN_CELL)
    table["bad"] = table["error"] > limit
    return table


def mended(means: pd.DataFrame, replaced: pd.DataFrame, pairs: pd.DataFrame) -> pd.DataFrame:
    """Effect of each gene over all cells, from estimates everywhere and exact effects in some.

    Parameters
    ----------
    means, replaced
        From :func:`ranklock.estimates.choice.gene_means`: of estimates, and with exact effects in
        their place in cells that were measured whole.
    pairs
        One row a cell and gene that was measured; ``sampled``: whether the cell was taken at
        random for the gene.

    Returns
    -------
    ``means`` with ``effect``, its ``standard_error`` over cells, ``measurement_error`` (the part
    of it that measuring in all cells would take away), ``exact`` and ``verified_estimate`` (means
    over the cells where the gene was measured) and ``verified_in`` (their number).

    Notes
    -----
    The difference estimator of survey sampling: mean estimate over all N cells, plus the mean of
    D = exact − estimate over the m cells that were drawn at random. It has no bias, also where a
    cell turned out bad: whether a cell is looked at for that depends on whether it was drawn. With
    E the exact effect its variance is s²_E/N + s²_D (1/m − 1/N), s²_E being that of the estimates
    of all N cells and what exact effects of the m vary beyond their estimates. Where all N were
    measured it is the mean exact effect; where none was drawn, the mean estimate.
    """
    by_token = pairs.groupby("token")
    drawn = pairs[pairs["sampled"]]
    of_drawn = drawn.groupby("token")
    difference = (drawn["exact"] - drawn["estimate"]).groupby(drawn["token"])
    measured = pd.DataFrame(
        {
            "exact": by_token["exact"].mean(),
            "verified_estimate": by_token["estimate"].mean(),
            "exact_variance": by_token["exact"].var(),
            "beyond_estimates": of_drawn["exact"].var() - of_drawn["estimate"].var(),
            "verified_in": by_token["exact"].count(),
            "difference": difference.mean(),
            "difference_variance": difference.var(),
            "drawn_in": difference.count(),
        }
    ).reindex(means.index)
    measured["verified_in"] = measured["verified_in"].fillna(0).astype(int)
    n, m = means["n_cells"], measured["drawn_in"].fillna(0)
    everywhere = measured["verified_in"] >= n
    effect = (means["estimate"] + measured["difference"]).where(m > 0, replaced["estimate"])
    varied = (means["deviation"] ** 2 + measured["beyond_estimates"]).clip(lower=0.0)
    of_cells = varied.where(m > 0, replaced["deviation"] ** 2) / n
    beyond = (1 / m.where(m > 1) - 1 / n).clip(lower=0.0)
    of_measuring = (measured["difference_variance"] * beyond).where(m > 0, 0.0)
    shown = ("exact", "verified_estimate", "verified_in")
    return means.assign(
        effect=effect.mask(everywhere, measured["exact"]),
        standard_error=np.sqrt(
            (of_cells + of_measuring).mask(everywhere, measured["exact_variance"] / n)
        ),
        measurement_error=np.sqrt(of_measuring.mask(everywhere, 0.0)),
        **{name: measured[name] for name in shown},
    )


def missed(
    genes: pd.DataFrame, pairs: pd.DataFrame, verify: int, seed: int
) -> tuple[Estimate, list[Recall]]:
    """What was missed, by genes that were measured at random.

    From the table of :func:`mended` with ``chosen`` and ``ranked`` (whether enough cells have the
    gene), and its ``pairs``: Spearman's correlation of estimate and exact effect, and the recall of
    the largest 10, 20 and ``verify``, as far as so many were measured.
    """
    known = pairs[pairs["sampled"]].groupby("token")[["estimate", "exact", "gross"]].mean()
    known = known.assign(chosen=genes["chosen"]).dropna()
    known = known[(known["gross"] > 0) & known["chosen"].isin([LARGEST, RANDOM])]
    ranked = genes[genes["ranked"]]
    measured = (ranked["chosen"] != "") | (ranked["verified_in"] >= ranked["n_cells"])
    unmeasured = ranked[~measured & (ranked["gross"] > 0)]
    of_measured = ranked[measured].dropna(subset="effect")
    sampled = known[known["chosen"] == RANDOM]
    if len(sampled) < FEWEST_CHECKED:  # of what was not taken, nothing is known
        known = sampled
    tops = sorted({top for top in (*_TOPS, verify) if top <= min(verify, len(of_measured))})
    recalls = [
        recall_of_largest(
            top,
            of_measured["effect"].to_numpy(float),
            of_measured["measurement_error"].fillna(0.0).to_numpy(float),
            _approximated(unmeasured),
            _approximated(known),
            known["exact"],
            seed,
        )
        for top in tops
    ]
    correlation = mean_spearman(sampled["estimate"], sampled["exact"], np.zeros(len(sampled)))
    if len(sampled) < _FOR_AN_INTERVAL or abs(correlation.value) > _ALL_BUT_ONE:
        correlation = without_interval(correlation.value, len(sampled))
    return correlation, recalls


def _approximated(genes: pd.DataFrame) -> Approximated:
    return Approximated(genes["estimate"].to_numpy(float), genes["gross"].to_numpy(float))


def as_large(genes: pd.DataFrame, verify: int) -> int:
    """How many genes measured at random are among the ``verify`` largest of all measured."""
    measured = genes[genes["chosen"] != ""]
    largest = measured["effect"].abs().nlargest(verify).index
    return int((measured.loc[largest, "chosen"] == RANDOM).sum())
