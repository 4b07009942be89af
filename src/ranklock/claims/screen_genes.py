"""What a screen says of each gene: its estimate, mended by what was measured exactly."""

from __future__ import annotations

import numpy as np
import pandas as pd

from ranklock.claims.screen_choice import LARGEST, RANDOM
from ranklock.statistics.intervals import Estimate, mean_spearman
from ranklock.statistics.missed import Approximated, Recall, recall_of_largest

MOST_ERROR = 0.5  # of the exact effects' length, above which a cell's estimates are not believed
_FEWEST_IN_CELL = 5  # exact effects by which a cell is judged
_TOPS = (10, 20)


def judge_cells(pairs: pd.DataFrame, probes: int) -> pd.DataFrame:
    """How far the estimates of each cell are from what was measured in it.

    Parameters
    ----------
    pairs
        One row a cell and gene that was measured: ``cell``, ``estimate``, ``exact``, ``agreement``.
    probes
        Random signs behind an estimate; 0 for none.

    Returns
    -------
    By cell: ``agreement``, ``measured`` (genes), ``error`` (‖exact − estimate‖ / ‖exact‖ over
    these; NaN below five), and ``bad``.

    Notes
    -----
    Squares of m random signs scatter by √(2/m) of their mean, which says nothing against a cell:
    an error of twice that, if it is more than one half, is let pass.
    """
    both = pairs.dropna(subset=["estimate", "exact"])
    squared = pd.DataFrame(
        {
            "cell": both["cell"],
            "apart": (both["exact"] - both["estimate"]) ** 2,
            "exact": both["exact"] ** 2,
        }
    )
    by_cell = squared.groupby("cell")
    sums = by_cell[["apart", "exact"]].sum()
    measured = by_cell.size()
    with np.errstate(invalid="ignore", divide="ignore"):
        error = np.sqrt(sums["apart"] / sums["exact"]).where(measured >= _FEWEST_IN_CELL)
    limit = max(MOST_ERROR, 2 * np.sqrt(2 / probes)) if probes else MOST_ERROR
    table = pd.DataFrame({"measured": measured, "error": error, "bad": error > limit})
    table.insert(0, "agreement", pairs.groupby("cell")["agreement"].first())
    return table


def mended(means: pd.DataFrame, pairs: pd.DataFrame) -> pd.DataFrame:
    """Effect of each gene over all cells, from estimates everywhere and exact effects in some.

    Parameters
    ----------
    means
        From :func:`ranklock.claims.screen_choice.gene_means`.
    pairs
        One row a cell and gene that was measured: ``token``, ``estimate``, ``exact`` and
        ``under_noise_floor``.

    Returns
    -------
    ``means`` with ``effect``, its ``standard_error`` over cells, ``exact`` and ``estimate_there``
    (means over the cells where the gene was measured), ``verified_in`` (their number) and
    ``under_noise_floor`` (share of them).

    Notes
    -----
    The difference estimator of survey sampling: mean estimate over all N cells, plus the mean of
    exact − estimate over the m that were measured, with the variance s²/N + s²_difference/m. It
    has no bias where the m are a random sample, and is the mean exact effect where m = N.
    """
    apart = (pairs["exact"] - pairs["estimate"]).groupby(pairs["token"])
    by_token = pairs.groupby("token")
    there = pd.DataFrame(
        {
            "exact": by_token["exact"].mean(),
            "estimate_there": by_token["estimate"].mean(),
            "exact_deviation": by_token["exact"].std(),
            "apart": apart.mean(),
            "apart_deviation": apart.std(),
            "verified_in": by_token["exact"].count(),
            "under_noise_floor": by_token["under_noise_floor"].mean(),
        }
    ).reindex(means.index)
    there["verified_in"] = there["verified_in"].fillna(0).astype(int)
    m, n = there["verified_in"], means["n_cells"]
    everywhere = m >= n
    # Where no estimate is to be had, what was measured stands for all cells.
    alone = everywhere | (there["apart"].isna() & (m > 0))
    effect = means["estimate"] + there["apart"].fillna(0.0)
    variance = means["deviation"] ** 2 / n
    variance = variance + (there["apart_deviation"] ** 2 / m.where(m > 1)).where(m > 0, 0.0)
    of_exact = there["exact_deviation"] ** 2 / m.where(m > 1)
    return means.assign(
        effect=effect.mask(alone, there["exact"]),
        standard_error=np.sqrt(variance.mask(alone, of_exact)),
        **{name: there[name] for name in
           ("exact", "estimate_there", "verified_in", "under_noise_floor")},
    )  # fmt: skip


def missed(
    genes: pd.DataFrame, pairs: pd.DataFrame, verify: int, seed: int
) -> tuple[Estimate, list[Recall]]:
    """What was missed: correlation and recall, from the genes that were measured at random.

    Parameters
    ----------
    genes
        From :func:`mended`, with ``chosen``.
    pairs
        As there.
    verify
        How many of the largest were measured.
    seed
        Of the bootstrap.

    Returns
    -------
    Spearman's correlation of estimate and exact effect among genes measured at random, and the
    recall of the largest 10, 20 and ``verify``, as far as so many were measured.
    """
    sampled = genes[(genes["chosen"] == RANDOM) & genes["exact"].notna()]
    gross = pairs.groupby("token")["gross"].mean().reindex(sampled.index)
    errors = ((sampled["exact"] - sampled["estimate_there"]) / gross)[gross > 0]
    rest = genes[genes["exact"].isna() & (genes["gross"] > 0) & genes["estimate"].notna()]
    approximated = Approximated(rest["estimate"].to_numpy(), rest["gross"].to_numpy())
    exact = genes.loc[genes["exact"].notna(), "effect"].to_numpy()
    tops = sorted({top for top in (*_TOPS, verify) if top <= min(verify, len(exact))})
    recalls = [
        recall_of_largest(top, exact, approximated, errors.dropna().to_numpy(), seed)
        for top in tops
    ]
    correlation = mean_spearman(
        sampled["estimate_there"], sampled["exact"], np.zeros(len(sampled))
    )
    return correlation, recalls


def as_large(genes: pd.DataFrame) -> int:
    """How many genes measured at random have an effect as large as the least of the largest."""
    largest = genes.loc[genes["chosen"] == LARGEST, "effect"].abs()
    sampled = genes.loc[genes["chosen"] == RANDOM, "effect"].abs()
    return int((sampled >= largest.min()).sum()) if len(largest) else 0
