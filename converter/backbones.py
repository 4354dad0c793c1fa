"""The backbone of a checkpoint alone: of a classification network, or of a detector.

Official training of a detector starts from an EfficientNet that classifies. Such a checkpoint has
the backbone's variables under the names that they have in a detector, and a head of its own
(``efficientnet_model.Head``), which no detector has.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from converter.bundle import BundleEntry
from converter.ledger import Ledger, Part, make_ledger
from converter.variables import base_shapes
from converter.wrong_models import common_prefix, prefix_advice
from efficientdet_spec import (
    BACKBONES,
    MODELS,
    TINY,
    Cause,
    EfficientDetConfig,
    InputError,
    did_you_mean,
    listed,
)

ANY_BACKBONE = "any"
"""Asks for the backbone of whatever name a checkpoint has."""

PARAMETERS = "backbone."
"""What the names of a backbone's parameters begin with in a detector."""

_STEM = "stem/conv2d/kernel"
_HEAD = "classification head, which no detector has"
_DETECTOR = "BiFPN or head of a detector, which no backbone has"
_DETECTOR_SCOPES = ("class_net/", "box_net/", "fpn_cells/", "resample_p")


def check_backbone(name: str) -> None:
    """Refuse what is no backbone's name.

    Args:
        name: As the user gives it.

    Raises:
        InputError: There is no such backbone; the message lists those that exist.
    """
    if name not in (ANY_BACKBONE, *BACKBONES):
        raise InputError(
            f"There is no backbone {name!r:.80}{did_you_mean(name, BACKBONES)}; choose one of "
            f"{', '.join(BACKBONES)}, or write --backbone behind SOURCE and TARGET, without a "
            f"name, for the one that the checkpoint has.",
            Cause.OPTION,
        )


def backbone_config(name: str) -> EfficientDetConfig:
    """What a backbone is, as the configuration of a detector with it that has the same name.

    Args:
        name: One of ``BACKBONES``.
    """
    usual = MODELS["efficientdet-d0"]
    model = next((item for item in MODELS.values() if item.backbone_name == name), usual)
    return replace(model, name=name, backbone_name=name)


def backbone_ledger(
    entries: Mapping[str, BundleEntry],
    source: str,
    name: str = ANY_BACKBONE,
    weights: str = "ema",
    stripped: str = "",
) -> Ledger:
    """Account for every variable of a checkpoint of which only the backbone is wanted.

    Args:
        entries: The checkpoint's entries by name, where need be without what stands before it.
        source: The checkpoint, for messages.
        name: The backbone, or :data:`ANY_BACKBONE`. With a name, the variables may stand below
            another scope, as official training's ``ckpt_var_scope`` has it.
        weights: As for :func:`~converter.ledger.make_ledger`.
        stripped: Likewise.

    Raises:
        InputError: There is no backbone in it, another one, or several.
    """
    check_backbone(name)
    shapes = base_shapes(entries)
    found = [item for item in BACKBONES if f"{item}/{_STEM}" in shapes]
    if not found:
        _refuse_prefix(entries, shapes, name, source)
    if not found and name != ANY_BACKBONE:
        entries, found = _below_another_scope(entries, shapes, name, source), [name]
    if not found:
        raise InputError(
            f"{source} holds no backbone under an official name such as {BACKBONES[0]}/{_STEM}; "
            f"give a checkpoint of an EfficientNet or of a detector, or the backbone's name, as in "
            f"--backbone {BACKBONES[0]}, where its variables are below another scope.",
            Cause.MODEL,
        )
    if name not in (ANY_BACKBONE, *found):
        raise InputError(
            f"{source} holds the backbone {listed(found, 3)}, not {name}; leave the name behind "
            f"--backbone out or give the right checkpoint.",
            Cause.MODEL,
        )
    if len(found) > 1 and name == ANY_BACKBONE:
        raise InputError(
            f"{source} holds the backbones {listed(found, 3)}; say which, as in --backbone "
            f"{found[0]}.",
            Cause.OPTION,
        )
    wanted = found[0] if name == ANY_BACKBONE else name
    part = Part(PARAMETERS, _unwanted(wanted))
    ledger = make_ledger(entries, backbone_config(wanted), weights, stripped, part=part)
    return replace(ledger, notes=(*ledger.notes, _missing(wanted)))


def _refuse_prefix(
    entries: Mapping[str, BundleEntry],
    shapes: Mapping[str, tuple[int, ...]],
    name: str,
    source: str,
) -> None:
    """Refuse a backbone under its official name with something before it, which can be left out.

    Where the backbone's name was given, and no detector is in the file, what stands before may
    be taken for its scope.

    Raises:
        InputError: Says what stands before the names.
    """
    prefix = common_prefix(entries)
    if prefix is None or not any(f"{prefix}{item}/{_STEM}" in shapes for item in BACKBONES):
        return
    scopes = tuple(prefix + scope for scope in _DETECTOR_SCOPES)
    if name == ANY_BACKBONE or any(item.startswith(scopes) for item in entries):
        raise InputError(prefix_advice(source, entries, prefix), Cause.MODEL)


def _unwanted(name: str) -> Mapping[str, str]:
    """Why variables with these beginnings are left out."""
    return {f"{name}/head/": _HEAD, **dict.fromkeys(_DETECTOR_SCOPES, _DETECTOR)}


def _missing(name: str) -> str:
    """What a user has to know who takes a backbone for a detector."""
    models = [item.name for item in MODELS.values() if item.backbone_name == name and item != TINY]
    whose = f", here that of {' and '.join(models)}" if models else ""
    return (
        f"A backbone alone{whose}: a detector's BiFPN (resample_p6, fpn_cells) and its heads "
        f"(class_net, box_net) are missing and have to be trained."
    )


def _below_another_scope(
    entries: Mapping[str, BundleEntry],
    shapes: Mapping[str, tuple[int, ...]],
    name: str,
    source: str,
) -> dict[str, BundleEntry]:
    """The entries with a backbone's name in the place of the scope that they are below.

    Raises:
        InputError: There is no such scope, or there are several.
    """
    scopes = [
        item.removesuffix(_STEM) for item in shapes if item == _STEM or item.endswith(f"/{_STEM}")
    ]
    if len(scopes) != 1:
        places = f"{len(scopes)} ({listed(map(repr, scopes), 3)})" if scopes else "none"
        raise InputError(
            f"{source} has to hold one variable {_STEM}, below whatever scope, to be taken for "
            f"{name}, but holds {places}; give a checkpoint of one EfficientNet.",
            Cause.MODEL,
        )
    scope = scopes[0]

    def renamed(full: str) -> str:
        rest = full.removeprefix(scope)
        own = full.startswith(scope) and rest.startswith(("stem/", "blocks_", "head/"))
        return f"{name}/{rest}" if own else full

    return {renamed(full): entry for full, entry in entries.items()}
