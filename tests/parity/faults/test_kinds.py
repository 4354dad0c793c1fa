"""Faults of many kinds, put into layers by code of their own, are named and never misnamed.

Each is put into one layer of the tiny model, which is given what it has there; the whole harness
around it is looked at by ``make faults``.
"""

import copy
from collections import defaultdict
from itertools import groupby

import numpy as np
import pytest
import torch
from faults import kinds, unseen
from faults.fault import Context
from hypothesis_cases import KINDS, doubled
from made_images import waves
from sampling import one_in

from parity.diagnosis.examination import Known, site_of
from parity.faults import Attempt, Case
from torch_model.checkpoint import from_arrays
from torch_model.preprocess import preprocess

SIZE = 128

FAULTS = [
    *kinds.ACTIVATIONS,
    *kinds.NORMS,
    *kinds.BRANCHES,
    *kinds.DROPOUT,
    *kinds.FUSIONS,
    *kinds.PREDICTIONS,
    *kinds.BATCHES,
]


def of_kind(faults):
    """The places of each kind; two of three kinds are left to the heavy tests."""
    grouped = groupby(faults, lambda fault: fault.key.partition("/")[0])
    kinds, groups = zip(*((kind, list(group)) for kind, group in grouped), strict=True)
    return one_in(3, groups, kinds)


class Given:
    """A faithful model and what each of its layers is given, of one image and of two."""

    def __init__(self, model):
        self.model = model
        self.known = Known(model, {})
        self.layers = {name: part for name, part in model.named_modules() if type(part) in KINDS}
        first = preprocess(waves(SIZE, SIZE), SIZE, SIZE)
        images = np.stack([np.roll(first, 37 * n, 1) * 0.8**n for n in range(2)])
        self.calls = {count: self._calls(images[:count]) for count in (1, 2)}

    def _calls(self, images):
        calls = defaultdict(list)
        handles = [
            layer.register_forward_pre_hook(lambda _, inputs, name=name: calls[name].append(inputs))
            for name, layer in self.layers.items()
        ]
        with torch.no_grad():
            self.model(torch.from_numpy(images.copy()).permute(0, 3, 1, 2))
        for handle in handles:
            handle.remove()
        return calls

    def diagnosis(self, fault):
        """The first faulty layer's diagnosis; False where the fault changes nothing there."""
        context = Context(self.model.config, {})
        node = min(fault.nodes(self.model, context))
        spoilt = copy.deepcopy(self.model)
        fault.inject(spoilt, context)
        faithful, faulty = self.layers[node], spoilt.get_submodule(node)
        given = self.calls[fault.images][node]
        attempt, seen = Attempt(alone=len(given) == 1), False
        site = site_of(
            node,
            KINDS[type(faithful)],
            copy.deepcopy(faithful).double(),
            reads_images=False,
            layers=self.layers,
            known=self.known,
        )
        with torch.no_grad():
            for number, inputs in enumerate(given):
                made, right = faulty(*inputs), faithful(*inputs)
                seen = seen or not torch.allclose(made, right, rtol=1e-4, atol=1e-6)
                around = site.around() | {"name": f"{node}@P{3 + number}"}
                arguments = tuple(
                    doubled(value.detach() if torch.is_tensor(value) else value) for value in inputs
                )
                attempt.see(Case(**around, arguments=arguments, candidate=made))
        return attempt.result() if seen else False


@pytest.fixture(scope="module")
def given(tiny_conversion):
    arrays = {name: array.copy() for name, array in tiny_conversion.arrays.items()}
    return Given(from_arrays(tiny_conversion.config, arrays, "tiny"))


@pytest.mark.parametrize("faults", of_kind(FAULTS))
def test_a_kind_is_named_rightly_wherever_it_is_named(given, faults):
    found = {fault.key: given.diagnosis(fault) for fault in faults}
    right = {fault.key: fault.slugs for fault in faults}
    shown = {key: item for key, item in found.items() if item is not False}
    wrong = {key: item for key, item in shown.items() if item and item.slug not in right[key]}
    assert wrong == {}
    # One place may have too few values, as a gate of a tiny model has, or none that shows it.
    assert len(shown) <= 1 or any(shown.values()) or faults[0].key.startswith("sigmoid-")


@pytest.mark.parametrize("fault", unseen.UNSEEN, ids=lambda fault: fault.key)
def test_what_was_held_out_is_not_misnamed(given, fault):
    found = given.diagnosis(fault)
    assert not found or found.slug in fault.slugs
