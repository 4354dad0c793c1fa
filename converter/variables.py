"""The names of a checkpoint's variables: what stands before and behind those of a model."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache

from converter.formats.source import Entry
from efficientdet_spec import EMA_SUFFIX

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


@lru_cache(maxsize=1 << 14)
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


def base_shapes(entries: Mapping[str, Entry]) -> dict[str, tuple[int, ...]]:
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
