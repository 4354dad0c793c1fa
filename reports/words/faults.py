"""What is wrong with a candidate, sorted: what it computes, its values, its settings."""

from __future__ import annotations

from enum import Enum


class About(str, Enum):
    """What a fault is about, in words for a table."""

    STRUCTURE = "structure"
    """Which parameters there are and of which shape."""
    VALUE = "value of a parameter"
    """A parameter that the model has, with other values than the checkpoint's."""
    SETTING = "setting"
    """A number that a layer was made with, such as a momentum."""
    MODE = "mode"
    """Training in the place of evaluation."""
    REPEATABILITY = "repeatability"
    """Two runs on the same images give other outputs."""


_PARAMETER = "parameter-"
_PARAMETERS = "parameters-"
_STRUCTURAL = frozenset({"missing", "extra", "shape"})
_OTHERS = {
    "training": About.MODE,
    "not-repeatable": About.REPEATABILITY,
    "other-form": About.REPEATABILITY,
}


def about_finding(slug: str) -> About:
    """What a finding is about.

    Args:
        slug: Its short name, such as ``parameter-zeros`` or ``momentum``.
    """
    if slug.startswith(_PARAMETER):
        return _about_parameter(slug.removeprefix(_PARAMETER))
    return _OTHERS.get(slug, About.SETTING)


def is_about_values(slug: str | None) -> bool:
    """Whether a suspect computes the right function of parameters with other values.

    Args:
        slug: Short name of what is wrong with it, such as ``parameters-different``; None where
            that is not known.
    """
    if slug is None or not slug.startswith(_PARAMETERS):
        return False
    return _about_parameter(slug.removeprefix(_PARAMETERS)) is About.VALUE


def _about_parameter(relation: str) -> About:
    return About.STRUCTURE if relation in _STRUCTURAL else About.VALUE
