"""Gene ↔ token ↔ symbol, medians and special tokens.

Ensembl IDs inside, HGNC symbols for people, tokens only at the model's door.
"""

from __future__ import annotations

import hashlib
import json
import math
import reprlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ranklock.errors import InputError
from ranklock.genes.names import SPECIAL_NAMES, Spellings, require, without_version
from ranklock.genes.safe_pickle import read_pickled_dictionary

PAD, MASK, CLS, EOS = SPECIAL_NAMES
# As every dictionary that Geneformer has published holds them; <cls> and <eos> since V2.
PAD_TOKEN, MASK_TOKEN, CLS_TOKEN, EOS_TOKEN = range(4)

_JSON_FORMAT = "ranklock-vocabulary"
_JSON_VERSION = 1

# Names under which Geneformer has published each dictionary: without a suffix, then gc30M (V1),
# gc95M and gc104M (V2).
_SUFFIXES = ("", "_gc30M", "_gc95M", "_gc104M")
_MEDIANS, _SYMBOLS, _MAPPING = (
    "gene_median_dictionary",
    "gene_name_id_dict",
    "ensembl_mapping_dict",
)


@dataclass(frozen=True, eq=False, repr=False)
class Vocabulary:
    """The genes that a checkpoint knows.

    Attributes
    ----------
    tokens
        Gene (Ensembl ID) → token. Special tokens are not in it.
    special
        Special token's name (``<pad>``, ``<mask>``, ``<cls>``, ``<eos>``) → token; those that the
        vocabulary has.
    medians
        Gene → non-zero median of its expression over the pretraining corpus, in counts per 10,000.
        Empty where it is not known; cells can then not be encoded from counts.
    symbols
        HGNC symbol → gene. May name genes that the checkpoint does not know.
    canonical
        Other Ensembl IDs → the gene they stand for (Geneformer's ``ensembl_mapping_dict``).
    source
        Where it was read from.
    stand_in
        Whether tokens serve as names because no vocabulary was given; it then says nothing of
        which checkpoint it belongs to.
    """

    tokens: Mapping[str, int]
    special: Mapping[str, int]
    medians: Mapping[str, float] = field(default_factory=dict)
    symbols: Mapping[str, str] = field(default_factory=dict)
    canonical: Mapping[str, str] = field(default_factory=dict)
    source: str = "memory"
    stand_in: bool = False

    def __post_init__(self) -> None:
        taken = [*self.tokens.values(), *self.special.values()]
        if len(set(taken)) != len(taken):
            raise InputError(f"{self.source}: two genes share one token; the vocabulary is broken.")
        if not self.tokens:
            raise InputError(f"{self.source} holds no gene.")
        if min(taken) < 0:
            raise InputError(f"{self.source} holds a negative token; the vocabulary is broken.")
        bad = [gene for gene, value in self.medians.items() if not (0 < value < np.inf)]
        if bad:
            raise InputError(
                f"{self.source}: the median of {bad[0]} is {self.medians[bad[0]]}, and "
                f"{len(bad)} in all are not positive numbers; use the published dictionary."
            )

    @cached_property
    def sha256(self) -> str:
        """Digest of the content (tokens, special tokens, medians), whatever file held it."""
        content = [sorted(self.tokens.items()), sorted(self.special.items())]
        medians = [(gene, float(value).hex()) for gene, value in sorted(self.medians.items())]
        return hashlib.sha256(json.dumps([*content, medians]).encode()).hexdigest()

    @cached_property
    def genes(self) -> Mapping[int, str]:
        """Token → gene (Ensembl ID)."""
        return {token: gene for gene, token in self.tokens.items()}

    @cached_property
    def largest_token(self) -> int:
        """The largest token, special tokens included."""
        return max([*self.tokens.values(), *self.special.values()])

    @cached_property
    def known(self) -> npt.NDArray[np.bool_]:
        """Whether each token, from 0 to the largest, is a gene."""
        known = np.zeros(self.largest_token + 1, dtype=bool)
        known[list(self.tokens.values())] = True
        return known

    @cached_property
    def median_of_token(self) -> npt.NDArray[np.float64]:
        """Median of each token's gene, from 0 to the largest; NaN where there is none."""
        medians = np.full(self.largest_token + 1, np.nan)
        for gene, median in self.medians.items():
            if gene in self.tokens:
                medians[self.tokens[gene]] = median
        return medians

    @cached_property
    def symbol_of_gene(self) -> Mapping[str, str]:
        """Gene → symbol. A gene with several symbols gets the first in alphabetical order."""
        symbol_of: dict[str, str] = {}
        for symbol in sorted(self.symbols):
            symbol_of.setdefault(self.symbols[symbol], symbol)
        return symbol_of

    def gene(self, token: int) -> str:
        """Gene (Ensembl ID) of a token."""
        return self.genes[token]

    def symbol(self, token: int) -> str:
        """Name of a token for people: its symbol where one is known, else its Ensembl ID."""
        gene = self.genes[token]
        return self.symbol_of_gene.get(gene, gene)

    @cached_property
    def spellings(self) -> Spellings:
        """Names of genes in any case, those of genes without a token among them."""
        return Spellings.of(self.tokens, self.symbols, self.canonical)

    def find(self, name: str) -> str | None:
        """Gene that a name in a file stands for, in exactly this case.

        Parameters
        ----------
        name
            An Ensembl ID (a version suffix such as ``.12`` is ignored), another ID that
            Geneformer maps to one, or an HGNC symbol.

        Returns
        -------
        The gene, or None when this vocabulary has no token for it.
        """
        plain = without_version(name)
        for gene in (plain, self.canonical.get(plain), self.symbols.get(plain)):
            if gene is not None and gene in self.tokens:
                return gene
        return None

    def __repr__(self) -> str:
        special = ", ".join(self.special)
        return f"Vocabulary: {len(self.tokens)} genes and {special}, from {self.source}"

    def token(self, name: str | int) -> int:
        """Token of a gene named by a person; of several, :func:`ranklock.genes.names.require`.

        Parameters
        ----------
        name
            A symbol or an Ensembl ID, in any case, or a token.

        Raises
        ------
        InputError
            When the vocabulary has no such gene; the message offers the nearest names.
        """
        return require([name], self)[0]


def token_vocabulary(largest_token: int, *, special_frame: bool) -> Vocabulary:
    """Vocabulary in which tokens serve as names, for cells that come without one.

    Parameters
    ----------
    largest_token
        Largest token in the cells.
    special_frame
        Whether the cells stand between ``<cls>`` and ``<eos>``.
    """
    special = {PAD: PAD_TOKEN, MASK: MASK_TOKEN}
    special |= {CLS: CLS_TOKEN, EOS: EOS_TOKEN} if special_frame else {}
    first_gene = len(special)
    tokens = {str(token): token for token in range(first_gene, max(largest_token, first_gene) + 1)}
    return Vocabulary(tokens, special, source="tokens serving as names", stand_in=True)


def read_vocabulary(path: str | Path) -> Vocabulary:
    """Read a vocabulary.

    Parameters
    ----------
    path
        A folder with Geneformer's dictionary files under any of their published names (V1 or V2),
        the token dictionary itself (its companions are looked for beside it), or Ranklock's own
        JSON (a file, or a folder with a ``vocabulary.json``).

    Returns
    -------
    Vocabulary

    Raises
    ------
    InputError
        When nothing readable is there, or two vocabularies are.
    """
    path = Path(path)
    if path.is_dir():
        if (path / "vocabulary.json").is_file():
            return _read_json(path / "vocabulary.json")
        return _read_geneformer(_token_dictionary_in(path))
    if not path.is_file():
        raise InputError(f"{path} does not exist; name a folder with a token dictionary in it.")
    return _read_json(path) if path.suffix == ".json" else _read_geneformer(path)


def write_vocabulary(vocabulary: Vocabulary, path: str | Path) -> None:
    """Write a vocabulary as Ranklock's own JSON: one record a gene, in order of tokens."""
    records = []
    for token, gene in sorted(vocabulary.genes.items()):
        record: dict[str, Any] = {"gene": gene, "token": token}
        if gene in vocabulary.symbol_of_gene:
            record["symbol"] = vocabulary.symbol_of_gene[gene]
        if gene in vocabulary.medians:
            record["median"] = vocabulary.medians[gene]
        records.append(json.dumps(record))
    written = {vocabulary.symbol_of_gene.get(gene) for gene in vocabulary.tokens}
    head: dict[str, Any] = {
        "format": _JSON_FORMAT,
        "version": _JSON_VERSION,
        "special": dict(vocabulary.special),
        "other_symbols": {s: g for s, g in vocabulary.symbols.items() if s not in written},
        "canonical": dict(vocabulary.canonical),
    }
    body = ",\n  ".join(records)
    text = f'{json.dumps(head)[:-1]},\n "genes": [\n  {body}\n ]}}\n'
    Path(path).write_text(text, encoding="utf-8")


def _token_dictionary_in(folder: Path) -> Path:
    files = [
        candidate
        for suffix in _SUFFIXES
        if (candidate := folder / f"token_dictionary{suffix}.pkl").is_file()
    ] or sorted(folder.glob("token_dictionary*.pkl"))
    if not files:
        raise InputError(
            f"{folder} holds neither a token_dictionary*.pkl (Geneformer) nor a vocabulary.json "
            "(Ranklock); name the folder that does."
        )
    if len(files) > 1:
        names = ", ".join(file.name for file in files)
        raise InputError(f"{folder} holds several vocabularies ({names}); name the file you mean.")
    return files[0]


def _read_geneformer(token_file: Path) -> Vocabulary:
    suffix = token_file.stem.removeprefix("token_dictionary")

    def companion(name: str) -> dict[str, Any]:
        file = token_file.with_name(f"{name}{suffix}.pkl")
        return read_pickled_dictionary(file) if file.is_file() else {}

    entries = _numbers(read_pickled_dictionary(token_file), int, token_file)
    return Vocabulary(
        tokens={gene: token for gene, token in entries.items() if gene not in SPECIAL_NAMES},
        special={name: entries[name] for name in SPECIAL_NAMES if name in entries},
        medians=_numbers(companion(_MEDIANS), float, token_file),
        symbols=_texts(companion(_SYMBOLS), token_file),
        canonical=_texts(companion(_MAPPING), token_file),
        source=str(token_file),
    )


def _numbers(entries: Mapping[str, Any], kind: type, source: Path) -> dict[str, Any]:
    for name, value in entries.items():
        plain = isinstance(value, int | float) and not isinstance(value, bool)
        if not plain or not math.isfinite(value) or kind(value) != value:
            raise InputError(
                f"{source}: the entry of {reprlib.repr(name)} is {reprlib.repr(value)}, not a "
                f"{'whole ' if kind is int else ''}number. Is it the right file?"
            )
    return {name: kind(value) for name, value in entries.items()}


def _texts(entries: Mapping[str, Any], source: Path) -> dict[str, str]:
    for name, value in entries.items():
        if not isinstance(value, str):
            raise InputError(
                f"{source}: the entry of {reprlib.repr(name)} is {reprlib.repr(value)}, not a "
                "gene's ID."
            )
    return dict(entries)


def _read_json(path: Path) -> Vocabulary:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if content["format"] != _JSON_FORMAT or content["version"] != _JSON_VERSION:
            raise InputError(
                f"{path} is {content['format']} {content['version']}, not {_JSON_FORMAT} "
                f"{_JSON_VERSION}; upgrade Ranklock, or write the vocabulary again."
            )
        genes = content["genes"]
        tokens = {record["gene"]: record["token"] for record in genes}
        if len(tokens) < len(genes):
            raise InputError(f"{path} names a gene twice; the vocabulary is broken.")
        medians = {r["gene"]: r["median"] for r in genes if "median" in r}
        symbols = {r["symbol"]: r["gene"] for r in genes if "symbol" in r}
        return Vocabulary(
            tokens=_numbers(tokens, int, path),
            special=_numbers(content["special"], int, path),
            medians=_numbers(medians, float, path),
            symbols=symbols | _texts(content.get("other_symbols", {}), path),
            canonical=_texts(content.get("canonical", {}), path),
            source=str(path),
        )
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}.") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{path} is not a Ranklock vocabulary ({error!r}).") from error


def gene_arrays(
    vocabulary: Vocabulary, genes: Iterable[str]
) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.float64]]:
    """Tokens and medians of genes, as arrays in the order given.

    Raises
    ------
    InputError
        When the vocabulary has no medians; genes without one get NaN.
    """
    if not vocabulary.medians:
        raise InputError(
            f"{vocabulary.source} has no medians beside it, and cells cannot be encoded from "
            "counts without them; put gene_median_dictionary*.pkl into the same folder."
        )
    genes = list(genes)
    tokens = np.array([vocabulary.tokens[gene] for gene in genes], dtype=np.int32)
    medians = np.array([vocabulary.medians.get(gene, np.nan) for gene in genes], dtype=np.float64)
    return tokens, medians
