"""The PyTorch model as a consumer: hooks see every node's output as it is computed."""

from __future__ import annotations

import weakref
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from parity.process.arrays import Array
from parity.sides.naming import Naming

Visit = Callable[[str, nn.Module, tuple[Any, ...], Tensor], "Tensor | None"]
"""Called with a node's name, its module, the module's inputs and its output.

What it returns takes the output's place; None leaves it.
"""


class Inputs(tuple[Any, ...]):
    """What a layer was given.

    The tuple holds the very objects, whose values the layer may have overwritten meanwhile.

    Attributes:
        read: The values as they were before the layer ran.
        named: What it was given by keyword, likewise.
        origins: The node that each of its tensors comes from; None where that is not known.
        overwritten: The nodes of those to which something has written since they were made.
    """

    read: tuple[Any, ...]
    named: Mapping[str, Any]
    origins: tuple[str | None, ...] = ()
    overwritten: tuple[str, ...] = ()

    @classmethod
    def of(
        cls, given: tuple[Any, ...], read: tuple[Any, ...], named: Mapping[str, Any] | None = None
    ) -> Inputs:
        """The objects given, their values, and what was given by keyword."""
        result = cls(given)
        result.read = read
        result.named = named or {}
        return result


def nhwc(tensor: Tensor) -> Array:
    """An NCHW tensor as an NHWC array; without a copy where it is laid out channels last."""
    array: Array = tensor.detach().permute(0, 2, 3, 1).cpu().numpy()
    return array


def nchw(array: Array) -> Tensor:
    """An NHWC array as an NCHW tensor that shares its memory and must not be written to."""
    # PyTorch warns of memory that is not writable, even where it only reads.
    source = array if array.flags.writeable else array.copy()
    return torch.from_numpy(source).permute(0, 3, 1, 2)


def run(model: nn.Module, images: Array, *, gradients: bool = False) -> Any:
    """The model's outputs for NHWC images.

    Args:
        model: The model, in evaluation mode.
        images: [N, H, W, 3].
        gradients: Whether PyTorch is to record what gradients need. What it would keep of the
            tensors is thrown away, since nothing is differentiated.
    """
    device = next((p.device for p in model.parameters()), torch.device("cpu"))
    # A candidate may write over what it is given.
    given = torch.from_numpy(images.copy()).permute(0, 3, 1, 2).to(device)
    if not gradients:
        # Not inference mode, in which tensors do not count how often they are overwritten.
        with torch.no_grad():
            return model(given)
    with (
        torch.enable_grad(),
        torch.autograd.graph.saved_tensors_hooks(lambda tensor: None, lambda nothing: nothing),
    ):
        return model(given)


@contextmanager
def visiting(
    model: nn.Module,
    naming: Naming,
    visit: Visit,
    inputs_of: Mapping[str, tuple[int, ...]] | None = None,
    sources_of: Mapping[str, tuple[str, ...]] | None = None,
) -> Iterator[None]:
    """Call ``visit`` at each node of the model while the body runs it.

    A node is made by a module that the naming knows, whatever modules it consists of. Under a
    strict naming other layers are visited too, under their paths: those without children that
    compute something, which a module that returns its very input does not. So are calls beyond
    those that the naming expects, under the path and the number of the call.

    Args:
        model: The model.
        naming: Which modules make which nodes.
        visit: What to do.
        inputs_of: By node the NHWC shape of the first tensor that it should be given. A module
            that levels share may be called for them in any order: a call is of the first of its
            nodes still to be made whose input has this shape, or of the first at all.
        sources_of: By node the nodes that it should read. Where it is known what a call reads,
            that decides before any shape.
    """
    calls = _Calls(_expectations(model, naming), inputs_of or {}, sources_of or {})
    read: dict[str, tuple[tuple[Any, ...], dict[str, Any]]] = {}
    busy = False

    def before(name: str, inputs: tuple[Any, ...], named: dict[str, Any]) -> None:
        if not busy:
            read[name] = copies(inputs), copies(named)

    def after(
        name: str, module: nn.Module, given: tuple[Any, ...], named: dict[str, Any], output: Any
    ) -> Any:
        nonlocal busy
        values, keywords = read.pop(name, (given, named))
        if busy or not isinstance(output, Tensor):
            return None
        if not calls.expected(name) and any(output is value for value in given):
            return None
        tensors = flatten([given, named])
        node = calls.node(name, tensors)
        inputs = Inputs.of(given, values, keywords)
        inputs.origins, inputs.overwritten = calls.origins(tensors)
        busy = True
        try:
            instead = visit(node, module, inputs, output)
        finally:
            busy = False
        calls.made(node, output if instead is None else instead)
        return instead

    def hooked(name: str, module: nn.Module) -> Iterator[Any]:
        if may_overwrite(module):
            # Behind the candidate's own, so that this is what the layer reads.
            yield module.register_forward_pre_hook(
                lambda _, given, named: before(name, given, named), with_kwargs=True
            )
        yield module.register_forward_hook(
            lambda _, given, named, output: after(name, module, given, named, output),
            with_kwargs=True,
        )

    handles = [
        handle
        for name, module in model.named_modules()
        if calls.expected(name) or (naming.strict and _is_extra(name, module, naming))
        for handle in hooked(name, module)
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


class _Calls:
    """Tells which node each call of a module makes.

    Args:
        expectations: The nodes that each module's calls make, in order, by its path.
        inputs_of: As of :func:`visiting`.
        sources_of: Likewise.
    """

    def __init__(
        self,
        expectations: Mapping[str, tuple[str, ...]],
        inputs_of: Mapping[str, tuple[int, ...]],
        sources_of: Mapping[str, tuple[str, ...]],
    ) -> None:
        self._expectations = expectations
        self._inputs_of = inputs_of
        self._sources_of = sources_of
        self._came_from = Provenance()
        self._counts: Counter[str] = Counter()
        self._made: set[str] = set()

    def expected(self, path: str) -> bool:
        """Whether a module makes nodes of the reference."""
        return path in self._expectations

    def node(self, path: str, given: Sequence[Tensor]) -> str:
        """The node that a call makes.

        Args:
            path: Of the module.
            given: The tensors that it is called with.
        """
        self._counts[path] += 1
        nodes = self._expectations.get(path, (path,))
        left = [node for node in nodes if node not in self._made]
        shape = nhwc_shape(given[0]) if given else None
        read = {node for node in self._came_from.of(given) if node is not None}
        reading = [node for node in left if read and read <= set(self._sources_of.get(node, ()))]
        fitting = [node for node in left if shape and self._inputs_of.get(node) == shape]
        both = [node for node in reading if node in fitting]
        node = (both or reading or fitting or left or [f"{path} call {self._counts[path]}"])[0]
        self._made.add(node)
        return node

    def origins(self, given: Sequence[Tensor]) -> tuple[tuple[str | None, ...], tuple[str, ...]]:
        """The nodes that some tensors come from, and those whose tensors were written to since."""
        return self._came_from.of(given), self._came_from.overwritten(given)

    def made(self, node: str, tensor: Tensor) -> None:
        """Remember the tensor that goes on behind a node."""
        self._came_from.add(tensor, node)


_KNOWN = ("torch.nn.modules.", "torch_model.")
"""Packages whose layers do not write over their inputs unless they say so."""


def may_overwrite(module: nn.Module) -> bool:
    """Whether a layer may write its output over its input, as far as can be told beforehand."""
    return any(
        getattr(part, "inplace", False)
        or "forward" in vars(part)
        or not f"{type(part).__module__}.".startswith(_KNOWN)
        for part in module.modules()
    )


def copies(values: Any) -> Any:
    """Nested values with copies of their tensors."""
    if isinstance(values, Tensor):
        return values.clone()
    if isinstance(values, (list, tuple)):
        return type(values)(copies(item) for item in values)
    if isinstance(values, dict):
        return {name: copies(value) for name, value in values.items()}
    return values


def _expectations(model: nn.Module, naming: Naming) -> dict[str, tuple[str, ...]]:
    """The nodes that each module's calls make, in order, under the first of its paths.

    One module may stand at several paths, as where levels share what each should have its own of.
    """
    first: dict[nn.Module, str] = {}
    nodes: dict[str, list[str]] = {}
    for path, module in model.named_modules(remove_duplicate=False):
        if path in naming.calls:
            nodes.setdefault(first.setdefault(module, path), []).extend(naming.calls[path])
    position = {node: index for index, node in enumerate(naming.nodes)}
    return {path: tuple(sorted(found, key=position.__getitem__)) for path, found in nodes.items()}


def _is_extra(name: str, module: nn.Module, naming: Naming) -> bool:
    """Whether this is a layer that lies in no node."""
    parts = name.split(".")
    inside = any(".".join(parts[:end]) in naming.calls for end in range(1, len(parts)))
    # A module's own truth is that of its length, which some refuse to tell.
    return not inside and next(module.children(), None) is None


def flatten(values: Any) -> list[Tensor]:
    """The tensors in nested lists, tuples and mappings, in order."""
    if isinstance(values, Tensor):
        return [values]
    if isinstance(values, dict):
        values = values.values()
    elif not isinstance(values, (list, tuple)):
        return []
    return [tensor for item in values for tensor in flatten(item)]


def replacement(output: Tensor, inputs: tuple[Any, ...], array: Array) -> Tensor:
    """The reference's values in the layout, type and place of a node's output.

    Never the array's own memory, since a candidate may overwrite what it is given. The output's
    is used where nothing else can be in it.

    Args:
        output: [N, C, H, W].
        inputs: What it was made from, which must stay as it is.
        array: [N, H, W, C].
    """
    used = {tensor.untyped_storage().data_ptr() for tensor in flatten(inputs)}
    free = output._base is None and output.untyped_storage().data_ptr() not in used
    # Where gradients are recorded this is no step of the network's.
    with torch.no_grad():
        instead = (output if free else torch.empty_like(output)).copy_(nchw(array))
    return instead if free else instead.requires_grad_(output.requires_grad)


@contextmanager
def unchanged(model: nn.Module) -> Iterator[None]:
    """Give a model's buffers back their values afterwards: in training mode a run changes them."""
    training = any(module.training for module in model.modules())
    kept = {name: value.clone() for name, value in model.named_buffers()} if training else {}
    try:
        yield
    finally:
        for name, value in model.named_buffers():
            if name in kept:
                value.data.copy_(kept[name])


def same(one: Tensor, other: Tensor | None) -> bool:
    """Whether two tensors are one, or equal in every element, of which NaN equals NaN."""
    if one is other:
        return True
    if other is None or one.shape != other.shape:
        return False
    if one.dtype != other.dtype:
        if one.is_complex() or other.is_complex():
            return False
        # The same values in a wider type are the same values.
        one, other = one.double(), other.double()
    return bool(((one == other) | (one.isnan() & other.isnan())).all())


def nhwc_shape(tensor: Tensor) -> tuple[int, ...] | None:
    """An NCHW tensor's shape as NHWC; None for one of another rank."""
    if tensor.dim() != 4:
        return None
    batch, channels, height, width = tensor.shape
    return (batch, height, width, channels)


class Provenance:
    """Remembers which node each tensor came from, without keeping it alive."""

    def __init__(self) -> None:
        self._nodes: dict[int, tuple[weakref.ref[Tensor], str, int]] = {}

    def add(self, tensor: Tensor, node: str) -> None:
        """Remember where a tensor came from."""
        self._nodes[id(tensor)] = (weakref.ref(tensor), node, _version(tensor))

    def of(self, values: Any) -> tuple[str | None, ...]:
        """The node of each tensor in nested values; None for a tensor of unknown origin."""
        found = []
        for tensor in flatten(values):
            reference, node, version = self._nodes.get(id(tensor), (None, "", 0))
            known = reference is not None and reference() is tensor and _version(tensor) == version
            found.append(node if known else None)
        return tuple(found)

    def overwritten(self, values: Any) -> tuple[str, ...]:
        """The nodes of those tensors in nested values that have been written to since."""
        found = []
        for tensor in flatten(values):
            reference, node, version = self._nodes.get(id(tensor), (None, "", 0))
            if reference is not None and reference() is tensor and _version(tensor) != version:
                found.append(node)
        return tuple(found)


def _version(tensor: Tensor) -> int:
    """How often a tensor has been overwritten; inference mode does not count, which gives 0."""
    return 0 if tensor.is_inference() else tensor._version
