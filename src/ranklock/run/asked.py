"""What a run was asked: the same for the command line, for Python and for the manifest."""

from __future__ import annotations

from dataclasses import dataclass

from ranklock.errors import OptionError
from ranklock.kinds import find_kinds
from ranklock.models.precision import AUTO, PRECISIONS
from ranklock.run.fields import CELL, GENES, READS

ALL = "all"

# Why a run's tasks were chosen, where a user did not.
AUDIT, ESTIMATE, NULL_MODEL = "audit", "estimate", "null model"


@dataclass(frozen=True)
class Asked:
    """The experiment: perturbations × arms × readouts.

    Attributes
    ----------
    genes
        Genes that are perturbed, by symbol, Ensembl ID or token; empty for all of each cell.
    do
        Kinds of perturbation; see :func:`ranklock.kinds.find_kind`.
    arms
        Names of arms; empty for the usual ones of each kind.
    read
        Of ``genes`` (effects on responders), ``cell`` (shifts of the cell embedding) and ``logits``
        (of a classifier), what is read.
    together
        Whether the genes are perturbed as one set, in the order named.
    responders
        Genes whose effects are stored; empty for all.
    impostors
        Beside each perturbed gene, so many genes that the cell lacks are perturbed in its place.
    null_model
        Whether all of it is done to the checkpoint with permuted weights as well.
    insert
        Whether moves put genes into cells that lack them.
    layer
        Layer that is read, as Geneformer's ``emb_layer``: 0 the last, -1 the second to last.
    precision
        Number format of the products with displacements, or ``auto``.
    accuracy
        Error that is allowed, as a part of an effect: of the median, and a fifth of what is allowed
        of the 95th percentile.
    donor
        Column of the cells' metadata that names donors: the replicates of later tests.
    min_cells
        Genes that fewer cells have are left out.
    strict
        Whether a gene that cannot be perturbed is an error.
    seed
        Of what is drawn at random.
    count_noise
        Whether cells are thinned too, to see how far that moves what is read of them.
    purpose
        Why it is done: ``audit``, ``estimate``, ``null model``; empty where a user asked for it.
    """

    genes: tuple[str, ...] = ()
    do: tuple[str, ...] = ("knock-out",)
    arms: tuple[str, ...] = ()
    read: tuple[str, ...] = (GENES, CELL)
    together: bool = False
    responders: tuple[str, ...] = ()
    impostors: int = 0
    null_model: bool = False
    insert: bool = False
    layer: int = -1
    precision: str = AUTO
    accuracy: float = 0.01
    donor: str | None = None
    min_cells: int = 1
    strict: bool = False
    seed: int = 0
    count_noise: bool = False
    purpose: str = ""

    def __post_init__(self) -> None:
        kinds = find_kinds(self.do)
        for name in self.read:
            if name not in READS:
                raise OptionError(f"--read {name!r} is none of {', '.join(READS)}.")
        if not self.read:
            raise OptionError(f"Nothing is to be read; name some of {', '.join(READS)} (--read).")
        if self.precision not in (AUTO, *PRECISIONS):
            raise OptionError(
                f"There is no precision {self.precision!r}; there are: "
                f"{', '.join((AUTO, *PRECISIONS))}."
            )
        if not 0 < self.accuracy <= 1:
            raise OptionError(
                f"--accuracy {self.accuracy:g} is no part of an effect; name one like 0.01."
            )
        if self.impostors < 0 or self.impostors == 1:
            raise OptionError(
                f"--impostors {self.impostors}: an effect is compared with several impostors, 12 "
                "say, or with none (0)."
            )
        if self.null_model and not self.impostors:
            raise OptionError(
                "The null model is there to be tested as the checkpoint is, which takes impostors "
                "(--impostors 12)."
            )
        if self.together and not self.genes:
            raise OptionError("A set needs its genes (--gene, --genes); leave out --together.")
        if self.count_noise and not {GENES, CELL} & set(self.read):
            raise OptionError(
                "Count noise is of genes' and cells' embeddings; read them (--read genes,cell), or "
                "leave out --count-noise."
            )
        if self.min_cells < 1:
            raise OptionError(f"min_cells is {self.min_cells}; a gene is in one cell at least.")
        for kind in kinds:
            if self.together and len(self.genes) > 1 and not kind.takes_sets:
                raise OptionError(
                    f"Genes are not {kind.participle} together: several may go to one rank. Leave "
                    "--together out, or overexpress them, or name a rank (to-rank:N)."
                )
            if self.insert and not (kind.takes_sets and any(each.moves for each in kinds)):
                raise OptionError(
                    f"A gene that a cell lacks cannot be {kind.participle}: it stands nowhere. "
                    "Overexpress it, or name a rank (to-rank:N)."
                )
        if self.insert and not self.genes:
            raise OptionError("Genes that are put into cells are named (--gene, --genes).")

    @property
    def all_genes(self) -> bool:
        """Whether every gene of each cell is perturbed."""
        return not self.genes
