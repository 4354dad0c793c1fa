"""The ledger of a conversion: what becomes of every variable, and what fills every parameter.

Every variable of a checkpoint is used once or excluded for a stated reason, and every
parameter of the model is filled once. Anything else is a finding, and findings are reported
together.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from converter.formats.source import Entry, TensorSource
from converter.mappings.layouts import Array, Shape
from converter.mappings.official import Pair
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

EMA_VALUES, RAW_VALUES, BOTH_VALUES = "ema", "raw", "both"
WEIGHTS = (EMA_VALUES, RAW_VALUES, BOTH_VALUES)
"""Which of a variable's two values is wanted."""

ONLY_VALUE = "only"
"""Use of a value that is the only one that its container can hold."""

USES = (EMA_VALUES, RAW_VALUES, ONLY_VALUE)
"""Of the variables that fill parameters."""

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
        use: One of :data:`USES` where the value is used, else ``excluded``.
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
    """A parameter and the names of the variables chosen to fill it, as the source has them."""

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
        weights: What was asked for, one of :data:`WEIGHTS`.
        rows: One row for each variable of the checkpoint, in its order.
        sources: One entry for each parameter of the model.
        raw_sources: Likewise, of the raw values, where both were asked for; else empty.
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
    raw_sources: tuple[Source, ...] = ()
    unsettled: tuple[str, ...] = ()
    stripped: str = ""
    hyperparameters: Mapping[str, Any] = field(default_factory=dict)
    part: Part | None = None

    def counts(self) -> dict[str, int]:
        """Number of variables by use or reason of exclusion."""
        return dict(Counter(row.use if row.use in USES else row.reason for row in self.rows))

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
            # What is too much only can be left out of the file; what is missing cannot be added.
            surplus = all(finding.kind == UNKNOWN for finding in self.findings)
            advice = (
                " Or save the file without what is unknown, if you know it is no part of "
                "the model (of a state dict, delete the key)."
                if surplus
                else ""
            )
            raise InputError(
                f"{source} does not convert to {self.config.name}: {summary(self.findings)}. Check "
                f"that the file is complete and that the model is right ({option}); convert --list "
                f"names every variable and what is wrong with it.{advice}",
                Cause.MODEL,
            )


def make_ledger(
    source: TensorSource,
    config: EfficientDetConfig,
    weights: str = EMA_VALUES,
    *,
    shapes: Mapping[str, Shape] | None = None,
    part: Part | None = None,
) -> Ledger:
    """Account for every tensor of a file and every parameter of a model.

    Args:
        source: The file.
        config: The model.
        weights: ``ema`` takes a variable's exponential moving average where there is one,
            ``raw`` never does, ``both`` takes the two.
        shapes: Of every variable by its official name, as the file has it; None takes them from
            the source, whose names are official then.
        part: What alone is wanted of the model; None for all of it.

    Raises:
        InputError: The file contradicts itself about which variable is which.
    """
    wanted = "" if part is None else part.parameters
    pairs = [pair for pair in source.naming.pairs(config) if pair.parameter.startswith(wanted)]
    owner = {name: pair for pair in pairs for name in pair.variables}
    first = EMA_VALUES if weights == BOTH_VALUES else weights
    # What a container says is no part of the model is none, whatever it is called.
    entries = {name: entry for name, entry in source.entries.items() if name not in source.left_out}
    chosen, findings = _choose(entries, owner, first)
    raw: dict[str, str] = {}
    if weights == BOTH_VALUES:
        raw, more = _choose(entries, owner, RAW_VALUES)
        findings = list(dict.fromkeys([*findings, *more]))
    used = {full: base for base, full in (*raw.items(), *chosen.items())}
    unused = source.naming.unused(config)
    rows = []
    for name, entry in source.entries.items():
        base, suffixes = split(name)
        known = base in owner
        if name in used:
            pair = owner[used[name]]
            use, reason = _use(source, suffixes, weights)
            reason += _cast(entry)
            rows.append(
                LedgerRow(entry.name, entry.shape, use, pair.parameter, pair.layout.name, reason)
            )
            continue
        unwanted = None if part is None else part.excluded(base)
        excluded = (
            source.left_out.get(name)
            or unused.get(base)
            or exclusion(base, suffixes, known or unwanted is not None)
            or unwanted
        )
        if excluded is None and known and suffixes in ((), (EMA,)):
            excluded = (
                "raw twin of an EMA value" if not suffixes else "EMA twin, raw values asked for"
            )
        if excluded is None:
            findings.append(_unknown(entry, config))
            excluded = "unknown"
        rows.append(LedgerRow(entry.name, entry.shape, "excluded", "", "", excluded))
    facts = facts_of(base_shapes(entries) if shapes is None else shapes)
    open_questions = () if part is not None else tuple(unsettled(facts, config))
    # Of another model than this one, its names would seem to contradict each other.
    checked = () if findings or open_questions else source.check(config, wanted)
    notes = (
        *source.notes,
        *checked,
        *_own_notes(facts, config),
        *_notes(source, Counter(row.use for row in rows), weights),
        *_precision_notes([source.entries[name] for name in used]),
    )
    return Ledger(
        config,
        weights,
        tuple(rows),
        _sources(pairs, chosen),
        tuple(findings),
        notes,
        _sources(pairs, raw),
        open_questions,
        source.stripped,
        part=part,
    )


def _sources(pairs: Sequence[Pair], chosen: Mapping[str, str]) -> tuple[Source, ...]:
    """Every parameter for which all values have been found."""
    return tuple(
        Source(pair, tuple(chosen[name] for name in pair.variables))
        for pair in pairs
        if all(name in chosen for name in pair.variables)
    )


def to_torch(
    sources: Iterable[Source], read: Callable[[str], Array]
) -> Iterator[tuple[str, Array]]:
    """Each parameter's name with its own contiguous array in PyTorch's layout.

    Args:
        sources: Of a ledger without findings.
        read: Gives a variable's array by its name in the source.
    """
    for source in sources:
        arrays = [read(name) for name in source.variables]
        yield source.pair.parameter, source.pair.layout.to_torch(arrays)


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


def _unknown(entry: Entry, config: EfficientDetConfig) -> Finding:
    name, shape = entry.name, list(entry.shape)
    return Finding(name, UNKNOWN, f"{name} {shape} is no variable of {config.name}", str(shape))


def _choose(
    entries: Mapping[str, Entry], owner: Mapping[str, Pair], weights: str
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


def _use(source: TensorSource, suffixes: tuple[str, ...], weights: str) -> tuple[str, str]:
    """Which of a variable's values is used, and why."""
    if source.ONLY_VALUE:
        return ONLY_VALUE, "the one value that the file has"
    use = EMA_VALUES if suffixes else RAW_VALUES
    if weights == BOTH_VALUES:
        return use, "kept beside the other"
    if use == EMA_VALUES:
        return use, "EMA preferred"
    return use, "raw asked for" if weights == RAW_VALUES else "no EMA of it in the file"


def _cast(entry: Entry) -> str:
    """What is added to the reason of a value that is not stored as float32."""
    kind = PRECISIONS.get(entry.dtype_name, FLOAT32)
    return "" if kind == FLOAT32 else f", {kind} to float32"


def _precision_notes(used: Sequence[Entry]) -> list[str]:
    """What becomes of values that are not stored as float32."""
    counts = Counter(PRECISIONS.get(entry.dtype_name, FLOAT32) for entry in used)
    return [
        f"{count} of the {len(used)} variables used are stored as {kind} and {_CHANGES[kind]}."
        for kind, count in sorted(counts.items())
        if kind != FLOAT32
    ]


def _notes(source: TensorSource, uses: Counter[str], weights: str) -> tuple[str, ...]:
    if source.ONLY_VALUE:
        what = source.SAYS[0].upper() + source.SAYS[1:]
        return (f"{what} holds one value of each variable, {source.ONLY_VALUE}.",)
    if weights != EMA_VALUES or not uses[RAW_VALUES]:
        return ()
    if not uses[EMA_VALUES]:
        return (
            "The checkpoint holds no moving averages (EMA), as after training without "
            "moving_average_decay; the raw values were taken.",
        )
    return (
        f"Only {uses[EMA_VALUES]} of {uses[EMA_VALUES] + uses[RAW_VALUES]} variables have a moving "
        f"average (EMA); the raw values of the others were taken.",
    )
