"""State dicts, whatever file they are in: which dictionary holds the model, and in whose names.

The names are this project's own or those of a code base of :mod:`converter.mappings.state_dicts`.
What a trainer puts around a model's dictionary, and wrappers before its keys, is taken off: it is
found from the keys themselves, whatever it is called.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Set
from dataclasses import dataclass, replace
from functools import lru_cache
from os.path import commonprefix
from pathlib import Path

from converter.formats.source import Entry, Naming, StoredEntry, TensorSource
from converter.mappings import keys as mapped
from converter.mappings.layouts import KEPT, Array
from converter.mappings.official import Pair
from converter.mappings.state_dicts import (
    MOST_PARTS,
    first_parts,
    models_in,
    namings,
    splits,
)
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

_AVERAGED = frozenset(
    {"ema", "shadow", "swa", "polyak", "avg", "average", "averages", "averaged", "averaging"}
)
"""Words in the names of dictionaries and modules in which trainers keep moving averages, such as
``state_dict_ema`` (timm, with which effdet trains), ``model_ema`` (torchvision's references),
``ema_model.`` or ``shadow``."""

_NOT_AVERAGED = "exp"
"""A word beside one of these in what optimizers keep of gradients, such as ``exp_avg``."""

_OPTIMIZER = "optim"
"""In what the dictionary of an optimizer's state is called."""

_WORD = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])")

_BESIDE = {
    "anchors.": "anchors of a training or prediction wrapper, which the configuration makes",
    "anchor_labeler.": "part of a training wrapper, which assigns anchors",
    "loss_fn.": "part of a training wrapper, which computes the loss",
    "loss.": "part of a training wrapper, which computes the loss",
    "criterion.": "part of a training wrapper, which computes the loss",
    "n_averaged": "number of models averaged, not read at inference",
}
"""What wrappers keep beside a model, by what the key begins with; no model has such keys."""

_COUNTED = "count of operations or parameters that thop has added, not read at inference"
_COUNTERS = {"total_ops": _COUNTED, "total_params": _COUNTED}
"""What tools add to every module of a model, by the key's last part."""

_SETTING = "one number beside the averages, which is no value of the model"

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
        group: The dictionary.
        prefix: What wrappers have put before its keys.
        naming: Whose keys it has.
    """

    group: str
    prefix: str
    naming: mapped.Naming

    @property
    def place(self) -> str:
        """Where it is, in words of the file."""
        return "/".join(filter(None, (self.group, f"{self.prefix}*" if self.prefix else "")))

    @property
    def parts(self) -> tuple[str, ...]:
        """The names of what it is in, the outermost first."""
        return tuple(filter(None, (*self.group.split("/"), *self.prefix.split("."))))

    def keys(self, groups: Groups) -> frozenset[str]:
        """Its keys, without the prefix."""
        start = len(self.prefix)
        return frozenset(key[start:] for key in groups[self.group] if key.startswith(self.prefix))


@dataclass(frozen=True)
class _Models:
    """The models of a file.

    Attributes:
        every: One, or one of raw values and one of their averages.
        averages: The one that holds averages, of all or of some of the values; None for none.
        raw: The keys of the one that holds raw values; None where there is none.
    """

    every: tuple[_Model, ...]
    averages: _Model | None
    raw: frozenset[str] | None

    def holding(self, group: str, key: str) -> _Model | None:
        """The model that a tensor is in, the innermost; None where it is in none."""
        there = [one for one in self.every if one.group == group and key.startswith(one.prefix)]
        return max(there, key=lambda one: len(one.prefix), default=None)


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
        InputError: No dictionary holds a model in names that are known, it is not told which
            of several does, or there are averages that cannot be laid beside the model.
    """
    models = _models(path, groups)
    source = _StateDict(path, read, digests)
    source.FORMAT, source.SAYS, source.CHECKED = format_name, says, checked
    if models.averages is None:
        source.ONLY_VALUE = "and does not say whether it is the raw one or a moving average"
    naming = models.every[0].naming
    source.naming = source_naming(naming)
    source.unwrapped = tuple(dict.fromkeys(model.prefix for model in models.every if model.prefix))
    source.notes = (
        f"Its tensors have the names of {naming.whose}.",
        *(
            f"Keys were read without {listed([repr(prefix)], 1, 200)} before them."
            for prefix in source.unwrapped
        ),
        *_averages_note(models),
    )
    several = sum(map(bool, groups.values())) > 1
    for group, entries in groups.items():
        for key, entry in entries.items():
            shown = f"{group}/{key}" if several and group else key
            name, reason = _placed(models, group, key, entry)
            source.add(name or shown, replace(entry, name=shown), (group, key), reason)
    return source


def _averages_note(models: _Models) -> list[str]:
    """What is noted of the place from whose name it is known that averages are in it."""
    if models.averages is None:
        return []
    place = listed([repr(models.averages.place)], 1, 100)
    return [f"Moving averages are what is in {place}, as its name says."]


def _placed(models: _Models, group: str, key: str, entry: StoredEntry) -> tuple[str, str]:
    """The name that a tensor has in a source, and why it is left out; empty texts for neither."""
    model = models.holding(group, key)
    if model is None:
        return "", _beside(key) or _why_outside(models, group, key)
    bare = key.removeprefix(model.prefix)
    reason = _beside(bare)
    is_average = model is models.averages
    if not reason and _is_number(entry) and _is_setting(models, model, bare):
        reason = _SETTING
    return ("", reason) if reason else (bare + (EMA_SUFFIX if is_average else ""), "")


def _is_setting(models: _Models, model: _Model, bare: str) -> bool:
    """Whether a number in a model is one beside averages, such as their decay."""
    if model is models.averages:
        return models.raw is not None and bare not in models.raw
    first = bare.partition(".")[0]
    return first not in first_parts(model.naming) and _says_averages([first])


def _is_number(entry: StoredEntry) -> bool:
    """Whether a tensor is a single number."""
    return math.prod(entry.shape) <= 1


def _beside(key: str) -> str:
    """Why a tensor is left out that is known to be none of a model's, by its key; else empty."""
    counted = _COUNTERS.get(key.rpartition(".")[2], "")
    return counted or next((why for start, why in _BESIDE.items() if key.startswith(start)), "")


def _why_outside(models: _Models, group: str, key: str) -> str:
    """Why a tensor is left out that is not in a model; empty where it looks like one's."""
    there = [model for model in models.every if model.group == group]
    if not there:
        outermost = group.partition("/")[0]
        if not group or any(outermost == model.group.partition("/")[0] for model in models.every):
            return "beside the model"
        return f"in {shortened(printable(outermost), 60)!r}, which holds no model"
    if key.partition(".")[0] in first_parts(there[0].naming):
        return ""
    prefixes = listed((repr(model.prefix) for model in there), 2)
    return f"beside the model, whose keys have {prefixes} before them"


def _models(path: Path, groups: Groups) -> _Models:
    """The models of a file, and which of them holds averages.

    Raises:
        InputError: There is none that is known, it is not told which of several is meant, or
            there are averages that cannot be laid beside the model.
    """
    every = tuple(
        _Model(group, prefix, naming)
        for group, entries in groups.items()
        for prefix, naming in models_in(entries).items()
    )
    if not every:
        raise _nobodys(path, groups)
    averages = _averages(path, every)
    _require_official(path, groups, every)
    raw = next((model for model in every if model is not averages), None)
    if raw is None:
        return _Models(every, averages, None)
    keys = raw.keys(groups)
    some = _some_averages(groups, raw, keys) if averages is None else None
    averages = averages or some
    found = _Models((raw,) if averages is None else (raw, averages), averages, keys)
    _require_understood(path, groups, found, raw, some)
    return found


def _averages(path: Path, models: tuple[_Model, ...]) -> _Model | None:
    """The model that holds moving averages; None where there is one of plain values alone.

    Raises:
        InputError: It is not told which of several is meant.
    """
    # What both are in tells nothing of one of them.
    shared = len(commonprefix([model.parts for model in models])) if len(models) > 1 else 0
    averages = [model for model in models if _says_averages(model.parts[shared:])]
    others = len(models) - len(averages)
    if len(averages) <= 1 and others <= 1 and len({model.naming for model in models}) == 1:
        return averages[0] if averages else None
    places = listed((repr(model.place) for model in models), 6, 40)
    raise InputError(
        f"{path} holds {len(models)} models (in {places}), and nothing says which is meant; save "
        f"the one that is as a state dict of its own.",
        Cause.MODEL,
    )


def _says_averages(parts: Iterable[str]) -> bool:
    """Whether one of these names says that what it is of holds averages."""
    for part in parts:
        words = {word.lower() for word in _WORD.findall(part)}
        if words & _AVERAGED and _NOT_AVERAGED not in words:
            return True
    return False


def _some_averages(groups: Groups, raw: _Model, keys: Set[str]) -> _Model | None:
    """Averages of some of a model's values, for example of what is trained; None for none.

    Args:
        groups: The dictionaries of the file.
        raw: The model.
        keys: Its keys.
    """
    fitting = Counter(
        (group, prefix)
        for group, entries in groups.items()
        for key in entries
        for prefix, rest in splits(key)
        if rest in keys and _says_averages((*group.split("/"), *prefix.split(".")))
    )
    place = max(fitting, key=lambda one: fitting[one], default=None)
    return None if place is None else _Model(*place, raw.naming)


def _require_understood(
    path: Path, groups: Groups, models: _Models, raw: _Model, some: _Model | None
) -> None:
    """Refuse averages that are not laid beside the raw values, which would be taken for them.

    Args:
        path: The file.
        groups: Its dictionaries.
        models: What was found in them.
        raw: The raw values.
        some: Averages of some of them.

    Raises:
        InputError: Something that is called averages holds others than of the model's values, or
            is in another place than the rest of them.
    """
    averages, keys = models.averages, models.raw or frozenset()
    shared = 0 if averages is None else len(commonprefix([raw.parts, averages.parts]))
    for group, entries in groups.items():
        parts = tuple(filter(None, group.split("/")))
        if parts[:shared] == raw.parts[:shared]:
            parts = parts[shared:]
        for key, entry in entries.items():
            model = models.holding(group, key)
            if model is None:
                beside = averages is not None and group in (raw.group, averages.group)
                understood = beside or not _is_called_averages(parts, key)
            else:
                # Of a whole model it is a finding of the ledger.
                understood = model is not some or key.removeprefix(model.prefix) in keys
            if not (understood or _is_number(entry) or _beside(key)):
                name = "/".join(filter(None, (group, key)))
                raise InputError(
                    f"{path} holds a model (in {listed([repr(raw.place or '*')], 1, 100)}) and, as "
                    f"their name says, moving averages ({listed([name], 1, 100)}), but these are "
                    f"not called like the model's own tensors, or not all in one place; save the "
                    f"averages as a state dict of the model, or for the raw values the model's "
                    f"state dict alone.",
                    Cause.MODEL,
                )


def _is_called_averages(parts: tuple[str, ...], key: str) -> bool:
    """Whether a tensor is an average, or a part of averages, by the names of what it is in.

    Args:
        parts: The names of its dictionary and of those that hold this one.
        key: Its key.
    """
    *before, last = key.split(".", MOST_PARTS)
    if _says_averages((*parts, *before)):
        return True
    # An optimizer has averages of its own for each parameter.
    return not any(_OPTIMIZER in part.lower() for part in parts) and _says_averages([last])


def _require_official(path: Path, groups: Groups, models: tuple[_Model, ...]) -> None:
    """Refuse what a code base has besides the official networks, and keys that would be misread.

    Raises:
        InputError: Says what was found.
    """
    for model in models:
        obstacle = model.naming.obstacle(model.keys(groups))
        if obstacle:
            raise InputError(f"{path} is {obstacle}.", Cause.MODEL)
        odd = [key for key in groups[model.group] if key.endswith(EMA_SUFFIX)]
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
    every_mark = tuple(mark for marks in _OTHERS.values() for mark in marks)
    marked = [item for key in keys for item in splits(key) if item[1].startswith(every_mark)]
    for what, marks in _OTHERS.items():
        under = [{start for start, bare in marked if bare.startswith(mark)} for mark in marks]
        if set.intersection(*under):
            return InputError(f"{path} is {what}.", Cause.MODEL)
    found = f"{len(keys):,} tensors ({listed(keys, 3)})" if keys else "no tensors"
    return InputError(
        f"{path} holds {found}, which are not the parameters of an EfficientDet in names that are "
        f"known; give one of this project, or of {_KNOWN}.",
        Cause.MODEL,
    )
