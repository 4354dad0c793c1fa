"""A PyTorch module as a candidate: it is run, seen at every node, and given other tensors."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, finfo, float64, nn, promote_types

from efficientdet_spec import Cause, InputError
from parity.judge.referee import Referee
from parity.process.arrays import Array
from parity.process.console import out_of_memory
from parity.sides.naming import Naming
from parity.sides.pytorch import hooks, noise, wrappers
from parity.sides.pytorch.batches import check_batch
from parity.sides.pytorch.code import failure
from parity.sides.pytorch.exact import own_exact
from parity.sides.pytorch.nested import flatten, plain, unreadable
from parity.sides.pytorch.provenance import fingerprint
from parity.sides.side import (
    PLAIN,
    CandidateError,
    Form,
    Mode,
    Origin,
    Reference,
    Setting,
    Value,
    Visit,
)


@dataclass(frozen=True)
class TorchValue:
    """A tensor of a candidate.

    Attributes:
        tensor: Of any shape and type.
    """

    tensor: Tensor

    @property
    def dims(self) -> tuple[int, ...]:
        """Its shape as the candidate has it; of several tensors in one, how many there are."""
        return (self.tensor.size(0),) if self.tensor.is_nested else tuple(self.tensor.shape)

    @property
    def shape(self) -> tuple[int, ...] | None:
        """NHWC, of an NCHW tensor; None for one of another rank."""
        return hooks.nhwc_shape(self.tensor)

    @property
    def dtype(self) -> str:
        """Such as ``float32`` or ``bfloat16``."""
        return str(self.tensor.dtype).removeprefix("torch.")

    @property
    def coarseness(self) -> int | None:
        """Bytes of one of its numbers; None where these are no floating-point numbers."""
        return self.tensor.dtype.itemsize if self.tensor.dtype.is_floating_point else None

    @property
    def unreadable(self) -> str | None:
        """What sort of tensor it is, such as ``quantized``; None for a plain one."""
        return unreadable(self.tensor)

    def array(self) -> Array:
        """Its values, NHWC; its own memory where it is laid out channels last on the CPU."""
        return hooks.nhwc(self.tensor)

    def same(self, other: Value | None) -> bool:
        """Whether both are equal in every element, of which NaN equals NaN, in whatever type."""
        return hooks.same(self.tensor, None if other is None else _tensor(other))

    def identical(self, other: Value) -> bool:
        """Whether both are the same bit for bit, NaNs and the signs of zeros included."""
        return noise.identical(self.tensor, _tensor(other))

    def apart(self, other: Value) -> float:
        """Largest absolute difference from a value of the same shape."""
        one, two = (
            tensor.to(promote_types(tensor.dtype, float64))
            for tensor in (self.tensor, _tensor(other))
        )
        return float((one - two).abs().max())

    @property
    def rounding(self) -> float:
        """One rounding of its largest value; 0 where its numbers are not floating-point ones."""
        if not self.tensor.dtype.is_floating_point or not self.tensor.numel():
            return 0.0
        return float(self.tensor.abs().max()) * finfo(self.tensor.dtype).eps / 2


def _tensor(value: Value) -> Tensor:
    assert isinstance(value, TorchValue), "values of one candidate are of one framework"
    return value.tensor


class TorchMade:
    """What a module has made at a node.

    Attributes:
        value: Its output.
        layer: The module.
        given: Its :class:`~parity.sides.pytorch.hooks.Inputs`.
    """

    def __init__(self, layer: nn.Module, given: hooks.Inputs, output: Tensor) -> None:
        self.layer = layer
        self.given = given
        self._output = output if unreadable(output) else plain(output)
        self.value: Value = TorchValue(self._output)

    def read(self) -> tuple[str | None, ...]:
        """The node that each tensor it was given comes from; None where that is not known."""
        return self.given.origins

    def outdated(self) -> tuple[str, ...]:
        """The nodes of which it reads what they made before another tensor took its place."""
        return self.given.outdated

    def overwritten(self) -> tuple[str, ...]:
        """The nodes that it reads to whose tensors something else has written since."""
        # A layer that works in place has overwritten its own inputs by now.
        return () if hooks.may_overwrite(self.layer) else self.given.overwritten

    def exact(self) -> Array | None:
        """Its own function on what it really read, without roundings, NHWC; None if unknown."""
        truth = own_exact(self.layer, self.given, self._output)
        return None if truth is None or truth.dim() != 4 else hooks.nhwc(truth)

    def again(self, setting: Setting) -> Value | None:
        """What it makes of the same inputs under another setting; None where that is unknown."""
        output = noise.again(self.layer, self.given, setting)
        return None if output is None else TorchValue(output)

    def kept(self, instead: Array | None) -> Value:
        """A copy of its output, or of what takes its place, as the candidate would return it."""
        tensor = self._output if instead is None else hooks.nchw(instead).to(self._output.device)
        # What is returned may be changed afterwards.
        return TorchValue(tensor.detach().clone())


@dataclass(frozen=True)
class TorchCandidate:
    """A module in evaluation mode.

    Attributes:
        model: The module.
        naming: Which of its submodules make which nodes.
        framework: ``PyTorch``.
    """

    model: nn.Module
    naming: Naming
    framework: str = "PyTorch"
    # Parameters and buffers that its layers have been seen to hold while they ran, other than
    # those that they hold before and after, by path.
    _borrowed: dict[str, Tensor] = field(default_factory=dict, init=False, compare=False)
    # Filled while several runs are to leave no trace together, and each may see the last one's.
    _together: list[bool] = field(default_factory=list, init=False, compare=False)
    # Filled as soon as it is seen to ask for gradients itself.
    _differentiates: list[bool] = field(default_factory=list, init=False, compare=False)
    # The shapes and modes in which its layers have been seen to have all images.
    _prepared: set[tuple[tuple[int, ...], Mode]] = field(
        default_factory=set, init=False, compare=False
    )

    @property
    def seen_through(self) -> bool:
        """No: what lies between its modules is not seen."""
        return False

    @property
    def form(self) -> Form | None:
        """The form that its user runs, where nodes can be seen in another one alone."""
        return wrappers.form_of(self.model)

    def observable(self) -> AbstractContextManager[None]:
        """Within it it runs as it was written."""
        return wrappers.as_written(self.model)

    def variations(self) -> list[tuple[str, Setting]]:
        """Settings that should not matter, each with its name; first nothing at all."""
        return noise.variations(self.model)

    def prepare(self, reference: Reference, referee: Referee, images: Array, mode: Mode) -> None:
        """See that its layers have all images; its nodes are known by the names of its modules.

        Raises:
            OneAtATimeError: They have one at a time.
        """
        shape = images.shape, mode
        if shape in self._prepared:
            return

        def watched(seen: AbstractContextManager[Any]) -> None:
            def call(given: Tensor) -> Any:
                with self.observable(), seen:
                    return self.model(given)

            self.carried_out(images, mode, call=call)

        def run(some: Array) -> list[Tensor]:
            values = self.run_unobserved(some, mode)
            return [value.tensor for value in values if isinstance(value, TorchValue)]

        check_batch(images, watched, run)
        self._prepared.add(shape)

    def left_out(self) -> Mapping[str, str]:
        """None: a step that no module makes is not seen, and may be there."""
        return {}

    def not_found(self) -> Mapping[str, str]:
        """None: operations are not looked at."""
        return {}

    def origins(self) -> Mapping[str, Origin]:
        """The modules that its naming says."""
        found = "own path" if self.naming.strict else "name"
        return {node: Origin(path, found) for node, path in self.naming.path_of().items()}

    def regroup(self, nodes: Collection[str]) -> Callable[[], None]:
        """Nothing: what its modules make is not taken apart."""
        return lambda: None

    def reorder(self, orders: Mapping[str, tuple[int, ...]]) -> Callable[[], None]:
        """Nothing: a module's channels are taken as they come."""
        return lambda: None

    def steps(self, node: str) -> str:
        """Nothing: they are in the module that makes it."""
        return ""

    def settings(self, node: str) -> Mapping[str, Mapping[str, Any]]:
        """None: they are its modules'."""
        return {}

    def outputs(self, returned: Sequence[Value]) -> list[Value]:
        """What it has returned: it must be the very tensors that its last layers make."""
        return list(returned)

    def remarks(self) -> tuple[list[str], list[str]]:
        """Nothing: what it returns is taken as it is."""
        return [], []

    def run(
        self,
        images: Array,
        visit: Visit,
        inputs_of: Mapping[str, tuple[int, ...]],
        sources_of: Mapping[str, tuple[str, ...]],
        mode: Mode = PLAIN,
    ) -> list[Value]:
        """Run it, calling ``visit`` at each node; see :class:`~parity.sides.side.Candidate`."""
        ours: list[BaseException] = []
        stored = {id(value) for _, value in hooks.state(self.model)}
        whole = [self.model]

        def met(node: str, layer: nn.Module, given: Any, output: Tensor) -> Tensor | None:
            # What is lent to the whole model is there at its first layer.
            for part in [*whole, layer]:
                if any(id(value) not in stored for _, value in hooks.state(part)):
                    self._borrow(part, stored)
            whole.clear()
            array = visit(node, TorchMade(layer, given, output))
            if array is None:
                return None
            own = fingerprint(output)
            instead = hooks.replacement(output, given, array)
            provenance.replaced(own, instead, node)
            return instead

        with (
            self.observable(),
            hooks.visiting(self.model, self.naming, met, inputs_of, sources_of, ours) as provenance,
        ):
            return self._outputs(images, ours, mode)

    def _borrow(self, part: nn.Module, stored: Collection[int]) -> None:
        path = next(name for name, module in self.model.named_modules() if module is part)
        for name, value in hooks.state(part):
            if id(value) not in stored:
                self._borrowed[f"{path}.{name}" if path else name] = value.detach()

    @contextmanager
    def as_read(self) -> Iterator[nn.Module]:
        """The module with the parameters and buffers that its layers have been seen to read.

        They are not always those that it stores: ``torch.func.functional_call`` lends others.
        """
        kept = []
        for path, value in self._borrowed.items():
            place, _, name = path.rpartition(".")
            module = self.model.get_submodule(place)
            holder: Any = module._parameters if name in module._parameters else module._buffers
            kept.append((holder, name, holder.get(name)))
            holder[name] = nn.Parameter(value, False) if holder is module._parameters else value
        try:
            yield self.model
        finally:
            for holder, name, before in reversed(kept):
                holder[name] = before

    def passes_on(self, images: Array) -> bool:
        """Whether what holds the model returns just what the model does.

        It may as well join levels, arrange them otherwise, or do something to their values.

        Args:
            images: [N, H, W, 3].
        """
        if self.form is not None or not self.naming.prefix:
            # What stands around it is a compiler, or copies it for several devices; or nothing.
            return True
        made: list[Tensor] = []

        def keep(_module: nn.Module, _given: Any, output: Any) -> None:
            # What holds it may write over it.
            made.extend(plain(tensor).detach().clone() for tensor in flatten(output))

        inner = self.model.get_submodule(self.naming.prefix.rstrip("."))
        handle = inner.register_forward_hook(keep)
        try:
            returned = self.run_unobserved(images)
        except CandidateError:
            # What is wrong is said where it is compared.
            return True
        finally:
            handle.remove()
        return len(returned) == len(made) and all(
            isinstance(value, TorchValue) and hooks.same(value.tensor, tensor)
            for value, tensor in zip(returned, made, strict=True)
        )

    def run_unobserved(self, images: Array, mode: Mode = PLAIN) -> list[Value]:
        """Run it as its user does; see :class:`~parity.sides.side.Candidate`."""
        try:
            return self._outputs(images, [], mode)
        except hooks.Differentiated:
            self._differentiates.append(True)
            return self._outputs(images, [], mode)

    @contextmanager
    def restored(self) -> Iterator[None]:
        """Behind it the buffers are what they were before, not behind each run in it.

        What a run changes is for the next to show, in training mode too.
        """
        with hooks.restored(self.model):
            self._together.append(True)
            try:
                yield
            finally:
                self._together.pop()

    def _outputs(self, images: Array, ours: Sequence[BaseException], mode: Mode) -> list[Value]:
        returned = self.carried_out(images, mode, ours)
        tensors = returned_tensors(returned, images)
        return [TorchValue(plain(tensor).detach().clone()) for tensor in tensors]

    def carried_out(
        self,
        images: Array,
        mode: Mode,
        ours: Sequence[BaseException] = (),
        call: Callable[[Tensor], Any] | None = None,
    ) -> Any:
        """What a run returns.

        Args:
            images: [N, H, W, 3].
            mode: How it is run.
            ours: What has gone wrong in code that is not the candidate's.
            call: Calls the model with the images; None for nothing but that.

        Raises:
            CandidateError: It fails.
        """
        size = f"{images.shape[1]}x{images.shape[2]}"
        try:
            with nullcontext() if self._together else self.restored():
                returned = hooks.run(
                    self.model,
                    images,
                    mode,
                    differentiates=bool(self._differentiates),
                    call=call,
                )
        except (KeyboardInterrupt, hooks.Differentiated):
            raise
        except BaseException as error:
            if ours and error is not ours[0]:
                # TorchScript makes another error of it.
                raise ours[0] from error
            if ours or out_of_memory(error):
                raise
            raise CandidateError(
                f"The candidate fails on [{len(images)}, 3, H, W] images of {size} with "
                f"{failure(error)}; {_advice(self.model, error)}.",
                failure(error),
            ) from error
        if ours:
            # The candidate has caught it.
            raise ours[0]
        return returned


def returned_tensors(returned: Any, images: Array) -> list[Tensor]:
    """The tensors that a candidate returns for some images.

    Raises:
        InputError: There are none, or they cannot be read.
    """
    size = f"{images.shape[1]}x{images.shape[2]}"
    wanted = (
        "let it return class outputs before box outputs, one tensor for each level, finest level "
        "first."
    )
    found = f"The candidate returns {type(returned).__name__}"
    try:
        tensors = flatten(returned)
    except RecursionError:
        raise InputError(
            f"{found} that contains itself for images of {size}; {wanted}", Cause.CANDIDATE
        ) from None
    if not tensors:
        raise InputError(
            f"{found} without a tensor for images of {size}; {wanted}", Cause.CANDIDATE
        )
    sort = next(filter(None, map(unreadable, tensors)), None)
    if sort:
        raise InputError(
            f"The candidate returns a tensor that is {sort} for images of {size}; let it return "
            f"plain dense tensors, such as of float32.",
            Cause.CANDIDATE,
        )
    return tensors


def _advice(model: nn.Module, error: BaseException) -> str:
    """What to do about a candidate that fails."""
    types = {str(value.dtype).removeprefix("torch.") for value in model.parameters()}
    if len(types) == 1 and re.search(r"scalar type|\bdtype|data type", str(error)):
        return (
            f"its parameters and the images have been brought to {types.pop()}, so let its own "
            f"code bring nothing to another type"
        )
    if any(module.training for module in model.modules()):
        return "it is in training mode, so call its eval() first, or run it by itself"
    return "run it by itself and correct it"
