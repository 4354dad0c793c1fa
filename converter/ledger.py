"""The ledger of a conversion: what becomes of every variable, and what fills every parameter.

Every variable of a checkpoint is used once or excluded for a stated reason, and every
parameter of the model is filled once. Anything else is a finding, and findings are reported
together.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from converter.bundle import BundleEntry
from converter.mappings.official import Pair, iterate_pairs
from converter.recognition import Facts, differences, facts_of, unsettled
from converter.variables import EMA, base_shapes, exclusion, split
from efficientdet_spec import (
    EMA_SUFFIX,
    MODELS,
    Cause,
    EfficientDetConfig,
    Finding,
    InputError,
    summary,
    told,
)

WEIGHTS = ("ema", "raw")
"""Which of a variable's two values is wanted."""

FLOAT32, FLOAT64 = "float32", "float64"
PRECISIONS = {
    "DT_FLOAT": FLOAT32,
    "DT_HALF": "float16",
    "DT_BFLOAT16": "bfloat16",
    "DT_DOUBLE": FLOAT64,
}
"""Types in which a checkpoint may store a model's values, by TensorFlow's name."""

_WIDENED = "widened to float32, which changes no value"
_CHANGES = {
    "float16": _WIDENED,
    "bfloat16": _WIDENED,
    FLOAT64: "narrowed to float32, which is refused where it would change a value",
}

MISSING = "missing"
UNKNOWN = "unknown"
RESHAPED = "of another shape"
RETYPED = "of another type"
"""Kinds of findings."""


@dataclass(frozen=True)
class LedgerRow:
    """What becomes of one variable.

    Attributes:
        variable: Its full name in the checkpoint.
        shape: Its shape there.
        use: ``ema`` or ``raw`` where the value is used, else ``excluded``.
        parameter: The parameter that it fills, or an empty text.
        layout: How axes move on the way, or an empty text.
        reason: Why it is used or excluded.
    """

    variable: str
    shape: tuple[int, ...]
    use: str
    parameter: str
    layout: str
    reason: str


@dataclass(frozen=True)
class Source:
    """A parameter and the checkpoint's variables chosen to fill it."""

    pair: Pair
    variables: tuple[str, ...]


@dataclass(frozen=True)
class Part:
    """A part of a model that alone is wanted.

    Attributes:
        parameters: What the names of its parameters begin with.
        unwanted: Why a variable is left out, by what its name begins with.
    """

    parameters: str
    unwanted: Mapping[str, str]

    def excluded(self, base: str) -> str | None:
        """Why a variable is left out; None where it is not.

        Args:
            base: Its name without suffixes.
        """
        return next(
            (reason for start, reason in self.unwanted.items() if base.startswith(start)), None
        )


@dataclass(frozen=True)
class Ledger:
    """The complete account of one conversion.

    Attributes:
        config: The model.
        weights: What was asked for, ``ema`` or ``raw``.
        rows: One row for each variable of the checkpoint, in its order.
        sources: One entry for each parameter of the model.
        findings: What is wrong, one for each name; empty for a convertible checkpoint.
        notes: What a user should know although nothing is wrong.
        unsettled: In what the file is not the model as it is configured, one sentence each; then
            there are findings too, which come of it.
        stripped: What stands before every name of the model in the file.
        hyperparameters: What was given besides the tensors and what is assumed, as plain values.
        part: What alone is wanted of the model; None for all of it.
    """

    config: EfficientDetConfig
    weights: str
    rows: tuple[LedgerRow, ...]
    sources: tuple[Source, ...]
    findings: tuple[Finding, ...]
    notes: tuple[str, ...]
    unsettled: tuple[str, ...] = ()
    stripped: str = ""
    hyperparameters: Mapping[str, Any] = field(default_factory=dict)
    part: Part | None = None

    def counts(self) -> dict[str, int]:
        """Number of variables by use or reason of exclusion."""
        return dict(Counter(row.use if row.use in WEIGHTS else row.reason for row in self.rows))

    def require_complete(self, source: str) -> None:
        """Raise when there are findings.

        Args:
            source: The checkpoint, for the message.

        Raises:
            InputError: Says in what the file is another model, or how many findings there are of
                each kind, with examples.
        """
        if self.unsettled:
            raise InputError(
                f"{source} does not convert to {self.config.name}: {told(self.unsettled)}.",
                Cause.MODEL,
            )
        if self.findings:
            option = "--model" if self.part is None else "--backbone"
            raise InputError(
                f"{source} does not convert to {self.config.name}: {summary(self.findings)}. Check "
                f"that the file is complete and that the model is right ({option}); convert --list "
                f"names every variable and what is wrong with it.",
                Cause.MODEL,
            )


def make_ledger(
    entries: Mapping[str, BundleEntry],
    config: EfficientDetConfig,
    weights: str = "ema",
    stripped: str = "",
    *,
    part: Part | None = None,
) -> Ledger:
    """Account for every variable of a checkpoint and every parameter of a model.

    Args:
        entries: The checkpoint's entries by name, where need be without what stands before it.
        config: The model.
        weights: ``ema`` takes a variable's exponential moving average where there is one,
            ``raw`` never does.
        stripped: What stands before the names in the file.
        part: What alone is wanted of the model; None for all of it.
    """
    wanted = "" if part is None else part.parameters
    pairs = [pair for pair in iterate_pairs(config) if pair.parameter.startswith(wanted)]
    owner = {name: pair for pair in pairs for name in pair.variables}
    chosen, findings = _choose(entries, owner, weights)
    used = {full: base for base, full in chosen.items()}
    rows = []
    for name, entry in entries.items():
        base, suffixes = split(name)
        known = base in owner
        if name in used:
            pair = owner[base]
            use = "ema" if suffixes else "raw"
            reason = _why(use, weights) + _cast(entry)
            rows.append(
                LedgerRow(entry.name, entry.shape, use, pair.parameter, pair.layout.name, reason)
            )
            continue
        unwanted = None if part is None else part.excluded(base)
        excluded = exclusion(base, suffixes, known or unwanted is not None) or unwanted
        if excluded is None and known and suffixes in ((), (EMA,)):
            excluded = (
                "raw twin of an EMA value" if not suffixes else "EMA twin, raw values asked for"
            )
        if excluded is None:
            findings.append(_unknown(entry, config))
            excluded = "unknown"
        rows.append(LedgerRow(entry.name, entry.shape, "excluded", "", "", excluded))
    sources = tuple(
        Source(pair, tuple(entries[chosen[name]].name for name in pair.variables))
        for pair in pairs
        if all(name in chosen for name in pair.variables)
    )
    facts = facts_of(base_shapes(entries))
    notes = (
        *_stripping_notes(stripped, entries),
        *_own_notes(facts, config),
        *_notes(Counter(row.use for row in rows), weights),
        *_precision_notes([entries[name] for name in used]),
    )
    return Ledger(
        config,
        weights,
        tuple(rows),
        sources,
        tuple(findings),
        notes,
        () if part is not None else tuple(unsettled(facts, config)),
        stripped,
        part=part,
    )


def _own_notes(facts: Facts, config: EfficientDetConfig) -> list[str]:
    """What the file has otherwise than the model of its name."""
    usual = MODELS.get(config.name)
    if usual is None:
        return []
    own = [
        str(item)
        for item in differences(facts, usual)
        if item.hparam != "num_classes" and item.settled
    ]
    if not own:
        return []
    return [f"As its variables have it, in place of what {config.name} has: {', '.join(own)}."]


def _stripping_notes(stripped: str, entries: Mapping[str, BundleEntry]) -> list[str]:
    if not stripped:
        return []
    count = sum(name != entry.name for name, entry in entries.items())
    return [f"{count} of {len(entries)} names were read without {stripped!r} before them."]


def _unknown(entry: BundleEntry, config: EfficientDetConfig) -> Finding:
    name, shape = entry.name, list(entry.shape)
    return Finding(name, UNKNOWN, f"{name} {shape} is no variable of {config.name}", str(shape))


def _choose(
    entries: Mapping[str, BundleEntry], owner: Mapping[str, Pair], weights: str
) -> tuple[dict[str, str], list[Finding]]:
    """The entry to use for each model variable, and what is wrong with the choice."""
    chosen: dict[str, str] = {}
    findings: list[Finding] = []
    for name, pair in owner.items():
        average = name + EMA_SUFFIX
        full = average if weights == "ema" and average in entries else name
        if full not in entries:
            only = " (only its EMA is there)" if average in entries else ""
            sentence = f"{name}, which fills {pair.parameter}, is missing{only}"
            findings.append(Finding(name, MISSING, sentence, only.strip()))
            continue
        entry = entries[full]
        expected = pair.variable_shapes[name]
        if entry.shape != expected:
            detail = f"{list(entry.shape)}, not {list(expected)}"
            findings.append(Finding(full, RESHAPED, f"{full} has shape {detail}", detail))
        if entry.dtype_name not in PRECISIONS:
            detail = f"{entry.dtype_name}, which is no floating-point number"
            findings.append(Finding(full, RETYPED, f"{full} holds {detail}", detail))
        chosen[name] = full
    return chosen, findings


def _why(use: str, weights: str) -> str:
    if use == "ema":
        return "EMA preferred"
    return "raw asked for" if weights == "raw" else "no EMA of it in the file"


def _cast(entry: BundleEntry) -> str:
    """What is added to the reason of a value that is not stored as float32."""
    kind = PRECISIONS.get(entry.dtype_name, FLOAT32)
    return "" if kind == FLOAT32 else f", {kind} to float32"


def _precision_notes(used: Sequence[BundleEntry]) -> list[str]:
    """What becomes of values that are not stored as float32."""
    counts = Counter(PRECISIONS.get(entry.dtype_name, FLOAT32) for entry in used)
    return [
        f"{count} of the {len(used)} variables used are stored as {kind} and {_CHANGES[kind]}."
        for kind, count in sorted(counts.items())
        if kind != FLOAT32
    ]


def _notes(uses: Counter[str], weights: str) -> tuple[str, ...]:
    if weights == "raw" or not uses["raw"]:
        return ()
    if not uses["ema"]:
        return (
            "The checkpoint holds no moving averages (EMA), as after training without "
            "moving_average_decay; the raw values were taken.",
        )
    return (
        f"Only {uses['ema']} of {uses['ema'] + uses['raw']} variables have a moving average "
        f"(EMA); the raw values of the others were taken.",
    )
