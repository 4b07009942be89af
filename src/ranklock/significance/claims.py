"""Claims and their tests: whether means of folds over impostors exceed a size that matters."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import stats

from ranklock.errors import OptionError
from ranklock.statistics.intervals import CONFIDENCE
from ranklock.statistics.minimum import (
    Array,
    Means,
    holm,
    moderated_test,
    rate_in_null,
    signed_rank_tests,
)
from ranklock.statistics.significance import FALSE_DISCOVERIES, false_discovery_rates

MINIMUM = 1.5  # times what impostors do: what is smaller is of no consequence
FEWEST_REPLICATES = 3  # below which nothing is tested: two numbers have no spread to speak of
TESTED = "tested"

# Columns of every table of tests, in order.
OF_TEST = ("fold", "fold_low", "fold_high", "p", "q", "null_rate", "finding", "q_smaller",
           "n_cells", "n_replicates", "status")  # fmt: skip


@dataclass(frozen=True)
class Rule:
    """When a claim is a finding.

    Attributes
    ----------
    minimum
        How many times as large as impostors' an effect must be, at least 1.
    min_cells
        Cells without which a claim is not tested.
    exact
        Whether tests are exact signed-rank tests with Holm's correction, and not moderated t tests
        with false-discovery rates.
    donor
        Column that names donors, which then are the replicates; None where cells are.
    """

    minimum: float = MINIMUM
    min_cells: int = 5
    exact: bool = False
    donor: str | None = None

    def __post_init__(self) -> None:
        if not 1.0 <= self.minimum < np.inf:
            raise OptionError(
                f"--minimum {self.minimum:g} is no size: findings are at least as large as what "
                "impostors do, 1.5 times say."
            )
        if self.min_cells < 1:
            raise OptionError(
                f"min_cells is {self.min_cells}; what is tested is in one cell at least."
            )

    @property
    def replicate(self) -> str:
        """What is counted."""
        return "cells" if self.donor is None else "donors"

    @property
    def fewest(self) -> int:
        """Replicates without which a claim is not tested."""
        return max(FEWEST_REPLICATES, self.min_cells if self.donor is None else 0)


@dataclass(frozen=True, eq=False)
class Claims:
    """Means of folds over replicates, of one family that is corrected for together.

    Attributes
    ----------
    means
        Of the folds: log10 of a distance over impostors', or, of shifts that have a sign, root mean
        squares of impostors'; shape (claims,).
    cells
        In which each was measured.
    signed
        Whether they have a sign.
    values
        The replicates' own, shape (replicates, claims), where exact tests are asked for.
    """

    means: Means
    cells: npt.NDArray[np.int64]
    signed: bool
    values: Array | None = None

    def threshold(self, minimum: float) -> float:
        """The minimum on the scale of the means."""
        return minimum if self.signed else float(np.log10(minimum))


def claims_tested(claims: Claims, rule: Rule, null: pd.DataFrame | None = None) -> pd.DataFrame:
    """Test claims, beside what the null model makes of the same.

    Parameters
    ----------
    claims
        The claims of one family.
    rule
        When one is a finding.
    null
        Tests of the null model's claims, from this function; None without it.

    Returns
    -------
    Columns of :data:`OF_TEST`, a row a claim. ``fold``, with its interval: times what impostors do
    (signed: in the direction of the sign). ``p``: that it is no more than the minimum; ``q``:
    false-discovery rate, or Holm's p of exact tests; ``null_rate``: estimated false-discovery rate
    by the null model, NaN without one. A ``finding`` passes both at 5 %. ``q_smaller``: that it is
    more than the minimum *below* impostors, a question of its own. ``status``: ``tested``, or why
    not.
    """
    means, threshold = claims.means, claims.threshold(rule.minimum)
    enough = claims.cells >= rule.min_cells
    masked = Means(np.where(enough, means.mean, np.nan), means.variance, means.replicates)
    fewest = needed_replicates(rule, _family(claims))
    tested = moderated_test(masked, threshold, fewest, signed=claims.signed)
    p, p_smaller = tested.p, tested.p_smaller
    if rule.exact:
        p, p_smaller = _exact(claims, threshold, fewest, enough)
    correct = holm if rule.exact else false_discovery_rates
    q = correct(p)
    rates = np.full(len(p), np.nan)
    if null is not None:
        # Where the null model has findings of its own, one more is counted, as knockoffs do it
        # (Barber and Candès, Annals of Statistics 43, 2055, 2015): a handful of claims would slip
        # in between its few by chance.
        beyond = int(null["finding"].any())
        rates = rate_in_null(p, null["p"].to_numpy(np.float64), beyond=beyond)
    passes = (q <= FALSE_DISCOVERIES) & ~(rates > FALSE_DISCOVERIES)
    half = stats.t.ppf(0.5 + CONFIDENCE / 2, tested.degrees) * tested.standard_error
    fold = np.stack([means.mean, means.mean - half, means.mean + half])
    if not claims.signed:
        fold = 10.0**fold
    return pd.DataFrame(
        {
            "fold": fold[0],
            "fold_low": fold[1],
            "fold_high": fold[2],
            "p": p,
            "q": q,
            "null_rate": rates,
            "finding": passes,
            "q_smaller": correct(p_smaller),
            "n_cells": claims.cells,
            "n_replicates": means.replicates,
            "status": _status(claims, rule),
        }
    )[list(OF_TEST)]


def _exact(
    claims: Claims, threshold: float, fewest: int, enough: npt.NDArray[np.bool_]
) -> tuple[Array, Array]:
    if claims.values is None:
        raise ValueError("Exact tests are of the replicates' own values, which are not here.")
    values = np.where(enough, claims.values, np.nan)
    p = signed_rank_tests(values, threshold, fewest, signed=claims.signed)
    if claims.signed:
        return p, np.full_like(p, np.nan)
    return p, signed_rank_tests(-values, threshold, fewest)


def _status(claims: Claims, rule: Rule) -> npt.NDArray[np.object_]:
    """Whether each claim was tested, and why not."""
    status = status_of(claims.cells, claims.means.replicates, rule, _family(claims))
    unknown = (status == TESTED) & ~np.isfinite(claims.means.mean)
    status[unknown] = "not tested: it does not respond"
    return status


def _family(claims: Claims) -> int:
    """How many claims are measured at all."""
    return int((claims.means.replicates > 0).sum())


def status_of(
    cells: npt.NDArray[np.int64], replicates: npt.NDArray[np.int64], rule: Rule, family: int
) -> npt.NDArray[np.object_]:
    """Whether something in so many cells and replicates is tested, or what it lacks.

    Parameters
    ----------
    cells, replicates
        In how many each was measured, shape (claims,).
    rule
        How many are needed.
    family
        How many claims are tested together.
    """
    status = np.full(len(cells), TESTED, object)
    needed = needed_replicates(rule, family)
    few_cells = cells < rule.min_cells
    for numbers, few, least, nouns in (
        (cells, few_cells, rule.min_cells, "cells"),
        (replicates, ~few_cells & (replicates < needed), needed, rule.replicate),
    ):
        for number in np.unique(numbers[few]):
            at = few & (numbers == number)
            noun = nouns[:-1] if number == 1 else nouns
            status[at] = f"not tested: {number} {noun}, {least} needed"
    return status


def needed_replicates(rule: Rule, family: int) -> int:
    """Replicates without which nothing in a family can be found.

    Parameters
    ----------
    rule
        How is tested: a signed-rank test of n replicates has no p below 2⁻ⁿ, which Holm's
        correction multiplies by the number of claims; a moderated t has no such bound.
    family
        How many claims are tested together.
    """
    if not rule.exact:
        return rule.fewest
    bound = int(np.ceil(np.log2(max(family, 1) / FALSE_DISCOVERIES)))
    return max(rule.fewest, bound)
