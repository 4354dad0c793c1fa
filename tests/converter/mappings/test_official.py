"""The mapping names every variable of Google's models and every parameter of ours, once."""

import importlib.util
import json
from collections import Counter
from dataclasses import replace
from math import prod

import pytest
import torch
from configurations import CONFIGURATIONS
from sampling import one_in

from converter.mappings.official import iterate_pairs
from efficientdet_spec import LITE_MODELS, MODELS, OFFICIAL_MODELS, TINY, get_config
from torch_model.model import EfficientDet

# What the official code builds: model variables and trainable parameters.
PUBLISHED = {
    "efficientdet-d0": (709, 3_880_067),
    "efficientdet-d1": (912, 6_625_898),
    "efficientdet-d2": (987, 8_097_039),
    "efficientdet-d3": (1165, 12_032_296),
    "efficientdet-d4": (1354, 20_723_675),
    "efficientdet-d5": (1482, 33_653_315),
    "efficientdet-d6": (1565, 51_871_782),
    "efficientdet-d7": (1565, 51_871_782),
    "efficientdet-d7x": (1902, 77_147_166),
    "efficientdet-lite0": (588, 3_243_470),
    "efficientdet-lite1": (719, 4_248_318),
    "efficientdet-lite2": (775, 5_252_334),
    "efficientdet-lite3": (922, 8_350_862),
    "efficientdet-lite3x": (922, 9_280_862),
    "efficientdet-lite4": (1068, 15_130_894),
}
STATISTICS = ("moving_mean", "moving_variance")

VARIANTS = {
    **CONFIGURATIONS,
    "one class": TINY.with_classes(1),
    "two scales": replace(TINY, num_scales=2),
}
ONLY_COMPUTE_OTHERWISE = {
    "relu activation",
    "relu6 activation",
    "hswish activation",
    "mish activation",
    "attn fusion",
    "convolution behind the pool",
}


def disagreements(names_and_shapes, expected):
    """What keeps a list of (name, shape) from being exactly the expected names and shapes."""
    counts = Counter(name for name, _ in names_and_shapes)
    shapes = dict(names_and_shapes)
    return [
        *(f"{name} {count} times" for name, count in counts.items() if count > 1),
        *(f"{name} missing" for name in expected.keys() - shapes.keys()),
        *(f"{name} unknown" for name in shapes.keys() - expected.keys()),
        *(
            f"{name} {shapes[name]} instead of {shape}"
            for name, shape in expected.items()
            if shapes.get(name, shape) != shape
        ),
    ]


def variables(pairs):
    return [item for pair in pairs for item in pair.variable_shapes.items()]


def parameters(pairs):
    return [(pair.parameter, pair.shape) for pair in pairs]


def torch_parameters(config):
    with torch.device("meta"):
        state = EfficientDet(config).state_dict()
    return {
        name: tuple(value.shape)
        for name, value in state.items()
        if not name.endswith("num_batches_tracked")
    }


def test_every_published_model_is_looked_at():
    assert tuple(PUBLISHED) == (*OFFICIAL_MODELS, *LITE_MODELS)


@pytest.mark.parametrize("name", PUBLISHED)
def test_variables_are_the_official_ones(name, test_data):
    short = name.removeprefix("efficientdet-")
    content = json.loads((test_data / "official" / f"{short}.variables.json").read_text())
    assert content["model"] == name
    official = {variable: tuple(shape) for variable, shape, _ in content["variables"]}
    assert len(official) == len(content["variables"]) == PUBLISHED[name][0]
    mapped = variables(iterate_pairs(get_config(name)))
    assert disagreements(mapped, official) == []
    # What is trained is everything but the batch norms' statistics.
    trained = {variable for variable, _, trainable in content["variables"] if trainable}
    assert trained == {variable for variable, _ in mapped if not variable.endswith(STATISTICS)}


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_counts(name):
    mapped = variables(iterate_pairs(get_config(name)))
    trained = sum(prod(shape) for variable, shape in mapped if not variable.endswith(STATISTICS))
    assert (len({variable for variable, _ in mapped}), trained) == PUBLISHED[name]
    assert len(mapped) == PUBLISHED[name][0]


@pytest.mark.parametrize("name", MODELS)
def test_parameters_are_the_torch_models(name):
    config = get_config(name)
    expected = torch_parameters(config)
    pairs = list(iterate_pairs(config))
    assert disagreements(parameters(pairs), expected) == []
    assert disagreements(variables(pairs), dict(variables(pairs))) == []


@pytest.mark.parametrize("variant", VARIANTS)
def test_variants_map_one_to_one(variant):
    config = VARIANTS[variant]
    pairs = list(iterate_pairs(config))
    assert disagreements(parameters(pairs), torch_parameters(config)) == []
    assert disagreements(variables(pairs), dict(variables(pairs))) == []
    # Each variant but those that only compute otherwise has other parameters.
    same = disagreements(parameters(pairs), torch_parameters(TINY)) == []
    assert same == (variant in ONLY_COMPUTE_OTHERWISE)
    elements = sum(prod(pair.shape) for pair in pairs)
    assert elements == sum(prod(shape) for _, shape in variables(pairs))


@pytest.mark.skipif(
    importlib.util.find_spec("tensorflow") is None, reason="TensorFlow is not installed"
)
@pytest.mark.parametrize("variant", one_in(2, VARIANTS))
def test_variants_name_the_reference_graphs_variables(variant):
    import reference_tf

    config = VARIANTS[variant]
    side = 2 ** (config.max_level + 1)
    graph = reference_tf.build(config, side, side)
    built = {name: tuple(value.shape.as_list()) for name, value in graph.variables.items()}
    assert len(built) > 100
    assert disagreements(variables(iterate_pairs(config)), built) == []


@pytest.mark.parametrize("classes", [1, 2, 20, 91])
def test_class_count_changes_only_the_class_prediction(classes):
    config = get_config("d0")
    before = dict(variables(iterate_pairs(config)))
    after = dict(variables(iterate_pairs(config.with_classes(classes))))
    channels, anchors = config.fpn_channels, config.num_anchors
    assert {name: shape for name, shape in after.items() if before[name] != shape} == {
        "class_net/class-predict/pointwise_kernel": (1, 1, channels, anchors * classes),
        "class_net/class-predict/bias": (anchors * classes,),
    }
    assert after.keys() == before.keys()


def _drop(pairs):
    return pairs[:100] + pairs[101:]


def _double(pairs):
    return [*pairs, pairs[100]]


def _swap_squeeze_and_expand(pairs):
    exchanged = {"se/conv2d/kernel": "se/conv2d_1/kernel", "se/conv2d_1/kernel": "se/conv2d/kernel"}

    def other(name):
        head, _, tail = name.partition("se/")
        return head + exchanged.get(f"se/{tail}", f"se/{tail}") if tail else name

    return [replace(pair, variables=tuple(map(other, pair.variables))) for pair in pairs]


def _share_the_down_channelling(pairs):
    return [
        replace(
            pair,
            parameter=pair.parameter.replace("cells.0.nodes.4.resamples.0", "common"),
            variables=tuple(name.replace("_0_1_9", "_0_1_7") for name in pair.variables),
        )
        for pair in pairs
    ]


def _transpose_a_kernel(pairs):
    # 63 outputs of 16 inputs: the only pointwise convolution that is not square.
    name = "class_head.predict.pointwise.weight"
    at = [pair.parameter for pair in pairs].index(name)
    outputs, inputs, *window = pairs[at].shape
    turned = replace(pairs[at], shape=(inputs, outputs, *window))
    return [*pairs[:at], turned, *pairs[at + 1 :]]


@pytest.mark.parametrize(
    "fault",
    [_drop, _double, _swap_squeeze_and_expand, _share_the_down_channelling, _transpose_a_kernel],
)
def test_the_comparison_sees_faults(fault):
    pairs = list(iterate_pairs(TINY))
    expected = dict(variables(pairs))
    assert disagreements(variables(pairs), expected) == []
    assert disagreements(variables(fault(pairs)), expected) != []
