"""Every honoured hyperparameter does what Google's own code does with it.

Of each network that the official code made there are its variables, its operations and sampled
values. The limit of a value is that of ``test_golden``: a share of what float32 and float64 of this
machine are apart at that output, for either side.
"""

import golden_cases
import hparams_goldens
import numpy as np
import pytest

import reference_tf
from converter.hparams.applying import apply
from converter.hparams.keys import HONOURED
from converter.hparams.plain_yaml import parse_yaml, yaml_text
from converter.mappings.official import iterate_pairs
from efficientdet_spec import LITE_MODELS, get_config

FACTOR = 4
"""As ``GOLDEN_FACTOR`` of ``test_golden``."""

NETWORKS = hparams_goldens.networks()

QUICK = {
    "act_hswish",
    "act_mish",
    "act_relu",
    "act_relu6",
    "backbone_lite0_swish",
    "backbone_own_blocks",
    "classes_1",
    "combination",
    "conv_after_downsample",
    "conv_bn_act",
    "fpn_own_nodes",
    "fpn_qufpn",
    "fusion_attn",
    "fusion_channel_attn",
    "fusion_channel_fastattn",
    "fusion_sum",
    "no_bn_resampling",
    "no_separable",
    "p2_p7",
    "scales_4",
    "survival_2",
}
"""Between them every hyperparameter of the network."""

IN_COMBINATION = {
    "act_relu6",
    "classes_1",
    "conv_after_downsample",
    "conv_bn_act",
    "fusion_attn",
    "no_bn_resampling",
    "no_separable",
    "scales_4",
    "survival_2",
}
"""Of the quick ones those whose one change ``combination`` has too: building them is heavy."""

LITE = hparams_goldens.lite_models()

EACH = [pytest.param(name, marks=[] if name in QUICK else pytest.mark.heavy) for name in NETWORKS]

BUILT = [
    pytest.param(name, marks=[] if name in QUICK - IN_COMBINATION else pytest.mark.heavy)
    for name in NETWORKS
]

EACH_LITE = [
    pytest.param(name, marks=[] if name == "lite/lite0" else pytest.mark.heavy) for name in LITE
]

OTHER_OPERATIONS = {"act_swish_native"}
"""Officially the same function by other operations; its values have to be the same."""


def given(golden):
    """The hyperparameters of a golden as a file of users has them."""
    return parse_yaml(yaml_text(golden["hparams"]).encode(), "golden")


def configuration(golden):
    return apply(get_config(golden["base"]), given(golden))


class Case:
    def __init__(self, name, change=None):
        self.golden = hparams_goldens.read(f"{name}.json.gz")
        self.config = configuration(self.golden)
        if change:
            self.config = apply(self.config, change)
        self.values = hparams_goldens.variables(self.config, self.golden["scales"])
        self.images = golden_cases.image(*self.golden["size"])
        arguments = (self.config, self.values, self.images)
        self.tensorflow, operations = golden_cases.tensorflow_tensors(*arguments, "float32")
        self.nodes = {operation: node for node, operation in operations.items()}
        nodes = list(operations)
        self.torch = golden_cases.torch_tensors(*arguments, "float32", nodes)
        self.truth = golden_cases.torch_tensors(*arguments, "float64", nodes)

    def mismatches(self):
        """Nodes that are further from the golden values than roundings explain."""
        found = []
        outputs = [node for node in self.nodes.values() if "_head.predict" in node]
        for key, item in self.golden["outputs"].items():
            head, level = key.split("_")
            last = [n for n in outputs if n.startswith(f"{head}_head") and n.endswith(f"@{level}")]
            found += self._off(last[-1], item)
        inside = self.golden["nodes"].keys() & self.nodes.keys()
        assert len(inside) > 5
        return found + [
            item
            for operation in sorted(inside)
            for item in self._off(self.nodes[operation], self.golden["nodes"][operation])
        ]

    def _off(self, node, golden):
        truth, sides = self.truth[node], {"tensorflow": self.tensorflow, "torch": self.torch}
        noise = max(np.abs(side[node] - truth).max() for side in sides.values())
        values = np.array(golden["val"])
        # They are written with eight digits.
        limit = FACTOR * noise + 2**-23 * np.abs(values).max()
        for side, tensors in sides.items():
            if list(tensors[node].shape) != golden["shape"]:
                yield node, side, tensors[node].shape
                continue
            off = np.abs(tensors[node].reshape(-1)[golden["idx"]] - values).max()
            if not off <= limit:
                yield node, side, float(off), float(limit)


def variables_of(golden):
    return {
        variable: list(shape)
        for pair in iterate_pairs(configuration(golden))
        for variable, shape in pair.variable_shapes.items()
    }


def test_every_lite_model_has_a_golden():
    read = [hparams_goldens.read(f"{name}.json.gz")["base"] for name in LITE]
    assert sorted(read) == sorted(LITE_MODELS)


@pytest.mark.parametrize("name", [*EACH, *EACH_LITE])
def test_variables_are_the_official_ones(name):
    golden = hparams_goldens.read(f"{name}.json.gz")
    assert variables_of(golden) == {variable: shape for variable, shape, _ in golden["variables"]}


@pytest.mark.parametrize("name", [item for item in BUILT if item.values[0] not in OTHER_OPERATIONS])
def test_operations_are_the_official_ones(name):
    golden = hparams_goldens.read(f"{name}.json.gz")
    built = reference_tf.build(configuration(golden), *golden["size"])
    skipped = golden.get("operations_leave_out") or "/"
    official = {operation[0]: operation for operation in golden["operations"]}
    types = {operation[1] for operation in golden["operations"]}
    keys = {operation[1]: sorted(operation[4]) for operation in golden["operations"]}
    ours = {
        operation.name: [
            operation.name,
            operation.type,
            operation.outputs[0].shape.as_list(),
            [tensor.name for tensor in operation.inputs],
            {
                key: value.decode() if isinstance(value, bytes) else value
                for key in keys[operation.type]
                for value in [operation.get_attr(key)]
            },
        ]
        for operation in built.graph.get_operations()
        if operation.type in types
        and "Initializer" not in operation.name
        and not operation.name.startswith(skipped)
    }
    missing = sorted(official.keys() - ours.keys())
    more = sorted(ours.keys() - official.keys())
    both = official.keys() & ours.keys()
    other = [(ours[key], official[key]) for key in sorted(both) if ours[key] != official[key]]
    assert (missing[:3], more[:3], other[:1]) == ([], [], [])


@pytest.mark.parametrize("name", [*BUILT, *EACH_LITE])
def test_both_frameworks_reproduce_the_official_values(name):
    assert Case(name).mismatches() == []


@pytest.mark.parametrize(
    "name, change",
    [
        ("act_relu6", {"act_type": "relu"}),
        pytest.param("survival_2", {"survival_prob": None}, marks=pytest.mark.heavy),
        pytest.param(
            "conv_after_downsample", {"conv_after_downsample": False}, marks=pytest.mark.heavy
        ),
        ("fusion_attn", {"fpn_weight_method": "fastattn"}),
    ],
)
def test_another_function_of_the_same_variables_is_not_taken_for_it(name, change):
    assert Case(name, change).mismatches()


def test_every_hyperparameter_of_the_network_has_a_golden():
    made = {key for name in NETWORKS for key in hparams_goldens.read(f"{name}.json.gz")["hparams"]}
    elsewhere = {
        # test_applying has the official outcomes for them
        "name",
        "image_size",
        "label_map",
        "anchor_scale",
        "mean_rgb",
        "stddev_rgb",
        "scale_range",
        "nms_configs",
    }
    assert set(HONOURED) - made - elsewhere == set()
    light = QUICK - IN_COMBINATION
    quick = {key for name in light for key in hparams_goldens.read(f"{name}.json.gz")["hparams"]}
    assert made - quick == set()
