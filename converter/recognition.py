"""What a checkpoint's variables say of the network they belong to, as numbers and yes or no.

Names and shapes show the backbone, the widths, the repeats, the levels, the anchors a place and the
classes: equations with one solution. They do not show which of several functions of the same
parameters a network computes; that is for hyperparameters.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any

from efficientdet_spec import EfficientDetConfig, Fusion

CLASS_BIAS = "class_net/class-predict/bias"
BOX_BIAS = "box_net/box-predict/bias"

_BLOCK = re.compile(r"(efficientnet-[a-z0-9]+)/blocks_(\d+)/")
_STEM = re.compile(r"(efficientnet-[a-z0-9]+)/stem/conv2d/kernel")
_CELL_NODE = re.compile(r"fpn_cells/cell_(\d+)/fnode(\d+)/")
_REPEAT = re.compile(r"(?:class_net/class|box_net/box)-(\d+)/")
_LEVEL = re.compile(r"(?:class_net/class|box_net/box)-\d+-bn-(\d+)/")
_NODE_CONV = re.compile(r"fpn_cells/cell_\d+/fnode\d+/op_after_combine\d+/conv/(\w+)")
_WEIGHT = re.compile(r"fpn_cells/cell_\d+/fnode\d+/WSM(?:_\d+)?")
_RESAMPLE = re.compile(r"(?:fpn_cells/.*/)?resample_[^/]+/(conv2d|bn)/")

Shapes = Mapping[str, tuple[int, ...]]


@dataclass(frozen=True)
class Facts:
    """What the variables of a file say; None wherever they do not say it.

    Attributes:
        backbone: The first part of the names of its backbone.
        blocks: Blocks of the backbone.
        squeeze_excite: Whether blocks have a squeeze-excite.
        channels: Of the BiFPN and the heads.
        cells: BiFPN cells.
        nodes: Nodes of each cell.
        repeats: Convolutions of each head before the prediction.
        levels: Lowest and highest level.
        class_outputs: Channels of the class prediction.
        box_outputs: Channels of the box prediction.
        weighted: Whether BiFPN nodes have fusion weights.
        per_channel: Whether each channel has fusion weights of its own.
        separable: Whether BiFPN nodes and heads have separable convolutions.
        node_bias: Whether the convolutions of BiFPN nodes have a bias.
        resample_bn: Whether the 1x1 convolutions of the BiFPN have batch norms.
    """

    backbone: str | None = None
    blocks: int | None = None
    squeeze_excite: bool | None = None
    channels: int | None = None
    cells: int | None = None
    nodes: int | None = None
    repeats: int | None = None
    levels: tuple[int, int] | None = None
    class_outputs: int | None = None
    box_outputs: int | None = None
    weighted: bool | None = None
    per_channel: bool | None = None
    separable: bool | None = None
    node_bias: bool | None = None
    resample_bn: bool | None = None

    @property
    def anchors(self) -> int | None:
        """Anchors at each place, each of which takes four box outputs."""
        if not self.box_outputs or self.box_outputs % 4:
            return None
        return self.box_outputs // 4

    @property
    def classes(self) -> int | None:
        """Classes, of each of which every anchor takes one class output."""
        if not self.anchors or not self.class_outputs or self.class_outputs % self.anchors:
            return None
        return self.class_outputs // self.anchors


@dataclass(frozen=True)
class Difference:
    """One thing in which a file is not a model as it is configured.

    Attributes:
        hparam: The official name of the hyperparameter, or of those that can say it.
        what: In words, to stand behind the file's value: ``anchors a place``.
        found: The file's value.
        expected: The configuration's.
        values: Fields of the configuration that the file settles, with its values; empty where it
            says only that something is different.
    """

    hparam: str
    what: str
    found: Any
    expected: Any
    values: Mapping[str, Any]

    @property
    def settled(self) -> bool:
        """Whether the file says what the hyperparameter is."""
        return bool(self.values)

    def __str__(self) -> str:
        """Such as ``fpn_num_filters 96 (64)``."""
        return f"{self.hparam} {self.found} ({self.expected})"


def facts_of(shapes: Shapes) -> Facts:
    """What variables say.

    Args:
        shapes: Of every variable, by its name without any suffix.
    """
    node_convs = [match[1] for match in map(_NODE_CONV.fullmatch, shapes) if match]
    weights = [shape for name, shape in shapes.items() if _WEIGHT.fullmatch(name)]
    resamples = {match[1] for match in map(_RESAMPLE.match, shapes) if match}
    levels = _numbers(_LEVEL, shapes)
    nodes = _per_cell(shapes)
    has_nodes = bool(node_convs)
    return Facts(
        backbone=_backbone(shapes),
        blocks=_count(_numbers(_BLOCK, shapes, group=2)),
        squeeze_excite=any("/se/conv2d/" in name for name in shapes)
        if _numbers(_BLOCK, shapes, group=2)
        else None,
        channels=_channels(shapes),
        cells=_count(_numbers(_CELL_NODE, shapes)),
        nodes=nodes,
        repeats=_count(_numbers(_REPEAT, shapes)),
        levels=(min(levels), max(levels)) if levels else None,
        class_outputs=_width(shapes, CLASS_BIAS),
        box_outputs=_width(shapes, BOX_BIAS),
        weighted=bool(weights) if has_nodes else None,
        per_channel=_per_channel(weights, _channels(shapes)),
        separable="pointwise_kernel" in node_convs if has_nodes else None,
        node_bias="bias" in node_convs if has_nodes else None,
        resample_bn="bn" in resamples if "conv2d" in resamples else None,
    )


def _per_channel(weights: list[tuple[int, ...]], channels: int | None) -> bool | None:
    kinds = set(weights)
    if kinds == {()}:
        return False
    return True if channels is not None and kinds == {(channels,)} else None


def _numbers(pattern: re.Pattern[str], shapes: Shapes, group: int = 1) -> set[int]:
    # Nine digits are more than any level or repeat has, and no work for int().
    found = (match[group] for match in map(pattern.match, shapes) if match)
    return {int(digits) for digits in found if len(digits) < 9}


def _count(numbers: set[int]) -> int | None:
    """How many there are of what is numbered from 0; None where numbers are missing."""
    return len(numbers) if numbers and numbers == set(range(len(numbers))) else None


def _backbone(shapes: Shapes) -> str | None:
    scopes = Counter(
        match[1] for name in shapes if (match := _BLOCK.match(name) or _STEM.match(name))
    )
    return scopes.most_common(1)[0][0] if scopes else None


def _per_cell(shapes: Shapes) -> int | None:
    """Nodes of each cell; None where cells have different numbers of them."""
    found: dict[str, set[str]] = {}
    for match in map(_CELL_NODE.match, shapes):
        if match:
            found.setdefault(match[1], set()).add(match[2])
    counts = {len(nodes) for nodes in found.values()}
    return counts.pop() if len(counts) == 1 else None


def _width(shapes: Shapes, name: str) -> int | None:
    shape = shapes.get(name)
    return shape[0] if shape is not None and len(shape) == 1 and shape[0] > 0 else None


def _channels(shapes: Shapes) -> int | None:
    """Channels of the BiFPN: of the batch norms behind its nodes, and of those of the heads."""
    found = Counter(
        shape[0]
        for name, shape in shapes.items()
        if len(shape) == 1
        and name.endswith("/gamma")
        and (name.startswith("fpn_cells/") or _LEVEL.match(name))
    )
    return found.most_common(1)[0][0] if found else None


def differences(facts: Facts, config: EfficientDetConfig) -> tuple[Difference, ...]:
    """In what a file is not a model as it is configured, in the words of hyperparameters.

    Args:
        facts: Of the file; what they do not say is no difference.
        config: The model.
    """
    found: list[Difference] = []

    def compare(hparam: str, what: str, theirs: Any, ours: Any, **values: Any) -> None:
        if theirs is not None and theirs != ours:
            found.append(Difference(hparam, what, theirs, ours, values))

    blocks = config.backbone.blocks
    low, high = facts.levels or (None, None)
    compare("backbone_name", "as backbone", facts.backbone, config.backbone_name)
    compare("backbone_config", "blocks in the backbone", facts.blocks, len(blocks))
    has_se = any(block.has_squeeze_excite for block in blocks)
    compare("backbone_config", "for a squeeze-excite in blocks", facts.squeeze_excite, has_se)
    for hparam, what, theirs, field in (
        ("fpn_num_filters", "channels in the BiFPN", facts.channels, "fpn_channels"),
        ("fpn_cell_repeats", "BiFPN cells", facts.cells, "fpn_cells"),
        ("box_class_repeats", "convolutions a head", facts.repeats, "head_repeats"),
        ("min_level", "as lowest level", low, "min_level"),
        ("max_level", "as highest level", high, "max_level"),
        ("num_classes", "classes", facts.classes, "num_classes"),
        ("separable_conv", "for separable convolutions", facts.separable, "separable_conv"),
        (
            "apply_bn_for_resampling",
            "for batch norms behind the 1x1 convolutions",
            facts.resample_bn,
            "resample_bn",
        ),
    ):
        compare(hparam, what, theirs, getattr(config, field), **{field: theirs})
    compare(
        "aspect_ratios or num_scales",
        f"anchors a place ({BOX_BIAS} has {facts.box_outputs} = 4 * {facts.anchors} values)",
        facts.anchors,
        config.num_anchors,
    )
    if facts.node_bias is not None:
        pattern = not facts.node_bias
        what = "for nodes without biases"
        compare("conv_bn_act_pattern", what, pattern, config.conv_bn_act, conv_bn_act=pattern)
    if low is not None and high is not None and 0 < low < high <= _MOST_LEVELS:
        usual = 2 * (high - low) if config.fpn_nodes is None else len(config.fpn_nodes)
        compare("fpn_name or fpn_config", "nodes a BiFPN cell", facts.nodes, usual)
    found += _fusion(facts, config)
    return tuple(found)


_MOST_LEVELS = 12


def _fusion(facts: Facts, config: EfficientDetConfig) -> list[Difference]:
    """The kinds of fusion that have the parameters of the file, where the model's is none."""
    if facts.weighted is None or (facts.weighted and facts.per_channel is None):
        return []
    fitting = [
        fusion
        for fusion in Fusion
        if fusion.is_weighted == facts.weighted
        and (not facts.weighted or fusion.is_per_channel == facts.per_channel)
    ]
    if config.fusion in fitting:
        return []
    names = " or ".join(fusion.value for fusion in fitting)
    # A weighted sum may be of two kinds, which have the same parameters.
    values = {"fusion": fitting[0]} if len(fitting) == 1 else {}
    return [
        Difference("fpn_weight_method", "by its fusion weights", names, config.fusion.value, values)
    ]


def adopted(
    facts: Facts, config: EfficientDetConfig, given: Collection[str] = ()
) -> EfficientDetConfig:
    """The model with what a file settles as the file has it.

    Args:
        facts: Of the file.
        config: The nearest model.
        given: Official names of hyperparameters that are not to be changed.

    Raises:
        InputError: No such model can be built.
    """
    values: dict[str, Any] = {}
    for difference in differences(facts, config):
        if difference.hparam not in given:
            values |= difference.values
    return replace(config, **values) if values else config


def unsettled(facts: Facts, config: EfficientDetConfig) -> list[str]:
    """What keeps a model from being a file's, in a sentence each that says what to do.

    Args:
        facts: Of the file.
        config: The model, with what the file settles.
    """
    told = [
        f"the file has {_shown(item.found)} {item.what}, {config.name} has "
        f"{_shown(item.expected)}: give {item.hparam} with --hparams"
        for item in differences(facts, config)
    ]
    if facts.box_outputs is not None and facts.anchors is None:
        told.append(
            f"{BOX_BIAS} has {facts.box_outputs} values, which is no multiple of the 4 that each "
            f"anchor takes"
        )
    elif facts.class_outputs and facts.anchors and facts.classes is None:
        told.append(
            f"{CLASS_BIAS} has {facts.class_outputs} values, which is no multiple of the "
            f"{facts.anchors} anchors a place that {BOX_BIAS} shows"
        )
    return told


def _shown(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return str(value)
