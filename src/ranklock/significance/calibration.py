"""Whether p-values are what they say: how the same tests come out with swapped perturbations."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import stats

from ranklock.statistics.significance import FALSE_DISCOVERIES, false_discovery_rates

Array = npt.NDArray[np.float64]
_BINS = 20  # of p-values


def calibration_of(tests: pd.DataFrame, swapped: Array) -> dict[str, Any]:
    """How many tests find something, and how many do with perturbations swapped.

    Parameters
    ----------
    tests
        The columns ``p`` and ``q``, NaN where nothing was tested.
    swapped
        p-values of the same tests with each perturbation swapped for a rank-matched one.

    Returns
    -------
    Pairs or genes ``tested``; ``found`` (q ≤ 0.05), be it more or less than expected;
    ``p_below_5_percent``; and of the swapped ``swapped_found``, ``swapped_p_below_5_percent`` and
    Kolmogorov and Smirnov's ``swapped_distance_from_uniform``.
    """
    known, null = tests["p"].dropna().to_numpy(np.float64), swapped[np.isfinite(swapped)]
    return {
        "tested": len(known),
        "found": int((tests["q"] <= FALSE_DISCOVERIES).sum()),
        "p_below_5_percent": _share_below(known),
        "swapped_p_below_5_percent": _share_below(null),
        "swapped_distance_from_uniform": float(stats.kstest(null, "uniform").statistic)
        if len(null) else np.nan,
        "swapped_found": int((false_discovery_rates(null) <= FALSE_DISCOVERIES).sum()),
    }  # fmt: skip


def histogram_of(p: Array, swapped: Array) -> pd.DataFrame:
    """Counts of p-values in bins: columns ``bin`` (lower edge), ``real``, ``swapped``."""
    edges = np.linspace(0, 1, _BINS + 1)
    real, null = (np.histogram(values[np.isfinite(values)], edges)[0] for values in (p, swapped))
    return pd.DataFrame({"bin": edges[:-1], "real": real, "swapped": null})


def _share_below(p: Array) -> float:
    return float((p <= 0.05).mean()) if len(p) else np.nan
