"""Full models with their reference, into which faults are put one at a time."""

import copy
import re
import time
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from faults.fault import Context
from made_images import waves
from paired import paired
from paired import reference as streamed

import reference_tf
from converter.conversion import convert
from converter.fetch.sources import resolve
from parity.diagnosis.suspects import Known, diagnosed, findings, suspects
from parity.lockstep.comparison import compare_isolated
from parity.sides.naming import base, own_paths
from parity.sides.pytorch import FaithfulReferee, flatten
from parity.sides.replay import kept
from parity.sides.tensorflow_graph import TensorflowReference
from torch_model.checkpoint import from_arrays
from torch_model.preprocess import preprocess

BOUND = 1000
"""Roundings of an output's rms beyond which a fault moves it. Two faithful models differ by more:
3,800 on the trained D0, TensorFlow against PyTorch."""

DIAGNOSED = 6
"""Suspects that are diagnosed for each fault."""


@dataclass(frozen=True)
class Outcome:
    """What the harness made of one fault.

    Attributes:
        model: The model.
        family: Family of the fault.
        fault: Its key.
        title: What is wrong.
        visible: Whether inference shows it.
        moves: Whether it moves an output by more than that output's own roundings, found by
            running the faithful and the broken model without the harness.
        detected: Whether the harness raised an alarm.
        located: Whether the failing nodes are those that are wrong.
        named: Whether a diagnosis at these nodes, or a finding, has a right name.
        misnamed: Whether names were given and none of them is right.
        names: The names given.
        failing: Number of failing nodes.
        seconds: Time of comparison and diagnosis.
    """

    model: str
    family: str
    fault: str
    title: str
    visible: bool
    moves: bool
    detected: bool
    located: bool
    named: bool
    misnamed: bool
    names: list[str]
    failing: int
    seconds: float


class Remembering(FaithfulReferee):
    """Says again what it said of a node whose inputs are the reference's own tensors."""

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self._rulings = {}

    def sitting(self, images, elements=None):
        """As of any referee; the images are always the same."""
        sitting = super().sitting(images, elements)
        rule = sitting.rule

        def remembered(node):
            ruling = rule(node)
            if not (ruling.certain and ruling.reference_certain):
                return ruling
            if node not in self._rulings:
                self._rulings[node] = _with_memory(ruling)
            return self._rulings[node]

        sitting.rule = remembered
        return sitting


def _with_memory(ruling):
    """A ruling whose exact values are computed once, as they are the same at every fault."""
    computed = ruling.figures
    found = {}

    def figures(lines):
        key = lines.start, lines.stop
        if key not in found:
            found[key] = computed(lines)
        return found[key]

    # It is frozen, since what it says never changes; nor does it here.
    object.__setattr__(ruling, "figures", figures)
    return ruling


class Bench:
    """One model's reference on some images, and faithful candidates to be broken."""

    def __init__(self, folder, model, size, threads=2, images=1):
        files = resolve(str(folder), folder)
        self.conversion = convert(files, model=model)
        self.raw = convert(files, model=model, weights="raw").arrays
        self.config = self.conversion.config
        height, width = size or self.config.image_size
        first = preprocess(waves(height, width), height, width)
        # Each is another one, none is the mean of others.
        self.images = np.stack([np.roll(first, 37 * n, 1) * 0.8**n for n in range(images)])
        built = reference_tf.build(self.config, height, width, batch=images)
        reference = TensorflowReference(built)
        self.session = reference_tf.open_session(built.graph, threads)
        built.restore(self.session, files.prefix, ema=True)
        computes = streamed(
            partial(reference.stream, self.session, self.images), built.kinds, built.output_nodes
        )
        # Every fault is judged on the same tensors of the same reference.
        self.stream = partial(kept(computes).compute, self.images)
        self.outputs = built.output_nodes
        self.naming = own_paths(built.kinds)
        self.faithful = from_arrays(self.config, self.conversion.arrays, model)
        self.referee = Remembering(self.faithful, built.kinds, self.images.shape)
        self.known = Known(self.faithful, {"raw": self.raw})

    def judge(self, model):
        """Results, suspects and findings of a candidate."""
        pairing = paired(self.stream, model, self.naming, self.referee, self.images, self.outputs)
        nodes = compare_isolated(pairing)
        found = findings(pairing, self.known)
        guilty = suspects(pairing, nodes)
        return nodes, diagnosed(pairing, guilty, nodes, self.known, found, DIAGNOSED), found

    def moves(self, model):
        """Whether a model's outputs are further from the faithful one's than rounding explains."""
        with torch.no_grad():
            images = torch.from_numpy(self.images.copy()).permute(0, 3, 1, 2)
            theirs, ours = (flatten(item(images)) for item in (model, self.faithful))
            if [x.shape for x in theirs] != [x.shape for x in ours]:
                return True
            for broken, faithful in zip(theirs, ours, strict=True):
                if not bool(torch.isfinite(broken).all()):
                    return True
                # The magnitude of the values stands for the gauge, which is larger.
                bound = BOUND * 2.0**-24 * faithful.square().mean().sqrt()
                if bool(((broken - faithful).abs() > bound).any()):
                    return True
        return False

    def outcome(self, family, fault):
        """Inject one fault and look what comes of it."""
        context = Context(self.config, self.raw)
        expected = fault.nodes(self.faithful, context)
        allowed = expected | fault.knock_on(self.faithful, context)
        model = copy.deepcopy(self.faithful)
        fault.inject(model, context)
        started = time.perf_counter()
        nodes, guilty, found = self.judge(model)
        seconds = time.perf_counter() - started
        failing = {plain(node.name) for node in nodes if not node.verdict.passes}
        if fault.visible:
            detected = bool(failing)
            located = expected <= failing <= allowed
            names = [s.slug for s in guilty if s.slug and plain(s.nodes[0]) in expected]
        else:
            detected = bool(failing or found)
            places = {item.place for item in found}
            located = all(
                node in failing or any(p == node or p.startswith(f"{node}.") for p in places)
                for node in expected
            )
            names = [item.slug for item in found] + [s.slug for s in guilty if s.slug]
        return Outcome(
            model=self.config.name,
            family=family,
            fault=fault.key,
            title=fault.title,
            visible=fault.visible,
            moves=self.moves(model),
            detected=detected,
            located=located,
            named=all(slugs & set(names) for slugs in fault.each or (fault.slugs,)),
            misnamed=bool(names) and not fault.slugs & set(names),
            names=sorted(set(names)),
            failing=len(failing),
            seconds=round(seconds, 2),
        )


def plain(name):
    """A node's name without its level and the number of its call."""
    return re.sub(r" call \d+$", "", base(name))
