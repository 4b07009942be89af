"""What a screen says of each gene: its estimate, mended by what was measured exactly."""

from __future__ import annotations

import numpy as np
import pandas as pd

from ranklock.claims.screen_choice import LARGEST, RANDOM
from ranklock.statistics.intervals import Estimate, mean_spearman
from ranklock.statistics.missed import FEWEST_CHECKED, Approximated, Recall, recall_of_largest

_MOST_ERROR = 0.5  # of the exact effects' length, above which a cell's estimates are not believed
_MOST_LOG_ERROR = float(np.log(2.0))
_FEWEST_IN_CELL = 5  # exact effects by which a cell is judged
_TOPS = (10, 20)


def judge_cells(pairs: pd.DataFrame, probes: int) -> pd.DataFrame:
    """How far the estimates of each cell are from what was measured in it.

    Parameters
    ----------
    pairs
        One row a cell and gene that was measured: ``cell``, ``estimate``, ``exact``, ``agreement``
        and ``under_noise_floor``.
    probes
        Random signs behind an estimate of a mean effect; 0 for a number with a sign.

    Returns
    -------
    By cell: ``agreement``, ``measured`` (genes), ``error`` (NaN below five genes), and ``bad``.
    The error is ‖exact − estimate‖ / ‖exact‖ of numbers with a sign, and the root mean square of
    ln(estimate / exact) of mean effects.

    Notes
    -----
    Bad is an error of more than one half, or a factor of two. Squares of m random signs scatter by
    √(2/m) of their mean, which says nothing against a cell: an error of twice that is let pass.
    """
    both = pairs.dropna(subset=["estimate", "exact"])
    if probes:
        both = both[~both["under_noise_floor"] & (both["estimate"] > 0) & (both["exact"] > 0)]
        squared, limit = np.log(both["estimate"] / both["exact"]) ** 2, _MOST_LOG_ERROR
        error = np.sqrt(squared.groupby(both["cell"]).mean())
        limit = max(limit, 2 * np.sqrt(2 / probes))
    else:
        apart = ((both["exact"] - both["estimate"]) ** 2).groupby(both["cell"]).sum()
        whole = (both["exact"] ** 2).groupby(both["cell"]).sum()
        error, limit = np.sqrt(apart / whole.where(whole > 0)), _MOST_ERROR
    measured = both.groupby("cell").size()
    table = pd.DataFrame({"agreement": pairs.groupby("cell")["agreement"].first()})
    table["measured"] = measured.reindex(table.index).fillna(0).astype(int)
    table["error"] = error.where(measured >= _FEWEST_IN_CELL)
    table["bad"] = table["error"] > limit
    return table


def mended(means: pd.DataFrame, pairs: pd.DataFrame) -> pd.DataFrame:
    """Effect of each gene over all cells, from estimates everywhere and exact effects in some.

    Parameters
    ----------
    means
        From :func:`ranklock.claims.screen_choice.gene_means`, with exact effects in the place of
        estimates where a whole cell was measured.
    pairs
        One row a cell and gene that was measured: ``token``, ``estimate``, ``exact``,
        ``under_noise_floor``, ``sampled`` (whether the cell was taken at random) and ``fell_back``
        (whether all of its genes were measured).

    Returns
    -------
    ``means`` with ``effect``, its ``standard_error`` over cells, ``exact`` and ``estimate_there``
    (means over the cells where the gene was measured), ``verified_in`` (their number) and
    ``under_noise_floor`` (share of them).

    Notes
    -----
    The difference estimator of survey sampling: mean estimate over the N cells that are known by
    estimates, plus the mean of exact − estimate over the m of them that were measured, with the
    variance s²/N + s²_difference/m. It has no bias where the m are a random sample, and is the
    mean exact effect where m = N.
    """
    by_token = pairs.groupby("token")
    of_some = pairs[pairs["sampled"] & ~pairs["fell_back"]]
    apart = (of_some["exact"] - of_some["estimate"]).groupby(of_some["token"])
    there = pd.DataFrame(
        {
            "exact": by_token["exact"].mean(),
            "estimate_there": by_token["estimate"].mean(),
            "exact_deviation": by_token["exact"].std(),
            "verified_in": by_token["exact"].count(),
            "under_noise_floor": by_token["under_noise_floor"].mean(),
            "apart": apart.mean(),
            "apart_deviation": apart.std(),
            "apart_number": apart.count(),
        }
    ).reindex(means.index)
    there["verified_in"] = there["verified_in"].fillna(0).astype(int)
    n = means["n_cells"]
    # Where no estimate is to be had, what was measured stands for all cells.
    alone = (there["verified_in"] > 0) & ((there["verified_in"] >= n) | means["estimate"].isna())
    estimated = 1.0 - by_token["fell_back"].sum().reindex(means.index).fillna(0.0) / n
    number = there["apart_number"]
    effect = means["estimate"] + estimated * there["apart"].fillna(0.0)
    of_apart = (there["apart_deviation"] ** 2 / number.where(number > 1)).where(number > 0, 0.0)
    variance = means["deviation"] ** 2 / n + estimated**2 * of_apart
    of_exact = there["exact_deviation"] ** 2 / there["verified_in"].where(there["verified_in"] > 1)
    shown = ("exact", "estimate_there", "verified_in", "under_noise_floor")
    return means.assign(
        effect=effect.mask(alone, there["exact"]),
        standard_error=np.sqrt(variance.mask(alone, of_exact)),
        **{name: there[name] for name in shown},
    )


def missed(
    genes: pd.DataFrame, pairs: pd.DataFrame, verify: int, seed: int
) -> tuple[Estimate, list[Recall]]:
    """What was missed: correlation and recall, with genes that were measured at random.

    Parameters
    ----------
    genes
        From :func:`mended`, with ``chosen`` and ``ranked``, whether enough cells have it.
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
    known = pairs[~pairs["fell_back"]].groupby("token")[["estimate", "exact", "gross"]].mean()
    known = known.assign(chosen=genes["chosen"]).dropna()
    known = known[(known["gross"] > 0) & known["chosen"].isin([LARGEST, RANDOM])]
    measured = (genes["chosen"] != "") | (genes["verified_in"] >= genes["n_cells"])
    rest = genes[genes["ranked"] & ~measured & genes["estimate"].notna() & (genes["gross"] > 0)]
    exact = genes.loc[genes["ranked"] & measured, "effect"].dropna().to_numpy()
    sampled = known[known["chosen"] == RANDOM]
    tops = sorted({top for top in (*_TOPS, verify) if top <= min(verify, len(exact))})
    recalls = [
        recall_of_largest(
            top, exact, _approximated(rest),
            # Without any at random nothing is known of what was not taken.
            _approximated(known if len(sampled) >= FEWEST_CHECKED else sampled),
            known["exact"] if len(sampled) >= FEWEST_CHECKED else sampled["exact"],
            seed,
        )
        for top in tops
    ]  # fmt: skip
    correlation = mean_spearman(sampled["estimate"], sampled["exact"], np.zeros(len(sampled)))
    return correlation, recalls


def _approximated(genes: pd.DataFrame) -> Approximated:
    return Approximated(genes["estimate"].to_numpy(float), genes["gross"].to_numpy(float))


def as_large(genes: pd.DataFrame, verify: int) -> int:
    """How many of the genes measured at random are among the largest of all that were measured.

    Parameters
    ----------
    genes
        As in :func:`missed`.
    verify
        How many are meant by the largest.
    """
    measured = genes[genes["chosen"] != ""]
    largest = measured["effect"].abs().nlargest(verify).index
    return int((measured.loc[largest, "chosen"] == RANDOM).sum())
