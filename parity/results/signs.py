"""How outcomes and verdicts are shown: a word and a sign, so that no colour is the only one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from parity.judge.verdict import Verdict
from parity.process.outcome import Outcome


@dataclass(frozen=True)
class Sign:
    """How something is shown.

    Attributes:
        css: Name of its class and, with two hyphens before it, of its colour.
        symbol: Stands beside it, so that the colour is never the only sign.
        meaning: What it says.
    """

    css: str
    symbol: str
    meaning: str


def css_of(value: Outcome | Verdict) -> str:
    """An outcome or a verdict as the name of a class in a style sheet."""
    return str(value.value).replace(" ", "-")


OUTCOMES: Mapping[Outcome, Sign] = {
    outcome: Sign(css_of(outcome), symbol, meaning)
    for outcome, symbol, meaning in (
        (Outcome.PARITY, "✓", "Everything was compared, and nothing differs."),
        (Outcome.DIFFERENCE, "✗", "Something differs by more than its roundings."),
        (Outcome.NOT_SHOWN, "!", "Nothing was found to differ, but not all could be compared."),
    )
}
"""By outcome."""

VERDICTS: Mapping[Verdict, Sign] = {
    verdict: Sign(css_of(verdict), symbol, meaning)
    for verdict, symbol, meaning in (
        (
            Verdict.EXACT,
            "=",
            "Both sides are within their roundings of the exact value, equal bit for bit.",
        ),
        (Verdict.ROUNDING, "≈", "Both sides are within their roundings of the exact value."),
        (
            Verdict.CANDIDATE_DIFFERS,
            "▲",
            "The candidate is further from the exact value than roundings explain, though its "
            "function is the right one or is not known.",
        ),
        (
            Verdict.REFERENCE_DIFFERS,
            "■",
            "The candidate agrees with the exact value, the reference does not.",
        ),
        (
            Verdict.FUNCTION_DIFFERS,
            "◆",
            "The candidate computes another function: without any rounding its values would still "
            "not be the exact ones.",
        ),
        (
            Verdict.OWN_INPUTS,
            "◇",
            "It was given other tensors than the reference's, for what comes before it, and makes "
            "of them what the model would.",
        ),
        (
            Verdict.NOT_COVERED,
            "○",
            "Nothing is shown: no partner, another shape, NaN, or values that prove nothing.",
        ),
    )
}
"""By verdict, the best first."""


def in_capitals(value: Outcome | Verdict) -> str:
    """An outcome or a verdict as the first word of a line of text."""
    return str(value.value).upper()
