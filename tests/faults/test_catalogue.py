"""Each fault of the catalogue is one: it acts, and at the very nodes that it names."""

import copy
import re
from collections import Counter
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from faults.catalogue import CATALOGUE, FAMILIES, applicable, one_of_each_kind, table
from faults.fault import Context, layers, places
from faults.weights import owner
from other_models import MODELS, OtherModel
from sampling import one_in

from converter.conversion import convert
from converter.fetch.cached import CheckpointFiles
from efficientdet_spec import OFFICIAL_MODELS, Fusion, get_config
from torch_model import EfficientDet, build
from torch_model.calibrate import calibrated_statistics
from torch_model.checkpoint import from_arrays

TINY = get_config("tiny")
CONFIGS = {
    "tiny": TINY,
    "sum": replace(TINY, fusion=Fusion.SUM),
    # Its blocks stand in longer rows.
    "deep": replace(TINY, backbone_name="efficientnet-b0"),
    "softmax": replace(TINY, fusion=Fusion.SOFTMAX_ATTENTION),
    "lite": MODELS["lite"],
    "channels": replace(MODELS["channels"], head_survival_probability=0.8),
}


def cases():
    """Each fault once, on the first of the models in which it can be made.

    Of every second kind one place is tried in the suite, and all are in the heavy tests.
    """
    chosen = {}
    for name, config in CONFIGS.items():
        for fault in applicable(config):
            chosen.setdefault(fault.key, (name, fault))
    light = {fault.key for fault in one_of_each_kind(fault for _, fault in chosen.values())[::2]}
    return [
        pytest.param(*case, id=key, marks=() if key in light else pytest.mark.heavy)
        for key, case in chosen.items()
    ]


class Bench:
    """A faithful model with its tensors, and candidates to spoil.

    It has hooks of its own, since the catalogue is to prove the harness and not the reverse.
    """

    def __init__(self, model, raw, images=1):
        self.faithful = model
        self.context = Context(model.config, raw)
        # Large enough that no level has a single pixel, which would hide what padding does.
        rng = np.random.default_rng(0)
        self.images = torch.from_numpy(rng.standard_normal((images, 3, 192, 256)).astype("float32"))
        self.tensors = {}

        def keep(name, call, output):
            self.tensors[name, call] = output

        self.outputs = self.run(model, keep)
        keys = {id(tensor): key for key, tensor in self.tensors.items()}
        self.predictions = [keys[id(output)] for output in self.outputs]

    def spoilt(self, fault):
        model = copy.deepcopy(self.faithful)
        fault.inject(model, self.context)
        return model

    def run(self, model, visit=None):
        """The outputs; ``visit`` gets each layer's name, number of call and output."""
        calls = Counter()

        def hook(name, module, inputs, output):
            if name not in known and any(output is value for value in inputs):
                return None
            calls[name] += 1
            return visit(name, calls[name], output)

        known = {name for name, _ in self.tensors}
        handles = [
            model.get_submodule(name).register_forward_hook(partial(hook, name))
            for name in layers(model)
            if visit
        ]
        with torch.inference_mode():
            classes, boxes = model(self.images)
        for handle in handles:
            handle.remove()
        return [*classes, *boxes]

    def wrong(self, model):
        """Names of the nodes that are wrong where each is given the faithful model's tensors."""
        found, given = set(), {}

        def visit(name, call, output):
            expected = self.tensors.get((name, call))
            if expected is None or expected.shape != output.shape:
                found.add(name)
                return None
            if not torch.equal(expected, output):
                found.add(name)
            given[name, call] = expected.clone()
            return given[name, call]

        returned = self.run(model, visit)
        for number, key in enumerate(self.predictions):
            if len(returned) != len(self.predictions) or returned[number] is not given.get(key):
                found.add(key[0])
        return found | {name for name, _ in self.tensors.keys() - given.keys()}


@pytest.fixture(scope="module")
def benches(tiny_checkpoint, tiny_conversion):
    prefix = tiny_checkpoint / "model"
    raw = convert(CheckpointFiles(prefix, str(prefix), None), weights="raw").arrays

    def tiny(config, chosen, images=1):
        arrays = {name: array.copy() for name, array in tiny_conversion.arrays.items()}
        return Bench(
            from_arrays(config, {name: arrays[name] for name in arrays if chosen(name)}, "tiny"),
            {name: raw[name] for name in raw if chosen(name)},
            images,
        )

    def deep(config):
        generator = torch.Generator().manual_seed(0)
        arrays = {}
        for name, value in build(config).state_dict().items():
            if value.dim() == 4:
                torch.nn.init.kaiming_normal_(value, generator=generator)
            if value.dim():
                arrays[name] = value.numpy()
        images = np.random.default_rng(0).standard_normal((1, 192, 256, 3)).astype("float32")
        arrays = calibrated_statistics(images, config, arrays)
        return Bench(from_arrays(config, arrays, "deep"), {})

    return {
        "tiny": tiny(TINY, lambda name: True),
        "two images": tiny(TINY, lambda name: True, 2),
        "sum": tiny(CONFIGS["sum"], lambda name: not name.endswith(".weights")),
        "deep": deep(CONFIGS["deep"]),
        "softmax": tiny(CONFIGS["softmax"], lambda name: True),
        **{name: Bench(OtherModel(CONFIGS[name]).faithful, {}) for name in ("lite", "channels")},
    }


def equal(first, second):
    return len(first) == len(second) and all(map(torch.equal, first, second))


@pytest.mark.parametrize("name, fault", cases())
def test_a_fault_is_at_the_nodes_it_names_and_nowhere_else(benches, name, fault):
    bench = benches["two images" if fault.images > 1 else name]
    expected = fault.nodes(bench.faithful, bench.context)
    allowed = expected | fault.knock_on(bench.faithful, bench.context)
    model = bench.spoilt(fault)
    before, after = bench.faithful.state_dict(), model.state_dict()
    changed = {
        name
        for name in before.keys() | after.keys()
        if name not in before or name not in after or not torch.equal(before[name], after[name])
    }
    assert {owner(name) for name in changed} <= allowed

    outputs = bench.run(model)
    assert equal(outputs, bench.outputs) is not fault.visible

    wrong = bench.wrong(model)
    # What no output shows may still be computed in another order.
    assert expected <= wrong or not fault.visible
    assert wrong <= allowed


def test_batch_norm_after_the_pool_is_another_order_of_layers(benches):
    bench = benches["tiny"]
    (fault,) = (fault for fault in CATALOGUE if fault.key == "batch-norm-after-pool/p6")
    nodes = fault.nodes(bench.faithful, bench.context)
    assert nodes <= bench.wrong(bench.spoilt(fault))


@pytest.mark.parametrize("key", ["batch-statistics/backbone", "drop-connect/backbone"])
def test_a_fault_of_training_does_the_same_each_time(benches, key):
    bench = benches["tiny"]
    (fault,) = (fault for fault in CATALOGUE if fault.key == key)
    model = bench.spoilt(fault)
    assert equal(bench.run(model), bench.run(model))


def test_the_faithful_model_has_no_wrong_node(benches):
    for bench in benches.values():
        assert bench.wrong(copy.deepcopy(bench.faithful)) == set()


def test_there_are_enough_and_each_is_called_once():
    keys = [fault.key for fault in CATALOGUE]
    assert len(set(keys)) == len(keys) >= 55
    assert all(fault.title and fault.slugs for fault in CATALOGUE)
    assert table().splitlines()[-1].split() == [str(len(keys)), "all"]
    assert len(table().splitlines()) == len(FAMILIES) + 1


@pytest.mark.parametrize("name", one_in(4, OFFICIAL_MODELS))
def test_each_fault_finds_its_nodes_in_every_official_model(name):
    config = get_config(name)
    with torch.device("meta"):
        model = EfficientDet(config)
    # Values are looked at in fusion weights alone.
    for cell in model.fpn.cells:
        for index, node in enumerate(cell.nodes):
            if node.weights is not None:
                weights = [-0.1 if index == 1 else 0.5, *[1.0] * (len(node.sources) - 1)]
                node.weights = torch.nn.Parameter(torch.tensor(weights))
    names = set(layers(model))
    context = Context(config, {})
    for fault in applicable(config):
        # What is replaced everywhere is chosen by values.
        if not re.fullmatch("raw/.*|weights-.*/all", fault.key):
            nodes = fault.nodes(model, context)
            assert nodes, fault.key
            assert nodes | fault.knock_on(model, context) <= names, fault.key


def test_a_place_that_does_not_exist_is_an_error(benches):
    with pytest.raises(LookupError, match=r"backbone.blocks.\{mid\}.nothing .* names no layer"):
        places(benches["tiny"].faithful, ["backbone.blocks.{mid}.nothing"])
