"""State dicts, whatever file they are in: which dictionary holds the model, and in whose names.

The names are this project's own or those of a code base of :mod:`converter.mappings.state_dicts`.
What a trainer puts around a model's dictionary, and a wrapper before its keys, is taken off.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

from converter.formats.source import Entry, Naming, StoredEntry, TensorSource
from converter.mappings import keys as mapped
from converter.mappings.layouts import KEPT, Array
from converter.mappings.official import Pair
from converter.mappings.own import OWN
from converter.mappings.state_dicts import has_keys_of, naming_of, namings
from efficientdet_spec import (
    EMA_SUFFIX,
    Cause,
    EfficientDetConfig,
    InputError,
    listed,
    printable,
    shortened,
)

Groups = Mapping[str, Mapping[str, StoredEntry]]
"""Dictionaries of tensors in a file, the outermost under an empty text; entries by their keys."""

_WRAPPERS = ("module.", "model.", "_orig_mod.")
"""What stands before a model's keys in a wrapper: for several devices and averages, for training
(effdet's benches too), and for compiled models."""

_MAX_WRAPPERS = 4
"""Most wrappers around each other."""

_AVERAGES = {"state_dict_ema": "state_dict", "model_ema": "model"}
"""Under which key trainers keep moving averages, and the raw values beside them: timm, with which
effdet trains (``timm/utils/checkpoint_saver.py``), and torchvision's training references."""

_BESIDE = {
    "anchors.": "anchors of a training or prediction wrapper, which the configuration makes",
    "anchor_labeler.": "part of a training wrapper, which assigns anchors",
    "loss_fn.": "part of a training wrapper, which computes the loss",
    "n_averaged": "number of models averaged, not read at inference",
}
"""What wrappers keep beside a model, by what the key begins with; no model has such keys."""

_KNOWN = " or ".join(naming.project for naming in namings().values())

_BACKBONE_ALONE = (
    "{} backbone alone, without BiFPN and heads; give the state dict of a whole EfficientDet"
)

_OTHERS = {
    "a model of mmdetection, whose names are not read; give the checkpoint that it was made from, "
    "or a state dict of " + _KNOWN: ("backbone.", "neck.", "bbox_head."),
    _BACKBONE_ALONE.format("timm's"): ("conv_stem.", "bn1.", "blocks.0.0.conv_dw."),
    _BACKBONE_ALONE.format("lukemelas' (and zylo117's)"): ("_conv_stem.", "_bn0.", "_blocks.0."),
    _BACKBONE_ALONE.format("torchvision's"): ("features.0.0.", "features.1.0.block."),
    _BACKBONE_ALONE.format("this project's"): ("stem_conv.", "stem_bn.", "blocks.0."),
}
"""What else is met in PyTorch files, in words, with what keys of it begin with."""


class _StateDict(TensorSource):
    """The tensors of a state dict; see :class:`TensorSource`."""

    def __init__(
        self,
        path: Path,
        read: Callable[[str, str], Array],
        digests: Mapping[str, str],
    ) -> None:
        self.path = path
        self.entries: dict[str, Entry] = {}
        self.left_out: dict[str, str] = {}
        self._read = read
        self._digests = digests
        self._places: dict[str, tuple[str, str]] = {}

    def add(self, name: str, entry: StoredEntry, place: tuple[str, str], reason: str) -> None:
        """Take in a tensor.

        Args:
            name: In the naming, or as the file has it.
            entry: Under the name that a user sees.
            place: Its dictionary and its key in that.
            reason: Why it is left out; empty where it is not.

        Raises:
            InputError: There is another of this name.
        """
        if name in self.entries:
            both = listed((self.entries[name].name, entry.name), 2)
            raise InputError(
                f"{self.path} holds two tensors for one name of the model ({both}); give a file "
                f"with one model.",
                Cause.MODEL,
            )
        self.entries[name] = entry
        self._places[name] = place
        if reason:
            self.left_out[name] = reason

    def read(self, name: str) -> Array:
        """See :meth:`TensorSource.read`."""
        return self._read(*self._places[name])

    def digests(self) -> Mapping[str, str]:
        """See :meth:`TensorSource.digests`."""
        return dict(self._digests)


@dataclass(frozen=True)
class _Model:
    """A model in a dictionary.

    Attributes:
        naming: Whose keys it has.
        prefix: What wrappers have put before them.
    """

    naming: mapped.Naming
    prefix: str


def state_dict_source(
    *,
    path: Path,
    format_name: str,
    says: str,
    groups: Groups,
    read: Callable[[str, str], Array],
    digests: Mapping[str, str],
    checked: str = TensorSource.CHECKED,
) -> TensorSource:
    """The source that dictionaries of tensors are.

    Args:
        path: The file.
        format_name: Of the container, such as ``pth``.
        says: What the container is, in words.
        groups: The dictionaries of tensors in the file.
        read: Gives the values of a tensor, by its dictionary and its key in that.
        digests: SHA-256 of the file, by the name that provenance gives each.
        checked: As :attr:`TensorSource.CHECKED`.

    Raises:
        InputError: No dictionary holds a model in names that are known, or it is not told which
            of several does.
    """
    models = {group: model for group, one in groups.items() if (model := _model_in(one))}
    if not models:
        raise _nobodys(path, groups)
    averages = _averages(path, models)
    _require_official(path, groups, models)
    source = _StateDict(path, read, digests)
    source.FORMAT, source.SAYS, source.CHECKED = format_name, says, checked
    if averages is None:
        source.ONLY_VALUE = "and does not say whether it is the raw one or a moving average"
    naming = next(iter(models.values())).naming
    source.naming = source_naming(naming)
    source.notes = (f"Its tensors have the names of {naming.whose}.", *_wrappers(models))
    several = sum(map(bool, groups.values())) > 1
    for group, entries in groups.items():
        model = models.get(group)
        suffix = EMA_SUFFIX if group == averages else ""
        for key, entry in entries.items():
            shown = f"{group}/{key}" if several and group else key
            name, reason = _placed(key, shown, suffix, model)
            if model is None:
                reason = _elsewhere(group)
            source.add(name, replace(entry, name=shown), (group, key), reason)
    return source


def _elsewhere(group: str) -> str:
    """Why a tensor is left out that is in no dictionary of a model."""
    outermost = shortened(printable(group.partition("/")[0]), 60)
    return f"in {outermost!r}, which holds no model" if group else "beside the model"


def _wrappers(models: Mapping[str, _Model]) -> list[str]:
    """What is noted of keys that are read without what stands before them."""
    prefixes = dict.fromkeys(model.prefix for model in models.values() if model.prefix)
    return [f"Keys were read without {prefix!r} before them." for prefix in prefixes]


def _placed(key: str, shown: str, suffix: str, model: _Model | None) -> tuple[str, str]:
    """The name that a tensor has in a source, and why it is left out, or an empty text."""
    inside = model is not None and key.startswith(model.prefix)
    bare = key.removeprefix(model.prefix) if model is not None and inside else key
    reason = next((why for start, why in _BESIDE.items() if bare.startswith(start)), "")
    return (bare + suffix if inside and not reason else shown), reason


def _model_in(entries: Iterable[str]) -> _Model | None:
    """The model whose keys most of these are, with wrappers taken off; None where none is known."""
    keys, prefix = list(entries), ""
    for _ in range(_MAX_WRAPPERS + 1):
        naming = OWN if has_keys_of(OWN, keys) else naming_of(keys)
        if naming is not None:
            return _Model(naming, prefix)
        under = {one: [key for key in keys if key.startswith(one)] for one in _WRAPPERS}
        wrapper = max(under, key=lambda one: len(under[one]))
        if 2 * len(under[wrapper]) <= len(keys):
            return None
        keys = [key.removeprefix(wrapper) for key in under[wrapper]]
        prefix += wrapper
    return None


def _averages(path: Path, models: Mapping[str, _Model]) -> str | None:
    """The dictionary that holds moving averages; None where there is one of plain values alone.

    Raises:
        InputError: It is not told which of several dictionaries is the model.
    """
    averages = [group for group in models if group in _AVERAGES]
    others = [group for group in models if group not in _AVERAGES]
    fits = len(averages) < 2 and len(others) < 2
    if averages and others:
        fits = fits and others == [_AVERAGES[averages[0]]]
    if not fits or len({model.naming for model in models.values()}) > 1:
        raise InputError(
            f"{path} holds {len(models)} models (in {listed(map(repr, models), 6, 40)}), and "
            f"nothing says which is meant; save the one that is as a state dict of its own.",
            Cause.MODEL,
        )
    return averages[0] if averages else None


def _require_official(path: Path, groups: Groups, models: Mapping[str, _Model]) -> None:
    """Refuse what a code base has besides the official networks, and keys that would be misread.

    Raises:
        InputError: Says what was found.
    """
    for group, model in models.items():
        bare = [key.removeprefix(model.prefix) for key in groups[group]]
        obstacle = model.naming.obstacle(frozenset(bare))
        if obstacle:
            raise InputError(f"{path} is {obstacle}.", Cause.MODEL)
        odd = [key for key in bare if key.endswith(EMA_SUFFIX)]
        if odd:
            raise InputError(
                f"{path} has keys of a state dict that end like a moving average's variable in "
                f"TensorFlow ({listed(odd, 2)}); save it with the model's own keys.",
                Cause.MODEL,
            )


def source_naming(naming: mapped.Naming) -> Naming:
    """What a source says of a code base's keys."""

    # A model is asked for both, one after the other.
    @lru_cache(maxsize=1)
    def keys(config: EfficientDetConfig) -> tuple[mapped.Key, ...]:
        return tuple(naming.keys(config))

    def pairs(config: EfficientDetConfig) -> Iterator[Pair]:
        for key in keys(config):
            if key.parameter is not None and key.required:
                yield Pair(key.parameter, (key.name,), KEPT, key.shape)

    def unused(config: EfficientDetConfig) -> Mapping[str, str]:
        return {key.name: key.why_unused(naming) for key in keys(config) if not key.required}

    return Naming(naming.name, naming.whose, pairs, unused)


def _nobodys(path: Path, groups: Groups) -> InputError:
    """What is said of a file in which no dictionary holds a model that is known."""
    keys = [key for entries in groups.values() for key in entries]
    bare = {_unwrapped(key) for key in keys}
    for what, marks in _OTHERS.items():
        if all(any(key.startswith(mark) for key in bare) for mark in marks):
            return InputError(f"{path} is {what}.", Cause.MODEL)
    found = f"{len(keys):,} tensors ({listed(keys, 3)})" if keys else "no tensors"
    return InputError(
        f"{path} holds {found}, which are not the parameters of an EfficientDet in names that are "
        f"known; give one of this project, or of {_KNOWN}.",
        Cause.MODEL,
    )


def _unwrapped(key: str) -> str:
    for wrapper in _WRAPPERS:
        key = key.removeprefix(wrapper)
    return key
