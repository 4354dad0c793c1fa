"""What a checkpoint is that holds no EfficientDet under the official names, and what to do then."""

from __future__ import annotations

import re
import shlex
from collections import Counter
from collections.abc import Iterable, Mapping

from converter.formats.source import Entry
from converter.recognition import facts_of
from converter.variables import base_shapes
from efficientdet_spec import BACKBONES, MODELS, Cause, InputError, printable, shortened

# Scopes of tensorflow/models' Object Detection API, whose SSD with an EfficientNet is called
# EfficientDet too: of its TF1 graphs, and of its TF2 objects.
_DETECTION_API = re.compile(
    r"(.*/)?(FeatureExtractor|(First|Second)Stage\w+|WeightSharedConvolutionalBoxPredictor"
    r"|BoxPredictor_\d+|_feature_extractor|_box_predictor|_base_tower_layers_for_heads)(/|$)"
)
_DETECTOR_SCOPES = ("class_net/", "box_net/", "fpn_cells/")
_MOST_PREFIX = 200


def refusal(source: str, entries: Mapping[str, Entry]) -> InputError:
    """The error of a checkpoint in which no model is recognised.

    What it counts are names in the file, as all else that is said of a checkpoint.

    Args:
        source: The checkpoint.
        entries: Its entries by name.
    """
    found = next(filter(None, (look(source, entries) for look in _LOOKS)), None)
    if found is not None:
        return InputError(found, Cause.MODEL)
    scopes = Counter(name.split("/")[0] for name in entries)
    top = ", ".join(shortened(scope, 60) for scope, _ in scopes.most_common(3)) or "none"
    return InputError(
        f"{source} holds no EfficientDet that this program knows: {len(entries)} variables, "
        f"mostly under {top}, which convert --list names; give one of "
        f"{', '.join(MODELS)}.",
        Cause.MODEL,
    )


def _detection_api(source: str, entries: Mapping[str, Entry]) -> str | None:
    theirs = [name for name in entries if _DETECTION_API.match(name)]
    if not theirs or 4 * len(theirs) < len(entries):
        return None
    return (
        f"{source} is a checkpoint of TensorFlow's Object Detection API ({len(theirs)} of "
        f"{len(entries)} variables, such as {shortened(printable(theirs[0]), 100)}), whose "
        f"networks have other layers and names than the official EfficientDet; give a TensorFlow 1 "
        f"checkpoint of google/automl's efficientdet."
    )


def _behind_a_prefix(source: str, entries: Mapping[str, Entry]) -> str | None:
    prefix = common_prefix(entries)
    return None if prefix is None else prefix_advice(source, entries, prefix)


def prefix_advice(source: str, entries: Mapping[str, Entry], prefix: str) -> str:
    """What to say of a checkpoint with something before its names.

    Args:
        source: The checkpoint.
        entries: Its entries by name.
        prefix: What stands before them, as of :func:`common_prefix`.
    """
    count = sum(name.startswith(prefix) for name in entries)
    backbone = facts_of(_stripped(base_shapes(entries), prefix)).backbone or BACKBONES[0]
    # What begins with a dash would be taken for another option.
    joint = "=" if prefix.startswith("-") else " "
    return (
        f"{source} has {prefix!r} before {count} of its {len(entries)} names, where official names "
        f"begin with the backbone's, such as {backbone}/stem; give "
        f"--strip-prefix{joint}{shlex.quote(prefix)} to have them read without it."
    )


def common_prefix(names: Iterable[str]) -> str | None:
    """What stands before the names of an EfficientDet, such as ``model/``; None where nothing does.

    Args:
        names: Of a checkpoint's variables.
    """
    counts: Counter[str] = Counter()
    total = 0
    for name in names:
        total += 1
        parts = name.split("/")
        for place, part in enumerate(parts[:6]):
            if part in BACKBONES or f"{part}/" in _DETECTOR_SCOPES:
                counts["/".join([*parts[:place], ""])] += 1
                break
    if not counts:
        return None
    prefix, count = counts.most_common(1)[0]
    usable = prefix and len(prefix) <= _MOST_PREFIX and 2 * count > total
    return prefix if usable else None


def _stripped(shapes: Mapping[str, tuple[int, ...]], prefix: str) -> dict[str, tuple[int, ...]]:
    return {name.removeprefix(prefix): shape for name, shape in shapes.items()}


def _backbone_alone(source: str, entries: Mapping[str, Entry]) -> str | None:
    facts = facts_of(base_shapes(entries))
    if facts.backbone is None or any(name.startswith(_DETECTOR_SCOPES) for name in entries):
        return None
    return (
        f"{source} is a backbone alone: {len(entries)} variables of {facts.backbone}, without a "
        f"detector's BiFPN (fpn_cells, resample_p6) and heads (class_net, box_net); give a "
        f"checkpoint of the whole detector, or convert the backbone with --backbone."
    )


_LOOKS = (_detection_api, _behind_a_prefix, _backbone_alone)
