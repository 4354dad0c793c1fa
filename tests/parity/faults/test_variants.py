"""Models beyond the official ones: both frameworks build one structure for any configuration."""

from dataclasses import replace
from functools import partial

import pytest
import torch
from configurations import PLAIN_STAGES
from made_images import waves
from paired import paired
from sampling import one_in

import reference_tf
from converter.mappings.official import iterate_pairs
from converter.seeded import write_seeded
from converter.tensorflow_files.bundle import open_bundle
from efficientdet_spec import Activation, Fusion, get_config
from efficientdet_spec.wiring import qufpn
from parity.lockstep.comparison import compare
from parity.sides.naming import own_paths
from parity.sides.pytorch import FaithfulReferee
from parity.sides.tensorflow_graph import TensorflowReference
from torch_model.calibrate import calibrated_statistics
from torch_model.checkpoint import from_arrays
from torch_model.preprocess import preprocess

SALT = "a"
"""With this one no node's fusion weights are all negative, which would make it rightly dead."""

TINY = get_config("tiny")
PLAIN_BLOCKS = replace(TINY, backbone_stages=PLAIN_STAGES)

VARIANTS = {
    "softmax attention": replace(TINY, fusion=Fusion.SOFTMAX_ATTENTION),
    "sum": replace(TINY, fusion=Fusion.SUM),
    "levels 3 to 8": replace(TINY, max_level=8),
    "levels 2 to 5": replace(TINY, min_level=2, max_level=5),
    "levels 4 to 6": replace(TINY, min_level=4, max_level=6),
    "head residuals": replace(TINY, head_survival_probability=0.8),
    "one class, one anchor": replace(TINY, num_classes=1, num_scales=1, aspect_ratios=(1.0,)),
    "like the lite models": replace(
        PLAIN_BLOCKS, activation=Activation.RELU6, fusion=Fusion.SUM, anchor_scale=3.0
    ),
    "hard swish, whole convolutions": replace(
        TINY, activation=Activation.HARD_SWISH, separable_conv=False
    ),
    "mish, fast attention of each channel": replace(
        TINY, activation=Activation.MISH, fusion=Fusion.CHANNEL_FAST_ATTENTION
    ),
    "relu, softmax attention of each channel": replace(
        PLAIN_BLOCKS, activation=Activation.RELU, fusion=Fusion.CHANNEL_SOFTMAX_ATTENTION
    ),
    "other order of layers": replace(
        TINY, conv_bn_act=True, conv_after_downsample=True, resample_bn=False
    ),
    "quad FPN": replace(TINY, fpn_nodes=qufpn(TINY.levels)),
}


@pytest.mark.parametrize(
    "height, width", [(258, 402), pytest.param(320, 192, marks=pytest.mark.heavy)]
)
@pytest.mark.parametrize("name", one_in(2, VARIANTS))
def test_one_structure(name, height, width, tmp_path):
    config = VARIANTS[name]
    images = preprocess(waves(height, width), height, width)[None]
    statistics = partial(calibrated_statistics, images)
    prefix = write_seeded(config, tmp_path, SALT, statistics)
    bundle = open_bundle(prefix)
    arrays = {}
    for pair in iterate_pairs(config):
        values = [bundle.read(variable).copy() for variable in pair.variables]
        arrays[pair.parameter] = pair.layout.to_torch(values)
    model = from_arrays(config, arrays, name).to(torch.float64)

    built = reference_tf.build(config, height, width, dtype="float64")
    reference = TensorflowReference(built)
    images = images.astype("float64")
    with reference_tf.open_session(built.graph, 2) as session:
        built.restore(session, prefix, ema=False)
        stream = partial(reference.stream, session, images)
        referee = FaithfulReferee(model, built.kinds, images.shape)
        naming = own_paths(built.kinds)
        pairing = paired(stream, model, naming, referee, images, built.output_nodes)
        nodes = compare(pairing).nodes
    assert len(nodes) == len(built.nodes)
    assert [(node.name, node.reason) for node in nodes if not node.verdict.passes] == []
    assert max(node.free.relative_max for node in nodes) < 1e-10
