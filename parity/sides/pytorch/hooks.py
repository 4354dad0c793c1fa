"""The PyTorch model as a consumer: hooks see every node's output as it is computed."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from parity.process.arrays import Array
from parity.sides.naming import Naming
from parity.sides.pytorch.nested import copies, flatten, plain
from parity.sides.pytorch.provenance import Provenance
from parity.sides.side import PLAIN, Mode

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
        outdated: The nodes of which it holds what they made before another tensor took its place.
    """

    read: tuple[Any, ...]
    named: Mapping[str, Any]
    origins: tuple[str | None, ...] = ()
    overwritten: tuple[str, ...] = ()
    outdated: tuple[str, ...] = ()

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
    # NumPy has no bits that stand for the opposite of what is there, and no bfloat16.
    values = plain(tensor).detach().resolve_neg().resolve_conj()
    values = values.float() if values.dtype is torch.bfloat16 else values
    array: Array = values.permute(0, 2, 3, 1).cpu().numpy()
    return array


def nchw(array: Array) -> Tensor:
    """An NHWC array as an NCHW tensor that shares its memory and must not be written to."""
    # PyTorch warns of memory that is not writable, even where it only reads.
    source = array if array.flags.writeable else array.copy()
    return torch.from_numpy(source).permute(0, 3, 1, 2)


def run(
    model: nn.Module,
    images: Array,
    mode: Mode = PLAIN,
    *,
    differentiates: bool = False,
    call: Callable[[Tensor], Any] | None = None,
) -> Any:
    """The model's outputs for NHWC images.

    Args:
        model: The model, in evaluation mode.
        images: [N, H, W, 3].
        mode: How it is run. Where gradients are recorded, what PyTorch would keep of the tensors
            for them is thrown away.
        differentiates: Whether it asks for gradients itself, and needs what is kept.
        call: Calls the model with the images; None for nothing but that.

    Raises:
        Differentiated: It asks for gradients itself, and what it needs was thrown away.
    """
    called = call or model
    device = next((p.device for p in model.parameters()), torch.device("cpu"))
    # A candidate may write over what it is given.
    given = _laid_out(images, channels_last=mode.channels_last).to(device)
    if mode.inference:
        with torch.inference_mode():
            return called(given)
    if not mode.gradients:
        # Not inference mode, in which tensors do not count how often they are overwritten.
        with torch.no_grad():
            return called(given)
    asked = False

    def thrown_away(nothing: Any) -> Any:
        nonlocal asked
        asked = True
        raise Differentiated

    with torch.enable_grad():
        # A copy of what requires gradients may be written to, as images may.
        given = given.requires_grad_().clone()
        if differentiates:
            return called(given)
        with torch.autograd.graph.saved_tensors_hooks(lambda tensor: None, thrown_away):
            try:
                return called(given)
            finally:
                if asked:
                    # It may have caught this, or called it by another name.
                    raise Differentiated


class Differentiated(RuntimeError):
    """A candidate asks for gradients itself, which is told apart from what else may fail."""


def _laid_out(images: Array, *, channels_last: bool) -> Tensor:
    """A copy of NHWC images as an NCHW tensor, laid out as is usual or with the channels last."""
    if channels_last:
        return torch.from_numpy(images.copy()).permute(0, 3, 1, 2)
    return torch.from_numpy(np.array(images.transpose(0, 3, 1, 2), order="C"))


@contextmanager
def visiting(
    model: nn.Module,
    naming: Naming,
    visit: Visit,
    inputs_of: Mapping[str, tuple[int, ...]] | None = None,
    sources_of: Mapping[str, tuple[str, ...]] | None = None,
    failures: list[BaseException] | None = None,
) -> Iterator[Provenance]:
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
        failures: Takes what goes wrong in here, which is none of the model's failures.

    Yields:
        What is known of where tensors come from.
    """
    calls = _Calls(_expectations(model, naming), inputs_of or {}, sources_of or {})
    read: dict[tuple[str, int], tuple[tuple[Any, ...], dict[str, Any]]] = {}
    # Parts of a model may run in threads of their own, and are looked at one after another.
    turn = threading.RLock()
    busy: set[int] = set()

    @contextmanager
    def ours() -> Iterator[None]:
        try:
            yield
        except BaseException as error:
            if failures is not None:
                failures.append(error)
            raise

    def before(name: str, inputs: tuple[Any, ...], named: dict[str, Any]) -> None:
        thread = threading.get_ident()
        if thread not in busy:
            with ours():
                read[name, thread] = copies(inputs), copies(named)

    def after(
        name: str, module: nn.Module, given: tuple[Any, ...], named: dict[str, Any], output: Any
    ) -> Any:
        thread = threading.get_ident()
        values, keywords = read.pop((name, thread), (given, named))
        if thread in busy or not isinstance(output, Tensor):
            return None
        if not calls.expected(name) and any(output is value for value in given):
            return None
        with ours(), turn:
            tensors = flatten([given, named])
            node = calls.node(name, tensors)
            inputs = calls.inputs(tensors, Inputs.of(given, values, keywords))
            busy.add(thread)
            try:
                instead = visit(node, module, inputs, output)
            finally:
                busy.discard(thread)
            calls.came_from.add(output if instead is None else instead, node)
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
        yield calls.came_from
    finally:
        for handle in handles:
            handle.remove()


class _Calls:
    """Tells which node each call of a module makes.

    Args:
        expectations: The nodes that each module's calls make, in order, by its path.
        inputs_of: As of :func:`visiting`.
        sources_of: Likewise.

    Attributes:
        came_from: Where tensors come from.
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
        self.came_from = Provenance()
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
        read = {node for node in self.came_from.of(given) if node is not None}
        reading = [node for node in left if read and read <= set(self._sources_of.get(node, ()))]
        fitting = [node for node in left if shape and self._inputs_of.get(node) == shape]
        both = [node for node in reading if node in fitting]
        node = (both or reading or fitting or left or [f"{path} call {self._counts[path]}"])[0]
        self._made.add(node)
        return node

    def inputs(self, given: Sequence[Tensor], inputs: Inputs) -> Inputs:
        """What a layer was given, with where it comes from.

        Args:
            given: The tensors among them.
            inputs: All of it.
        """
        inputs.origins = self.came_from.of(given)
        inputs.overwritten = self.came_from.overwritten(given)
        inputs.outdated = self.came_from.outdated([inputs.read, inputs.named])
        return inputs


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


def replacement(output: Tensor, inputs: tuple[Any, ...], array: Array) -> Tensor:
    """The reference's values in the layout, type and place of a node's output.

    Never the array's own memory, since a candidate may overwrite what it is given. The output's
    is used where nothing else can be in it, and where it can be written to.

    Args:
        output: [N, C, H, W].
        inputs: What it was made from, which must stay as it is.
        array: [N, H, W, C].
    """
    used = {tensor.untyped_storage().data_ptr() for tensor in flatten(inputs)}
    free = output._base is None and output.untyped_storage().data_ptr() not in used
    # Elements that share their memory cannot be told apart, and one made in inference mode is not
    # to be written to outside of it.
    free = (
        free and not overlaps(output) and output.is_inference() == torch.is_inference_mode_enabled()
    )
    # Where gradients are recorded this is no step of the network's.
    with torch.no_grad():
        instead = (output if free else torch.empty_like(output)).copy_(nchw(array))
    return instead if free else instead.requires_grad_(output.requires_grad)


def overlaps(tensor: Tensor) -> bool:
    """Whether elements of a tensor share their memory, as those of an expanded one do."""
    return any(
        size > 1 and stride == 0 for size, stride in zip(tensor.shape, tensor.stride(), strict=True)
    ) or bool(torch._debug_has_internal_overlap(tensor) == 1)


def state(module: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """A module's parameters and buffers as they are now, by name."""
    yield from module.named_parameters()
    yield from module.named_buffers()


@contextmanager
def restored(model: nn.Module) -> Iterator[None]:
    """Give a model's buffers back their values behind it, where runs have changed them."""
    kept = {
        name: (value, copies(value)) for name, value in model.named_buffers() if not value.is_meta
    }
    try:
        yield
    finally:
        # Values made in inference mode can be written to in it only, as can all others.
        with torch.inference_mode():
            for name, value in model.named_buffers():
                before, copy = kept.get(name, (None, None))
                if value is before and copy is not None and not same(value, copy):
                    value.data.copy_(copy)


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
    """An NCHW tensor's shape as NHWC; None for one of another rank, or of several shapes."""
    if tensor.is_nested or tensor.dim() != 4:
        return None
    batch, channels, height, width = tensor.shape
    return (batch, height, width, channels)
