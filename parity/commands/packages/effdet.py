"""Models of ``effdet``, rwightman/efficientdet-pytorch, such as ``effdet:tf_efficientdet_d0``."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

from converter.mappings.effdet import NAMING
from efficientdet_spec import Cause, EfficientDetConfig, InputError, did_you_mean, listed
from parity.commands.packages import Size, fill, imported
from parity.process.frames import first_line

_TRIED = "0.4.1"
"""The version that this has been tried with."""

_SAME = {
    "fpn_channels": "fpn_channels",
    "fpn_cell_repeats": "fpn_cells",
    "box_class_repeats": "head_repeats",
    "min_level": "min_level",
    "max_level": "max_level",
    "num_scales": "num_scales",
    "anchor_scale": "anchor_scale",
}
"""Settings of theirs that tell their models apart, with the field of ours that says the same."""


_OFFICIAL = ("tf_efficientdet_d", "tf_efficientdet_lite")
"""How the names begin of the models that are built as the official ones are."""


def check(name: str) -> None:
    """See :class:`parity.commands.packages.Package`.

    Raises:
        InputError: effdet is not there, or has no such model.
    """
    known = _models()
    if name not in known:
        raise InputError(
            f"effdet has no model {name!r:.80}{did_you_mean(name, known)}; it has "
            f"{listed((name for name in known if name.startswith(_OFFICIAL)), 30)} and others.",
            Cause.OPTION,
        )


def build(name: str, config: EfficientDetConfig, faithful: Any, size: Size) -> Any:
    """See :class:`parity.commands.packages.Package`: the bare network, without a bench.

    Raises:
        InputError: It is another model than the checkpoint's, or effdet cannot make it.
    """
    check(name)
    effdet = imported("effdet")
    refused = partial(_refused, name, config)
    with _failures_told(f"effdet cannot make {name} for images of {size[0]}x{size[1]}"):
        settings = effdet.get_efficientdet_config(name)
        for theirs, ours in _SAME.items():
            found, expected = settings[theirs], getattr(config, ours)
            if found != expected:
                raise refused(f"{theirs} is {found}, not {expected}")
        settings.num_classes = config.num_classes
        # The levels' sizes are fixed when the model is made.
        settings.image_size = size
        model = effdet.EfficientDet(settings, pretrained_backbone=False)
    fill(model, NAMING, config, faithful, refused)
    return model.eval()


@contextmanager
def _failures_told(what: str) -> Iterator[None]:
    """Turns whatever effdet raises into an InputError; ours stay as they are.

    Args:
        what: What fails, to begin a sentence with.
    """
    try:
        yield
    except InputError:
        raise
    except Exception as error:
        raise InputError(f"{what}: {first_line(error)}.", Cause.CANDIDATE) from error


def _refused(name: str, config: EfficientDetConfig, difference: str) -> InputError:
    """The error that says in what way a model is not the checkpoint's."""
    # Theirs end in _ap where the official ones are called advprop.
    counterpart = f"tf_{config.name.replace('-', '_').replace('_advprop', '_ap')}"
    other = "FILE.py:FUNCTION for a model of your own"
    if counterpart in _models() and counterpart != name:
        other = f"effdet:{counterpart}"
    return InputError(
        f"effdet:{name} is built otherwise than the checkpoint's {config.name} ({difference}); "
        f"give {other}.",
        Cause.MODEL,
    )


def _models() -> list[str]:
    """The names of all models of effdet."""
    try:
        return list(imported("effdet").config.model_config.efficientdet_model_param_dict)
    except AttributeError as error:
        raise InputError(
            f"The effdet that is installed has no list of models where {_TRIED} has one ({error}); "
            f"install that version with pip install effdet=={_TRIED}.",
            Cause.MISSING_PACKAGE,
        ) from error
