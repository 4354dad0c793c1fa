"""Other files' names as the official ones, so that one recognition serves every kind of file.

Which parameter a foreign name stands for depends on the model: the third block of a stage is
another block of another backbone, and a position in a list says nothing without the list. So the
model is looked for by enumeration: the names that a naming gives a configuration are laid beside
those of the file, and the configuration is changed as long as they fit better.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import combinations_with_replacement
from typing import Any

from converter.formats.source import OFFICIAL, Naming, TensorSource
from converter.mappings.layouts import Layout, Shape
from converter.mappings.official import Pair, iterate_pairs
from converter.recognition import adopted, facts_of
from converter.variables import base_shapes
from efficientdet_spec import MODELS, EfficientDetConfig, Fusion, InputError

_MOST_NAMES_TRIED = 120_000
"""Names that are laid beside those of a file before the best fit so far is taken: for D7x, which
has the most, 63 configurations, where a published model takes one for each of the models. It bounds
the time that a file can take: measured, 0.8 s, and 1.7 s with state-dict keys of others."""

BACKBONE = "backbone."
"""What the names of the parameters of a backbone begin with."""

_PREDICTIONS = 6
"""Tensors of the last convolution of both heads, whose widths are those of anchors and classes."""


def as_official(
    source: TensorSource, models: Iterable[EfficientDetConfig] = ()
) -> Mapping[str, Shape]:
    """The shapes of a file's tensors by the names that they would have as official variables.

    Args:
        source: The file.
        models: Models that it may be of besides :data:`~efficientdet_spec.MODELS`, such as those
            with the hyperparameters that were given.

    Returns:
        By names without any suffix. Of official names, all that there are; of others, those that
        the nearest model of the family has, and none where there is no such model.
    """
    kept = {name: entry for name, entry in source.entries.items() if name not in source.left_out}
    shapes = base_shapes(kept)
    if source.naming is OFFICIAL:
        return shapes
    said = () if source.said is None else (source.said.config,)
    config = structure_of(source.naming, shapes, (*said, *models))
    return {} if config is None else official_shapes(source.naming, config, shapes)


def official_shapes(
    naming: Naming, config: EfficientDetConfig, shapes: Mapping[str, Shape]
) -> dict[str, Shape]:
    """The shapes of a model's tensors by their official names, as far as they are there.

    Args:
        naming: Of the names.
        config: The model.
        shapes: By the naming's names. A shape need not be the model's: widths, classes and
            anchors follow from it.

    Raises:
        InputError: The naming has no such model.
    """
    official = {pair.parameter: pair for pair in iterate_pairs(config)}
    found: dict[str, Shape] = {}
    for pair in naming.pairs(config):
        if pair.parameter in official:
            found |= _translated(pair, official[pair.parameter], shapes)
    return found


def _translated(theirs: Pair, ours: Pair, shapes: Mapping[str, Shape]) -> dict[str, Shape]:
    """One parameter's stored shapes by the official names."""
    stored = [shapes.get(name) for name in theirs.variables]
    if theirs.layout != ours.layout and len(stored) == 1 and stored[0] is not None:
        stored = list(_laid_out(stored[0], ours))
    named = zip(ours.variables, stored, strict=False)
    return {name: shape for name, shape in named if shape is not None}


def _laid_out(shape: Shape, pair: Pair) -> tuple[Shape, ...]:
    """A parameter's shape in PyTorch as that of its variables; as it is where it has another rank.

    Args:
        shape: As a file has it, so of any extents.
        pair: The parameter, with the official layout.
    """
    several = len(pair.variables)
    if len(shape) != len(pair.shape) or (several > 1 and shape[0] != several):
        return (shape,)
    return pair.layout.tensorflow_shapes(shape)


def structure_of(
    naming: Naming,
    shapes: Mapping[str, Shape],
    models: Iterable[EfficientDetConfig] = (),
) -> EfficientDetConfig | None:
    """The configuration of the family whose names and kinds of shapes fit a file's best.

    It starts from the models that there are and changes one thing at a time, or two where one
    does not do, as long as more names fit. Equal fits are decided by the order of the models.

    Args:
        naming: Of the names.
        shapes: Of the file's tensors, by name.
        models: Models that it may be of besides :data:`~efficientdet_spec.MODELS`.

    Returns:
        With the widths that the shapes show; None where less than half of its names are there.
    """
    search = _Search(naming, shapes)
    starts = [
        fit
        for config in dict.fromkeys((*models, *MODELS.values()))
        if (fit := search.fit(config)) is not None
    ]
    if not starts:
        return None
    # Of a backbone all widths are known, and nothing that is changed below is in it.
    best = search.climb(max(starts, key=lambda fit: (fit.backbone, fit.score)))
    return None if 2 * best.alike <= best.names else best.config


@dataclass(frozen=True)
class _Fit:
    """How well a configuration's names fit a file's.

    Attributes:
        config: The configuration.
        names: How many names it has.
        alike: How many of them are in the file, with a shape of their kind whatever its widths.
        equal: How many have the very shape.
        unknown: How many names of the file it does not have.
        backbone: How many tensors of the backbone have the very shape, less those that have not.
    """

    config: EfficientDetConfig
    names: int
    alike: int
    equal: int
    unknown: int
    backbone: int

    @property
    def score(self) -> tuple[int, int]:
        """What is to be as high as can be."""
        return self.alike - (self.names - self.alike) - self.unknown, self.equal

    @property
    def perfect(self) -> bool:
        """Whether nothing could fit better: shapes settle all widths but those of predictions."""
        most = self.names - self.equal <= _PREDICTIONS and self.alike == self.names
        return most and not self.unknown


_Move = Callable[[EfficientDetConfig], EfficientDetConfig]


class _Search:
    """Looks for the configuration of a file.

    Args:
        naming: Of the names.
        shapes: Of the file's tensors, by name.
    """

    def __init__(self, naming: Naming, shapes: Mapping[str, Shape]) -> None:
        self._naming = naming
        self._shapes = shapes
        self._left = _MOST_NAMES_TRIED
        self._known: dict[EfficientDetConfig, _Fit | None] = {}

    def fit(self, config: EfficientDetConfig) -> _Fit | None:
        """How well a configuration fits; None where it has no names or there is no time left."""
        if config not in self._known:
            if self._left <= 0:
                return None
            self._known[config] = self._fit(config)
        return self._known[config]

    def _fit(self, config: EfficientDetConfig) -> _Fit | None:
        names = known = alike = equal = backbone = 0
        try:
            for pair in self._naming.pairs(config):
                expected, kinds = _of_pair(pair)
                before = equal
                for name, shape, kind in zip(pair.variables, expected, kinds, strict=True):
                    names += 1
                    stored = self._shapes.get(name)
                    if stored is not None:
                        known += 1
                        equal += stored == shape
                        alike += stored == shape or _is_of_kind(stored, kind)
                if pair.parameter.startswith(BACKBONE):
                    backbone += 2 * (equal - before) - len(expected)
            known += sum(name in self._shapes for name in self._naming.unused(config))
        except InputError:
            # The naming has no such model, as other code bases have none with other levels.
            self._left -= names
            return None
        self._left -= names
        return _Fit(config, names, alike, equal, len(self._shapes) - known, backbone)

    def climb(self, fit: _Fit) -> _Fit:
        """The best fit that can be reached from one."""
        better: _Fit | None = fit
        while better is not None and self._left > 0:
            fit = self._tried(better, self._settled) or better
            better = None if fit.perfect else self._stepped(fit)
        return fit

    def _stepped(self, fit: _Fit) -> _Fit | None:
        """The best fit that one move, or else a fit that two lead to, as often as they help."""
        one = [(found, move) for move in _MOVES if (found := self._tried(fit, move))]
        # There are a hundred pairs of moves, so the first that helps is taken.
        two = ((found, move) for move in _two_at_once() if (found := self._tried(fit, move)))
        taken = max(one, key=lambda item: item[0].score) if one else next(two, None)
        if taken is None:
            return None
        best, move = taken
        while (further := self._tried(best, move)) is not None:
            best = further
        return best

    def _settled(self, config: EfficientDetConfig) -> EfficientDetConfig:
        """The configuration with what the shapes say by its names, such as widths."""
        return adopted(facts_of(official_shapes(self._naming, config, self._shapes)), config)

    def _tried(self, fit: _Fit, move: _Move) -> _Fit | None:
        """The fit behind a move, where it is better."""
        try:
            found = self.fit(move(fit.config))
        except InputError:
            # No such configuration can be built.
            return None
        return found if found is not None and found.score > fit.score else None


def _changed(config: EfficientDetConfig, field: str, value: Any) -> EfficientDetConfig:
    return replace(config, **{field: value})


def _step(field: str, by: int) -> _Move:
    return lambda config: _changed(config, field, getattr(config, field) + by)


def _switch(field: str) -> _Move:
    return lambda config: _changed(config, field, not getattr(config, field))


def _fuse(kind: Fusion) -> _Move:
    """Another fusion, but the configuration's own where its parameters are those of ``kind``."""

    def move(config: EfficientDetConfig) -> EfficientDetConfig:
        own = config.fusion
        same = own.is_weighted == kind.is_weighted and own.is_per_channel == kind.is_per_channel
        return config if same else replace(config, fusion=kind)

    return move


_MOVES: tuple[_Move, ...] = (
    *(
        _step(field, by)
        for field in ("fpn_cells", "head_repeats", "max_level", "min_level")
        for by in (1, -1)
    ),
    *(_fuse(kind) for kind in (Fusion.FAST_ATTENTION, Fusion.SUM, Fusion.CHANNEL_FAST_ATTENTION)),
    *(_switch(field) for field in ("separable_conv", "resample_bn", "conv_bn_act")),
)
"""Everything that changes which names there are, but what only hyperparameters tell: the wiring of
a cell and the stages of a backbone."""


def _two_at_once() -> Iterator[_Move]:
    for first, second in combinations_with_replacement(_MOVES, 2):
        yield _then(first, second)


def _then(first: _Move, second: _Move) -> _Move:
    return lambda config: second(first(config))


def _of_pair(pair: Pair) -> tuple[tuple[Shape, ...], tuple[Shape, ...]]:
    """The shapes of a pair's variables, and their kinds."""
    return _shapes(pair.layout, pair.shape, pair.parameter.endswith(".weights"))


@lru_cache(maxsize=1 << 14)
def _shapes(
    layout: Layout, shape: Shape, is_fusion: bool
) -> tuple[tuple[Shape, ...], tuple[Shape, ...]]:
    return layout.tensorflow_shapes(shape), layout.tensorflow_shapes(
        _without_widths(shape, is_fusion)
    )


def _without_widths(shape: Shape, is_fusion: bool) -> Shape:
    """A parameter's shape in PyTorch with 0 for whatever is another number in a wider model.

    Args:
        shape: The shape.
        is_fusion: Whether these are fusion weights, one for each input along the first axis.
    """
    if is_fusion:
        return (shape[0], *(0 for _ in shape[1:]))
    if len(shape) == 4:
        _, inputs, height, width = shape
        return (0, 1 if inputs == 1 else 0, height, width)
    return tuple(0 for _ in shape)


def _is_of_kind(shape: Shape, kind: Shape) -> bool:
    if len(shape) != len(kind):
        return False
    return all(wanted in (0, found) for found, wanted in zip(shape, kind, strict=True))
