"""The ledger of a conversion: what becomes of every variable, and what fills every parameter.

Every variable of a checkpoint is used once or excluded for a stated reason, and every
parameter of the model is filled once. Anything else is a finding, and findings are reported
together.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from converter.bundle import BundleEntry
from converter.mappings.official import Pair, iterate_pairs
from efficientdet_spec import (
    DEFAULT_NUM_CLASSES,
    EMA_SUFFIX,
    MODELS,
    Cause,
    EfficientDetConfig,
    InputError,
    base_model,
)

EMA = EMA_SUFFIX.removeprefix("/")
WEIGHTS = ("ema", "raw")
"""Which of a variable's two values is wanted."""

_SLOTS = frozenset(
    {
        "Momentum",
        "Adam",
        "Adam_1",
        "AdamW",
        "AdamW_1",
        "RMSProp",
        "RMSProp_1",
        "Adagrad",
        "Adadelta",
        "Adadelta_1",
        "LARSOptimizer",
    }
)
_TRAINING_STATE = {
    "global_step": "training step counter",
    "beta1_power": "Adam's running power",
    "beta2_power": "Adam's running power",
    "learning_rate": "training state",
    "current_loss_scale": "loss scaling state",
    "good_steps": "loss scaling state",
}
_CLASS_BIAS = "class_net/class-predict/bias"


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
class Ledger:
    """The complete account of one conversion.

    Attributes:
        config: The model.
        weights: What was asked for, ``ema`` or ``raw``.
        rows: One row for each variable of the checkpoint, in its order.
        sources: One entry for each parameter of the model.
        findings: What is wrong, one sentence each; empty for a convertible checkpoint.
        notes: What a user should know although nothing is wrong.
        hyperparameters: What was given besides the tensors and what is assumed, as plain values.
    """

    config: EfficientDetConfig
    weights: str
    rows: tuple[LedgerRow, ...]
    sources: tuple[Source, ...]
    findings: tuple[str, ...]
    notes: tuple[str, ...]
    hyperparameters: Mapping[str, Any] = field(default_factory=dict)

    def counts(self) -> dict[str, int]:
        """Number of variables by use or reason of exclusion."""
        return dict(Counter(row.use if row.use in WEIGHTS else row.reason for row in self.rows))

    def require_complete(self, source: str) -> None:
        """Raise when there are findings.

        Args:
            source: The checkpoint, for the message.

        Raises:
            InputError: Lists all findings.
        """
        if self.findings:
            raise InputError(
                f"{source} does not convert to {self.config.name}, {len(self.findings)} "
                f"finding(s): {'; '.join(self.findings)}. Check that the file is complete and "
                f"that the model is right (--model).",
                Cause.MODEL,
            )


def _split(name: str) -> tuple[str, tuple[str, ...]]:
    """A checkpoint name as the model variable it belongs to and the suffixes behind it."""
    parts = name.split("/")
    end = len(parts)
    while end > 1 and (
        parts[end - 1] in _SLOTS or parts[end - 1] == EMA or _replica(parts[end - 1])
    ):
        end -= 1
    return "/".join(parts[:end]), tuple(parts[end:])


def _replica(part: str) -> bool:
    return re.fullmatch(r"replica_\d+", part) is not None


def _exclusion(base: str, suffixes: tuple[str, ...], known: bool) -> str | None:
    """Why a variable takes no part in inference; None where no such reason is known."""
    if any(_replica(suffix) for suffix in suffixes):
        return "copy of another training replica"
    if base.rsplit("/", 1)[-1] == "moving_normalizer":
        return "normaliser of moving statistics, unused at inference"
    slots = [suffix for suffix in suffixes if suffix in _SLOTS]
    if slots and known:
        return f"optimizer slot ({slots[0]})"
    return _TRAINING_STATE.get(base)


def _base_shapes(entries: Mapping[str, BundleEntry]) -> dict[str, tuple[int, ...]]:
    """Shape of each model variable in the file, of the raw value or else of the average."""
    shapes: dict[str, tuple[int, ...]] = {}
    for name, entry in entries.items():
        base, suffixes = _split(name)
        if not suffixes or (suffixes == (EMA,) and base not in shapes):
            shapes[base] = entry.shape
    return shapes


def _expected_shapes(config: EfficientDetConfig) -> dict[str, tuple[int, ...]]:
    return {
        name: shape
        for pair in iterate_pairs(config)
        for name, shape in pair.variable_shapes.items()
    }


def _classes_in_file(shapes: Mapping[str, tuple[int, ...]], num_anchors: int) -> int | None:
    shape = shapes.get(_CLASS_BIAS)
    if shape is None or len(shape) != 1 or shape[0] < 1 or shape[0] % num_anchors:
        return None
    return shape[0] // num_anchors


def recognise(
    entries: Mapping[str, BundleEntry],
    source: str,
    num_classes: int | None = None,
    models: Iterable[EfficientDetConfig] = MODELS.values(),
) -> tuple[EfficientDetConfig, ...]:
    """The models that a checkpoint's variables fit best; several where nothing tells them apart.

    Args:
        entries: The checkpoint's entries by name.
        source: The checkpoint, for messages.
        num_classes: Number of classes to assume instead of reading it from the file.
        models: The models that there are.

    Raises:
        InputError: These are no variables of any EfficientDet that this program knows.
    """
    if "_CHECKPOINTABLE_OBJECT_GRAPH" in entries:
        raise InputError(
            f"{source} is a TensorFlow 2 object checkpoint, as the lite models are released, and "
            f"such checkpoints are not read yet; give a TensorFlow 1 checkpoint, whose keys are "
            f"the variables' names.",
            Cause.FORMAT,
        )
    shapes = _base_shapes(entries)
    scopes = Counter(name.split("/")[0] for name in shapes)
    scored: list[tuple[int, EfficientDetConfig]] = []
    for config in models:
        if config.backbone_name not in scopes:
            continue
        classes = num_classes or _classes_in_file(shapes, config.num_anchors)
        candidate = config.with_classes(classes or DEFAULT_NUM_CLASSES)
        expected = _expected_shapes(candidate)
        fitting = sum(shapes.get(name) == shape for name, shape in expected.items())
        # A file that misses half of a model's variables is of another kind, not damaged.
        if 2 * fitting > len(expected):
            unknown = sum(_exclusion(name, (), False) is None for name in shapes.keys() - expected)
            scored.append((len(expected) - fitting + unknown, candidate))
    if not scored:
        top = ", ".join(scope for scope, _ in scopes.most_common(3)) or "none"
        raise InputError(
            f"{source} holds no EfficientDet that this program knows: {len(shapes)} variables, "
            f"mostly under {top}; supported are {', '.join(MODELS)}.",
            Cause.MODEL,
        )
    best = min(score for score, _ in scored)
    return tuple(config for score, config in scored if score == best)


def choose_config(
    entries: Mapping[str, BundleEntry],
    source: str,
    model: EfficientDetConfig | None = None,
    num_classes: int | None = None,
    models: Iterable[EfficientDetConfig] = MODELS.values(),
    suggested: EfficientDetConfig | None = None,
) -> EfficientDetConfig:
    """The model of a checkpoint, as asked for and as its variables say.

    Args:
        entries: The checkpoint's entries by name.
        source: The checkpoint, for messages.
        model: The model asked for, or None to recognise it.
        num_classes: The number of classes asked for, or None to read it from the file.
        models: The models that there are, with the hyperparameters that were given.
        suggested: The model that the checkpoint's origin tells, which counts where its variables
            are those of the file; None where it tells none.

    Raises:
        InputError: The file is of another model or class count than asked for, of none that is
            known, or of several alike.
    """
    found = recognise(entries, source, models=models)
    if num_classes is not None and found[0].num_classes != num_classes:
        raise InputError(
            f"{source} has {found[0].num_classes} classes ({_CLASS_BIAS}), not {num_classes}; "
            f"leave --num-classes out or give the right checkpoint.",
            Cause.MODEL,
        )
    names = [config.name for config in found]
    if model is None and suggested is not None and base_model(suggested.name) in names:
        model = suggested
    if model is not None:
        if base_model(model.name) not in names:
            raise InputError(
                f"{source} holds the variables of {' or '.join(names)}, not of {model.name}; "
                f"leave --model out or give the right checkpoint.",
                Cause.MODEL,
            )
        return model.with_classes(found[names.index(base_model(model.name))].num_classes)
    if len(found) > 1:
        raise InputError(
            f"{source} fits {' and '.join(names)} alike, which have the same variables and differ "
            f"in input size and anchors; say which with --model.",
            Cause.OPTION,
        )
    return found[0]


def make_ledger(
    entries: Mapping[str, BundleEntry], config: EfficientDetConfig, weights: str = "ema"
) -> Ledger:
    """Account for every variable of a checkpoint and every parameter of a model.

    Args:
        entries: The checkpoint's entries by name.
        config: The model.
        weights: ``ema`` takes a variable's exponential moving average where there is one,
            ``raw`` never does.
    """
    pairs = list(iterate_pairs(config))
    owner = {name: pair for pair in pairs for name in pair.variables}
    chosen, findings = _choose(entries, owner, weights)
    used = {full: base for base, full in chosen.items()}
    rows = []
    for name, entry in entries.items():
        base, suffixes = _split(name)
        known = base in owner
        if name in used:
            pair = owner[base]
            use = "ema" if suffixes else "raw"
            reason = _why(use, weights)
            rows.append(LedgerRow(name, entry.shape, use, pair.parameter, pair.layout.name, reason))
            continue
        excluded = _exclusion(base, suffixes, known)
        if excluded is None and known and suffixes in ((), (EMA,)):
            excluded = (
                "raw twin of an EMA value" if not suffixes else "EMA twin, raw values asked for"
            )
        if excluded is None:
            findings.append(f"{name} {list(entry.shape)} is no variable of {config.name}")
            excluded = "unknown"
        rows.append(LedgerRow(name, entry.shape, "excluded", "", "", excluded))
    sources = tuple(
        Source(pair, tuple(chosen[name] for name in pair.variables))
        for pair in pairs
        if all(name in chosen for name in pair.variables)
    )
    notes = _notes(Counter(row.use for row in rows), weights)
    return Ledger(config, weights, tuple(rows), sources, tuple(findings), notes)


def _choose(
    entries: Mapping[str, BundleEntry], owner: Mapping[str, Pair], weights: str
) -> tuple[dict[str, str], list[str]]:
    """The entry to use for each model variable, and what is wrong with the choice."""
    chosen: dict[str, str] = {}
    findings: list[str] = []
    for name, pair in owner.items():
        average = name + EMA_SUFFIX
        full = average if weights == "ema" and average in entries else name
        if full not in entries:
            only = " (only its EMA is there)" if average in entries else ""
            findings.append(f"{name}, which fills {pair.parameter}, is missing{only}")
            continue
        entry = entries[full]
        expected = pair.variable_shapes[name]
        if entry.shape != expected:
            findings.append(f"{full} has shape {list(entry.shape)}, not {list(expected)}")
        if entry.dtype != np.float32:
            findings.append(f"{full} holds {entry.dtype_name}, not DT_FLOAT")
        chosen[name] = full
    return chosen, findings


def _why(use: str, weights: str) -> str:
    if use == "ema":
        return "EMA preferred"
    return "raw asked for" if weights == "raw" else "no EMA of it in the file"


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
