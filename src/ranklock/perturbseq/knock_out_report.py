"""Whole knock-outs against a screen, in words."""

from __future__ import annotations

from collections.abc import Mapping

from ranklock.perturbseq.knock_outs import KNOWN, TRUTHS, KnockOutSummary
from ranklock.perturbseq.text import number, signed

_LAYER, _INTERVAL = 28, 24


def describe_knock_outs(
    layers: Mapping[str, KnockOutSummary], null: Mapping[str, KnockOutSummary] | None
) -> list[str]:
    """How much each knock-out does, and whether it is told from the others; a line each."""
    named = [
        (f"{layer}{said}", summary)
        for part, said in ((layers, ""), (null or {}, ", null model"))
        for layer, summary in part.items()
    ]
    return [*_strengths(named), *_discrimination(named), ""]


def _strengths(named: list[tuple[str, KnockOutSummary]]) -> list[str]:
    if not any(summary.strengths for _, summary in named):
        return ["Cell shifts: none are there (the run did not read the cell), so none are judged."]
    known = " and ".join(KNOWN.values())
    lines = [
        "Cell shift of a knock-out against what it does in the screen, Spearman over perturbed",
        f"genes [95 % intervals]; and beyond what is known without the run ({known}):",
    ]
    for truth, words in TRUTHS.items():
        found = [
            (name, strength)
            for name, summary in named
            for strength in summary.strengths
            if strength.truth == truth
        ]
        if not found:
            lines.append(f"  {words}: not known here; it takes the cells of the screen")
            continue
        without = ", ".join(
            f"{KNOWN[name]} {number(estimate.value, '+.2f')}"
            for name, estimate in found[0][1].known.items()
        )
        genes = found[0][1].shift.n
        lines.append(f"  {words} ({genes} genes){f'; {without}' if without else ''}:")
        lines += [
            f"    {name:<{_LAYER}}{signed(strength.shift):>{_INTERVAL}}   beyond: "
            f"{signed(strength.beyond):>{_INTERVAL}}"
            for name, strength in found
        ]
    return lines


def _discrimination(named: list[tuple[str, KnockOutSummary]]) -> list[str]:
    lines = [
        "Is a perturbation told from the others? Place of its own measured profile among all, by",
        "likeness to the predicted one (0.5: chance, 1: foremost); p of a place as high when",
        "profiles are given to perturbations at random:",
    ]
    for name, summary in named:
        place = summary.discrimination
        interval = f"[{number(place.low, '.2f')}, {number(place.high, '.2f')}]"
        baselines = ", ".join(f"{k} {number(v, '.2f')}" for k, v in summary.baselines.items())
        lines.append(
            f"    {name:<{_LAYER}}{number(place.value, '.2f'):>5} {interval:<14} p = "
            f"{number(summary.p, '.2g')}; baselines: {baselines or 'none'}"
        )
    lines.append(
        "    (a mean over the other perturbations leaves each one's own profile out, which may put "
        "it below chance)"
    )
    return lines
