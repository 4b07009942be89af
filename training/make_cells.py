"""Make the demo's cells from scanpy's copy of them: ``python -m training.make_cells``.

``scanpy.datasets.pbmc68k_reduced()`` holds 700 peripheral blood mononuclear cells × 765 genes of
10x Genomics (Zheng et al., Nature Communications 8, 14049, 2017). Its ``raw`` is the natural
logarithm of one plus counts per 10,000, and ``obs.n_counts`` the counts of the whole cell, so the
counts can be had back: they come out whole but for the three decimals that scanpy keeps.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pandas as pd
import scipy.sparse as sp

from ranklock.demo import cells_file

if TYPE_CHECKING:
    from anndata import AnnData

HELD_OUT = 100
SEED = 0
_NORMALISED_TO = 1e4
# A logarithm rounded to three decimals is off by 5e-4 at most, and so is one plus the count per
# 10,000, relatively; the smallest one here is 2, so the count itself is off by 1e-3 at most.
_ROUNDING = 1e-3


def undo_log_normalisation(logs: sp.csr_matrix, totals: npt.NDArray[np.float64]) -> sp.csr_matrix:
    """Counts from log1p of counts per 10,000.

    Parameters
    ----------
    logs
        Natural logarithm of one plus counts per 10,000, shape (cells, genes).
    totals
        Counts of each whole cell, shape (cells,).

    Returns
    -------
    Whole counts, shape (cells, genes), int32.

    Raises
    ------
    ValueError
        When what comes back is not whole: the values were not what they were taken for.
    """
    counts = logs.astype(np.float64).tocsr()
    counts.data = np.expm1(counts.data) * np.repeat(totals, np.diff(counts.indptr)) / _NORMALISED_TO
    rounded = np.rint(counts.data)
    if not np.allclose(counts.data, rounded, rtol=_ROUNDING, atol=0):
        raise ValueError("the counts that come back are not whole numbers")
    counts.data = rounded.astype(np.int32)
    return counts


def demo_cells() -> AnnData:
    """Counts of the 700 cells, with the split that the demo's model was trained on."""
    import anndata
    import scanpy

    reduced = scanpy.datasets.pbmc68k_reduced()
    totals = reduced.obs["n_counts"].to_numpy(dtype=np.float64)
    counts = undo_log_normalisation(sp.csr_matrix(reduced.raw.X), totals)
    split = np.full(len(totals), "training", dtype=object)
    held_out = np.random.default_rng(SEED).choice(len(totals), size=HELD_OUT, replace=False)
    split[held_out] = "held-out"
    obs = pd.DataFrame(
        {
            "cell_type": reduced.obs["bulk_labels"].astype(str).to_numpy(),
            "n_counts": totals.astype(np.int32),
            "split": split,
        },
        index=reduced.obs_names.astype(str),
    )
    return anndata.AnnData(
        X=counts, obs=obs, var=pd.DataFrame(index=reduced.raw.var_names.astype(str))
    )


if __name__ == "__main__":
    target = cells_file()
    target.parent.mkdir(exist_ok=True)
    demo_cells().write_h5ad(target, compression="gzip")
    print(f"{target}: {target.stat().st_size / 1024:.0f} KiB")
