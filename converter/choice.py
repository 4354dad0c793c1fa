"""Which model a checkpoint is of, as asked for and as its variables say."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from types import MappingProxyType

from converter.formats.source import Entry
from converter.mappings.layouts import Shape
from converter.mappings.official import iterate_pairs
from converter.recognition import CLASS_BIAS, Facts, adopted, differences, facts_of
from converter.variables import base_shapes, exclusion
from converter.wrong_models import refusal
from efficientdet_spec import MODELS, Cause, EfficientDetConfig, InputError, base_model


def recognise(
    entries: Mapping[str, Entry],
    source: str,
    models: Iterable[EfficientDetConfig] = MODELS.values(),
    given: Collection[str] = (),
    shapes: Mapping[str, Shape] | None = None,
) -> tuple[EfficientDetConfig, ...]:
    """The models that a checkpoint's variables fit best; several where nothing tells them apart.

    What the variables settle, such as widths, repeats, levels and classes, is theirs; the rest is
    that of the nearest model of the same backbone.

    Args:
        entries: The checkpoint's entries by name.
        source: The checkpoint, for messages.
        models: The models that there are, with the hyperparameters that were given.
        given: Official names of these hyperparameters, which the file does not change.
        shapes: Of every variable by its official name; None takes the entries' names for it.

    Raises:
        InputError: These are no variables of any EfficientDet that this program knows.
    """
    shapes = base_shapes(entries) if shapes is None else shapes
    facts = facts_of(shapes)
    scored: list[tuple[tuple[int, int], EfficientDetConfig]] = []
    for config in models:
        if config.backbone_name != facts.backbone:
            continue
        # What was given otherwise than the file has it is told later, by its name.
        expected = _expected_shapes(_adopted(facts, config))
        fitting = sum(shapes.get(name) == shape for name, shape in expected.items())
        # A file that misses half of a model's variables is of another kind, not damaged.
        if 2 * fitting > len(expected):
            unknown = sum(exclusion(name, (), False) is None for name in shapes.keys() - expected)
            other = [item for item in differences(facts, config) if item.hparam != "num_classes"]
            candidate = _adopted(facts, config, given)
            scored.append(((len(other), len(expected) - fitting + unknown), candidate))
    if not scored:
        raise refusal(source, entries)
    best = min(score for score, _ in scored)
    return tuple(config for score, config in scored if score == best)


def _adopted(
    facts: Facts, config: EfficientDetConfig, given: Collection[str] = ()
) -> EfficientDetConfig:
    """The model with what the file settles; unchanged where that cannot be built."""
    try:
        return adopted(facts, config, given)
    except InputError:
        return config


def choose_config(
    entries: Mapping[str, Entry],
    source: str,
    model: EfficientDetConfig | None = None,
    num_classes: int | None = None,
    given: Mapping[str, str] = MappingProxyType({}),
    models: Iterable[EfficientDetConfig] = MODELS.values(),
    suggested: EfficientDetConfig | None = None,
    advice: str | None = None,
    shapes: Mapping[str, Shape] | None = None,
) -> EfficientDetConfig:
    """The model of a checkpoint, as asked for and as its variables say.

    Args:
        entries: The checkpoint's entries by name.
        source: The checkpoint, for messages.
        model: The model asked for, or None to recognise it.
        num_classes: The number of classes asked for, or None to read it from the file.
        given: By official name of the hyperparameters that ``model`` and ``models`` have from the
            user, where each is from; the file must agree with them.
        models: The models that there are, with these hyperparameters.
        suggested: The model that the checkpoint's origin tells, which counts where its variables
            are those of the file; None where it tells none.
        advice: What to do where the file is not of the model asked for; None where an option
            asked for it.
        shapes: Of every variable by its official name; None takes the entries' names for it.

    Raises:
        InputError: The file is of another model or class count than asked for, of none that is
            known, or of several alike.
    """
    shapes = base_shapes(entries) if shapes is None else shapes
    facts = facts_of(shapes)
    try:
        found = recognise(entries, source, models, given, shapes)
    except InputError:
        # What was given may be what the file does not fit.
        for nearest in recognise(entries, source, shapes=shapes) if given else ():
            for config in models:
                if config.name == nearest.name:
                    _require_given(facts, config, given, source)
        raise
    # Other anchors than the model's make another number of classes of the same outputs.
    classes = facts.classes or found[0].num_classes
    if num_classes is not None and classes != num_classes:
        raise InputError(
            f"{source} has {classes} classes ({CLASS_BIAS}), not {num_classes}; "
            f"leave --num-classes out or give the right checkpoint.",
            Cause.MODEL,
        )
    names = [config.name for config in found]
    if model is None and suggested is not None and base_model(suggested.name) in names:
        model = suggested
    if model is not None:
        if base_model(model.name) not in names:
            raise InputError(
                f"{source} holds the variables of {' or '.join(names)}, not of {model.name}; "
                f"{advice or 'leave --model out'} or give the right checkpoint.",
                Cause.MODEL,
            )
        _require_given(facts, model, given, source)
        return _adopted(facts, model, given)
    if len(found) > 1:
        raise InputError(
            f"{source} fits {' and '.join(names)} alike, which have the same variables and differ "
            f"in input size and anchors; say which with --model.",
            Cause.OPTION,
        )
    _require_given(facts, found[0], given, source)
    return found[0]


def _require_given(
    facts: Facts, model: EfficientDetConfig, given: Mapping[str, str], source: str
) -> None:
    """Refuse a hyperparameter that the file contradicts.

    Raises:
        InputError: Says which.
    """
    for item in differences(facts, model):
        told = [name for name in item.hparam.split(" or ") if name in given]
        if told:
            raise InputError(
                f"{source} has {item.found} {item.what}, but {given[told[0]]} says {told[0]} so "
                f"that {item.expected} is expected; correct it, or give the checkpoint that it is "
                f"of.",
                Cause.MODEL,
            )


def _expected_shapes(config: EfficientDetConfig) -> dict[str, tuple[int, ...]]:
    return {
        name: shape
        for pair in iterate_pairs(config)
        for name, shape in pair.variable_shapes.items()
    }
