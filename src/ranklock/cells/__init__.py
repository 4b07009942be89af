"""Counts or tokenised files in, cells out."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from ranklock.cells.cells import Cells
from ranklock.cells.counts import encode_anndata, read_h5ad
from ranklock.cells.encoding import Values
from ranklock.cells.selection import Selection
from ranklock.cells.tokenised import read_dataset, read_parquet
from ranklock.errors import InputError
from ranklock.genes.vocabulary import Vocabulary, read_vocabulary

if TYPE_CHECKING:
    from anndata import AnnData

__all__ = ["Cells", "Selection", "read_cells"]


def read_cells(
    source: str | Path | AnnData,
    vocabulary: Vocabulary | str | Path | None = None,
    *,
    select: Selection | None = None,
    values: Values = "counts",
    counts_layer: str | None = None,
    gene_column: str | None = None,
    progress: bool = False,
) -> Cells:
    """Read cells as rank value encodings.

    Parameters
    ----------
    source
        An ``.h5ad`` file or an AnnData with raw counts, a ``.dataset`` folder of Geneformer's
        tokeniser, or a ``.parquet`` file with a column ``input_ids``.
    vocabulary
        Vocabulary of the checkpoint, or where to read it. Needed to encode counts; without one,
        the tokens of a tokenised file serve as names.
    select
        Which cells; all by default.
    values
        What an ``.h5ad`` holds: raw ``"counts"``, ``"normalised"`` counts, or their ``"log1p"``.
        Anything but whole numbers is refused unless it is named here.
    counts_layer
        Where they stand: ``"X"`` (the default), ``"raw"``, or the name of a layer.
    gene_column
        Column of ``var`` with Ensembl IDs or symbols. By default, of the index and the columns
        that the field uses, the one that maps most genes to the vocabulary.
    progress
        Whether to show progress on stderr while cells are encoded.

    Returns
    -------
    Cells

    Raises
    ------
    InputError
        When the source cannot be read or is not what it is said to be.

    Examples
    --------
    >>> import ranklock
    >>> cells = ranklock.read_cells(ranklock.demo.cells_file(), ranklock.demo.vocabulary_file())
    >>> len(cells)
    700
    """
    if isinstance(vocabulary, str | Path):
        vocabulary = read_vocabulary(vocabulary)
    selection = select or Selection()
    how: dict[str, Any] = {
        "values": values,
        "counts_layer": counts_layer,
        "gene_column": gene_column,
        "progress": progress,
    }
    if not isinstance(source, str | Path):
        return encode_anndata(source, vocabulary, selection, **how)
    path = Path(source)
    if not path.exists():
        raise InputError(f"{path} does not exist.")
    if path.is_dir():
        return read_dataset(path, vocabulary, selection)
    if path.suffix == ".parquet":
        return read_parquet(path, vocabulary, selection)
    if path.suffix == ".h5ad":
        return read_h5ad(path, vocabulary, selection, **how)
    raise InputError(
        f"{path}: cells are read from .h5ad files, .parquet files, or .dataset folders."
    )
