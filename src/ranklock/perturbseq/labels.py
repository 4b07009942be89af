"""What a laboratory screen calls perturbations: a gene, a guide of it, several genes, controls."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

# As screens name cells without a targeting guide; case, spaces, - and _ do not matter, nor does a
# number behind.
_CONTROLS = frozenset(
    {
        "control", "controls", "ctrl", "negctrl", "negcontrol", "negativecontrol", "nontargeting",
        "nontargetingcontrol", "nontarget", "nt", "ntc", "safetargeting", "safeharbor",
        "safeharbour", "aavs", "intergenic", "scramble", "scrambled", "unperturbed", "untreated",
        "wildtype", "wt", "mock", "gal4", "gfp", "egfp", "lacz", "luciferase",
    }
)  # fmt: skip
# What stands between a gene and its guide, or between two genes.
_SEPARATOR = re.compile(r"\s*[_+,;|&:/\s]\s*")
# A guide's number (sgRNA1, g2, pDS263, 10005, 2-1), its promoter (P1P2), strand or sequence.
_GUIDE = re.compile(
    r"(?:(?:sg|sgrna|g|grna|guide|gd|crrna|rep|v|(?-i:p[A-Z]{2,3}))?[-.]?\d+(?:[-.]\d+)*"
    r"|sg|sgrna|grna|guide|(?:p[12])+|[-+]|[acgt]{12,}|enst\d+(?:\.\d+)?)",
    re.IGNORECASE,
)
_GUIDE_NUMBER = re.compile(r"(?<=.)[-.](?:sg|g|guide)?\d+$", re.IGNORECASE)


@dataclass(frozen=True)
class Labels:
    """Perturbations of a screen, by the names that it gives them; the last two are not used."""

    genes: dict[str, str] = field(default_factory=dict)  # label → the one gene it perturbs
    controls: list[str] = field(default_factory=list)
    combinations: list[str] = field(default_factory=list)  # of several genes at once
    unclear: list[str] = field(default_factory=list)  # a gene beside what is not understood


def read_labels(
    labels: Iterable[str], find: Callable[[str], str | None], controls: Sequence[str] = ()
) -> Labels:
    """Tell genes, guides, combinations and controls apart.

    Parameters
    ----------
    labels
        Of the perturbations: ``GENE``, ``GENE_sgRNA1``, ``GENE-2``, ``GENE+ctrl``,
        ``10005_GENE_P1P2_ENSG…``, ``GENE1_GENE2``, ``control``, ``non-targeting_00012``, and such.
    find
        The gene that a name stands for, None where neither run nor screen knows one.
    controls
        Labels of control cells, if those are to be named rather than recognised.

    Notes
    -----
    A label that is a gene's name as a whole is that gene. Otherwise it is taken apart at
    ``_ + , ; | & : /`` and spaces; parts that look like guides or controls fall away. One gene is
    left: it is that gene. Two or more: a combination. One part that nobody knows: a gene by that
    name, which is not in the run. Anything else is unclear; a second part that is not understood
    may be a second gene, so such a label is never taken for its first.
    """
    result = Labels()
    for label in dict.fromkeys(labels):
        if label in controls or (not controls and find(label) is None and _is_control(label)):
            result.controls.append(label)
            continue
        known, strange = _parts(label, find)
        if len(known) > 1:
            result.combinations.append(label)
        elif len(known) == 1 and not strange:
            result.genes[label] = known[0]
        elif not known and len(strange) == 1:
            result.genes[label] = strange[0]
        else:
            result.unclear.append(label)
    return result


def _parts(label: str, find: Callable[[str], str | None]) -> tuple[list[str], list[str]]:
    """Genes of a label, and parts of it that are neither a gene, a guide nor a control."""
    gene = find(label)
    if gene is not None:
        return [gene], []
    known: dict[str, None] = {}
    strange: dict[str, None] = {}
    for part in filter(None, _SEPARATOR.split(label)):
        gene = find(part) or find(_GUIDE_NUMBER.sub("", part))
        if gene is not None:
            known[gene] = None
        elif not (_GUIDE.fullmatch(part) or _is_control(part)):
            strange[part] = None
    return list(known), list(strange)


def _is_control(label: str) -> bool:
    """Whether a label says control, alone or beside the number of a guide."""
    if _says_control(label):
        return True
    parts = list(filter(None, _SEPARATOR.split(label)))
    return any(map(_says_control, parts)) and all(
        _says_control(part) or _GUIDE.fullmatch(part) for part in parts
    )


def _says_control(text: str) -> bool:
    plain = re.sub(r"[\s_.-]", "", text.lower())
    return plain in _CONTROLS or plain.rstrip("0123456789") in _CONTROLS
