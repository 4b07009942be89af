"""What an audit's report says of its methods: definitions and formulas, and how to cite."""

from __future__ import annotations

from ranklock.arms import KNOCK_OUT_ARMS
from ranklock.audits.comparison import RULE
from ranklock.audits.measure import NEAR
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
            "the displacement δ in float64."
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
            "Probability of superiority: the share of pairs of a gene after the rank and one "
            "before it in which the one after moves further, ties counting half. It is no p-value: "
            "½ is no difference, and 0.56, 0.64 and 0.71 bound small, medium and large (Vargha and "
            "Delaney, 2000)."
        ),
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
            "cells by moderated t (Smyth, 2004); q-values are Benjamini and Hochberg's. "
            "The same test is made under shift, where the gene stays and cannot matter: what it "
            "finds there, it finds of positions and neighbours. Departures are evidence of genes "
            "only where there are more of them than that by an exact binomial test."
        ),
        Paragraph(
            "Known links: responders are ordered by the mean place of their effect over cells. The "
            "null permutes the genes within every stretch of neighbouring ranks (5 to 25 genes), "
            "1,000 times, and each permutation is applied to the targets of all regulators at "
            "once, so that targets which regulators share stay shared. Under other knock-outs: the "
            "AUROC of the same targets when other regulators at like ranks are knocked out, which "
            "genes that move under anything raise. Co-expression is |Spearman| over the audited "
            "cells between relative expression ranks, absent genes last; rank distance is the mean "
            "distance in rank, nearest first. Neither uses the model."
        ),
        Paragraph(
            "Proximity: of the ten genes that respond most to a knock-out, the share that stands "
            f"within {NEAR} ranks of the gene, beside the share of all its responders that do, "
            "which ten drawn at random would give."
        ),
        Paragraph(
            "Position table: the semivariance γ(h) of position embeddings h apart (Matheron, "
            "1963), positions weighted by the cells that use them. Its nugget, 2γ(1) − γ(2) cut at "
            "0 and γ(1), is what two neighbouring embeddings would differ by at distance zero: "
            "noise that each has of its own. The step is predicted without a forward as the cosine "
            "distance of LN(W_i + P_p) and LN(W_i + P_(p−1)), the embedding layer's output of gene "
            "i at its position and at the one before. Smoothed tables are moving means; all else "
            "of the checkpoint stays, and the same knock-outs are run again. Masked genes are 15% "
            "of a cell's, the same under every table."
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
