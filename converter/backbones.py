"""The backbone of a checkpoint alone: of a classification network, or of a detector.

Official training of a detector starts from an EfficientNet that classifies. Such a checkpoint has
the backbone's variables under the names that they have in a detector, and a head of its own
(``efficientnet_model.Head``), which no detector has.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from converter.formats.renamed import RenamedSource
from converter.formats.source import OFFICIAL, TensorSource
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
    source: TensorSource, name: str = ANY_BACKBONE, weights: str = "ema"
) -> tuple[TensorSource, Ledger]:
    """Account for every variable of a checkpoint of which only the backbone is wanted.

    Args:
        source: The checkpoint.
        name: The backbone, or :data:`ANY_BACKBONE`. With a name, the variables may stand below
            another scope, as official training's ``ckpt_var_scope`` has it.
        weights: As for :func:`~converter.ledger.make_ledger`.

    Returns:
        The checkpoint with the names that the account has, and the account.

    Raises:
        InputError: There is no backbone in it, another one, or several.
    """
    check_backbone(name)
    if source.naming is not OFFICIAL:
        raise InputError(
            f"{source.path} is {source.SAYS} with the names of {source.naming.whose}, and a "
            f"backbone alone is taken from files with official names; convert the whole detector, "
            f"or give a TensorFlow 1 checkpoint.",
            Cause.FORMAT,
        )
    shapes = base_shapes(source.entries)
    found = [item for item in BACKBONES if f"{item}/{_STEM}" in shapes]
    if not found:
        _refuse_prefix(source, shapes, name)
    if not found and name != ANY_BACKBONE:
        source, found = _below_another_scope(source, shapes, name), [name]
    if not found:
        raise InputError(
            f"{source.path} holds no backbone under an official name such as "
            f"{BACKBONES[0]}/{_STEM}; give a checkpoint of an EfficientNet or of a detector, or "
            f"the backbone's name, as in --backbone {BACKBONES[0]}, where its variables are below "
            f"another scope.",
            Cause.MODEL,
        )
    if name not in (ANY_BACKBONE, *found):
        raise InputError(
            f"{source.path} holds the backbone {listed(found, 3)}, not {name}; leave the name "
            f"behind --backbone out or give the right checkpoint.",
            Cause.MODEL,
        )
    if len(found) > 1 and name == ANY_BACKBONE:
        raise InputError(
            f"{source.path} holds the backbones {listed(found, 3)}; say which, as in --backbone "
            f"{found[0]}.",
            Cause.OPTION,
        )
    wanted = found[0] if name == ANY_BACKBONE else name
    part = Part(PARAMETERS, _unwanted(wanted))
    ledger = make_ledger(source, backbone_config(wanted), weights, part=part)
    return source, replace(ledger, notes=(*ledger.notes, _missing(wanted)))


def _refuse_prefix(source: TensorSource, shapes: Mapping[str, tuple[int, ...]], name: str) -> None:
    """Refuse a backbone under its official name with something before it, which can be left out.

    Where the backbone's name was given, and no detector is in the file, what stands before may
    be taken for its scope.

    Raises:
        InputError: Says what stands before the names.
    """
    prefix = common_prefix(source.entries)
    if prefix is None or not any(f"{prefix}{item}/{_STEM}" in shapes for item in BACKBONES):
        return
    scopes = tuple(prefix + scope for scope in _DETECTOR_SCOPES)
    if name == ANY_BACKBONE or any(item.startswith(scopes) for item in source.entries):
        raise InputError(prefix_advice(str(source.path), source.entries, prefix), Cause.MODEL)


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
    source: TensorSource, shapes: Mapping[str, tuple[int, ...]], name: str
) -> TensorSource:
    """The checkpoint with a backbone's name in the place of the scope that they are below.

    Raises:
        InputError: There is no such scope, or there are several.
    """
    scopes = [
        item.removesuffix(_STEM) for item in shapes if item == _STEM or item.endswith(f"/{_STEM}")
    ]
    if len(scopes) != 1:
        places = f"{len(scopes)} ({listed(map(repr, scopes), 3)})" if scopes else "none"
        raise InputError(
            f"{source.path} has to hold one variable {_STEM}, below whatever scope, to be taken "
            f"for {name}, but holds {places}; give a checkpoint of one EfficientNet.",
            Cause.MODEL,
        )
    scope = scopes[0]

    def renamed(full: str) -> str:
        rest = full.removeprefix(scope)
        own = full.startswith(scope) and rest.startswith(("stem/", "blocks_", "head/"))
        return f"{name}/{rest}" if own else full

    return RenamedSource(source, {renamed(full): full for full in source.entries})
