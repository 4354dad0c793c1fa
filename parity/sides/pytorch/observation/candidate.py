"""A PyTorch module as a candidate whose nodes are found among its operations, without names."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from parity.judge.referee import Referee
from parity.process.arrays import Array
from parity.sides.naming import Naming
from parity.sides.observed.missing import left_out, not_found
from parity.sides.observed.named import names_in_words
from parity.sides.observed.origins import origins
from parity.sides.observed.pairs import WITH_PARAMETERS, Partner, Partners
from parity.sides.observed.partners import without
from parity.sides.observed.record import Operation, Record
from parity.sides.observed.settings import Settings, settings_of, span_of
from parity.sides.observed.words import span_in_words
from parity.sides.pytorch import hooks, wrappers
from parity.sides.pytorch.candidate import TorchCandidate, TorchValue, returned_tensors
from parity.sides.pytorch.dispatch import Step, Watching, written_by
from parity.sides.pytorch.nested import plain
from parity.sides.pytorch.observation.arranging import nchw_of, put
from parity.sides.pytorch.observation.finding import Found, find
from parity.sides.pytorch.observation.modules import Running
from parity.sides.pytorch.observation.recording import Recording, Substitute
from parity.sides.pytorch.observation.returned import Place, Returned
from parity.sides.pytorch.observation.spans import Span, Spans
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

_IN_THREADS = (
    "modules of the candidate run in threads of their own, where operations are not seen; say with "
    "--names which of them make which nodes"
)

_WARM_UPS = 3
"""Runs after which TorchScript has compiled a script for the tensors that it is given. What it
carries out changes until then, and compiling fails where operations are being watched."""

_Key = tuple[tuple[int, ...], str, Mode]


@dataclass(frozen=True)
class _Point:
    """Where a node is made.

    Attributes:
        node: The node.
        output: Which of the operation's tensors it is.
        name: The operation's.
        partner: What it was found by, and how the tensor holds it.
        module: What a diagnosis looks at: the layer, or one without anything.
        copied: Whether the node is made before, and this is the same once more.
    """

    node: str
    output: int
    name: str
    partner: Partner
    module: nn.Module
    copied: bool = False


class ObservedCandidate:
    """A module that is seen operation by operation.

    What it does is recorded once for each shape and mode; from then on its nodes are known by
    their operations' places in the run.

    Args:
        model: The module, in evaluation mode.
        nodes: All nodes of the reference in the order of computation.
        names: Submodules that a user names for some nodes, which override what is found.

    Attributes:
        model: As given.
        framework: ``PyTorch``.
        seen_through: Whether every operation of it is seen: yes.
        naming: Which of its modules make which nodes, as far as has been found; a node that no
            module makes by itself stands under the line of code that makes it.
    """

    framework = "PyTorch"
    seen_through = True

    def __init__(self, model: nn.Module, nodes: Sequence[str], names: Naming | None = None) -> None:
        self.model = model
        self._names = names
        self.naming = Naming({}, tuple(nodes), strict=False)
        self._plain = TorchCandidate(model, self.naming)
        self._found: dict[_Key, Found] = {}
        self._returned: Returned | None = None
        self._last: Found | None = None
        self._in_threads = False

    @property
    def form(self) -> Form | None:
        """The form that its user runs, where nodes can be seen in another one alone."""
        return self._plain.form

    def observable(self) -> AbstractContextManager[None]:
        """Within it it runs as it was written."""
        return self._plain.observable()

    def variations(self) -> list[tuple[str, Setting]]:
        """Settings that should not matter, each with its name; first nothing at all."""
        return self._plain.variations()

    def run_unobserved(self, images: Array, mode: Mode = PLAIN) -> list[Value]:
        """Run it as its user does; see :class:`~parity.sides.side.Candidate`."""
        return self._plain.run_unobserved(images, mode)

    def restored(self) -> AbstractContextManager[None]:
        """Behind it the buffers are what they were before, not behind each run in it."""
        return self._plain.restored()

    @contextmanager
    def as_read(self) -> Iterator[nn.Module]:
        """The module with the parameters that its layers read."""
        yield self.model

    def prepare(
        self, reference: Reference, referee: Referee, images: Array, mode: Mode = PLAIN
    ) -> None:
        """Find out which of its operations make which nodes.

        Args:
            reference: What it is compared with.
            referee: Knows what each node reads, and its parameters.
            images: [N, H, W, 3].
            mode: How it is run.
        """
        key = _key(images, mode)
        if key not in self._found:
            if wrappers.is_script(self.model):
                for _ in range(_WARM_UPS):
                    self._plain.run_unobserved(images, mode)
            run = partial(self._record, images, mode)
            self._plain.prepare(reference, referee, images, mode)
            found = find(run, reference, referee, images, self._names)
            _check_count(found.record, len(images))
            self._found[key] = found
            self.naming = _naming(self.model, found, self.naming.nodes)

    def remarks(self) -> tuple[list[str], list[str]]:
        """Sentences on what it returned last: what was found, and what was not recognised."""
        if self._returned is None or self._last is None:
            return [], []
        last = self._last
        notes = [*names_in_words(last.named, last.partners), *self._returned.notes]
        return notes, [*([_IN_THREADS] if self._in_threads else []), *self._returned.not_shown]

    def _record(
        self,
        images: Array,
        mode: Mode,
        nodes: Sequence[tuple[int, int, int, int]],
        instead: Substitute | None,
    ) -> Record:
        """Run it and keep a record of all that it does; see :data:`~.finding.Recorder`."""
        running = Running()
        recording = Recording(nodes, running, self.model, instead)

        def call(given: Tensor) -> Any:
            recording.give(given)
            with self.observable(), running.watched(self.model, recording), recording:
                return self.model(given)

        returned = self._plain.carried_out(images, mode, recording.failures, call)
        self._in_threads |= running.in_threads
        return recording.record(returned)

    def run(
        self,
        images: Array,
        visit: Visit,
        inputs_of: Mapping[str, tuple[int, ...]],
        sources_of: Mapping[str, tuple[str, ...]],
        mode: Mode = PLAIN,
    ) -> list[Value]:
        """Run it, calling ``visit`` at each node; see :class:`~parity.sides.side.Candidate`."""
        found = self._last = self._found[_key(images, mode)]
        seeing = _Seeing(found, _points(self.model, found), visit)

        def call(given: Tensor) -> Any:
            with self.observable(), seeing:
                return self.model(given)

        result = self._plain.carried_out(images, mode, seeing.failures, call)
        if seeing.departed:
            raise CandidateError(
                f"The candidate does not do the same in each run: where it called "
                f"{seeing.departed} before, it calls something else on the same images; let it "
                f"compute the same each time."
            )
        self._returned = Returned(found, seeing.kept)
        tensors = returned_tensors(result, images)
        return [TorchValue(plain(tensor).detach().clone()) for tensor in tensors]

    def seen(self) -> tuple[Found, list[Place]]:
        """What was found in its last run, and where its outputs are in what that has returned.

        Raises:
            ValueError: It has not been run.
        """
        if self._last is None or self._returned is None:
            raise ValueError("the candidate has not been run")
        return self._last, list(self._returned.places)

    def regroup(self, nodes: Collection[str]) -> Callable[[], None]:
        """Take some nodes together with others; see :class:`~parity.sides.side.Candidate`."""
        found, _ = self.seen()
        # What its user has named stays what it is.
        passed = set(nodes) - found.named.pins.keys()
        return self._with(without(found.record, found.sought, found.partners, passed))

    def reorder(self, orders: Mapping[str, tuple[int, ...]]) -> Callable[[], None]:
        """Look for channels in other orders; see :class:`~parity.sides.side.Candidate`."""
        found, _ = self.seen()
        partners = dict(found.partners.found)
        for node, order in orders.items():
            layout = partners[node].layout
            assert layout is not None
            partners[node] = replace(partners[node], layout=replace(layout, channels=order))
        return self._with(replace(found.partners, found=partners))

    def _with(self, partners: Partners) -> Callable[[], None]:
        """Have other partners from now on; what takes that back."""
        found, _ = self.seen()
        key = next(key for key, item in self._found.items() if item is found)
        self._found[key] = self._last = replace(found, partners=partners)

        def undo() -> None:
            self._found[key] = self._last = found

        return undo

    def left_out(self) -> Mapping[str, str]:
        """Nodes that it was seen not to compute, each with what stands at their place."""
        found = self._last
        return {} if found is None else left_out(found.record, found.sought, found.partners)

    def not_found(self) -> Mapping[str, str]:
        """Nodes that it may compute and none of its operations was found to make, and why."""
        found = self._last
        if found is None:
            return {}
        return not_found(found.record, found.sought, found.partners, found.named)

    def origins(self) -> Mapping[str, Origin]:
        """What makes each of its nodes; see :class:`~parity.sides.side.Candidate`."""
        found = next(iter(self._found.values()), None)
        return {} if found is None else origins(found.record, found.partners, found.named)

    def steps(self, node: str) -> str:
        """The operations that make a node; see :class:`~parity.sides.side.Candidate`."""
        if self._last is None or node not in self._last.partners.found:
            return ""
        steps = span_in_words(self._last.record, self._last.partners, node)
        told = self._last.named.notes.get(node)
        # Who is accused at a node should know that it is the name that makes it one.
        return f"{steps}; {told}" if told else steps

    def settings(self, node: str) -> Mapping[str, Settings]:
        """With which settings a node is made; see :class:`~parity.sides.side.Candidate`."""
        if self._last is None or node not in self._last.partners.found:
            return {}
        partners, sought = self._last.partners, self._last.sought
        span = span_of(self._last.record, partners, node)
        found: dict[str, Settings] = {}
        waiting = [node]
        while waiting:
            name = waiting.pop()
            sources = sought.sources[name]
            given = partners.found.get(sources[0])
            # Of two nodes of one kind in a span it is not known which one an operation makes.
            alone = sought.kinds[name] not in {sought.kinds[other] for other in found}
            layout = given.layout if given else None
            found[name] = settings_of(sought.kinds[name], span, layout) if alone else {}
            # What has no partner is made on the way.
            hidden = [one for one in sources if one in sought.kinds and one not in partners.found]
            waiting += [one for one in hidden if one not in found]
        return {name: settings for name, settings in found.items() if settings}

    def outputs(self, returned: Sequence[Value]) -> list[Value]:
        """What it has returned last, taken apart; see :class:`~parity.sides.side.Candidate`."""
        tensors = [value.tensor for value in returned if isinstance(value, TorchValue)]
        if self._returned is None:
            return list(returned)
        return [TorchValue(tensor) for tensor in self._returned.apart(tensors)]


class ObservedMade:
    """What a candidate has made at a node.

    Attributes:
        value: Its output.
        layer: The module that makes it, or one without anything.
        given: The tensors that it was made from.
    """

    def __init__(self, span: Span, output: Tensor, point: _Point, found: Found) -> None:
        self._span = span
        self._point = point
        self._found = found
        self._output = output
        self.value: Value = TorchValue(output)
        self.layer = point.module
        self.given = hooks.Inputs.of(tuple(span.given), tuple(span.given))

    def read(self) -> tuple[str | None, ...]:
        """The nodes that it is made from."""
        node, partners = self._point.node, self._found.partners
        if partners.reads[node] == partners.due[node]:
            # In which order does not matter, or shows in its values.
            return self._found.sought.sources[node]
        return tuple(sorted(partners.reads[node]))

    def outdated(self) -> tuple[str, ...]:
        """None: what it reads is followed by the memory that it lies in."""
        return ()

    def overwritten(self) -> tuple[str, ...]:
        """None: what has been written over is another value, which it is found to read."""
        return ()

    def exact(self) -> Array | None:
        """Its own function on what it really read, without roundings, NHWC; None if unknown."""
        truth = self._span.exact()
        layout = self._point.partner.layout
        if truth is None or (layout is None and truth.dim() != 4):
            return None
        return hooks.nhwc(truth if layout is None else nchw_of(truth, layout))

    def again(self, setting: Setting) -> Value | None:
        """None: what it makes under another setting is not computed."""
        return None

    def kept(self, instead: Array | None) -> Value:
        """A copy of its output, or of what takes its place, as the candidate would return it."""
        tensor = self._output if instead is None else hooks.nchw(instead).to(self._output.device)
        return TorchValue(tensor.detach().clone())


class _Seeing(Watching):  # type: ignore[no-untyped-call]
    """Calls ``visit`` at each node while a candidate runs.

    Attributes:
        failures: What has gone wrong in here.
        departed: The operation that was not found at its place; empty for none.
        kept: By output node what was made there, or has taken its place, [N, C, H, W].
    """

    def __init__(self, found: Found, points: Mapping[int, Sequence[_Point]], visit: Visit) -> None:
        super().__init__()
        self.failures: list[BaseException] = []
        self.departed = ""
        self.kept: dict[str, Tensor] = {}
        self._found = found
        self._points = points
        self._visit = visit
        self._spans = Spans()
        self._outputs = frozenset(found.outputs)
        # What is computed more than once is given the same each time.
        self._instead: dict[str, Array] = {}

    def before(self, function: Any, args: Any, kwargs: Any) -> None:
        """Keep what is about to be written over."""
        written = written_by(function, args, kwargs)
        if written:
            self._spans.before(written)

    def behind(self, step: Step) -> None:
        """Visit the nodes that an operation makes."""
        try:
            self._spans.behind(step)
            for point in self._points.get(step.number, ()):
                self._meet(point, step)
        except BaseException as error:
            self.failures.append(error)
            raise

    def _meet(self, point: _Point, step: Step) -> None:
        made = step.made
        if step.name != point.name or point.output >= len(made):
            self.departed = self.departed or point.name
            return
        tensor = made[point.output]
        layout = point.partner.layout
        with torch.no_grad():
            values = plain(tensor).detach()
            span = self._spans.ended(tensor)
            fits = layout is not None and layout.shape == tuple(values.shape)
            shown = nchw_of(values, layout) if fits and layout is not None else values
            if point.copied:
                instead = self._instead.get(point.node)
            else:
                made_here = ObservedMade(span, shown, point, self._found)
                instead = self._visit(point.node, made_here)
            if instead is not None and point.node in self._found.copies:
                self._instead[point.node] = np.array(instead)
            if instead is not None and layout is not None and fits:
                put(tensor, instead, layout)
            if point.node in self._outputs and fits:
                self.kept[point.node] = shown.clone()


def runs_in_threads(candidate: ObservedCandidate, images: Array) -> bool:
    """Whether a candidate runs modules in threads of its own, where operations are not seen.

    Args:
        candidate: Is run once.
        images: [N, H, W, 3].
    """
    running = Running()
    with candidate.observable(), candidate.restored(), running.watched(candidate.model):
        candidate.run_unobserved(images)
    return running.in_threads


def _check_count(record: Record, count: int) -> None:
    """Raise where all convolutions are of one number of images, larger than that of those given."""
    convolved = {
        value.shape[0] if len(value.shape) == 4 else 0
        for value in record.values
        if value.operation is not None and "conv" in value.operation.name and value.native
    }
    if len(convolved) == 1 and max(convolved) > count:
        computed = max(convolved)
        raise CandidateError(
            f"The candidate computes {computed} images where {count} are given, so that its nodes "
            f"are not the model's; give that many with --image and --batch {computed}."
        )


def _key(images: Array, mode: Mode) -> _Key:
    return images.shape, str(images.dtype), mode


def _points(model: nn.Module, found: Found) -> dict[int, list[_Point]]:
    """The nodes that each operation makes, by the operation's number."""
    layers = _Layers(model, found)
    nothing = nn.Identity().eval()
    points: dict[int, list[_Point]] = {}
    for node, partner in found.partners.found.items():
        value = found.record.values[partner.value]
        if value.operation is None:
            continue
        path = layers.path(node, value.operation)
        module = nothing if path is None else layers.modules[path]
        point = _Point(node, value.output, value.operation.name, partner, module)
        points.setdefault(value.operation.number, []).append(point)
        for number in found.copies.get(node, ()):
            value = found.record.values[number]
            if value.operation is not None:
                again = replace(point, output=value.output, copied=True)
                points.setdefault(value.operation.number, []).append(again)
    return points


def _naming(model: nn.Module, found: Found, nodes: tuple[str, ...]) -> Naming:
    """Which module, or which line of code, makes which nodes."""
    layers = _Layers(model, found)
    calls: dict[str, tuple[str, ...]] = {}
    for node, partner in found.partners.found.items():
        operation = found.record.values[partner.value].operation
        if operation is None:
            continue
        path = layers.path(node, operation)
        if path is None:
            path = f"{operation.name} at {operation.place or 'no line that is known'}"
        calls[path] = (*calls.get(path, ()), node)
    return Naming(calls, nodes, strict=False)


class _Layers:
    """The modules of a candidate that make a node by themselves."""

    def __init__(self, model: nn.Module, found: Found) -> None:
        self.modules = dict(model.named_modules())
        self._kinds = found.sought.kinds
        self._named = found.named.paths

    def path(self, node: str, operation: Operation) -> str | None:
        """The path of the module that makes a node; None where it is a part of a larger one.

        Args:
            node: The node.
            operation: The last that makes it.
        """
        if node in self._named:
            return self._named[node]
        module = self.modules.get(operation.module)
        if module is None or not operation.module:
            return None
        leaf = next(module.children(), None) is None
        # Such as a batch norm with its activation.
        holds = self._kinds[node] in WITH_PARAMETERS and any(
            True for _ in module.parameters(recurse=False)
        )
        return operation.module if leaf or holds else None
