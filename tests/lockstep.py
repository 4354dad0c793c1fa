"""The tiny model's reference, computing or remembered, and fresh candidates to run against it."""

from contextlib import nullcontext
from dataclasses import dataclass
from functools import cached_property, partial

import numpy as np
import torch
from paired import paired

import reference_tf
from parity.diagnosis.suspects import Known, diagnosed, findings, suspects
from parity.lockstep.comparison import compare
from parity.sides.naming import own_paths
from parity.sides.pytorch import FaithfulReferee
from parity.sides.tensorflow_graph import TensorflowReference
from torch_model.checkpoint import from_arrays

SIZE = (96, 128)


class Remembered:
    """A reference's tensors out of memory, in the order of computation."""

    def __init__(self, tensors):
        self._due = iter(tensors.items())

    def take(self, name):
        node, tensor = next(self._due)
        assert node == name
        return tensor

    def skip(self):
        next(self._due)

    def release(self):
        pass


@dataclass(frozen=True)
class Told:
    """What a whole comparison tells, in the order in which ``compare.py`` finds it."""

    nodes: dict
    findings: list
    suspects: list

    @property
    def first(self):
        return self.suspects[0]


class Lockstep:
    """The tiny model's reference and fresh candidates.

    The reference computes once; from then on comparisons are given the tensors out of memory,
    unless they ask for it to compute.
    """

    def __init__(self, conversion, prefix, dtype="float32", batch=1, size=SIZE):
        self.conversion = conversion
        self.config = conversion.config
        self.dtype = dtype
        built = reference_tf.build(self.config, *size, batch=batch, dtype=dtype)
        self.kinds = built.kinds
        self.outputs = built.output_nodes
        self.tensor_names = {name: tensor.name for name, tensor in built.nodes.items()}
        self._reference = TensorflowReference(built)
        self.session = reference_tf.open_session(built.graph, 2)
        built.restore(self.session, prefix, ema=True)
        shape = (batch, *size, 3)
        self.images = np.random.default_rng(0).standard_normal(shape).astype(dtype)
        self.faithful = self.candidate()
        self.referee = FaithfulReferee(self.faithful, self.kinds, self.images.shape)
        self.naming = own_paths(self.kinds)

    def candidate(self):
        arrays = {name: array.copy() for name, array in self.conversion.arrays.items()}
        return from_arrays(self.config, arrays, "tiny").to(getattr(torch, self.dtype))

    def computing(self):
        """The reference's stream as it computes."""
        return self._reference.stream(self.session, self.images)

    @cached_property
    def tensors(self):
        """All of the reference's tensors; nobody may write to them."""
        tensors = {}
        with self.computing() as stream:
            for name in self.kinds:
                tensors[name] = np.array(stream.take(name))
                tensors[name].flags.writeable = False
                stream.release()
        return tensors

    def pairing(self, model, *, naming=None, live=False, recorded=None, tensors=None):
        tensors = {**self.tensors, **(tensors or {})}
        if recorded is not None:
            tensors = {name: tensors[name] for name in tensors if name in recorded}
        remembered = partial(_remembered, tensors)
        return paired(
            self.computing if live else remembered,
            model,
            naming or self.naming,
            self.referee,
            self.images,
            self.outputs,
            recorded,
        )

    def run(self, model, **options):
        """The results of a comparison by node."""
        nodes = compare(self.pairing(model, **options)).nodes
        return {node.name: node for node in nodes}

    def failing(self, model, **options):
        return [node.name for node in self.run(model, **options).values() if not _passes(node)]

    def known(self, alternatives=None):
        return Known(self.faithful, alternatives or {})

    def tell(self, model, limit=30, alternatives=None, **options):
        """Everything that a comparison of a candidate tells."""
        pairing = self.pairing(model, **options)
        known = self.known(alternatives)
        nodes = compare(pairing).nodes
        found = findings(pairing, known)
        guilty = diagnosed(pairing, suspects(pairing, nodes), nodes, known, found, limit)
        return Told({node.name: node for node in nodes}, found, guilty)


def _remembered(tensors):
    return nullcontext(Remembered(tensors))


def _passes(node):
    return node.verdict.passes
