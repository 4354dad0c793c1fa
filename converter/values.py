"""Which of a variable's values a file has, raw ones or moving averages, and which can be taken.

Where a container holds one value of each variable, the container says which it is
(:attr:`~converter.formats.source.TensorSource.ONLY_VALUE`).
"""

from __future__ import annotations

from converter.formats.source import TensorSource
from converter.ledger import BOTH_VALUES, EMA_VALUES, RAW_VALUES, Ledger, Source, to_torch
from converter.untrained import untrained_notes
from efficientdet_spec import EMA_SUFFIX, Cause, EfficientDetConfig, InputError

ALIKE = (
    "Raw values and moving averages (EMA) are the same in all variables, so that the file does not "
    "say which of the two they are."
)
"""What is noted where :func:`twins_are_alike`."""


def require_values(
    source: TensorSource, weights: str, config: EfficientDetConfig | None = None
) -> None:
    """Refuse to take values that a file does not have.

    Args:
        source: The file.
        weights: One of :data:`~converter.ledger.WEIGHTS`.
        config: The model; None where a part of it is wanted.

    Raises:
        InputError: Raw values are asked for, and it has averages alone or cannot say; or both are,
            and it has one of the two.
    """
    has_averages = any(name.endswith(EMA_SUFFIX) for name in source.entries)
    lacking = _without_averages(source, config) if weights == BOTH_VALUES and config else 0
    found = ""
    if weights != EMA_VALUES and source.ONLY_VALUE:
        found = f"is {source.SAYS}, which holds one value of each variable, {source.ONLY_VALUE}"
    elif weights == BOTH_VALUES and not has_averages:
        found = "holds no moving averages (EMA) beside its values"
    elif lacking:
        found = f"lacks the moving average (EMA) of {lacking} variables"
    elif weights != EMA_VALUES and config is not None and not _has_raw(source, config):
        found = "holds the moving averages (EMA) alone"
    if found:
        raise InputError(
            f"{source.path} {found}, but --weights {weights} asks for "
            f"{'raw values' if weights == RAW_VALUES else 'raw values and averages'}; leave "
            f"--weights out, or give a file that holds them, such as the training checkpoint.",
            Cause.MODEL,
        )


def _without_averages(source: TensorSource, config: EfficientDetConfig) -> int:
    """How many variables have a raw value alone."""
    names = [name for pair in source.naming.pairs(config) for name in pair.variables]
    return sum(name in source.entries and name + EMA_SUFFIX not in source.entries for name in names)


def _has_raw(source: TensorSource, config: EfficientDetConfig) -> bool:
    names = (name for pair in source.naming.pairs(config) for name in pair.variables)
    return any(name in source.entries for name in names)


def twins_are_alike(source: TensorSource, ledger: Ledger) -> bool:
    """Whether every raw value is its average, where the container records their checksums.

    Args:
        source: The file.
        ledger: Its account.
    """
    names = [name.removesuffix(EMA_SUFFIX) for item in ledger.sources for name in item.variables]
    if not all(name in source.entries and name + EMA_SUFFIX in source.entries for name in names):
        return False
    pairs = ((source.crc32c(name), source.crc32c(name + EMA_SUFFIX)) for name in names)
    return all(raw is not None and raw == average for raw, average in pairs)


def require_trained_alike(source: TensorSource, ledger: Ledger, untrained: str) -> None:
    """Refuse moving averages that look untrained where the raw values beside them do not.

    So are the variables of a SavedModel of TensorFlow 1, which have the names of a checkpoint; what
    tells them from one is ``saved_model.pb``, and that may have been left behind.

    Args:
        source: The file.
        ledger: Its account, in which averages are used.
        untrained: In what they look untrained, a sentence.

    Raises:
        InputError: The raw values look trained.
    """
    raw = [
        Source(item.pair, tuple(name.removesuffix(EMA_SUFFIX) for name in item.variables))
        for item in ledger.sources
    ]
    taken = {name for item in ledger.sources for name in item.variables}
    twins = {name for item in raw for name in item.variables}
    if twins <= taken or not twins <= source.entries.keys():
        return
    if not untrained_notes(dict(to_torch(raw, source.read))):
        raise InputError(
            f"{source.path}: its moving averages (EMA) look untrained and its raw values do not "
            f"({untrained.partition(': ')[2].rstrip('.')}): so are the variables of a TensorFlow 1 "
            f"SavedModel without its saved_model.pb; give the folder that was exported, or "
            f"--weights raw.",
            Cause.MODEL,
        )
