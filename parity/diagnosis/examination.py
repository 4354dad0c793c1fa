"""What is wrong with one suspect: all nodes that it makes are looked at, one after another.

Which tensors it reads, whether it is in training mode, how its parameters relate to the
checkpoint's, and which of many named faults reproduces its output. A wrong name sends whoever
reads it to the wrong place, so one is given only where it holds at every node looked at;
otherwise the difference is described.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

from msgspec.structs import replace

from efficientdet_spec import IMAGES, EfficientDetConfig, Node, NodeKind, Part, iterate_nodes
from parity import faults as hypotheses
from parity.diagnosis import patterns, structure
from parity.diagnosis.settings import in_words
from parity.faults.catalogue import FAMILIES
from parity.judge.referee import Ruling
from parity.judge.verdict import NodeResult, Verdict
from parity.process.arrays import Array
from parity.results.records.nodes import READS_OTHER, Finding, Suspect
from parity.sides import pytorch
from parity.sides.naming import base


@dataclass(frozen=True)
class Known:
    """What is known of a model beside its nodes.

    Attributes:
        faithful: The faithful model.
        alternatives: Other values of the checkpoint's parameters, by what they are and by name.
        repeats: Whether the candidate's runs give the same outputs. What is fitted to one run of
            a candidate that does not says nothing about it.
    """

    faithful: Any
    alternatives: Mapping[str, Mapping[str, Array]]
    repeats: bool = True

    @property
    def config(self) -> EfficientDetConfig:
        """What the model is."""
        config: EfficientDetConfig = self.faithful.config
        return config

    @cached_property
    def layers(self) -> Mapping[str, Node]:
        """The first node that each layer makes, by the layer's path."""
        nodes = list(iterate_nodes(self.config))
        return {base(node.name): node for node in reversed(nodes)}

    @cached_property
    def fusion_weights(self) -> Mapping[str, Any]:
        """The weights of each fusion, by its path."""
        return {
            f"{name.removesuffix('.weights')}.fuse": weights.detach()
            for name, weights in self.faithful.named_parameters()
            if name.endswith(".weights")
        }


@dataclass(frozen=True)
class Inner:
    """A convolution that a candidate makes together with the batch norm behind it, in one span.

    Attributes:
        name: The node.
        kind: What it computes.
        faithful: The faithful layer.
        shape: Of what it reads, [N, C, H, W].
        reads_images: Whether that is the network's images.
    """

    name: str
    kind: NodeKind
    faithful: Any
    shape: tuple[int, ...]
    reads_images: bool


@dataclass(frozen=True)
class Look:
    """What can be seen of one node in a second run.

    Attributes:
        kind: What it computes.
        faithful: The faithful layer.
        arguments: What that layer is given.
        inputs: What the candidate's layer was given.
        sources: The nodes that these are from.
        overwritten: Those of them whose tensors something has written to since they were made.
        module: The candidate's layer.
        output: What it made.
        ruling: What it should have made.
        settings: With which it makes it, where that is known, and the model's own.
        siblings: Other faithful layers by path.
        buffers: The candidate's buffers by identity, as they were before it ran; where none of it
            is in training mode nothing changes them, and there are none.
        inner: The convolution that it is made together with; None for none.
    """

    kind: NodeKind
    faithful: Any
    arguments: tuple[Any, ...]
    inputs: tuple[Any, ...]
    sources: tuple[str, ...]
    overwritten: tuple[str, ...]
    module: Any
    output: Any
    ruling: Ruling
    settings: tuple[Mapping[str, Any], Mapping[str, Any]]
    siblings: Mapping[str, Any]
    buffers: Mapping[int, Any]
    inner: Inner | None = None

    @property
    def comparable(self) -> bool:
        """Whether the output is one of images and of the very inputs of the faithful layer."""
        shaped: bool = self.output.dim() == 4 and self.output.is_floating_point()
        return self.ruling.certain and shaped


_OF_NORMS = frozenset(fault.slug for fault in FAMILIES["batch norm"])
"""Names of faults that only a batch norm can have, and not the convolution before it."""

_SURE = frozenset({"left-out", "left-out-or-relu"})
"""Diagnoses that say more than what the node reads."""


_OF_ONE_RUN = frozenset({"dropout", "drop-connect"})
"""Diagnoses of what is random, which are of the run that was seen."""


class Examination:
    """A closer look at one suspect.

    Args:
        suspect: The suspect.
        members: The failing nodes that its module makes.
        known: What is known of the model.
        what: Findings about the candidate's structure.

    Attributes:
        seen: Number of its nodes looked at.
    """

    def __init__(
        self,
        suspect: Suspect,
        members: Mapping[str, NodeResult],
        known: Known,
        what: Sequence[Finding],
    ) -> None:
        self.seen = 0
        self._suspect = suspect
        self._members = members
        self._known = known
        place = base(suspect.nodes[0])
        self._findings = [item for item in what if item.place.startswith(f"{place}.")]
        self._attempt = hypotheses.Attempt(alone=len(members) == 1)
        self._inner_attempt = hypotheses.Attempt(alone=len(members) == 1)
        self._inner = ""
        self._parameters = hypotheses.Account()
        self._training = hypotheses.Account()
        self._settings = hypotheses.Account()
        self._other_settings = ""
        self._tried = 0
        self._largest: NodeResult | None = None
        self._patterns: list[str] = []
        self._sources: dict[str, tuple[str, ...]] = {}
        self._overwritten: dict[str, tuple[str, ...]] = {}
        self._in_training = ""
        self._of_one_input = ""
        self._elsewhere = False

    @property
    def done(self) -> bool:
        """Whether all of its nodes have been looked at."""
        return self.seen == len(self._members)

    def see(self, node: NodeResult, look: Look) -> None:
        """Look at one of its nodes.

        Args:
            node: What was found about it.
            look: What can be seen of it.
        """
        self.seen += 1
        self._sources[node.name] = look.sources
        self._overwritten[node.name] = look.overwritten
        if look.comparable:
            self._tried += 1
            self._hold(node, look)
        elif look.inner is not None:
            self._hold_span(node, look, look.inner)
        size = math.prod(node.shape or ())
        if self._largest is None or size > math.prod(self._largest.shape or ()):
            self._largest = node
            if len(self._members) > 1 or self._attempt.result() is None:
                limit = _limit(node)
                self._patterns = patterns.describe(
                    pytorch.nchw(look.ruling.truth),
                    look.output,
                    pytorch.nchw(look.ruling.gauge),
                    limit,
                )

    @property
    def named(self) -> bool:
        """Whether a hypothesis gives it a name."""
        return self._attempt.result() is not None

    @property
    def fitted(self) -> bool:
        """Whether its name has numbers that need not hold on another input."""
        return self._attempt.fitted

    def see_elsewhere(self, node: NodeResult, look: Look) -> None:
        """Hold the name against the same node on another input.

        Args:
            node: What was found about it on this input.
            look: What can be seen of it there.
        """
        before, fitted = self._attempt.result(), self.fitted
        if look.comparable and before is not None:
            self._elsewhere = True
            self._attempt.hold(_case(node, look, self._known))
            if self._attempt.result() is None:
                numbers = "so that its numbers go with the image"
                why = f"and otherwise on another, {numbers}" if fitted else "but not on another"
                self._of_one_input = f"{before.title}: so on this input, {why}"

    def _hold(self, node: NodeResult, look: Look) -> None:
        """Hold every explanation against a node."""
        case = _case(node, look, self._known)
        self._attempt.see(case)
        other = in_words(*look.settings)
        if other:
            hypotheses.account_for_settings(self._settings, case, look.settings[0])
        else:
            self._settings.reject()
        self._other_settings = self._other_settings or other
        if self._changed:
            values = structure.values_of(look.module, look.faithful)
            hypotheses.account_for_parameters(self._parameters, case, values)
        parts = [part for part in look.module.modules() if part.training]
        if parts:
            self._in_training = type(parts[-1]).__name__
            # By now the layer may have written its output over what it was given.
            read = getattr(look.inputs, "read", look.inputs)
            hypotheses.account_for_training(self._training, case, look.module, read, look.buffers)
        else:
            self._training.reject()

    def _hold_span(self, node: NodeResult, look: Look, inner: Inner) -> None:
        """Hold hypotheses on either of two nodes that are made together against their output."""
        read = getattr(look.inputs, "read", look.inputs)
        given = [item for item in read if tuple(getattr(item, "shape", ())) == inner.shape]
        if len(given) != 1:
            return
        site = partial(site_of, layers=look.siblings, known=self._known)
        sites = [
            dataclasses.replace(
                site(name, kind, layer, reads_images=images),
                module=pytorch.copy_in_double(layer),
            )
            for name, kind, layer, images in (
                (inner.name, inner.kind, inner.faithful, inner.reads_images),
                (node.name, look.kind, look.faithful, False),
            )
        ]
        alone = hypotheses.before_norm(sites[0], given[0], look.faithful, look.output, _limit(node))
        if alone is None:
            return
        self._tried += 1
        self._inner = inner.name
        self._inner_attempt.see(alone)
        self._attempt.see(hypotheses.behind_convolution(sites[1], alone, look.output))

    @property
    def _changed(self) -> list[Finding]:
        return [item for item in self._findings if item.slug.startswith("parameter-")]

    def answer(self) -> Suspect:
        """The suspect with what is wrong with it, once its nodes have been looked at."""
        evidence = tuple(f"{item.place}: {item.text}" for item in self._findings)
        if self._of_one_input:
            evidence = (self._of_one_input, *evidence)
        node = self._largest
        assert node is not None
        suspect = replace(self._suspect, tried=bool(self._tried))
        diagnosis = self._attempt.result()
        if diagnosis is not None and diagnosis.constants and not self._known.repeats:
            # What is left out is drawn anew, but the rate at which it is can be read off one run.
            diagnosis = diagnosis if diagnosis.slug in _OF_ONE_RUN else None
        for named in (
            self._by_overwriting(),
            self._by_training(diagnosis),
            self._by_parameters(diagnosis),
            self._by_wiring(diagnosis, node),
            self._by_settings(diagnosis),
            self._by_inner(diagnosis),
            None if diagnosis is None else self._by_hypothesis(diagnosis, node),
        ):
            if named is not None:
                slug, title, proof = named
                return replace(suspect, slug=slug, diagnosis=title, evidence=(*proof, *evidence))
        if not self._tried:
            evidence = (*evidence, "what it is given, or its shape, is not the reference's")
        return replace(
            suspect, evidence=(*evidence, *_own_function(node)), patterns=tuple(self._patterns)
        )

    def _by_overwriting(self) -> _Named | None:
        """What it reads, where something else has written to that at each of its nodes."""
        if not all(self._overwritten.values()):
            return None
        read = ", ".join(dict.fromkeys(next(iter(self._overwritten.values()))))
        title = f"reads {read}, to which something has written since it was made"
        proof = ("the layer itself does not work in place",)
        return "input-overwritten", title, proof

    def _by_training(self, diagnosis: hypotheses.Diagnosis | None) -> _Named | None:
        """Its mode, where the candidate's own layer is right in evaluation mode."""
        if not self._training.holds:
            return None
        if diagnosis is not None and diagnosis.slug == "batch-statistics":
            return None
        distance = f"{self._training.roundings:.3g} roundings from the exact value"
        proof = (f"in evaluation mode its output is {distance}",)
        return "training-mode", f"in training mode ({self._in_training})", proof

    def _by_parameters(self, diagnosis: hypotheses.Diagnosis | None) -> _Named | None:
        """Its parameters, where the faithful operation with them reproduces its output.

        What is known of the parameters says more than numbers fitted to the output.
        """
        changed = self._changed
        fitted = diagnosis is None or diagnosis.constants or diagnosis.slug == "reduced-precision"
        if not changed or not fitted or not self._parameters.holds:
            return None
        first = changed[0]
        proof = (
            f"reproduced to {self._parameters.roundings:.3g} roundings by the faithful operation "
            f"with the candidate's parameters",
        )
        if first.slug == "parameter-extra" and first.place.endswith(".bias"):
            return "bias-extra", f"a bias that the model does not have, {first.text}", proof
        listed = "; ".join(f"{item.place}, {item.text}" for item in changed[:2])
        more = f"; and {len(changed) - 2} more" if len(changed) > 2 else ""
        slug = first.slug.replace("parameter-", "parameters-")
        return slug, f"other parameters: {listed}{more}", proof

    def _by_settings(self, diagnosis: hypotheses.Diagnosis | None) -> _Named | None:
        """What it is called with, where the faithful operation called so reproduces its output."""
        fitted = diagnosis is None or bool(diagnosis.constants)
        if not self._other_settings or not fitted or not self._settings.holds:
            return None
        proof = f"reproduced to {self._settings.roundings:.3g} roundings with these settings"
        return "settings-other", self._other_settings, (proof,)

    def _by_wiring(self, diagnosis: hypotheses.Diagnosis | None, node: NodeResult) -> _Named | None:
        """What it reads, where that is something else at each of its nodes."""
        wrong = [name for name in self._sources if self._members[name].wrong_inputs]
        if len(wrong) < len(self._sources):
            return None
        if diagnosis is not None and diagnosis.slug in _SURE:
            return None
        due = [source for source in self._sources[wrong[0]] if source != IMAGES]
        read = list(self._members[wrong[0]].wrong_inputs)
        proof = _own_function(node)
        if sorted(read) == sorted(due):
            title = f"reads its inputs in another order: {', '.join(read)}"
            return "inputs-permuted", title, proof
        title = f"reads {', '.join(read)} instead of {', '.join(due)}"
        return READS_OTHER, title, proof

    def _by_inner(self, diagnosis: hypotheses.Diagnosis | None) -> _Named | None:
        """What is wrong with the convolution of a span, where its batch norm is right."""
        found = self._inner_attempt.result() if self._inner else None
        if found is None or (diagnosis is not None and diagnosis.constants <= found.constants):
            return None
        where = f"in {self._inner}, which the candidate makes together with it in one span"
        proof = (
            f"reproduced to {found.roundings:.3g} roundings with the batch norm as it should be; "
            f"{found.without:.3g} from the faithful operation",
        )
        return found.slug, f"{where}: {found.title}", proof

    def _by_hypothesis(self, diagnosis: hypotheses.Diagnosis, node: NodeResult) -> _Named:
        unit = "roundings" if not diagnosis.stored else "units of that precision"
        without = (
            "the faithful operation has another shape, or values that are not finite"
            if math.isinf(diagnosis.without)
            else f"{diagnosis.without:.3g} from the faithful operation"
        )
        where = f" at each of {self.seen} nodes" if self.seen > 1 else ""
        proof: tuple[str, ...] = (
            f"reproduced to {diagnosis.roundings:.3g} {unit}{where}; {without}",
        )
        if self._inner and diagnosis.slug in _OF_NORMS:
            told = f"{self._inner}, which is made together with it in one span, is right"
            proof = (*proof, told)
        if self.fitted and not self._elsewhere:
            proof = (*proof, "its numbers were fitted to this input alone; a second one tests them")
        return diagnosis.slug, diagnosis.title, proof


_Named = tuple[str, str, tuple[str, ...]]
"""A name, the same in words, and what speaks for it."""


def _limit(node: NodeResult) -> float:
    return float(node.limit.candidate) if node.limit else hypotheses.ROUNDINGS


def _case(node: NodeResult, look: Look, known: Known) -> hypotheses.Case:
    site = site_of(
        node.name,
        look.kind,
        look.faithful,
        reads_images=IMAGES in look.sources,
        layers=look.siblings,
        known=known,
    )
    exact = dataclasses.replace(site, module=pytorch.copy_in_double(look.faithful))
    return hypotheses.Case(
        **exact.around(),
        arguments=pytorch.as_double(look.arguments),
        candidate=look.output,
        limit=_limit(node),
    )


def site_of(
    name: str,
    kind: NodeKind,
    layer: Any,
    *,
    reads_images: bool,
    layers: Mapping[str, Any],
    known: Known,
) -> hypotheses.Site:
    """A layer of the faithful model with what a fault may need to know of what is around it.

    Args:
        name: The node.
        kind: What it computes.
        layer: The layer.
        reads_images: Whether it is given the network's images.
        layers: All layers of the faithful model, by path.
        known: What is known of the model.
    """
    path = base(name)
    place, config = known.layers.get(path), known.config
    predicts = place is not None and place.is_output
    predicted = config.num_classes if place and place.part is Part.CLASS_HEAD else 4
    alternatives = {
        what: pytorch.parameters_of(path, layer, arrays)
        for what, arrays in known.alternatives.items()
    }
    return hypotheses.Site(
        name=name,
        kind=kind,
        module=layer,
        siblings={
            other: module
            for other, module in layers.items()
            if other != path and pytorch.alike(module, layer)
        },
        alternatives={what: values for what, values in alternatives.items() if values},
        is_input=reads_images,
        outputs_per_anchor=predicted if predicts else None,
        num_anchors=config.num_anchors if predicts else None,
        fusion_weights=known.fusion_weights if kind is NodeKind.FUSE else {},
    )


def _own_function(node: NodeResult) -> tuple[str, ...]:
    """What is known of a node's own arithmetic, as the verdict on it says."""
    if node.verdict is Verdict.FUNCTION_DIFFERS and node.functions_apart is not None:
        return (
            f"in exact arithmetic the functions are {node.functions_apart:.3g} roundings apart",
        )
    if node.verdict is Verdict.CANDIDATE_DIFFERS and node.functions_apart is not None:
        return ("its function is the right one, its arithmetic is inaccurate",)
    return ()
