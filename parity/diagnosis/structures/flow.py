"""What a candidate computes as a network of layers, read off its operations and nothing else.

No value is looked at and no name: only which operations there are, with which settings, on what
shapes, and what each reads. So it can be told of layers too that no node of the model is like.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from functools import cached_property
from types import MappingProxyType

from efficientdet_spec import Activation, NodeKind, same_padding
from parity.sides.observed.record import Content, Made, Operation, Plain, Record
from parity.sides.observed.settings import settings_of


class Kind(str, Enum):
    """What a layer does; the value is what people read."""

    IMAGES = "the images"
    CONV = "convolution"
    NORM = "batch norm"
    ACTIVATION = "activation"
    GATE = "sigmoid"
    POOL = "max-pool"
    UP = "up-sampling"
    MEAN = "mean"
    SUM = "sum"
    PRODUCT = "product"
    OTHER = "another operation"


WORDS: Mapping[Activation, str] = MappingProxyType(
    {
        Activation.SWISH: "swish",
        Activation.RELU: "relu",
        Activation.RELU6: "relu6",
        Activation.HARD_SWISH: "hard swish",
        Activation.MISH: "mish",
    }
)
"""What the models' activations are called in words."""

ACTIVATIONS = {
    "silu": "swish",
    "relu": "relu",
    "relu6": "relu6",
    "hardswish": "hard swish",
    "leaky_relu": "leaky relu",
    "elu": "elu",
    "mish": "mish",
    "gelu": "gelu",
    "prelu": "prelu",
    "softplus": "softplus",
    "tanh": "tanh",
}
"""What the frameworks' operations are called in words."""

_GATES = {"sigmoid": "swish", "hardsigmoid": "hard swish"}
"""What a product of a value and a gate of it is called, by the gate."""

_LIMITS = {"hardtanh": ("min_val", "max_val"), "clamp": ("min", "max"), "clamp_min": ("min", "")}
"""Operations that cut values off, and what their limits are called."""

_COLOURS = 4
"""An image has no more channels, and more rows."""

_MADE_ANEW = ("zeros", "ones", "empty", "full", "new_")
"""Beginnings of the names of operations that take nothing but a shape from what they are given."""

_BY_ELEMENT = ("add", "sub", "rsub", "mul", "div", "addcmul", "neg", "reciprocal")


@dataclass(frozen=True, eq=False)
class Layer:
    """One layer of a candidate.

    Attributes:
        number: Of the value that it makes.
        kind: What it does.
        name: Of an activation or a gate which one it is; otherwise what the framework calls the
            operation.
        operation: The first of its operations.
        shape: Of what it makes.
        inputs: The numbers of the layers that it reads.
        weight: Shape of a convolution's weight; empty for none that is known.
        biased: Whether a convolution adds something to each channel.
        held: What the candidate holds that takes part in it.
        whole: Whether it is a single operation, whose settings say all of it.
    """

    number: int
    kind: Kind
    name: str
    operation: Operation
    shape: tuple[int, ...]
    inputs: tuple[int, ...]
    weight: tuple[int, ...] = ()
    biased: bool = False
    held: frozenset[Content] = frozenset()
    whole: bool = True

    @property
    def kernel(self) -> tuple[int, int]:
        """Height and width of a convolution's kernel; (0, 0) where they are not known."""
        return (self.weight[2], self.weight[3]) if len(self.weight) == 4 else (0, 0)

    @property
    def depthwise(self) -> bool:
        """Whether a convolution reads one channel for each that it makes."""
        return len(self.weight) == 4 and self.weight[1] == 1 and self.weight[0] > 1

    @property
    def place(self) -> str:
        """The module and the line of code that make it; empty where neither is known."""
        module, place = self.operation.module, self.operation.place
        return f"{module} at {place}" if module and place else place or module


@dataclass(frozen=True)
class Window:
    """How a kernel moves over a map.

    Attributes:
        kernel: Height and width.
        stride: Along height and width.
        dilation: Likewise.
        padding: Pixels left, right, above and below.
        fill: What these are; None for what is no number, such as a mirror image.
        size: Height and width of the map without them.
    """

    kernel: tuple[int, int]
    stride: tuple[int, int]
    dilation: tuple[int, int]
    padding: tuple[int, int, int, int]
    fill: float | None
    size: tuple[int, int]

    def same(self, kernel: tuple[int, int]) -> tuple[int, int, int, int]:
        """The pixels that SAME padding adds for a kernel of some size."""
        (top, bottom), (left, right) = (
            same_padding(size, length, step)
            for size, length, step in zip(self.size, kernel, self.stride, strict=True)
        )
        return left, right, top, bottom


class Flow:
    """The layers of a run.

    Args:
        record: What a candidate did.

    Attributes:
        layers: In the order in which they were computed, by the number of what they make.
    """

    def __init__(self, record: Record) -> None:
        self._record = record
        self.layers: dict[int, Layer] = {}
        # By value the layer whose output it holds, rearranged or scaled or not.
        self._at: dict[int, int] = {record.images: record.images}
        # By value what the candidate holds that it is made from, where the images are not.
        self._held: dict[int, frozenset[Content]] = {}
        # Layers that are made by more than one operation.
        self._goes_on: set[int] = set()
        # By value that only scales a layer's output: what is scaled, and by which values.
        self._scaled: dict[int, tuple[int, tuple[int, ...]]] = {}
        for value in record.values:
            if value.number == record.images:
                continue
            operation = value.operation
            given = tuple(n for n in value.parents if n in self._at)
            anew = operation is not None and operation.name.startswith(_MADE_ANEW)
            if operation is None or not given or anew:
                own = frozenset() if value.content is None else frozenset((value.content,))
                held = (self._held.get(parent, frozenset()) for parent in value.parents)
                self._held[value.number] = own.union(*held)
            else:
                self._take(value, operation, given)

    def _take(self, value: Made, operation: Operation, given: Sequence[int]) -> None:
        name = operation.name.strip("_")
        inputs = tuple(dict.fromkeys(self._at[number] for number in given))
        constants = [self._record.values[n] for n in value.parents if n not in self._at]
        if value.output and self._first_output(value) is not None:
            # Such as the indices of a max-pool.
            self._at[value.number] = inputs[0]
        elif value.moved and len(inputs) == 1:
            self._at[value.number] = inputs[0]
        elif any(part in name for part in ("conv", "linear")) or name in ("mm", "addmm"):
            self._convolution(value, operation, inputs, constants)
        elif "batch_norm" in name:
            self._add(value, operation, Kind.NORM, inputs, constants=constants)
        elif name in ACTIVATIONS:
            self._add(value, operation, Kind.ACTIVATION, inputs, ACTIVATIONS[name])
        elif name in _LIMITS and (words := _cut_off(operation, *_LIMITS[name])):
            self._add(value, operation, Kind.ACTIVATION, inputs, words)
        elif name in _GATES:
            self._add(value, operation, Kind.GATE, inputs, name)
        elif "max_pool" in name:
            self._add(value, operation, Kind.POOL, inputs)
        elif "upsample" in name:
            self._add(value, operation, Kind.UP, inputs)
        elif "mean" in name or "avg_pool" in name:
            self._add(value, operation, Kind.MEAN, inputs)
        elif name in _BY_ELEMENT:
            self._by_element(value, operation, given, inputs, constants)
        else:
            self._add(value, operation, Kind.OTHER, inputs, constants=constants)

    def _first_output(self, value: Made) -> int | None:
        before = self._record.values[value.number - 1] if value.number else None
        same = before is not None and before.operation is value.operation
        return value.number - value.output if same else None

    def _add(
        self,
        value: Made,
        operation: Operation,
        kind: Kind,
        inputs: tuple[int, ...],
        name: str = "",
        constants: Sequence[Made] = (),
        weight: tuple[int, ...] = (),
        *,
        biased: bool = False,
        whole: bool = True,
    ) -> None:
        held = frozenset[Content]().union(*(self._held[item.number] for item in constants))
        layer = Layer(
            value.number,
            kind,
            name or operation.name,
            operation,
            value.shape,
            inputs,
            weight,
            biased,
            held,
            whole=whole,
        )
        self.layers[value.number] = layer
        self._at[value.number] = value.number

    def _convolution(
        self,
        value: Made,
        operation: Operation,
        inputs: tuple[int, ...],
        constants: Sequence[Made],
    ) -> None:
        weight = operation.shapes.get("weight", ())
        biased = "bias" in operation.shapes
        self._add(value, operation, Kind.CONV, inputs, "", constants, weight, biased=biased)

    def _by_element(
        self,
        value: Made,
        operation: Operation,
        given: Sequence[int],
        inputs: tuple[int, ...],
        constants: Sequence[Made],
    ) -> None:
        """Sums and products: of maps, with one number, or with one for each channel."""
        name = operation.name.strip("_")
        if len(inputs) == 1:
            # A constant may be one element of a larger tensor.
            counts = [_count(shape) for shape in operation.shapes.values()]
            vectors = bool(constants) and min(counts, default=1) > 1
            source = self.layers.get(inputs[0])
            if not vectors or source is None:
                self._at[value.number] = inputs[0]
                self._scaled[value.number] = given[0], tuple(item.number for item in constants)
            elif name == "add" and source.kind is Kind.CONV and source.number not in self._goes_on:
                self._replace(source, value, biased=True)
            elif source.kind is Kind.NORM and not source.whole:
                self._replace(source, value, constants=constants)
            else:
                self._add(value, operation, Kind.NORM, inputs, "", constants, whole=False)
            return
        one, other = (self.layers.get(number) for number in inputs[:2])
        if name == "mul" and len(inputs) == 2:
            for gate, x in ((one, inputs[1]), (other, inputs[0])):
                words, steps = self._gated(gate, x)
                if words:
                    self._add(value, operation, Kind.ACTIVATION, (x,), words)
                    self._take_in(steps)
                    return
            self._add(value, operation, Kind.PRODUCT, inputs)
        elif name in ("add", "sub"):
            self._add(value, operation, Kind.SUM, inputs)
        else:
            self._add(value, operation, Kind.OTHER, inputs)

    def _gated(self, gate: Layer | None, x: int) -> tuple[str, list[Layer]]:
        """What a value times something made of it alone is called, and the layers of that."""
        if gate is None or gate.kind not in (Kind.GATE, Kind.ACTIVATION):
            return "", []
        if gate.inputs == (x,):
            if gate.kind is Kind.GATE:
                return _GATES[gate.name], [gate]
            # Of the value plus 3, which counts as the value itself.
            return ("hard swish", [gate]) if gate.name == "relu6" else ("", [])
        inner = self.layers.get(gate.inputs[0]) if gate.name == "tanh" else None
        if inner is not None and inner.name == "softplus" and inner.inputs == (x,):
            return "mish", [gate, inner]
        return "", []

    def _take_in(self, steps: Sequence[Layer]) -> None:
        """Layers that nothing but the last one reads are steps of it, and none of their own."""
        for step in steps:
            layers = list(self.layers.values())[:-1]
            if not any(step.number in layer.inputs for layer in layers):
                del self.layers[step.number]

    def _replace(
        self,
        source: Layer,
        value: Made,
        *,
        biased: bool = False,
        constants: Sequence[Made] = (),
    ) -> None:
        """A layer goes on: what it makes is the later value."""
        held = source.held.union(*(self._held[item.number] for item in constants))
        self._goes_on.add(source.number)
        self.layers[source.number] = replace(source, biased=source.biased or biased, held=held)
        self._at[value.number] = source.number

    @property
    def image_size(self) -> tuple[int, ...]:
        """Height and width of the images that the run began with."""
        _, *sides = self._record.values[self._record.images].shape
        return tuple(sides[1:] if sides[0] <= _COLOURS else sides[:-1])

    @cached_property
    def readers(self) -> dict[int, tuple[Layer, ...]]:
        """By layer those that read it."""
        found: dict[int, list[Layer]] = {}
        for layer in self.layers.values():
            for number in dict.fromkeys(layer.inputs):
                found.setdefault(number, []).append(layer)
        return {number: tuple(layers) for number, layers in found.items()}

    def read_by(self, layer: Layer | int) -> tuple[Layer, ...]:
        """The layers that read one."""
        number = layer if isinstance(layer, int) else layer.number
        return self.readers.get(number, ())

    def of_kind(self, kind: Kind) -> list[Layer]:
        """All layers of a kind."""
        return [layer for layer in self.layers.values() if layer.kind is kind]

    def epsilon(self, layer: Layer) -> float | None:
        """What a batch norm adds to the variances; None where that is not known."""
        found = settings_of(NodeKind.BATCH_NORM, self._span(layer), None).get("eps")
        return found if isinstance(found, float) else None

    def window(self, layer: Layer) -> Window | None:
        """How a convolution or a max-pool moves over its map; None where that is not known."""
        kind = NodeKind.POOL if layer.kind is Kind.POOL else NodeKind.CONV
        told = settings_of(kind, self._span(layer), None)
        # Of the operation alone; what is padded before it is in the shape of what it is given.
        alone = settings_of(kind, [self._record.values[layer.number]], None)
        shape = layer.operation.shapes.get("input") or layer.operation.shapes.get("self") or ()
        if not told or not alone or len(shape) != 4 or told.get("transposed"):
            return None
        left, right, top, bottom = _numbers(told["padding"])
        own = _numbers(alone["padding"])
        fill = told["padded with"]
        return Window(
            _two(told["kernel"]),
            _two(told["stride"]),
            _two(told["dilation"]),
            (left, right, top, bottom),
            fill if isinstance(fill, float) else None,
            (shape[2] - (top + bottom - sum(own[2:])), shape[3] - (left + right - sum(own[:2]))),
        )

    def _span(self, layer: Layer) -> list[Made]:
        value = self._record.values[layer.number]
        span = {value.number: value}
        for parent in value.parents:
            if parent in self._at:
                for number in self._record.arranged_from(parent):
                    if self._record.values[number].moved:
                        span[number] = self._record.values[number]
        return [span[number] for number in sorted(span)]

    def scales(self, layer: Layer) -> list[tuple[int, ...]]:
        """For each value that a layer reads, the values without images that have scaled it."""
        found = []
        for number in self._record.values[layer.number].parents:
            if number not in self._at:
                continue
            factors: tuple[int, ...] = ()
            while number in self._scaled:
                number, more = self._scaled[number]
                factors += more
            found.append(factors)
        return found

    def made_by(self, number: int) -> list[Operation]:
        """The operations that a value without images is made by, from what the candidate holds."""
        waiting, seen, found = [number], {number}, []
        while waiting:
            value = self._record.values[waiting.pop()]
            if value.operation is not None:
                found.append(value.operation)
            new = [parent for parent in value.parents if parent not in seen]
            seen.update(new)
            waiting += new
        return found

    def held_in(self, number: int) -> frozenset[Content]:
        """What the candidate holds that a value without images is made from."""
        return self._held.get(number, frozenset())

    def at(self, number: int) -> int | None:
        """The layer whose output a value holds; None where it has nothing of the images."""
        return self._at.get(number)


def _cut_off(operation: Operation, low: str, high: str) -> str:
    """What a function that cuts values off is called; empty where it is no activation."""
    bottom, top = (operation.settings.get(name) for name in (low, high))
    if bottom != 0:
        return "hardtanh" if "hardtanh" in operation.name else ""
    if not isinstance(top, int | float):
        return "relu"
    return "relu6" if top == 6 else f"relu cut off at {top:g}"


def _count(shape: Sequence[int]) -> int:
    count = 1
    for length in shape:
        count *= length
    return count


def _numbers(value: Plain | None) -> tuple[int, ...]:
    return tuple(int(item) for item in value) if isinstance(value, tuple) else ()


def _two(value: Plain) -> tuple[int, int]:
    rows, columns = _numbers(value)
    return rows, columns
