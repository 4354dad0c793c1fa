"""Values as no training leaves them are told, and trained ones are not accused."""

from dataclasses import replace

import numpy as np
import pytest

from converter.mappings.official import iterate_pairs
from converter.tensorflow_files.bundle import open_bundle
from converter.untrained import INITIAL_CLASS_BIAS, untrained_notes
from efficientdet_spec import EMA_SUFFIX, TINY, get_config

VARIABLE = "class_net/class-predict/bias"
CLASS_BIAS = "class_head.predict.pointwise.bias"
GAMMA = "backbone.stem_bn.weight"


def initial(config):
    """What the official initialisers make of the parameters that are looked at, else anything."""
    values = np.random.default_rng(0)
    arrays = {
        pair.parameter: values.standard_normal(pair.shape, np.float32)
        for pair in iterate_pairs(config)
    }
    for pair in iterate_pairs(config):
        if pair.variables[0].endswith("/gamma"):
            arrays[pair.parameter] = np.ones(pair.shape, np.float32)
    arrays[CLASS_BIAS][:] = INITIAL_CLASS_BIAS
    return arrays


def test_the_official_initial_class_bias():
    assert np.float32(INITIAL_CLASS_BIAS) == np.float32(-4.59511985013459)


def test_an_untrained_model_is_told_in_both_ways():
    scales, bias = untrained_notes(initial(TINY))
    norms = sum(pair.parameter.endswith(".running_mean") for pair in iterate_pairs(TINY))
    assert f"gamma) of every one of {norms} batch norms is exactly 1" in scales
    assert "all 63 class biases are -4.5951" in bias


def test_one_changed_value_clears_it():
    arrays = initial(TINY)
    arrays[GAMMA][3] = np.nextafter(np.float32(1), np.float32(2))
    assert len(untrained_notes(arrays)) == 1
    arrays[CLASS_BIAS][-1] += 1e-6
    assert untrained_notes(arrays) == ()


@pytest.mark.parametrize("value", [0, -2.5])
def test_another_constant_is_told_too(value):
    arrays = initial(TINY)
    arrays[GAMMA][0] = 2
    arrays[CLASS_BIAS][:] = value
    (told,) = untrained_notes(arrays)
    assert f"all 63 class biases are {value}, alike" in told


def test_one_value_is_no_constant():
    assert untrained_notes({CLASS_BIAS: np.float32([-2.5])}) == ()
    assert len(untrained_notes({CLASS_BIAS: np.float32([INITIAL_CLASS_BIAS])})) == 1


def test_the_bias_of_a_whole_convolution_is_looked_at_too():
    config = replace(TINY, separable_conv=False)
    (name,) = (pair.parameter for pair in iterate_pairs(config) if VARIABLE in pair.variables)
    assert name != CLASS_BIAS and len(untrained_notes({name: np.zeros(9, np.float32)})) == 1


def test_nothing_is_said_of_what_is_not_there():
    assert untrained_notes({}) == ()
    nothing = {CLASS_BIAS: np.zeros(0, np.float32), "a.running_var": np.ones(3, np.float32)}
    assert untrained_notes(nothing) == ()


def test_trained_values_are_not_accused(test_data):
    bundle = open_bundle(test_data / "checkpoints" / "efficientdet-d0" / "model")
    arrays = {
        pair.parameter: pair.layout.to_torch(
            [bundle.read(name + EMA_SUFFIX) for name in pair.variables]
        )
        for pair in iterate_pairs(get_config("d0"))
    }
    assert untrained_notes(arrays) == ()
