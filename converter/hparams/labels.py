"""Names of classes: as a mapping, a file, or the name of a data set.

Source: google/automl ``efficientdet/tf2/label_util.py``, whose names these are.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from converter.hparams.plain_yaml import read_yaml
from efficientdet_spec import Cause, InputError

Labels = tuple[tuple[int, str], ...]

_COCO = (
    "person|bicycle|car|motorcycle|airplane|bus|train|truck|boat|traffic light|"
    "fire hydrant||stop sign|parking meter|bench|bird|cat|dog|horse|sheep|cow|"
    "elephant|bear|zebra|giraffe||backpack|umbrella|||handbag|tie|suitcase|"
    "frisbee|skis|snowboard|sports ball|kite|baseball bat|baseball glove|skateboard|"
    "surfboard|tennis racket|bottle||wine glass|cup|fork|knife|spoon|bowl|banana|"
    "apple|sandwich|orange|broccoli|carrot|hot dog|pizza|donut|cake|chair|couch|"
    "potted plant|bed||dining table|||toilet||tv|laptop|mouse|remote|keyboard|"
    "cell phone|microwave|oven|toaster|sink|refrigerator||book|clock|vase|scissors|"
    "teddy bear|hair drier|toothbrush"
)
_VOC = (
    "aeroplane|bicycle|bird|boat|bottle|bus|car|cat|chair|cow|diningtable|dog|horse|motorbike|"
    "person|pottedplant|sheep|sofa|train|tvmonitor"
)
_WAYMO = "vehicle|pedestrian|cyclist"


def _numbered(names: str) -> Labels:
    """Ids from 1; those that no name stands for are left out."""
    return tuple((index, name) for index, name in enumerate(names.split("|"), 1) if name)


_BACKGROUND = frozenset({"background", "none"})
"""What class 0 is called that label maps may have and no model tells apart from nothing."""

DATA_SETS: Mapping[str, Labels] = MappingProxyType(
    {"coco": _numbered(_COCO), "voc": _numbered(_VOC), "waymo": _numbered(_WAYMO)}
)
"""The official label maps by name."""


def read_labels(value: Any) -> Labels:
    """Pairs of a class id and its name, in the order of the ids, without a background 0.

    Args:
        value: A mapping from ids to names, the name of a data set, or None for none.

    Raises:
        InputError: It is something else.
    """
    if not value:
        return ()
    if isinstance(value, str):
        if value in DATA_SETS:
            return DATA_SETS[value]
        raise _wrong(value)
    if not isinstance(value, Mapping):
        raise _wrong(value)
    pairs: dict[int, str] = {}
    for key, name in value.items():
        number = int(key) if isinstance(key, str) and key.isascii() and key.isdigit() else key
        if type(number) is not int or not 0 <= number < 10**6 or number in pairs:
            raise InputError(
                f"label_map has the id {key!r:.40}, which is no whole number, or there twice; give "
                f"each class id once, from 1.",
                Cause.OPTION,
            )
        if not isinstance(name, str):
            raise InputError(
                f"label_map calls class {number} {name!r:.40}, which YAML takes for no text; put "
                f"the name in quotes.",
                Cause.OPTION,
            )
        pairs[number] = name
    check_zero(pairs)
    return tuple(sorted((number, name) for number, name in pairs.items() if number))


def check_zero(names: Mapping[int, str]) -> None:
    """Refuse names of classes that are numbered from 0, so that each is that of the next class.

    Args:
        names: By class id; 0 may be the background.

    Raises:
        InputError: Class 0 has another name.
    """
    zero = names.get(0)
    if zero is not None and zero.casefold().strip("_ ") not in _BACKGROUND:
        raise InputError(
            f"label_map calls class 0 {zero!r:.40}, but ids are class index + 1, as officially, "
            f"and 0 is the background; number the label_map from 1.",
            Cause.OPTION,
        )


def check_ids(labels: Labels, num_classes: int) -> None:
    """Refuse a label map with ids that a model of so many classes does not have.

    Args:
        labels: Pairs of a class id and its name.
        num_classes: Of the model.

    Raises:
        InputError: It has one.
    """
    beyond = [pair for pair in labels if not 1 <= pair[0] <= num_classes]
    if beyond:
        number, name = beyond[0]
        raise InputError(
            f"label_map has the id {number} ({name!r:.40}), but the model has {num_classes} "
            f"class{'es' if num_classes > 1 else ''}, and ids are 1 to {num_classes}: class index "
            f"+ 1, as officially; number the label_map from 1, or give the one that the model was "
            f"trained with.",
            Cause.OPTION,
        )


def _wrong(value: Any) -> InputError:
    return InputError(
        f"label_map is {value!r:.80}; give a mapping of class ids to names, one of "
        f"{', '.join(DATA_SETS)}, or a FILE.yaml with such a mapping.",
        Cause.OPTION,
    )


def is_file(value: Any) -> bool:
    """Whether a label map is the name of a file."""
    return isinstance(value, str) and value.endswith((".yaml", ".yml"))


def read_file(path: Path) -> Mapping[Any, Any]:
    """The mapping in a label map's file.

    Args:
        path: A YAML file.

    Raises:
        InputError: It cannot be read or holds no mapping.
    """
    value = read_yaml(path)
    if not isinstance(value, Mapping):
        raise InputError(
            f"{path} is no label map; give a YAML file of class ids and names.", Cause.FORMAT
        )
    return value
