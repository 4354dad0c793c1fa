"""The names of a checkpoint's variables: what stands before and behind those of a model."""

from __future__ import annotations

import re
from collections.abc import Mapping

from converter.bundle import BundleEntry
from efficientdet_spec import EMA_SUFFIX, Cause, InputError

EMA = EMA_SUFFIX.removeprefix("/")
"""The suffix of a moving average, without what separates it."""

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


def split(name: str) -> tuple[str, tuple[str, ...]]:
    """A checkpoint name as the model variable it belongs to and the suffixes behind it.

    Args:
        name: The name, without what stands before that of the variable.
    """
    parts = name.split("/")
    end = len(parts)
    while end > 1 and (
        parts[end - 1] in _SLOTS or parts[end - 1] == EMA or _replica(parts[end - 1])
    ):
        end -= 1
    return "/".join(parts[:end]), tuple(parts[end:])


def _replica(part: str) -> bool:
    return re.fullmatch(r"replica_\d+", part) is not None


def exclusion(base: str, suffixes: tuple[str, ...], known: bool) -> str | None:
    """Why a variable takes no part in inference; None where no such reason is known.

    Args:
        base: Its name without suffixes.
        suffixes: These, from left to right.
        known: Whether the model has a variable of this name.
    """
    if any(_replica(suffix) for suffix in suffixes):
        return "copy of another training replica"
    if base.rsplit("/", 1)[-1] == "moving_normalizer":
        return "normaliser of moving statistics, unused at inference"
    slots = [suffix for suffix in suffixes if suffix in _SLOTS]
    if slots and known:
        return f"optimizer slot ({slots[0]})"
    return _TRAINING_STATE.get(base)


def base_shapes(entries: Mapping[str, BundleEntry]) -> dict[str, tuple[int, ...]]:
    """Shape of each model variable in the file, of the raw value or else of the average.

    Args:
        entries: The checkpoint's entries by name.
    """
    shapes: dict[str, tuple[int, ...]] = {}
    for name, entry in entries.items():
        base, suffixes = split(name)
        if not suffixes or (suffixes == (EMA,) and base not in shapes):
            shapes[base] = entry.shape
    return shapes


def without_prefix(
    entries: Mapping[str, BundleEntry], prefix: str, source: str
) -> Mapping[str, BundleEntry]:
    """A checkpoint's entries by their names without what stands before them.

    Args:
        entries: By their names in the file, which they keep in themselves.
        prefix: What to leave out, such as ``model/``; names without it stay as they are.
        source: The checkpoint, for messages.

    Raises:
        InputError: No name begins so, or two would become one.
    """
    if not prefix:
        return entries
    found = {name.removeprefix(prefix): entry for name, entry in entries.items()}
    if not any(name.startswith(prefix) for name in entries):
        first = next(iter(entries), "none")
        raise InputError(
            f"{source} has no name that begins with {prefix!r} (the first is {first:.200}); "
            f"leave --strip-prefix out or give what stands before its names.",
            Cause.OPTION,
        )
    if len(found) != len(entries):
        twice = next(
            name for name in entries if name.startswith(prefix) and name[len(prefix) :] in entries
        )
        raise InputError(
            f"{source} has {twice:.200} with and without {prefix!r} before it, which "
            f"--strip-prefix would make one; leave it out or give another.",
            Cause.OPTION,
        )
    return found
