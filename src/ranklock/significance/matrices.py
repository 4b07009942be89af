"""Tested pairs of genes as matrices, in AnnData."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pandas as pd

if TYPE_CHECKING:
    from anndata import AnnData

    from ranklock.significance.responders import Responders

_LAYERS = ("specific", "standard_error", "t", "p", "q", "n_cells", "effect", "under_noise_floor")


def anndata_of(responders: Responders) -> AnnData:
    """Pairs as AnnData; obs are named by Ensembl IDs, and by their kind where there are several."""
    from anndata import AnnData

    table, genes = (
        part.astype({"kind": str, "gene_id": str}) for part in (responders.table, responders.genes)
    )
    several = genes["kind"].nunique() > 1
    for part in (table, genes):
        part["perturbation"] = part["gene_id"] + (" " + part["kind"] if several else "")
    rows, columns = (
        pd.Index(sorted(table[name].astype(str).unique()), dtype=object)
        for name in ("perturbation", "responder_id")
    )
    layers: dict[str, npt.NDArray[np.float32]] = {}
    for arm in responders.arms:
        part = table[table["arm"] == arm]
        entries = (
            rows.get_indexer(part["perturbation"]),
            columns.get_indexer(part["responder_id"].astype(str)),
        )
        for name in _LAYERS:
            layer = np.full((len(rows), len(columns)), np.nan, np.float32)
            layer[entries] = part[name]
            layers[f"{arm}_{name}"] = layer
    return AnnData(
        X=np.nan_to_num(layers[f"{responders.first_arm}_t"]),
        obs=_by_arm(genes, "perturbation", "potency", rows, ["gene", "gene_id", "kind"]),
        var=_by_arm(genes, "gene_id", "responsiveness", columns, ["gene"]).rename(
            columns={"gene": "symbol"}
        ),
        layers=layers,
        uns={"manifest": json.dumps(responders.manifest), "X": f"t under {responders.first_arm}"},
    )


def _by_arm(
    genes: pd.DataFrame, key: str, what: str, names: pd.Index, columns: list[str]
) -> pd.DataFrame:
    """One row a name: what is known of it, its mean rank, and a number of each arm."""
    measured = genes[genes[what].notna()]
    plain = measured.drop_duplicates(key).set_index(key, drop=False)[[*columns, "rank"]]
    numbers = measured.pivot_table(what, key, "arm", observed=True).add_prefix(f"{what}_")
    frame = plain.join(numbers).reindex(names)
    frame.index = pd.Index(names, dtype=object, name=None)
    frame.columns.name = None
    return frame
