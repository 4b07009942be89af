"""Every field of a run's results, declared once: name, type, unit, meaning, where it comes from.

The store takes its schemas from here, the readers their columns, and the documentation its tables.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass

import pyarrow as pa

# What the engine may read of a perturbed cell.
GENES, CELL, LOGITS = "genes", "cell", "logits"
READS = (GENES, CELL, LOGITS)

TOGETHER = "+"  # between genes, and ranks, of a set that is perturbed together
NO_RANK = "none"  # in text, of a gene that the input lacks

_TEXT = pa.dictionary(pa.int32(), pa.string())


@dataclass(frozen=True)
class Field:
    """One column of the results.

    Attributes
    ----------
    name
        Of the column.
    type
        In which it is stored.
    unit
        Of its numbers; empty for names.
    meaning
        In words.
    read
        What must be read for it to be there; empty for what always is.
    """

    name: str
    type: pa.DataType
    unit: str
    meaning: str
    read: str = ""

    @property
    def arrow(self) -> pa.Field:
        """The same for Arrow, with unit and meaning in its metadata."""
        about = {"unit": self.unit, "meaning": self.meaning}
        return pa.field(self.name, self.type, metadata={k: v for k, v in about.items() if v})


KEYS = (
    Field("cell", _TEXT, "", "name of the cell"),
    Field("gene", _TEXT, "", "symbol of the perturbed gene; of a set, joined with +"),
    Field("gene_id", _TEXT, "", "its Ensembl ID, joined likewise"),
    Field("kind", _TEXT, "", "what was done to it"),
    Field("gene_rank", pa.int32(), "rank", "its rank, of a set the first one's; missing where the "
          "input lacks it"),
    Field("gene_ranks", _TEXT, "rank", "ranks of all genes of a set, joined with +"),
    Field("to_rank", pa.int32(), "rank", "where a move takes it; missing for knock-outs"),
    Field("to_ranks", _TEXT, "rank", "where it takes all genes of a set, joined with +"),
    Field("inserted", pa.bool_(), "", "whether a gene was put into an input that lacked it"),
    Field("genes_in_cell", pa.int32(), "genes", "how many the model is shown of the cell"),
)  # fmt: skip

ARM = Field("arm", _TEXT, "", "how the perturbation was expressed as model input")

CELL_SHIFTS = (
    Field("cosine_distance", pa.float64(), "1 − cosine", "of the cell embedding, with the "
          "perturbed gene in neither mean", CELL),
    Field("mean_gene_distance", pa.float64(), "1 − cosine", "mean over genes of their cosine "
          "distances, what Geneformer stores without states as a similarity; missing where only "
          "<cls> is read", CELL),
    Field("displacement", pa.float64(), "hidden state", "length of the cell embedding's "
          "displacement", CELL),
    Field("artefact_share", pa.float64(), "share", "of the cell embedding's squared displacement "
          "under the whole arm that the rank shift explains", CELL),
)  # fmt: skip

GENE_SUMMARIES = (
    Field("median_shifted", pa.float64(), "1 − cosine", "median cosine distance of the responders "
          "that make way: those below a knocked-out gene, those that a move passes", GENES),
    Field("median_unshifted", pa.float64(), "1 − cosine", "median cosine distance of the other "
          "responders", GENES),
    Field("displacement_squared", pa.float64(), "hidden state squared", "sum over responders of "
          "their squared displacements", GENES),
    Field("shift_along_total", pa.float64(), "hidden state squared", "sum over responders of "
          "⟨φ_shift, D⟩ under the whole arm; over displacement_squared it is the pooled artefact "
          "share", GENES),
    Field("beyond_edit_squared", pa.float64(), "hidden state squared", "sum over responders of the "
          "squared difference between the displacements under mask and under hold", GENES),
)  # fmt: skip

RESPONDERS = (
    Field("responder", pa.list_(pa.int32()), "token", "the responders of the cell", GENES),
    Field("responder_rank", pa.list_(pa.int32()), "rank", "where each stands", GENES),
)

_NUMBERS = pa.list_(pa.float32())
COSINE_DISTANCE = Field("cosine_distance", _NUMBERS, "1 − cosine", "of each responder's embedding; "
                        "NaN for the perturbed genes themselves", GENES)  # fmt: skip
FOLD = Field("fold", _NUMBERS, "log10", "cosine distance of each responder's embedding over those "
             "that impostors in the same place bring about (geometric mean)", GENES)  # fmt: skip
DISPLACEMENT = Field("displacement", _NUMBERS, "hidden state", "length of each responder's "
                     "displacement", GENES)  # fmt: skip
OF_ARM = (COSINE_DISTANCE, DISPLACEMENT)
ARTEFACT_SHARE = Field("artefact_share", _NUMBERS, "share", "⟨φ_shift, D⟩ / ‖D‖²: the part of "
                       "each responder's effect that the rank shift explains", GENES)  # fmt: skip
DECOMPOSITION = (
    ARTEFACT_SHARE,
    Field("phi_edit", _NUMBERS, "hidden state", "length of φ_edit", GENES),
    Field("phi_shift", _NUMBERS, "hidden state", "length of φ_shift", GENES),
    Field("interaction", _NUMBERS, "hidden state", "length of what both do together beyond what "
          "each does alone", GENES),
)  # fmt: skip

# Of each impostor, beside the same numbers of a cell's shift.
IMPOSTORS = (
    Field("impostor", _TEXT, "", "symbol of the gene in the perturbed one's place; of a set, "
          "joined with +"),
    Field("impostor_id", _TEXT, "", "its Ensembl ID, joined likewise"),
)  # fmt: skip


def towards(state: str) -> str:
    """Column of the shift towards a state, the perturbed gene in neither mean."""
    return f"towards_{state}"


def towards_as_geneformer(state: str) -> str:
    """Column of the shift towards a state as Geneformer has it: means over all tokens."""
    return f"{towards(state)}_as_geneformer"


def logit(label: str, when: str) -> str:
    """Column of a class's logit, ``when`` being ``before`` or ``after``."""
    return f"logit_{label}_{when}"


def probability(label: str, when: str) -> str:
    """Column of a class's probability, ``when`` being ``before`` or ``after``."""
    return f"probability_{label}_{when}"


def state_fields(states: Iterable[str]) -> tuple[Field, ...]:
    """Fields of the shifts towards states."""
    meaning = "rise of the cosine with the state's embedding, "
    return tuple(
        Field(name(state), pa.float64(), "cosine", meaning + how, CELL)
        for state in states
        for name, how in (
            (towards, "the perturbed gene in neither mean"),
            (towards_as_geneformer, "over all gene tokens of either input, as Geneformer has it"),
        )
    )


def logit_fields(labels: Iterable[str]) -> tuple[Field, ...]:
    """Fields of a classifier's logits and class probabilities."""
    return tuple(
        Field(name(label, when), pa.float64(), unit, f"{what} of {label} {when}", LOGITS)
        for label in labels
        for name, unit, what in (
            (logit, "logit", "logit"), (probability, "probability", "probability")
        )
        for when in ("before", "after")
    )  # fmt: skip


@dataclass(frozen=True)
class Compared:
    """A number of a task that is compared with that of impostors.

    Attributes
    ----------
    quantity
        What it is called in tests.
    of_impostor
        Its field among the results of impostors.
    fold
        The field that says how many times as large it is.
    signed
        Whether it has a sign: then the fold is in root mean squares of the impostors'.
    """

    quantity: str
    of_impostor: Field
    fold: Field
    signed: bool


def compared_fields(states: Iterable[str], labels: Iterable[str]) -> tuple[Compared, ...]:
    """What of a task's shifts is compared with impostors.

    Parameters
    ----------
    states, labels
        As of :func:`shift_fields`.
    """
    shift, gene_shift = CELL_SHIFTS[:2]
    signed = [
        # Without Geneformer's, which stands second.
        *((f"towards {state}", state_fields([state])[0]) for state in states),
        *((f"logit of {label}", Field(change_of_logit(label), pa.float64(), "logit",
                                      f"change of {label}'s logit", LOGITS))
          for label in labels),
    ]  # fmt: skip
    return (
        _compared("cell shift", shift, signed=False),
        _compared("mean gene shift", gene_shift, signed=False),
        *(_compared(quantity, field, signed=True) for quantity, field in signed),
    )


def _compared(quantity: str, field: Field, *, signed: bool) -> Compared:
    unit, how = (
        ("impostors' root mean square", "over the root mean square of impostors' in its place")
        if signed
        else ("log10", "log10 of it over impostors' (geometric mean)")
    )
    name, meaning = f"{field.name}_{FOLD.name}", f"{field.meaning}: {how}"
    return Compared(quantity, field, Field(name, pa.float64(), unit, meaning, field.read), signed)


def change_of_logit(label: str) -> str:
    """Column of the change of a class's logit."""
    return f"logit_{label}_change"


# Beside every effect, in the tables that readers make: of the same gene, or cell embedding.
COUNT_NOISE = Field("count_noise", pa.float32(), "1 − cosine", "how far the same moves when the "
                    "cell's counts are thinned by 1 %")  # fmt: skip


def count_noise_towards(state: str) -> str:
    """Column of how far thinning turns a cell towards a state or away, beside its shifts."""
    return f"{COUNT_NOISE.name}_{towards(state)}"


def count_noise_fields(states: Iterable[str]) -> tuple[Field, ...]:
    """Fields of count noise: one row a cell and gene, and one a cell of its own embedding."""
    meaning = "mean over draws of the size of the change of the cosine with the state's embedding"
    return (
        Field("cell", _TEXT, "", "name of the cell"),
        Field("token", pa.int32(), "token", "the gene; missing in the row of the cell embedding"),
        Field("cosine_distance", pa.float32(), "1 − cosine", "mean over draws of how far the "
              "embedding is from that of the cell as it is; missing for a gene that is in no draw"),
        Field("draws", pa.int32(), "draws", "how many have the gene"),
        Field("thinned", _TEXT, "", "what was thinned: counts, or genes where there are none"),
        *(Field(towards(state), pa.float32(), "cosine", meaning) for state in states),
    )  # fmt: skip


def shift_fields(
    reads: Iterable[str],
    states: Sequence[str] = (),
    labels: Sequence[str] = (),
    *,
    compared: bool = False,
) -> tuple[Field, ...]:
    """Fields of a run's shifts, one row a task and arm.

    Parameters
    ----------
    reads
        What is read.
    states, labels
        Names of the states that cells may move towards, and of a classifier's classes.
    compared
        Whether they are compared with impostors.
    """
    folds = [each.fold for each in compared_fields(states, labels)] if compared else []
    numbers = (*CELL_SHIFTS, *state_fields(states), *logit_fields(labels), *folds, *GENE_SUMMARIES)
    return (*KEYS, ARM, *(field for field in numbers if field.read in set(reads)))


def impostor_fields(
    reads: Iterable[str], states: Sequence[str] = (), labels: Sequence[str] = ()
) -> tuple[Field, ...]:
    """Fields of what perturbing impostors does, one row a task, arm and impostor.

    Parameters
    ----------
    reads, states, labels
        As of :func:`shift_fields`.
    """
    numbers = [each.of_impostor for each in compared_fields(states, labels)]
    return (*KEYS, ARM, *IMPOSTORS, *(field for field in numbers if field.read in set(reads)))


def effect_column(arm: str, field: Field) -> str:
    """Column of a run's stored effects: a field under an arm."""
    return f"{arm}_{field.name}"


def fields_of_arm(arm: str, decomposed: Container[str], compared: Container[str]) -> (
    tuple[Field, ...]
):  # fmt: skip
    """Fields of effects under one arm; which arms are decomposed or compared with impostors."""
    return (*OF_ARM, *DECOMPOSITION * (arm in decomposed), *(FOLD,) * (arm in compared))


def effect_fields(
    arms: Iterable[str], decomposed: Container[str] = (), compared: Container[str] = ()
) -> tuple[Field, ...]:
    """Fields of a run's stored effects, one row a task, with lists over responders.

    Parameters
    ----------
    arms
        Names of the arms.
    decomposed, compared
        Those whose effects are decomposed, and compared with impostors'.
    """
    columns = []
    for arm in arms:
        for field in fields_of_arm(arm, decomposed, compared):
            meaning = f"{field.meaning}, under {arm}"
            columns.append(Field(effect_column(arm, field), field.type, field.unit, meaning, GENES))
    return (*KEYS, *RESPONDERS, *columns)


def schema_of(fields: Iterable[Field], metadata: Mapping[str, str]) -> pa.Schema:
    """Arrow schema of some fields."""
    return pa.schema([field.arrow for field in fields], metadata=dict(metadata))
