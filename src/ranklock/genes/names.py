"""Names of genes → tokens: the one place where what people write is looked up.

A name is a symbol or an Ensembl ID (in any case, with or without a version), another ID that stands
for one, or a token as a number. What is written in exactly the vocabulary's case goes first.
"""

from __future__ import annotations

import csv
import difflib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from ranklock.errors import InputError, OptionError

if TYPE_CHECKING:
    from ranklock.genes.vocabulary import Vocabulary

# Why a name stands for no gene that can be perturbed or read.
UNKNOWN = "unknown"
NO_TOKEN = "not in the vocabulary"
SPECIAL = "special token"
AMBIGUOUS = "ambiguous"

SPECIAL_NAMES = ("<pad>", "<mask>", "<cls>", "<eos>")

# Headings of the columns in which tables keep genes, most specific first; without what stands
# between their words.
GENE_HEADINGS = (
    "ensemblid", "ensemblgeneid", "ensembl", "genestableid", "geneid", "geneids", "featureid",
    "genesymbol", "genesymbols", "hgncsymbol", "symbol", "symbols", "genename", "genenames",
    "featurename", "gene", "genes", "name", "token",
)  # fmt: skip

_ENSEMBL_ID = re.compile(r"ENS\w*\d", re.IGNORECASE)
_VERSION = re.compile(r"^(ENS\w+)\.\d+$", re.IGNORECASE)
_MISSING = frozenset({"", "na", "nan", "n/a", "none", "null"})  # as R, pandas and people write it
_DELIMITERS = {".csv": ",;", ".tsv": "\t", ".tab": "\t"}
_MOSTLY = 0.5  # share of a column's values that are genes, where it holds genes
_MOST_OFFERS = 100  # names of one list that get nearest names; each takes 0.03 s


def without_version(name: str) -> str:
    """Name of a gene; an Ensembl ID without its version."""
    return _VERSION.sub(r"\1", name)


@dataclass(frozen=True)
class Unusable:
    """A name that stands for no gene of a vocabulary.

    Attributes
    ----------
    name
        As it was given.
    reason
        ``"unknown"``, ``"not in the vocabulary"`` (a gene without a token), ``"special token"``, or
        ``"ambiguous"`` (several genes answer to it in other cases).
    nearest
        Names that may have been meant.
    gene_id
        The gene, where it is known.
    """

    name: str
    reason: str
    nearest: tuple[str, ...] = ()
    gene_id: str = ""

    def described(self) -> str:
        """Name, and in brackets the gene, the reason and the nearest names."""
        nearest = f"; nearest: {', '.join(self.nearest)}" if self.nearest else ""
        return f"{self.name!r} ({self.gene_id}{', ' * bool(self.gene_id)}{self.reason}{nearest})"


@dataclass(frozen=True)
class Resolved:
    """What some names stand for.

    Attributes
    ----------
    tokens
        Tokens of the genes, each once, in the order in which they were first named.
    unusable
        Names that stand for no gene, each once.
    """

    tokens: tuple[int, ...]
    unusable: tuple[Unusable, ...]


@dataclass(frozen=True)
class GeneLeftOut:
    """A gene, or a name of none, that a run was asked for and that it leaves out of some cells.

    Attributes
    ----------
    name
        Name for people; as it was given where it stands for no gene.
    gene_id
        Ensembl ID, where it is known.
    reason
        That of :class:`Unusable`, or what :mod:`ranklock.run.gene_choice` found in the cells.
    nearest
        Names that may have been meant.
    cells
        Number of cells.
    cells_with_it
        Cells that have the gene at a rank that the model sees.
    """

    name: str
    gene_id: str
    reason: str
    nearest: tuple[str, ...]
    cells: int
    cells_with_it: int


@dataclass(frozen=True, eq=False)
class Spellings:
    """Names of genes, by what they are when case is ignored.

    Attributes
    ----------
    genes
        Name without its case → the names that are spelt so → their genes.
    offered
        Names that are offered for unknown ones; no Ensembl IDs, which all resemble each other.
    """

    genes: Mapping[str, Mapping[str, str]]
    offered: tuple[str, ...]

    @classmethod
    def of(
        cls, tokens: Iterable[str], symbols: Mapping[str, str], canonical: Mapping[str, str]
    ) -> Spellings:
        """Index genes that have tokens, symbols → genes, and other IDs → genes."""
        genes = {gene: gene for gene in (*tokens, *symbols.values())}
        spellings: dict[str, dict[str, str]] = {}
        for name, gene in {**genes, **canonical, **symbols}.items():
            spellings.setdefault(name.casefold(), {})[name] = gene
        known = set(tokens)
        names = dict.fromkeys((*known, *(s for s, gene in symbols.items() if gene in known)))
        return cls(spellings, tuple(sorted(n for n in names if not _ENSEMBL_ID.match(n))))

    @cached_property
    def _capitals(self) -> Mapping[str, str]:
        return {name.upper(): name for name in self.offered}

    def nearest(self, name: str) -> tuple[str, ...]:
        """At most three names that may have been meant; none for an Ensembl ID."""
        if _ENSEMBL_ID.match(name):
            return ()
        matches = difflib.get_close_matches(name.upper(), self._capitals, n=3, cutoff=0.6)
        return tuple(self._capitals[match] for match in matches)


def resolve(names: Iterable[str | int], vocabulary: Vocabulary) -> Resolved:
    """Tokens of genes that people name, and the names that stand for none.

    Parameters
    ----------
    names
        Symbols and Ensembl IDs in any case, with or without a version, or tokens.
    vocabulary
        The genes there are.

    Raises
    ------
    OptionError
        When the names are one text and no list.
    """
    if isinstance(names, str):
        raise OptionError(f"genes is a list; write genes=[{names!r}].")
    tokens: dict[int, None] = {}
    unusable: dict[str, Unusable] = {}
    for name in dict.fromkeys(str(name).strip() for name in names):
        gene = _look_up(name, vocabulary, offer=len(unusable) < _MOST_OFFERS)
        if isinstance(gene, Unusable):
            unusable[name] = gene
        else:
            tokens[gene] = None
    return Resolved(tuple(tokens), tuple(unusable.values()))


def require(names: Iterable[str | int], vocabulary: Vocabulary) -> tuple[int, ...]:
    """Tokens of genes that must all be in the vocabulary, each once, in the order named.

    Raises
    ------
    InputError
        When some are not; it names all of them.
    """
    resolved = resolve(names, vocabulary)
    if resolved.unusable:
        raise InputError(said_of(resolved.unusable, vocabulary))
    return resolved.tokens


def said_of(unusable: Sequence[Unusable], vocabulary: Vocabulary) -> str:
    """Say in one sentence which names cannot be used, all of them, and why."""
    names = ", ".join(name.described() for name in unusable)
    advice = (
        " Without a vocabulary genes have no names but their tokens; name one (--vocabulary)."
        if vocabulary.stand_in
        else ""
    )
    return f"{vocabulary.source} has no gene for {len(unusable)} of the names: {names}.{advice}"


def _look_up(name: str, vocabulary: Vocabulary, *, offer: bool) -> int | Unusable:
    """Token of a gene, or why there is none."""
    gene = vocabulary.find(name)
    if gene is not None:
        return vocabulary.tokens[gene]
    if name.isdecimal():
        token = int(name)
        if token in vocabulary.genes:
            return token
        return Unusable(name, SPECIAL if token in vocabulary.special.values() else UNKNOWN)
    if name.casefold() in SPECIAL_NAMES:
        return Unusable(name, SPECIAL)
    spellings = vocabulary.spellings.genes.get(without_version(name).casefold(), {})
    genes = {spellings[name]} if name in spellings else set(spellings.values())
    if len(genes) > 1:
        return Unusable(name, AMBIGUOUS, tuple(spellings))
    if not genes:
        return Unusable(name, UNKNOWN, vocabulary.spellings.nearest(name) if offer else ())
    gene = genes.pop()
    if gene in vocabulary.tokens:
        return vocabulary.tokens[gene]
    return Unusable(name, NO_TOKEN, gene_id=gene)


def read_gene_list(
    path: str | Path, column: str | None = None, vocabulary: Vocabulary | None = None
) -> list[str]:
    """Read names of genes from a file.

    Parameters
    ----------
    path
        Text with one name a line (what follows ``#`` is a comment), or a table with commas,
        semicolons or tabs, with or without headings.
    column
        Heading of the column. By default, the one whose values mostly are genes of the vocabulary;
        without a vocabulary, or where none is so, the one with the most specific of the usual
        headings.
    vocabulary
        The genes there are.

    Returns
    -------
    The names as they stand in the file, in its order; missing ones (``NA``) are left out.

    Raises
    ------
    InputError
        When the file cannot be read, names no gene, or has several columns and none that is known
        to hold genes.
    """
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path} cannot be read as a list of genes ({error}).") from error
    lines = [line for line in text.splitlines() if line.strip() and line.lstrip()[0] != "#"]
    if not lines:
        raise InputError(f"{path} names no gene; write one a line.")
    delimiter = _delimiter(Path(path).suffix.lower(), lines)
    try:
        rows = [[line.split("#")[0]] for line in lines] if delimiter is None else [
            *csv.reader(lines, delimiter=delimiter)
        ]  # fmt: skip
    except csv.Error as error:
        raise InputError(f"{path} cannot be read as a table of genes ({error}).") from error
    width = max(map(len, rows))
    table = [[value.strip() for value in row] + [""] * (width - len(row)) for row in rows]
    names = _names_of_table(table, column, vocabulary, str(path))
    genes = [name for name in names if name.casefold() not in _MISSING]
    if not genes:
        raise InputError(f"{path} names no gene; write one a line.")
    return genes


def _delimiter(suffix: str, lines: Sequence[str]) -> str | None:
    """What stands between the columns of a table; None for one name a line."""
    likely = _DELIMITERS.get(suffix, "\t,;")
    heading = lines[0].split("#")[0] if suffix not in _DELIMITERS else lines[0]
    return max(likely, key=heading.count) if any(mark in heading for mark in likely) else None


def _names_of_table(
    rows: Sequence[Sequence[str]], asked: str | None, vocabulary: Vocabulary | None, source: str
) -> list[str]:
    """Values of the column that holds genes, without its heading."""
    headings, columns = rows[0], [*zip(*rows, strict=True)]
    if asked is not None:
        if asked not in headings:
            raise InputError(
                f"{source} has no column {asked!r}; its first line holds {', '.join(headings)}."
            )
        return [*columns[headings.index(asked)][1:]]
    places = [_place(heading) for heading in headings]
    shares = [_share_of_genes(values, vocabulary) for values in columns]
    best = max(range(len(columns)), key=lambda i: (shares[i], -places[i]))
    if shares[best] < _MOSTLY:  # then go by the headings
        best = min(range(len(columns)), key=places.__getitem__)
    headed = min(places) < len(GENE_HEADINGS)
    if headed or len(columns) == 1:
        return [*columns[best][headed:]]
    if _share_of_genes([headings[best]], vocabulary) or len(rows) == 1:  # names, several a line
        free = [i for i, share in enumerate(shares) if share >= _MOSTLY] or range(len(columns))
        return [row[i] for row in rows for i in free]
    if shares[best] < _MOSTLY:
        raise InputError(
            f"{source}: no column is known to hold genes; name one (--genes-column). Its first "
            f"line holds {', '.join(headings)}."
        )
    return [*columns[best][1:]]


def _place(heading: str) -> int:
    """Place of a heading among the usual ones; their number where it is none of them."""
    heading = re.sub(r"[\W_]", "", heading.casefold())
    return GENE_HEADINGS.index(heading) if heading in GENE_HEADINGS else len(GENE_HEADINGS)


def _share_of_genes(values: Iterable[str], vocabulary: Vocabulary | None) -> float:
    """Share of a column's values that are genes. Numbers are not counted: they may be any."""
    names = {value for value in values if value.casefold() not in _MISSING}
    if vocabulary is None or not names:
        return 0.0
    tokens = [_look_up(n, vocabulary, offer=False) for n in names if not n.isdecimal()]
    return sum(isinstance(token, int) for token in tokens) / len(names)
