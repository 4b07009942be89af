"""What an audit's report says of its methods: definitions and formulas, and how to cite."""

from __future__ import annotations

from ranklock.arms import KNOCK_OUT_ARMS
from ranklock.audits.comparison import RULE
from ranklock.page import Formula, Paragraph, Table

Blocks = tuple[Paragraph | Formula | Table, ...]


def methods(arms: tuple[str, ...], *, drawn: bool) -> Blocks:
    """Definitions and formulas; ``drawn`` says whether the knock-outs were drawn for the audit."""
    return (
        Paragraph(
            "A cell is read as genes ranked by expression. An arm is one exact way of expressing a "
            "knock-out as model input: an edit of the tokens, and what happens to the positions."
        ),
        Table(
            "Arms of this audit",
            ("arm", "edit", "positions", "what it isolates"),
            [
                [
                    text.replace("`", "")
                    for text in (arm.name, arm.edit.value, arm.positions.value, arm.isolates)
                ]
                for arm in map(KNOCK_OUT_ARMS.__getitem__, arms)
            ],
        ),
        Paragraph(
            "Effect: cosine distance between a gene's embedding before and after, computed from "
            "the displacement δ in float64. Effects under the measured noise floor count as the "
            "floor."
        ),
        Formula("1 − cos(x, x + δ) = (‖δ⊥‖² / ‖x + δ‖²) / (1 + cos)"),
        Paragraph(
            "Artefact share: with embeddings b, h, s, d at baseline and under hold, shift and "
            "delete, and D = d − b, the Shapley value of the shift, as a part of the squared "
            "movement, pooled over genes and knock-outs. It can leave 0 to 1 where edit and shift "
            "pull against each other."
        ),
        Formula("φ_shift = ½[(s − b) + (d − h)]      share = Σ⟨φ_shift, D⟩ / Σ‖D‖²"),
        Paragraph(
            "Step: difference of the medians of log10 effect after and before the perturbed rank. "
            "Superiority: the probability that a gene after the rank moves further than one before "
            "it, ties counting half; 0.56, 0.64 and 0.71 bound small, medium and large (Vargha and "
            "Delaney, 2000)."
        ),
        Formula("A = P(effect after > effect before) + ½ P(equal)"),
        Paragraph(
            "Jump: at any place along the ranks, the straight line through the nearest 8% of genes "
            "after it less the line through those before it, on log10 effects (local linear "
            "regression discontinuity: Hahn, Todd and van der Klaauw, 2001). Effects may rise "
            "smoothly towards the rank; that is no jump. The change point is the place with the "
            "largest |jump| / standard error, found without the rank. It counts as on the rank "
            "within 1% of the cell's genes, at least two."
        ),
        Paragraph(
            (
                "Sample: the ranks of each cell are cut into equal stretches, and one gene is "
                "taken of each, by random numbers that a gene keeps in all cells, so that genes "
                "come up in several cells. "
                if drawn
                else "Knock-outs are all that the run holds. "
            )
            + "Means have 95% intervals from a variance clustered by cell and gene (Cameron, "
            "Gelbach and Miller, 2011) and Student's t, shares have Wilson's; with a single cell "
            "they hold over its knock-outs only, and with two or three they are wide. "
            "Correlations are taken within cells and averaged."
        ),
        Paragraph(
            "Variance: what a cubic spline on rank explains, less what its coefficients fit of "
            "chance, has the first claim; gene and cell are "
            "crossed random effects of the rest, by the method of moments (Gao and Owen, 2017), "
            "with jackknife intervals on the arcsine scale. Departures of genes are tested over "
            "cells by moderated t (Smyth, 2004); q-values are Benjamini and Hochberg's."
        ),
        Paragraph(
            "Known links: responders are ordered by the mean place of their effect over cells. The "
            "null draws as many genes from every stretch of neighbouring ranks (5 to 25 genes) as "
            "the targets have there, 1,000 times. Under other knock-outs: the AUROC of the same "
            "targets when other regulators at like ranks are knocked out, which genes that move "
            "under anything raise. Co-expression is |Spearman| over the audited cells between "
            "relative expression ranks, absent genes last; rank distance is the mean distance in "
            "rank, nearest first. Neither uses the model."
        ),
        Paragraph(f"The rule of the recommendation. {RULE}"),
    )


def citation(version: str) -> str:
    """How to cite."""
    return (
        f"Ranklock {version}: in-silico perturbation of rank-based single-cell models with the "
        "rank-shift artefact taken out. Cite the software with its version and this report's "
        "digests of cells and checkpoint, which its manifest holds."
    )
